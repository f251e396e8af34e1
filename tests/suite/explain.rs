//! `--explain`: what was really done, told in three depths.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use crate::harness::{BUSYBOX, Test, has, skipped};

fn events(text: &str) -> Vec<Value> {
    text.lines()
        .filter(|l| l.starts_with('{'))
        .map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}")))
        .collect()
}

/// Says what is in a line that begins with this word, and in those that go on with it.
fn said<'a>(story: &'a str, word: &str) -> Vec<&'a str> {
    let mut lines = story.lines().skip_while(|line| line.split("  ").next() != Some(word));
    let first = lines.next().into_iter();
    let all: Vec<&str> = first.chain(lines.take_while(|line| line.starts_with(' '))).collect();
    assert!(!all.is_empty(), "no {word}:\n{story}");
    all
}

const STAGES: [&str; 7] = ["image", "cgroup", "namespaces", "network", "root files", "identity", "exec"];

#[test]
fn the_story_has_a_line_for_each_stage() {
    let Some(t) = Test::start() else { return };
    let out = t.rbox(["run", "--rm", "--explain", "-m", "64m", "hello"]).code(0);
    let story = &out.stderr;
    for stage in STAGES {
        said(story, stage);
    }
    for line in story.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    assert!(story.lines().count() < 45, "{story}");
    assert!(!story.contains('\x1b'), "colours without a terminal");
    // hello looks from the inside, and says the same.
    let hello = |row: &str| {
        let line =
            out.stdout.lines().find(|line| line.starts_with(row)).unwrap_or_else(|| panic!("{}", out.stdout));
        line[row.len()..].split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let of = |word: &str| said(story, word).join(" ");
    assert!(
        of("process").contains(&format!("PID 1 inside is {} on the host", hello("PID of this process")[1]))
    );
    assert!(of("network").contains(&format!("{};", hello("address")[0])), "{story}");
    assert!(of("identity").contains(&format!("host name {}", hello("host name")[0])), "{story}");
    let count = hello("capabilities")[1].trim_start_matches('(').to_owned();
    assert!(of("identity").contains(&format!("{count} of root's capabilities")), "{story}");
    assert!(of("cgroup").contains("67108864"), "{story}");
    for name in ["pid", "mnt", "uts", "ipc", "net", "cgroup"] {
        let row = format!("{name} namespace");
        assert!(of("its own").contains(&format!("{name}:{}", hello(&row)[0])), "{name}:\n{story}");
    }
    assert!(of("the host's").contains("user:"), "{story}");
    assert!(of("mounts").contains("/ (overlay)") && of("mounts").contains("/proc (proc)"), "{story}");
}

/// What each step does has a stage: nothing is told under `other`.
#[test]
fn every_step_has_a_stage() {
    let Some(t) = Test::start() else { return };
    let dir = t.dir("bound");
    let bind = format!("{}:/bound", dir.display());
    let source = dir.join("secret");
    std::fs::write(&source, "x").unwrap();
    let secret = format!("id=secret,src={}", source.display());
    let shared = t.name("shared");
    t.sleeper(&shared, ["--ipc", "shareable"]);
    let (pid, ipc, net) =
        (format!("container:{shared}"), format!("container:{shared}"), format!("container:{shared}"));
    let rich = [
        "-v",
        &bind,
        "--tmpfs",
        "/scratch",
        "--device",
        "/dev/zero:/dev/nought",
        "--secret",
        &secret,
        "--read-only",
        "--user",
        "7",
        "--cap-drop",
        "ALL",
        "--security-opt",
        "no-new-privileges",
        "--sysctl",
        "net.core.somaxconn=64",
        "--oom-score-adj",
        "5",
        "-p",
        "127.0.0.1:0:80",
        "--ulimit",
        "nofile=99",
        "--init",
        "-v",
        "/data:U",
    ];
    let joined = ["--pid", &pid, "--ipc", &ipc, "--network", &net];
    let mut ways: Vec<&[&str]> = vec![
        &rich,
        &["--network", "none"],
        &["--network", "host", "--uts", "host"],
        &joined,
        &["--privileged"],
    ];
    if crate::userns::can(&t) {
        ways.push(&["--uidmap", crate::userns::MAP]);
    }
    for way in ways {
        let out = t.cmd(["run", "--rm", "--explain"]).args(way).args(&[BUSYBOX, "true"]).run().code(0);
        let others = out.stderr.lines().find(|line| line.starts_with("other"));
        assert_eq!(others, None, "{way:?}:\n{}", out.stderr);
        for word in ["exec", "process", "its own", "mounts"] {
            said(&out.stderr, word);
        }
        // It is the container's tree that is shown, and its process.
        assert!(said(&out.stderr, "mounts").join(" ").contains("/ (overlay) "), "{way:?}:\n{}", out.stderr);
        let image = said(&out.stderr, "image")[0];
        // The image's, and the one below all images.
        assert!(image.contains("overlay of 2 read-only layers,"), "{way:?}: {image}");
    }
}

/// Told before the program says anything, in whatever depth; nothing is lost with what reads it.
#[test]
fn it_is_told_before_the_program_speaks() {
    let Some(t) = Test::start() else { return };
    for depth in ["--explain", "--explain=steps", "--explain=calls", "--explain=json"] {
        let command = format!(r#""$RBOX" run --rm {depth} {BUSYBOX} echo the program 2>&1"#);
        let shell = |script: &str| {
            t.program("sh", ["-c", script]).env("RBOX", crate::harness::binary().to_str().unwrap()).run()
        };
        let out = shell(&command).code(0).stdout;
        assert_eq!(out.lines().last(), Some("the program"), "{depth}:\n{out}");
        assert!(out.contains("exec"), "{depth}:\n{out}");
        let closed = shell(&format!("{command} | head -n 1; :")).code(0);
        assert_eq!(closed.stdout.lines().count(), 1, "{depth}");
        let quiet = shell(&format!(r#""$RBOX" run --rm {depth} {BUSYBOX} echo the program 2>&-"#)).code(0);
        assert_eq!(quiet.stdout, "the program\n", "{depth}");
    }
    // The program that there is not is told as what it came to.
    let out = t.rbox(["run", "--rm", "--explain", BUSYBOX, "/nosuch"]).code(127);
    assert!(said(&out.stderr, "exec").join(" ").contains("-1 ENOENT"), "{}", out.stderr);
    // A start that fails: what was done, then why it went no further.
    let out = t.rbox(["run", "--rm", "--explain", BUSYBOX, "nosuch"]).code(127);
    assert!(
        out.stderr.lines().last().is_some_and(|line| line.contains("executable file not found")),
        "{}",
        out.stderr
    );
    said(&out.stderr, "root files");
}

#[test]
fn steps_and_calls_are_lines_on_standard_error() {
    let Some(t) = Test::start() else { return };
    let out = t.rbox(["run", "--rm", "--explain=calls", BUSYBOX, "echo", "the program"]).code(0);
    assert_eq!(out.stdout, "the program\n");
    for call in ["clone3", "pivot_root", "sethostname", "execve", "mount"] {
        assert!(out.stderr.contains(call), "no {call}:\n{}", out.stderr);
    }
    assert!(out.stderr.contains("µs") && out.stderr.contains(" ms"), "no times:\n{}", out.stderr);
    assert!(out.stderr.lines().count() > 40, "{}", out.stderr);
    // A step that did nothing is none: there is no terminal, and nothing is read-only.
    for idle in ["open the terminal", "seal the root"] {
        assert!(!out.stderr.contains(idle), "{idle}:\n{}", out.stderr);
    }
    // What images and callers name is nothing that a terminal acts on.
    for depth in ["--explain", "--explain=steps", "--explain=calls", "--explain=json"] {
        let out = t.rbox(["run", "--rm", depth, "--tmpfs", "/a\u{1b}]0;b", BUSYBOX, "true"]).code(0);
        assert!(!out.stderr.contains('\u{1b}'), "{depth}:\n{:?}", out.stderr);
    }
    let steps = t.rbox(["run", "--rm", "--explain=steps", BUSYBOX, "true"]).code(0).stderr;
    for line in steps.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    for step in ["make the control group", "clone into new namespaces", "pivot root", "execute the program"] {
        assert!(steps.contains(&format!("  {step} ")), "no {step}:\n{steps}");
    }
}

#[test]
fn for_machines_it_is_json() {
    let Some(t) = Test::start() else { return };
    let out = t.rbox(["run", "--rm", "--explain=json", BUSYBOX, "true"]).code(0);
    let events = events(&out.stderr);
    let text =
        |key: &str| events.iter().filter_map(|e| e[key].as_str()).map(str::to_owned).collect::<BTreeSet<_>>();
    let calls = text("syscall");
    for call in
        ["clone3", "pivot_root", "sethostname", "execve", "move_mount", "mkdirat", "seccomp", "capset"]
    {
        assert!(calls.contains(call) || calls.iter().any(|c| c.contains(call)), "no {call} in {calls:?}");
    }
    assert!(text("why").len() >= 10, "each step says why: {:?}", text("why"));
    for event in &events {
        if event["syscall"].is_string() {
            assert!(
                event["args"].is_string() && (event["result"].is_string() || event["result"].is_number()),
                "{event}"
            );
            assert!(event["us"].is_number(), "{event}");
        }
    }
}

/// The main flow is told in the order in which it is written down.
#[test]
fn the_order_is_the_flow() {
    let Some(t) = Test::start() else { return };
    let out = t.rbox(["run", "--rm", "--explain=json", BUSYBOX, "true"]).code(0);
    let calls: Vec<String> =
        events(&out.stderr).iter().filter_map(|e| e["syscall"].as_str().map(str::to_owned)).collect();
    let place = |name: &str| {
        calls.iter().position(|c| c.starts_with(name)).unwrap_or_else(|| panic!("no {name}: {calls:?}"))
    };
    assert!(place("clone3") < place("pivot_root"));
    assert!(place("pivot_root") < place("sethostname") || place("sethostname") < place("execve"));
    assert!(place("pivot_root") < place("execve"));
    assert!(!out.stderr.contains("run the hooks"), "a step that nobody asked for is told");
}

/// A call as strace saw it.
struct Done {
    pid: String,
    name: String,
    result: String,
}

/// The calls of an output of `strace -f -o`, in the order of their ends. One that another process's comes between is in two lines.
fn done(text: &str) -> Vec<Done> {
    let mut all = Vec::new();
    for line in text.lines() {
        let Some((pid, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        let Some((before, result)) = rest.rsplit_once(" = ") else { continue };
        let name = match before.strip_prefix("<... ") {
            Some(resumed) => resumed.split(' ').next(),
            None => before.split('(').next(),
        };
        let name = name.unwrap_or_default().to_owned();
        all.push(Done { pid: pid.to_owned(), name, result: result.to_owned() });
    }
    all
}

/// strace sees the same calls with the same results: nothing is told that was not done, or as it was not.
#[test]
fn what_is_told_was_done() {
    let Some(t) = Test::start() else { return };
    if !has("strace") {
        return skipped("strace is not installed");
    }
    let trace = t.dir("strace").join("out");
    let out = Command::new("strace")
        .args(["-f", "-q", "-o"])
        .arg(&trace)
        .arg(crate::harness::binary())
        .args(["run", "--rm", "--explain=json", BUSYBOX, "true"])
        .env("RBOX_ROOT", &t.suite.root)
        .env("RBOX_STATE", &t.suite.state)
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let done = done(&std::fs::read_to_string(&trace).unwrap());
    // The container's first process has another number inside.
    let first = done.iter().find(|call| call.name == "pivot_root").map(|call| call.pid.clone()).unwrap();
    let told = events(&String::from_utf8_lossy(&out.stderr));
    let calls: Vec<(String, &str, &str)> = told
        .iter()
        .filter_map(|event| {
            let pid = event["pid"].to_string();
            let pid = if event["actor"] == "container" { first.clone() } else { pid };
            Some((pid, event["syscall"].as_str()?, event["result"].as_str()?))
        })
        .collect();
    for call in ["pivot_root", "sethostname", "move_mount", "fsopen", "clone3", "setsid", "dup2", "write"] {
        assert!(calls.iter().any(|(_, name, _)| *name == call), "{call} is not told");
    }
    // Of each process and call, in the order in which they were made.
    let mut next = std::collections::HashMap::<(&str, &str), usize>::new();
    for (pid, name, result) in calls.iter().filter(|(_, name, _)| *name != "execve") {
        let from = next.entry((pid, name)).or_default();
        let found = done[*from..]
            .iter()
            .position(|call| call.pid == *pid && call.name == *name && call.result.trim() == *result);
        let seen: Vec<&str> = done[*from..]
            .iter()
            .filter(|call| call.pid == *pid && call.name == *name)
            .map(|call| call.result.as_str())
            .take(5)
            .collect();
        let found =
            found.unwrap_or_else(|| panic!("{name} of {pid} is told to be {result}, and was {seen:?}"));
        *from += found + 1;
    }
    for name in ["move_mount", "pivot_root", "sethostname", "setsid", "umount2"] {
        let count = done.iter().filter(|call| call.name == name && call.pid == first).count();
        let told = calls.iter().filter(|(pid, call, _)| *call == name && *pid == first).count();
        assert_eq!(told, count, "{name} of the container");
    }
}

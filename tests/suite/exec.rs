//! `exec`: another process in what the container has.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::harness::{BUSYBOX, PYTHON, Test, fields, wait_until};

#[test]
fn joins_every_namespace_the_root_and_the_groups() {
    let Some(t) = Test::start() else { return };
    let name = t.name("ns");
    t.sleeper(&name, []);
    let script = "for n in cgroup ipc mnt net pid uts; do echo $n $(readlink /proc/self/ns/$n); done; cat /proc/self/cgroup";
    let own: Vec<String> = t.ok(["exec", &name, "sh", "-c", script]).lines().map(str::to_owned).collect();
    let first: Vec<String> =
        t.ok(["exec", &name, "sh", "-c", &script.replace("self", "1")]).lines().map(str::to_owned).collect();
    assert_eq!(own, first);
    let pid = t.pid(&name);
    let outside: BTreeMap<_, _> = ["cgroup", "ipc", "mnt", "net", "pid", "uts"]
        .into_iter()
        .map(|n| {
            (n, std::fs::read_link(format!("/proc/{pid}/ns/{n}")).unwrap().to_string_lossy().into_owned())
        })
        .collect();
    for (namespace, link) in outside {
        assert!(own.contains(&format!("{namespace} {link}")), "{namespace}: {own:?}");
        let host = std::fs::read_link(format!("/proc/self/ns/{namespace}")).unwrap();
        assert_ne!(host.to_string_lossy(), link, "{namespace} is the host's");
    }
}

#[test]
fn codes_streams_and_input() {
    let Some(t) = Test::start() else { return };
    let name = t.name("io");
    t.sleeper(&name, []);
    t.rbox(["exec", &name, "sh", "-c", "exit 33"]).code(33);
    let out = t.rbox(["exec", &name, "sh", "-c", "echo out; echo err >&2"]).code(0);
    assert_eq!((out.stdout.as_str(), out.stderr.as_str()), ("out\n", "err\n"));
    assert_eq!(t.cmd(["exec", "-i", &name, "wc", "-c"]).input("12345").run().ok().trim(), "5");
    assert_eq!(t.cmd(["exec", &name, "wc", "-c"]).input("12345").run().ok().trim(), "0");
    t.rbox(["exec", &name, "no-such-command"]).refused(127, &["no-such-command"]);
    t.rbox(["exec", &name, "/etc/passwd"]).refused(126, &["/etc/passwd"]);
    t.rbox(["exec", &name, "sh", "-c", "kill -9 $$"]).code(137);
}

#[test]
fn flags() {
    let Some(t) = Test::start() else { return };
    let image = format!("{}/rbox/users", t.suite.registry);
    let name = t.name("f");
    t.ok([
        "run",
        "-d",
        "--name",
        &name,
        "-e",
        "A=run",
        "-w",
        "/tmp",
        "-u",
        "app",
        &image,
        "sh",
        "-c",
        "trap 'exit 0' TERM; while :; do sleep 0.1; done",
    ]);
    // Without flags: the container's own user, directory and environment.
    assert_eq!(
        t.ok(["exec", &name, "sh", "-c", "id -u; pwd; echo $A; echo $HOME"]),
        "1234\n/tmp\nrun\n/opt/app"
    );
    assert_eq!(
        t.ok([
            "exec",
            "-u",
            "root",
            "-w",
            "/etc",
            "-e",
            "A=exec",
            "-e",
            "B=2",
            &name,
            "sh",
            "-c",
            "id -u; pwd; echo $A $B; echo $HOME"
        ]),
        "0\n/etc\nexec 2\n/root"
    );
    assert!(t.ok(["exec", "-u", "app", &name, "id"]).contains("groups=100(users),2000(extra),2001(more)"));
    t.rbox(["exec", "-w", "/no/such/dir", &name, "true"]).refused(127, &["/no/such/dir"]);
    t.rbox(["exec", "-u", "no-such-user", &name, "true"]).refused(1, &["no-such-user"]);
}

#[test]
fn detached_leaves_at_once() {
    let Some(t) = Test::start() else { return };
    let name = t.name("d");
    t.sleeper(&name, []);
    // It waits for what comes only once `exec -d` is back.
    let script = "for i in $(seq 200); do test -e /go && echo done > /tmp/mark && exit; sleep 0.05; done; echo late > /tmp/mark";
    assert_eq!(t.ok(["exec", "-d", &name, "sh", "-c", script]), "");
    t.ok(["exec", &name, "touch", "/go"]);
    wait_until("the detached command has run", || {
        t.rbox(["exec", &name, "cat", "/tmp/mark"]).stdout == "done\n"
    });
}

#[test]
fn has_the_containers_capabilities_and_filter() {
    let Some(t) = Test::start() else { return };
    let name = t.name("caps");
    t.sleeper(&name, ["--cap-drop", "CHOWN", "--security-opt", "no-new-privileges"]);
    let first = fields(&t.ok(["exec", &name, "cat", "/proc/1/status"]));
    let own = fields(&t.ok(["exec", &name, "cat", "/proc/self/status"]));
    for key in [
        "CapInh",
        "CapPrm",
        "CapEff",
        "CapBnd",
        "CapAmb",
        "Seccomp",
        "NoNewPrivs",
        "Groups",
        "Seccomp_filters",
    ] {
        assert_eq!(own.get(key), first.get(key), "{key}");
    }
    assert_eq!(own["Seccomp"], "2");
    assert_eq!(own["NoNewPrivs"], "1");
    let more = fields(&t.ok(["exec", "--privileged", &name, "cat", "/proc/self/status"]));
    assert!(
        u64::from_str_radix(&more["CapEff"], 16).unwrap() & (1 << 21) != 0,
        "SYS_ADMIN: {}",
        more["CapEff"]
    );
}

#[test]
fn only_in_what_runs() {
    let Some(t) = Test::start() else { return };
    let name = t.name("s");
    t.ok(["run", "--name", &name, BUSYBOX, "true"]);
    t.rbox(["exec", &name, "true"]).refused(1, &["not running"]);
    t.rbox(["exec", "no-such-container", "true"]).refused(1, &["no such container", "no-such-container"]);
    let name = t.name("p");
    t.sleeper(&name, []);
    t.ok(["pause", &name]);
    t.rbox(["exec", &name, "true"]).refused(1, &["paused"]);
    t.ok(["unpause", &name]);
}

#[test]
fn ends_with_the_container() {
    let Some(t) = Test::start() else { return };
    let name = t.name("e");
    t.sleeper(&name, []);
    let exec = t.cmd(["exec", &name, "sleep", "1000"]).spawn();
    wait_until("the command runs", || t.ok(["exec", &name, "ps"]).contains("sleep 1000"));
    t.ok(["kill", &name]);
    exec.finish(Duration::from_secs(20)).code(137);
}

#[test]
fn many_at_once() {
    let Some(t) = Test::start() else { return };
    let name = t.name("m");
    t.sleeper(&name, []);
    let all: Vec<_> =
        (0..20).map(|n| t.cmd(["exec", &name, "sh", "-c", &format!("echo {n}; exit {n}")]).spawn()).collect();
    for (n, one) in all.into_iter().enumerate() {
        assert_eq!(one.finish(Duration::from_mins(1)).code(n as i32).stdout, format!("{n}\n"));
    }
}

/// Nothing of the host reaches the process: descriptors 0, 1 and 2, and its own environment.
#[test]
fn inherits_nothing_of_the_host() {
    let Some(t) = Test::start() else { return };
    let name = t.name("fds");
    let python = "import os; print(sorted(os.listdir('/proc/self/fd')), 'RBOX_ROOT' in os.environ)";
    assert_eq!(t.ok(["run", "--rm", PYTHON, "python3", "-c", python]), "['0', '1', '2', '3'] False");
    t.ok(["run", "-d", "--name", &name, PYTHON, "sleep", "1000"]);
    assert_eq!(t.ok(["exec", &name, "python3", "-c", python]), "['0', '1', '2', '3'] False");
    let first = t.ok(["exec", &name, "ls", "/proc/1/fd"]);
    assert_eq!(first.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2"]);
}

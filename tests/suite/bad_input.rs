//! Bad input of every command: one line that says what to do, exit code 125 or Docker's 1, nothing changed.

use std::fs;

use crate::harness::{BUSYBOX, Cmd, OwnRoots, RAW, Test, binary, wait_until};

#[test]
fn unknown_flags_and_commands() {
    let Some(t) = Test::start() else { return };
    for command in [
        "run", "create", "start", "exec", "attach", "ps", "logs", "stop", "kill", "rm", "restart", "wait",
        "inspect", "rename", "port", "pause", "unpause", "top", "pull", "images", "rmi", "tag", "load",
        "save", "import", "history", "version", "info", "pid",
    ] {
        t.rbox([command, "--no-such-flag"]).refused(125, &["--no-such-flag"]);
    }
    t.rbox(["no-such-command"]).refused(125, &["no-such-command"]);
    t.rbox(["--no-such-flag", "ps"]).refused(125, &["--no-such-flag"]);
    t.rbox(["container", "no-such-command"]).refused(125, &["no-such-command"]);
}

#[test]
fn arguments_that_are_missing_or_too_many() {
    let Some(t) = Test::start() else { return };
    for command in [
        "run", "create", "start", "exec", "attach", "logs", "stop", "kill", "rm", "restart", "wait",
        "inspect", "rename", "port", "pause", "unpause", "top", "pull", "rmi", "tag", "save", "import",
        "history",
    ] {
        let out = t.rbox([command]);
        out.refused(125, &[]);
    }
    t.rbox(["exec", "only-a-name"]).refused(125, &[]);
    t.rbox(["rename", "one"]).refused(125, &[]);
    t.rbox(["tag", "one"]).refused(125, &[]);
    t.rbox(["version", "too", "many"]).refused(125, &[]);
}

#[test]
fn what_is_not_there() {
    let Some(t) = Test::start() else { return };
    for command in [
        "start", "stop", "kill", "rm", "restart", "wait", "port", "pause", "unpause", "top", "logs",
        "attach", "pid",
    ] {
        t.rbox([command, "no-such-one"]).refused(1, &["no such container: no-such-one"]);
    }
    t.rbox(["rename", "no-such-one", "x"]).refused(1, &["no such container"]);
    for command in ["rmi", "history", "save"] {
        t.rbox([command, "no-such-image"]).refused(1, &["no-such-image"]);
    }
    // `run` says first that it goes and looks, as Docker does; the last line is the answer.
    let out = t.rbox(["run", "no-such-image-anywhere:x"]).code(125);
    let last = out.stderr.lines().last().unwrap_or_default();
    assert!(last.starts_with("rbox: ") && last.contains("no-such-image-anywhere"), "{}", out.stderr);
}

/// The line names what was asked for, and stays a line that can be read.
#[test]
fn huge_and_hostile_names() {
    let Some(t) = Test::start() else { return };
    let huge = "x".repeat(100_000);
    for command in ["inspect", "rm", "logs", "rmi", "history", "pull"] {
        let code = if command == "pull" { 125 } else { 1 };
        let out = t.rbox([command, &huge]).code(code);
        assert!(out.stderr.len() < 5000, "{command}: {} bytes", out.stderr.len());
        out.refused(code, &[]);
        let out = t.rbox([command, "a\u{1b}[31mb\r"]).code(code);
        assert!(!out.stderr.trim_end_matches('\n').contains(char::is_control), "{command}: {:?}", out.stderr);
        out.refused(code, &["1b", "[31mb\\r"]);
    }
    t.rbox(["tag", BUSYBOX, &huge]).refused(125, &["255 characters"]);
}

#[test]
fn values_that_are_none() {
    let Some(t) = Test::start() else { return };
    for args in [
        &["--name", "a b"][..],
        &["--name", ""],
        &["-e", "=x"],
        &["--env-file", "/no/such/file"],
        &["-u", "a:b:c"],
        &["--network", ""],
        &["--hostname", &"x".repeat(65)],
        &["-p", "99999"],
        &["--stop-signal", "SIGNONSENSE"],
        &["--stop-timeout", "soon"],
        &["--platform", "a/b/c/d"],
        &["--userns", "nonsense"],
        &["--detach-keys", "ctrl-"],
        &["--log-opt", "nonsense=1"],
        &["--log-opt", "max-size=lots"],
        &["--tmpfs", "relative"],
        &["--tmpfs", "/x:nonsense=1"],
        &["--add-host", "x"],
        &["--memory-reservation", "x"],
        &["--cpu-shares", "x"],
        &["-m", "64m", "--memory-reservation", "128m"],
        &["-d", "--cidfile", "/no/such/dir/x"],
    ] {
        let mut all = vec!["run", "--rm"];
        all.extend(args);
        all.extend([BUSYBOX, "true"]);
        let out = t.cmd(all).run();
        assert!(out.code == 125, "{args:?}: {out:?}");
        out.refused(125, &[]);
    }
    wait_until("no refused run leaves a container", || t.ok(["ps", "-aq"]).is_empty());
}

#[test]
fn without_root_it_says_so() {
    let Some(t) = Test::start() else { return };
    // A copy that another user may execute.
    let copy = t.dir("bin").join("rbox");
    fs::copy(binary(), &copy).unwrap();
    for dir in [t.suite.scratch.as_path(), copy.parent().unwrap(), &copy] {
        std::process::Command::new("chmod").args(["755", dir.to_str().unwrap()]).status().unwrap();
    }
    for args in [&["run", "--rm", "busybox", "true"][..], &["ps"], &["pull", "busybox"]] {
        Cmd::new(copy.clone(), args)
            .user(65534)
            .run()
            .refused(if args[0] == "run" { 125 } else { 1 }, &["root"]);
    }
    Cmd::new(copy, ["--help"]).user(65534).run().ok();
}

#[test]
fn errors_say_what_was_tried() {
    let Some(t) = Test::start() else { return };
    let dir = t.dir("f");
    let file = dir.join("file");
    fs::write(&file, "").unwrap();
    // A directory over a file, and a root that cannot be one.
    let spec = format!("{}:/etc/passwd", dir.display());
    t.rbox(["run", "--rm", "-v", &spec, BUSYBOX, "true"]).refused(125, &["/etc/passwd"]);
    Cmd::new(binary(), ["ps"])
        .env("RBOX_ROOT", &file)
        .env("RBOX_STATE", &t.suite.state)
        .run()
        .refused(1, &[file.to_str().unwrap()]);
    Cmd::new(binary(), ["--root", "/proc/none", "ps"]).run().refused(1, &["/proc/none"]);
    Cmd::new(binary(), ["pull", "busybox"])
        .env("RBOX_ROOT", dir.join("r"))
        .env("RBOX_STATE", dir.join("s"))
        .env("RBOX_REGISTRIES", &file)
        .run()
        .refused(1, &[file.to_str().unwrap()]);
    // What the monitor says goes another way, and stays in the record.
    let (name, volume) = (t.name("c"), t.name("v"));
    t.ok(["create", "--name", &name, "--network", "none", "-v", &format!("{volume}:/data"), BUSYBOX, "true"]);
    let hosts = t.suite.root.join("containers").join(t.ok(["inspect", "-f", "{{.Id}}", &name])).join("hosts");
    let _ = fs::remove_file(&hosts);
    fs::create_dir(&hosts).unwrap();
    t.rbox(["start", &name]).refused(1, &["hosts"]);
    let told = t.ok(["inspect", "-f", "{{.State.Error}}", &name]);
    assert!(told.contains("hosts") && !RAW.iter().any(|raw| told.contains(raw)), "{told}");
    fs::remove_dir(&hosts).unwrap();
    t.ok(["rm", "-v", &name]);
    t.rbox(["volume", "rm", &volume]).code(0);
    // A volume's damage is told by a warning.
    t.ok(["volume", "create", &volume]);
    let record = t.suite.root.join("volumes").join(&volume).join("volume.json");
    fs::remove_file(&record).unwrap();
    let warned = t.rbox(["volume", "ls", "-q"]).code(0).stderr;
    assert!(warned.contains("volume.json") && !RAW.iter().any(|raw| warned.contains(raw)), "{warned}");
    t.ok(["volume", "rm", &volume]);
}

#[test]
fn a_broken_record_breaks_nothing_else() {
    let Some(t) = Test::start() else { return };
    // Roots of its own: should a broken record break more, then nothing of the other tests.
    let own = OwnRoots::new(&t, "own", &t.suite.registry);
    let rbox = |args: &[&str]| own.run(args);
    let root = &own.root;
    rbox(&["pull", "-q", BUSYBOX]).ok();
    rbox(&["run", "-d", "--name", "good", "--network", "none", BUSYBOX, "sleep", "1000"]).ok();
    let id = rbox(&["create", "--name", "bad", BUSYBOX]).ok();
    let record = root.join("containers").join(&id).join("config.json");
    let mut wrong = Vec::new();
    for content in ["", "{}", "not json", "{\"id\":3}"] {
        fs::write(&record, content).unwrap();
        if !rbox(&["ps", "-a", "--format", "{{.Names}}"]).stdout.lines().any(|l| l == "good") {
            wrong.push(format!("ps with the record `{content}`"));
        }
        if rbox(&["exec", "good", "echo", "ok"]).stdout != "ok\n" {
            wrong.push(format!("exec with the record `{content}`"));
        }
    }
    if rbox(&["rm", "-f", &id]).code != 0 || root.join("containers").join(&id).exists() {
        wrong.push("rm -f of the broken one".into());
    }
    fs::remove_dir_all(root.join("containers").join(&id)).ok();
    rbox(&["rm", "-f", "good"]).code(0);
    assert!(wrong.is_empty(), "a broken record breaks {wrong:?}");
}

/// A Unix socket's path has 107 bytes: a long state directory must work, or be refused with the reason.
#[test]
fn a_long_state_directory() {
    let Some(t) = Test::start() else { return };
    let mut own = OwnRoots::new(&t, "long", &t.suite.registry);
    own.state = own.dir.join("s".repeat(60)).join("t".repeat(60));
    own.run(&["pull", "-q", BUSYBOX]).ok();
    let name = t.name("c");
    assert_eq!(own.run(&["run", "--name", &name, BUSYBOX, "echo", "fits"]).ok(), "fits");
    own.run(&["run", "-d", "--name", "second", BUSYBOX, "sleep", "1000"]).ok();
    assert_eq!(own.run(&["exec", "second", "echo", "in"]).ok(), "in");
    own.run(&["run", "-d", "-i", "--name", "third", BUSYBOX, "sh", "-c", "read line; echo $line; exit 4"])
        .ok();
    let out = own.cmd(&["attach", "third"]).input("through its socket\n").run().code(4);
    assert_eq!(out.stdout, "through its socket\n");
    own.run(&["rm", "-f", &name, "second", "third"]).ok();
}

/// What rbox cannot do before it comes to the container: Docker's client has 125 for that in `run`, `create` and `exec`.
#[test]
fn rbox_itself_failing_has_the_code_that_is_no_programs() {
    let Some(t) = Test::start() else { return };
    let name = t.name("on");
    t.sleeper(&name, []);
    let few = |line: &str| {
        let script = format!("ulimit -Sn 3; exec \"$RBOX\" {line}");
        t.program("sh", ["-c", &script]).env("RBOX", crate::harness::binary()).run()
    };
    few("run --rm busybox true").refused(125, &["too many open files"]);
    few(&format!("exec {name} true")).refused(125, &["too many open files"]);
    few(&format!("start {name}")).refused(1, &["too many open files"]);
    let file = t.dir("root").join("file");
    std::fs::write(&file, "").unwrap();
    let root = |args: &[&str]| t.cmd(args.iter().copied()).env("RBOX_ROOT", &file).run();
    for args in [&["run", "busybox"][..], &["create", "busybox"], &["exec", &name, "true"]] {
        root(args).refused(125, &["directory"]);
    }
    root(&["ps"]).refused(1, &["directory"]);
    // What is not there is no failure of rbox's.
    t.rbox(["exec", "no-such-container", "true"]).refused(1, &["no such container"]);
}

/// A full standard output is not a full disk.
#[test]
fn a_standard_output_that_takes_nothing_is_named() {
    let Some(t) = Test::start() else { return };
    let name = t.name("x");
    t.ok(["create", "--name", &name, "busybox", "true"]);
    for line in [
        "ps",
        "images",
        "version",
        "info",
        "system df",
        "help",
        "ps --help",
        "volume ls",
        "network ls",
        "completion bash",
        "run --rm busybox echo x",
        "create busybox",
        "inspect busybox",
        "history busybox",
        "container prune",
    ] {
        let script = format!("exec \"$RBOX\" {line} > /dev/full");
        let out = t.program("sh", ["-c", &script]).env("RBOX", crate::harness::binary()).run();
        let code = if line.starts_with("run") || line.starts_with("create") { 125 } else { 1 };
        assert_eq!(out.code, code, "{line}: {out:?}");
        assert_eq!(out.stderr, "rbox: write to standard output: No space left on device\n", "{line}");
    }
}

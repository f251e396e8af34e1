//! `why`: each cause is made to happen, and found.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::Value;

use crate::harness::{BUSYBOX, PYTHON, Test, poll, wait_until};

/// What `why` says of one container.
struct Told(Value);

impl Told {
    fn of(t: &Test, name: &str) -> Self {
        Self(serde_json::from_str(&t.ok(["why", "--format", "json", name])).unwrap())
    }

    fn causes(&self) -> &[Value] {
        self.0["Causes"].as_array().unwrap()
    }

    fn kinds(&self) -> Vec<&str> {
        self.causes().iter().map(|cause| cause["Kind"].as_str().unwrap()).collect()
    }

    /// The cause of this kind.
    #[track_caller]
    fn cause(&self, kind: &str) -> &Value {
        let found = self.causes().iter().find(|cause| cause["Kind"] == kind);
        found.unwrap_or_else(|| panic!("no {kind}: {:#}", self.0))
    }
}

/// Runs something to its end, however that is, and asks why. The container is removed.
#[track_caller]
fn ended(t: &Test, args: &[&str]) -> Told {
    let name = t.name("c");
    t.cmd([&["run", "--name", &name][..], args].concat()).run();
    let told = Told::of(t, &name);
    t.ok(["rm", "-f", "-v", &name]);
    told
}

fn put(dir: &Path, name: &str, bytes: impl AsRef<[u8]>, mode: u32) {
    fs::write(dir.join(name), bytes).unwrap();
    fs::set_permissions(dir.join(name), fs::Permissions::from_mode(mode)).unwrap();
}

/// A program of the host with some of its bytes replaced by as many others.
fn patched(from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut bytes = fs::read("/bin/ls").unwrap();
    let mut at = 0;
    while let Some(found) = bytes[at..].windows(from.len()).position(|part| part == from) {
        bytes[at + found..at + found + to.len()].copy_from_slice(to);
        at += found + to.len();
    }
    assert!(at > 0, "/bin/ls has no {:?}", String::from_utf8_lossy(from));
    bytes
}

#[test]
fn programs_that_cannot_be_executed() {
    let Some(t) = Test::start() else { return };
    let dir = t.dir("programs");
    let bind = format!("{}:/p", dir.display());
    put(&dir, "no-interpreter", "#!/bin/absent -x\n", 0o755);
    put(&dir, "env", "#!/usr/bin/env absent\n", 0o755);
    put(&dir, "returns", "#!/bin/sh\r\necho hi\r\n", 0o755);
    put(&dir, "returns.sh", "if true; then\r\necho hi\r\nfi\r\n", 0o644);
    put(&dir, "mode", "#!/bin/sh\n", 0o644);
    put(&dir, "words", "echo hi\n", 0o755);
    put(&dir, "empty", "", 0o755);
    put(&dir, "loader", patched(b"/ld-linux", b"/no-linux"), 0o755);
    let mut other = fs::read("/bin/ls").unwrap();
    // Of a processor that nobody has here: PA-RISC.
    other[18..20].copy_from_slice(&15_u16.to_ne_bytes());
    put(&dir, "other", other, 0o755);
    let run = |words: &[&str]| ended(&t, &[&["-v", &bind, BUSYBOX], words].concat());
    assert_eq!(run(&["absent"]).cause("command-missing")["Command"], "absent");
    assert_eq!(run(&["/p/absent"]).cause("command-missing")["Searched"], serde_json::json!([]));
    assert_eq!(run(&["/p/no-interpreter"]).cause("interpreter-missing")["Interpreter"], "/bin/absent");
    assert_eq!(run(&["/p/env"]).cause("interpreter-missing")["Interpreter"], "absent");
    assert_eq!(run(&["/p/returns"]).cause("carriage-returns")["Interpreter"], "/bin/sh");
    assert_eq!(run(&["sh", "/p/returns.sh"]).cause("carriage-returns")["Script"], "/p/returns.sh");
    assert_eq!(run(&["/p/mode"]).cause("not-executable")["Mode"], "0644");
    assert_eq!(run(&["/p"]).kinds(), ["directory"]);
    assert_eq!(run(&["/p/words"]).cause("no-format")["IsEmpty"], false);
    assert_eq!(run(&["/p/empty"]).cause("no-format")["IsEmpty"], true);
    let loader = run(&["/p/loader"]);
    assert!(loader.cause("loader-missing")["Loader"].as_str().unwrap().contains("/no-linux"));
    assert_eq!(run(&["/p/other"]).cause("wrong-architecture")["Machine"], "ELF machine 15");
    // The library's name is another one.
    put(&dir, "library", patched(b"libc.so.6", b"libq.so.6"), 0o755);
    let library = ended(&t, &["-v", &bind, PYTHON, "/p/library"]);
    assert_eq!(library.cause("library-missing")["Library"], "libq.so.6");
}

#[test]
fn how_it_ended() {
    let Some(t) = Test::start() else { return };
    let script = |script: &str| ended(&t, &[BUSYBOX, "sh", "-c", script]);
    assert_eq!(script("exit 0").kinds(), ["finished"]);
    let failed = script("echo first; echo last >&2; exit 3");
    assert_eq!(failed.kinds(), ["failed"]);
    assert_eq!(failed.causes()[0]["LastWords"], serde_json::json!(["first", "last"]));
    assert!(
        script("nosuchcommand").causes()[0]["Text"]
            .as_str()
            .unwrap()
            .contains("127: a command was not found")
    );
    let crash = ended(&t, &[PYTHON, "python3", "-c", "import ctypes; ctypes.string_at(0)"]);
    assert_eq!(crash.cause("crashed")["Signal"], "SIGSEGV");
    let memory = ["-m", "32m", PYTHON, "python3", "-c", "x = b'x' * (200 << 20)"];
    let memory = ended(&t, &memory);
    assert_eq!(memory.cause("out-of-memory")["Limit"], 32 << 20);
    assert!(memory.causes()[0]["Try"][0].as_str().unwrap().contains("--memory 64m"));
    // What is told also where the program makes nothing of it, and where it goes on.
    let eats = "python3 -c 'x = b\"x\" * (200 << 20)'";
    let ignored = ended(&t, &["-m", "32m", PYTHON, "sh", "-c", &format!("{eats}; exit 0")]);
    assert_eq!(ignored.kinds(), ["out-of-memory", "finished"]);
    let name = t.name("goes-on");
    t.ok([
        "run",
        "-d",
        "-m",
        "32m",
        "--name",
        &name,
        PYTHON,
        "sh",
        "-c",
        &format!("{eats}; exec sleep 1000"),
    ]);
    wait_until("memory runs out", || Told::of(&t, &name).kinds().contains(&"lost-to-memory"));
    t.ok(["rm", "-f", &name]);
    // A code like that of a signal is no signal.
    for code in ["137", "143"] {
        let told = ended(&t, &[BUSYBOX, "sh", "-c", &format!("exit {code}")]);
        assert_eq!(told.kinds(), ["failed"], "{code}");
    }
    assert_eq!(ended(&t, &["--timeout", "1", BUSYBOX, "sleep", "1000"]).kinds(), ["time-limit"]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = format!("127.0.0.1:{}:80", taken.local_addr().unwrap().port());
    let start = ended(&t, &["-p", &port, BUSYBOX, "true"]);
    assert!(start.cause("start-failed")["Error"].as_str().unwrap().contains("in use"), "{}", start.0);
}

#[test]
fn who_ended_it() {
    let Some(t) = Test::start() else { return };
    let name = t.name("c");
    let end = |flags: &[&str], by: &dyn Fn()| {
        let words = "trap 'exit 7' USR1; trap 'exit 0' INT; while :; do sleep 0.05; done";
        t.cmd([&["run", "-d", "--name", &name][..], flags, &[BUSYBOX, "sh", "-c", words]].concat())
            .run()
            .ok();
        std::thread::sleep(std::time::Duration::from_millis(200));
        by();
        wait_until("it has ended", || t.status(&name) == "exited");
        let told = Told::of(&t, &name);
        t.ok(["rm", &name]);
        told
    };
    assert_eq!(end(&[], &|| drop(t.ok(["kill", &name]))).cause("killed")["Signal"], "SIGKILL");
    let late = end(&[], &|| drop(t.ok(["stop", "-t", "1", &name])));
    assert_eq!(late.kinds(), ["stop-timeout"]);
    assert_eq!(
        (&late.causes()[0]["Signal"], &late.causes()[0]["HasInit"]),
        (&"SIGTERM".into(), &false.into())
    );
    let stopped = end(&["--stop-signal", "INT"], &|| drop(t.ok(["stop", &name])));
    assert_eq!(stopped.cause("stopped")["Signal"], "SIGINT");
    let outside = end(&[], &|| drop(t.program("kill", ["-9", &t.pid(&name).to_string()]).run().ok()));
    assert_eq!(outside.cause("signalled")["Signal"], "SIGKILL");
    // What it lives with is not what ended it.
    let own = end(&[], &|| drop(t.ok(["kill", "-s", "USR1", &name])));
    assert_eq!(own.cause("failed")["ExitCode"], 7);
    let unseen = end(&[], &|| {
        let state = t.suite.state.join("containers").join(t.ok(["inspect", "-f", "{{.Id}}", &name]));
        let live: Value = serde_json::from_slice(&fs::read(state.join("state.json")).unwrap()).unwrap();
        t.program("kill", ["-9", &live["monitor"].to_string()]).run().ok();
        t.program("kill", ["-9", &live["pid"].to_string()]).run().ok();
    });
    assert_eq!(unseen.kinds(), ["unseen"]);
}

#[test]
fn health() {
    let Some(t) = Test::start() else { return };
    let name = t.name("c");
    let flags = ["--health-interval", "200ms", "--health-retries", "2", "--health-cmd"];
    let run = |more: &[&str], check: &str| {
        let words =
            [&["run", "-d", "--name", &name][..], more, &flags, &[check, BUSYBOX, "sleep", "1000"]].concat();
        t.cmd(words).run().ok();
    };
    run(&[], "echo not yet; exit 4");
    wait_until("unhealthy", || t.ok(["inspect", "-f", "{{.State.Health.Status}}", &name]) == "unhealthy");
    let told = Told::of(&t, &name);
    let cause = told.cause("unhealthy");
    assert_eq!((&cause["ExitCode"], &cause["Output"]), (&4.into(), &"not yet\n".into()));
    assert_eq!(cause["StillStarting"], false);
    t.ok(["rm", "-f", &name]);
    run(&[], "curl -f localhost");
    wait_until("a failed check", || Told::of(&t, &name).kinds() == ["unhealthy"]);
    assert!(Told::of(&t, &name).causes()[0]["Text"].as_str().unwrap().contains("curl: not found"));
    t.ok(["rm", "-f", &name]);
    run(&["--health-on-failure", "kill"], "echo gone; exit 1");
    wait_until("killed", || t.status(&name) == "exited");
    assert_eq!(Told::of(&t, &name).cause("killed-unhealthy")["Output"], "gone");
    t.ok(["rm", &name]);
    run(&[], "true");
    wait_until("healthy", || Told::of(&t, &name).kinds().is_empty());
    let text = t.ok(["why", &name]);
    assert!(text.ends_with("nothing is seen that is wrong with it"), "{text}");
    t.ok(["pause", &name]);
    assert_eq!(Told::of(&t, &name).kinds(), ["paused"]);
    t.ok(["unpause", &name]);
    t.ok(["rm", "-f", &name]);
}

#[test]
fn ports() {
    let Some(t) = Test::start() else { return };
    let name = t.name("c");
    let serve = |flags: &[&str], bind: &str, wanted: &[&str]| {
        let words = [
            &["run", "-d", "--name", &name][..],
            flags,
            &[PYTHON, "python3", "-m", "http.server", "--bind"],
            &[bind, "8000"],
        ];
        t.cmd(words.concat()).run().ok();
        let found = poll(std::time::Duration::from_secs(20), || Told::of(&t, &name).kinds() == wanted);
        let told = Told::of(&t, &name);
        assert!(found, "{flags:?} {bind}: {:#}", told.0);
        t.ok(["rm", "-f", &name]);
        told
    };
    let told = serve(&["-p", "8000"], "127.0.0.1", &["listens-elsewhere"]);
    assert_eq!(told.causes()[0]["Addresses"], serde_json::json!(["127.0.0.1"]));
    assert_eq!(told.causes()[0]["Port"], "8000/tcp");
    // At first nobody listens at all.
    serve(&["-p", "8000"], "0.0.0.0", &[]);
    let told = {
        let name = t.name("other");
        t.ok(["run", "-d", "--name", &name, "-p", "80", PYTHON, "python3", "-m", "http.server", "8000"]);
        let others = |told: &Told| told.causes()[0]["Others"] == serde_json::json!(["8000/tcp"]);
        wait_until("it listens", || others(&Told::of(&t, &name)));
        Told::of(&t, &name)
    };
    assert_eq!(told.kinds(), ["nobody-listens"]);
    serve(&["-p", "127.0.0.1::8000"], "0.0.0.0", &["published-here"]);
    serve(&[], "0.0.0.0", &["not-published"]);
    serve(&["--network", "none"], "0.0.0.0", &[]);
}

#[test]
fn disks_and_mounts() {
    let Some(t) = Test::start() else { return };
    let name = t.name("c");
    let script = "dd if=/dev/zero of=/t/x 2>/dev/null; exec sleep 1000";
    t.ok(["run", "-d", "--name", &name, "--tmpfs", "/t:size=1m", BUSYBOX, "sh", "-c", script]);
    wait_until("it is full", || Told::of(&t, &name).kinds() == ["full-disk"]);
    assert_eq!(Told::of(&t, &name).causes()[0]["Path"], "/t");
    t.ok(["rm", "-f", &name]);
    let full = ended(&t, &["--tmpfs", "/t:size=1m", BUSYBOX, "dd", "if=/dev/zero", "of=/t/x"]);
    assert!(full.cause("no-space-told")["Line"].as_str().unwrap().contains("No space left on device"));
    let dir = t.dir("data");
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
    let bind = format!("{}:/data", dir.display());
    let touch = |user: &str| ended(&t, &["-u", user, "-v", &bind, BUSYBOX, "touch", "/data/x"]);
    let denied = touch("1000:1000");
    let cause = denied.cause("mount-denied");
    assert_eq!(
        (&cause["Wanted"], &cause["Owner"], &cause["Mode"]),
        (&"write".into(), &0.into(), &"0755".into())
    );
    assert!(cause["Try"][0].as_str().unwrap().contains("chown -R 1000:1000"));
    assert_eq!(touch("0").kinds(), ["finished"]);
}

#[test]
fn restarts_and_forms() {
    let Some(t) = Test::start() else { return };
    let (name, new) = (t.name("c"), t.name("new"));
    t.ok(["run", "-d", "--name", &name, "--restart", "always", BUSYBOX, "sh", "-c", "exit 5"]);
    wait_until("restarting", || {
        t.status(&name) == "restarting" && Told::of(&t, &name).kinds() == ["restarting", "failed"]
    });
    t.ok(["rm", "-f", &name]);
    t.ok([
        "run",
        "-d",
        "--name",
        &name,
        "--restart",
        "on-failure:1",
        BUSYBOX,
        "sh",
        "-c",
        "echo bad; exit 5",
    ]);
    wait_until("given up", || t.status(&name) == "exited");
    assert_eq!(Told::of(&t, &name).kinds(), ["failed", "restarts-used-up"]);
    t.ok(["create", "--name", &new, BUSYBOX]);
    let text = t.ok(["why", &name, &new]);
    let begins = format!("{name}: Exited (5) ");
    assert!(text.starts_with(&begins) && text.contains("\n       | bad\n"), "{text}");
    let own = format!("{new}: Created\n  why: it was created and never started\n  try: rbox start {new}");
    assert!(text.ends_with(&own), "{text}");
    let form = "{{.Name}} {{.State}} {{.ExitCode}} {{range .Causes}}{{.Kind}} {{end}}";
    let shown = t.ok(["why", "--format", form, &name]);
    assert_eq!(shown.trim_end(), format!("{name} exited 5 failed restarts-used-up"));
    t.rbox(["why", "nosuch"]).refused(1, &["No such container: nosuch"]);
    t.rbox(["why", "--format", "{{", &name]).refused(1, &["template"]);
    t.rbox(["why"]).refused(125, &["CONTAINER"]);
}

/// What the user is on the host, where that is another one there.
#[test]
fn a_bind_that_a_user_namespace_shuts_out() {
    let Some(t) = Test::start() else { return };
    let dir = t.dir("d");
    fs::create_dir_all(&dir).unwrap();
    let bind = format!("{}:/d", dir.display());
    let told = ended(&t, &["--uidmap", "0:500000:65536", "-v", &bind, BUSYBOX, "touch", "/d/file"]);
    let cause = told.cause("mount-denied");
    assert_eq!((&cause["Uid"], &cause["Outside"][0]), (&0.into(), &500_000.into()));
    assert!(
        cause["Text"].as_str().unwrap().contains("user 0:0 (500000:500000 of the host) may not write /d")
    );
}

/// Its shared memory, its monitor, and a program that only others may execute.
#[test]
fn what_a_container_that_runs_has_lost() {
    let Some(t) = Test::start() else { return };
    let name = t.name("runs");
    t.sleeper(&name, ["--shm-size", "1m"]);
    assert!(!Told::of(&t, &name).kinds().contains(&"full-disk"));
    t.rbox(["exec", &name, "sh", "-c", "dd if=/dev/zero of=/dev/shm/x bs=64k 2>/dev/null"]);
    assert_eq!(Told::of(&t, &name).cause("full-disk")["Path"], "/dev/shm");
    let monitor = t.inspect(&name)["State"]["Pid"].as_i64().unwrap();
    let status = fs::read_to_string(format!("/proc/{monitor}/status")).unwrap();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().to_owned();
    t.program("kill", ["-9", &parent]).run().ok();
    wait_until("it is known", || Told::of(&t, &name).kinds().contains(&"unwatched"));
    let found = t.rbox(["system", "check"]).code(1).stdout;
    assert!(found.contains(&format!("container {name}: its monitor is gone")), "{found}");
    t.ok(["restart", "-t", "0", &name]);
    assert!(!Told::of(&t, &name).kinds().contains(&"unwatched"));
    let (image, dir) = (t.name("image"), t.dir("x"));
    fs::create_dir_all(&dir).unwrap();
    let file = format!("FROM {BUSYBOX}\nRUN cp /bin/busybox /x && chmod 700 /x\nUSER 1000\nCMD [\"/x\"]\n");
    put(&dir, "Dockerfile", file, 0o644);
    t.ok(["build", "-q", "-t", &image, dir.to_str().unwrap()]);
    let told = ended(&t, &[&image]);
    assert_eq!(told.cause("not-executable")["Mode"], "0700");
    t.ok(["rmi", &image]);
}

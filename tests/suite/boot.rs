//! Containers that come and go with the host: `system boot`, `shutdown` and `unit`.

use crate::harness::{BUSYBOX, OwnRoots, Test, wait_until};

const SLEEP: &str = "trap 'exit 0' TERM; while :; do sleep 0.1; done";

fn status(own: &OwnRoots, name: &str) -> String {
    own.run(&["inspect", "-f", "{{.State.Status}}", name]).ok()
}

fn start(own: &OwnRoots, name: &str, flags: &[&str]) {
    let mut args = vec!["run", "-d", "--network", "none", "--name", name];
    args.extend(flags);
    args.extend([BUSYBOX, "sh", "-c", SLEEP]);
    own.run(&args).ok();
}

#[test]
fn what_ran_comes_back_with_the_host() {
    let Some(t) = Test::start() else { return };
    let own = OwnRoots::new(&t, "host", &t.suite.registry);
    let gone = own.dir.join("gone");
    std::fs::create_dir(&gone).unwrap();
    let mount = format!("type=bind,source={},target=/x", gone.display());
    start(&own, "second", &["--restart", "unless-stopped"]);
    start(&own, "first", &["--restart", "always"]);
    start(&own, "broken", &["--restart", "always", "--mount", &mount]);
    start(&own, "stopped", &["--restart", "unless-stopped"]);
    start(&own, "once", &[]);
    start(&own, "fails", &["--restart", "on-failure"]);
    // Started again by hand after it: now it is the later one.
    own.run(&["restart", "-t", "5", "second"]).ok();
    own.run(&["stop", "stopped"]).ok();
    own.run(&["create", "--restart", "always", "--name", "never", BUSYBOX, "true"]).ok();

    let said = own.run(&["system", "shutdown"]).ok();
    let mut names: Vec<_> = said.lines().collect();
    names.sort_unstable();
    assert_eq!(names, ["broken", "fails", "first", "once", "second"]);
    assert_eq!(own.run(&["ps", "-q"]).ok(), "");
    // What a reboot takes away.
    std::fs::remove_dir_all(&own.state).unwrap();
    std::fs::remove_dir(&gone).unwrap();

    let boot = own.run(&["system", "boot"]).code(1);
    assert_eq!(boot.stdout, "first\nsecond\n");
    assert!(
        boot.stderr.starts_with("rbox: start broken: ") && boot.stderr.contains("gone"),
        "{}",
        boot.stderr
    );
    assert_eq!(boot.stderr.lines().count(), 1, "{}", boot.stderr);
    for (name, wanted) in [
        ("first", "running"),
        ("second", "running"),
        ("stopped", "exited"),
        ("once", "exited"),
        ("fails", "exited"),
        ("never", "created"),
    ] {
        assert_eq!(status(&own, name), wanted, "{name}");
    }
    own.run(&["rm", "broken"]).ok();
    let again = own.run(&["system", "boot"]).code(0);
    assert_eq!((&*again.stdout, &*again.stderr), ("", ""));
    // `always` means also when somebody had stopped it.
    own.run(&["stop", "first", "second"]).ok();
    assert_eq!(own.run(&["system", "boot"]).ok(), "first");
}

#[test]
fn a_host_that_fell_down() {
    let Some(t) = Test::start() else { return };
    let own = OwnRoots::new(&t, "host", &t.suite.registry);
    start(&own, "web", &["--restart", "unless-stopped"]);
    let field = |path: &str| own.run(&["inspect", "-f", path, "web"]).ok();
    let state = std::fs::read_to_string(
        std::fs::read_dir(own.state.join("containers"))
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path()
            .join("state.json"),
    )
    .unwrap();
    let state: serde_json::Value = serde_json::from_str(&state).unwrap();
    for pid in [state["monitor"].to_string(), state["pid"].to_string()] {
        std::process::Command::new("kill").args(["-9", &pid]).status().unwrap();
    }
    wait_until("both are gone", || {
        std::fs::read_to_string(format!("/proc/{}/stat", state["pid"]))
            .map_or(true, |stat| stat.contains(") Z"))
    });
    std::fs::remove_dir_all(&own.state).unwrap();
    // Looked at before it is started again: it has ended, and how that came is told.
    let told = field("{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}");
    assert!(told.starts_with("exited 255 ") && told.contains("the host went down"), "{told}");
    let listed = own.run(&["ps", "-a", "--format", "{{.Names}} {{.Status}}"]).ok();
    assert!(listed.starts_with("web Exited (255) "), "{listed}");
    assert_eq!(own.run(&["system", "boot"]).ok(), "web");
    assert_eq!(field("{{.State.Status}} {{.RestartCount}}"), "running 0");
}

#[test]
fn the_unit_can_be_installed() {
    let Some(t) = Test::start() else { return };
    let dir = t.dir("root");
    let text = t.ok(["system", "unit", "--program", "/usr/bin/env"]);
    let (root, state) = (t.suite.root.display(), t.suite.state.display());
    let mounts = format!("RequiresMountsFor={root}");
    let start = format!("ExecStart=/usr/bin/env --root {root} --state {state} system boot --stay");
    let stop = format!("ExecStop=/usr/bin/env --root {root} --state {state} system shutdown");
    for line in [
        &*mounts,
        "Type=notify",
        &start,
        &stop,
        "TimeoutStartSec=infinity",
        "TimeoutStopSec=5min",
        "Delegate=yes",
        "KillMode=process",
        "TasksMax=infinity",
        "WantedBy=multi-user.target",
    ] {
        assert!(text.lines().any(|one| one == line), "no {line} in\n{text}");
    }
    let prefix = dir.display().to_string();
    let absent = format!("{prefix}/absent");
    t.rbox(["system", "unit", "--install", "--prefix", &absent]).refused(1, &["no such directory"]);
    assert!(!std::path::Path::new(&absent).exists());
    let file = t.ok(["system", "unit", "--install", "--prefix", &prefix, "--program", "/usr/bin/env"]);
    assert_eq!(std::fs::read_to_string(&file).unwrap().trim_end(), text);
    let link = dir.join("etc/systemd/system/multi-user.target.wants/rbox.service");
    assert_eq!(std::fs::read_to_string(link).unwrap().trim_end(), text, "the link leads to it");
    if crate::harness::has("systemd-analyze") {
        let out = std::process::Command::new("systemd-analyze").args(["verify", &file]).output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!said.contains("rbox.service:"), "{said}");
    }
}

#[test]
fn it_stays_for_the_unit_and_sees_the_end_of_what_it_started() {
    let Some(t) = Test::start() else { return };
    let own = OwnRoots::new(&t, "host", &t.suite.registry);
    start(&own, "web", &["--restart", "always"]);
    own.run(&["system", "shutdown"]).ok();
    let path = own.dir.join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    let mut stays = own.cmd(&["system", "boot", "--stay"]).env("NOTIFY_SOCKET", &path).spawn();
    let mut said = [0; 64];
    let length = socket.recv(&mut said).unwrap();
    assert_eq!(&said[..length], b"READY=1");
    assert_eq!(status(&own, "web"), "running");
    own.run(&["rm", "-f", "web"]).ok();
    let children = format!("/proc/{0}/task/{0}/children", stays.id());
    wait_until("nobody is left as a zombie", || std::fs::read_to_string(&children).unwrap().is_empty());
    assert!(!stays.ended());
    stays.signal("TERM");
    stays.finish(std::time::Duration::from_secs(10)).code(128 + 15);
}

//! `mount add` and `mount rm`: mounts of a container that exists; and `shell`, tools beside one that has none.

use std::fs;
use std::time::Duration;

use crate::harness::{BUSYBOX, OwnRoots, Test, rounds};

/// moby#31452.
#[test]
fn mounts_come_and_go_while_it_runs() {
    let Some(t) = Test::start() else { return };
    let (name, volume, dir) = (t.name("c"), t.name("data"), t.dir("given"));
    fs::write(dir.join("f"), "of the host\n").unwrap();
    let inside = |script: &str| t.rbox(["exec", &name, "sh", "-c", script]);
    t.sleeper(&name, []);
    let pid = t.pid(&name);
    t.ok(["mount", "add", &name, &format!("{}:/new/place", dir.display())]);
    assert_eq!(inside("cat /new/place/f; echo x > /new/place/x").ok(), "of the host");
    assert_eq!(fs::read_to_string(dir.join("x")).unwrap(), "x\n");
    // Read-only, of a file, a volume, memory; several at once.
    let file = format!("type=bind,source={}/f,target=/etc/given,readonly", dir.display());
    t.ok([
        "mount",
        "add",
        &name,
        &file,
        &format!("{volume}:/data"),
        "type=tmpfs,target=/cache,tmpfs-size=1m",
    ]);
    assert_eq!(
        inside("cat /etc/given; echo kept > /data/f; df -k /cache | tail -n 1 | awk '{print $2}'").ok(),
        "of the host\n1024"
    );
    inside("echo x > /etc/given").code(1);
    assert_eq!(t.pid(&name), pid, "it goes on");
    let targets = t.ok(["inspect", "-f", "{{range .Mounts}}{{.Destination}} {{end}}", &name]);
    assert_eq!(targets.trim_end(), "/new/place /etc/given /data /cache");
    t.rbox(["volume", "rm", &volume]).refused(1, &["in use"]);
    // They stay over a restart, and come back with `inspect --create-command`.
    t.ok(["restart", "-t", "0", &name]);
    assert_eq!(
        inside("cat /new/place/f /etc/given /data/f; test -d /cache").ok(),
        "of the host\nof the host\nkept"
    );
    assert!(t.ok(["inspect", "--create-command", &name]).contains(&format!("--volume {volume}:/data")));
    t.ok(["mount", "rm", &name, "/new/place", "/data", "/etc/given", "/cache/"]);
    assert_eq!(inside("ls /new/place /data /cache; cat /etc/given; grep -cE ' (/new|/data|/cache|/etc/given)' /proc/mounts").code(1).stdout.trim_end(), "/cache:\n\n/data:\n\n/new/place:\n0");
    t.ok(["restart", "-t", "0", &name]);
    assert_eq!(inside("ls /data").ok(), "");
    t.ok(["rm", "-f", &name]);
    assert_eq!(t.sh_with(["-v", &format!("{volume}:/v")], "cat /v/f"), "kept");
    t.ok(["volume", "rm", &volume]);
}

#[test]
fn mounts_of_one_that_does_not_run() {
    let Some(t) = Test::start() else { return };
    let (name, dir) = (t.name("c"), t.dir("given"));
    fs::write(dir.join("f"), "given\n").unwrap();
    t.ok(["create", "--name", &name, BUSYBOX, "cat", "/a/f"]);
    t.ok(["mount", "add", &name, &format!("{}:/a", dir.display())]);
    assert_eq!(t.ok(["start", "-a", &name]), "given");
    t.ok(["mount", "rm", &name, "/a"]);
    t.rbox(["start", "-a", &name]).code(1);
    for (spec, why) in [
        ("nothing", "no source"),
        ("/a:/proc/sys", "/proc"),
        ("type=bind,source=/no/such/path,target=/b", "does not exist"),
        ("type=tmpfs,target=/", "/"),
    ] {
        let out = t.rbox(["mount", "add", &name, spec]);
        assert_ne!(out.code, 0, "{spec} {why}");
    }
    t.rbox(["mount", "rm", &name, "/b"]).refused(1, &["has no mount on /b"]);
    t.rbox(["mount", "rm", "nosuch", "/b"]).refused(1, &["No such container"]);
}

/// A target is found inside, whatever its programs have made of the way there.
#[test]
fn targets_lead_nowhere_outside() {
    let Some(t) = Test::start() else { return };
    let (name, dir) = (t.name("c"), t.dir("given"));
    fs::write(dir.join("f"), "given\n").unwrap();
    let outside = t.dir("outside");
    fs::create_dir_all(&outside).unwrap();
    t.sleeper(&name, []);
    let bind = |target: &str| t.rbox(["mount", "add", &name, &format!("{}:{target}", dir.display())]);
    let link = |to: &str, at: &str| drop(t.ok(["exec", &name, "ln", "-sfn", to, at]));
    link(outside.to_str().unwrap(), "/abs");
    link(&format!("../../../../../..{}", outside.display()), "/up");
    for target in ["/abs/x", "/up/y"] {
        bind(target).ok();
        assert_eq!(t.ok(["exec", &name, "cat", &format!("{target}/f")]), "given");
        t.ok(["mount", "rm", &name, target]);
    }
    // What is there already, too: the masks would be beside it.
    for (to, at, below) in [
        ("/proc", "/p", "x"),
        ("/proc", "/p", "sys"),
        ("/proc/self/root", "/r", "x"),
        ("/proc/1/fd", "/d", "x"),
        ("/sys", "/s", "x"),
        ("/sys", "/s", "kernel"),
    ] {
        link(to, at);
        let out = bind(&format!("{at}/{below}"));
        assert_ne!(out.code, 0, "{to}/{below}");
    }
    let covered = t.ok(["exec", &name, "sh", "-c", "ls /proc/sys /sys/kernel"]);
    assert!(!covered.contains("given") && covered.contains("kernel"), "{covered}");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    let mounts = t.ok(["inspect", "-f", "{{len .Mounts}}", &name]);
    assert_eq!(mounts, "0", "what failed is in no record");
}

/// docker/roadmap#893.
#[test]
fn a_shell_beside_a_container() {
    let Some(t) = Test::start() else { return };
    let name = t.name("c");
    t.sleeper(&name, ["-u", "1000", "--cap-drop", "ALL", "-p", "127.0.0.1::80"]);
    t.ok(["exec", "-u", "0", &name, "sh", "-c", "echo found > /tmp/marker"]);
    assert_eq!(t.ok(["shell", &name, "cat", "tmp/marker"]), "found");
    let own = t.ok(["inspect", "-f", "{{.NetworkSettings.IPAddress}}", &name]);
    assert!(t.ok(["shell", &name, "ip", "address"]).contains(&own));
    let out = t.cmd(["shell", &name]).input("cat /proc/1/comm; exit 5\n").run().code(5);
    assert_eq!(out.stdout, "sh\n");
    assert_eq!(t.ok(["ps", "-aq"]).lines().count(), 1, "nothing stays");
    t.ok(["kill", &name]);
    t.rbox(["shell", &name, "true"]).refused(1, &["is not running"]);
    let host = t.name("host");
    t.sleeper(&host, ["--pid", "host"]);
    t.rbox(["shell", &host, "true"]).refused(1, &["processes"]);
}

/// Of several none is there when one cannot be.
#[test]
fn several_are_added_together() {
    let Some(t) = Test::start() else { return };
    let name = t.name("c");
    t.sleeper(&name, []);
    let wanted = ["type=tmpfs,target=/cache", "type=bind,src=/nonexistent,dst=/q"];
    for _ in 0..2 {
        t.rbox(["mount", "add", &name, wanted[0], wanted[1]]).refused(125, &["/nonexistent"]);
        assert_eq!(t.ok(["inspect", "-f", "{{len .Mounts}}", &name]), "0");
        assert!(!t.ok(["exec", &name, "cat", "/proc/mounts"]).contains("/cache"));
    }
}

/// With nothing but the binary: no registry, and no image.
#[test]
fn a_shell_without_any_image() {
    let Some(t) = Test::start() else { return };
    let own = OwnRoots::new(&t, "own", "127.0.0.1:1");
    let files = own.dir.join("files");
    fs::create_dir_all(files.join("bin")).unwrap();
    fs::copy(crate::harness::binary(), files.join("hello")).unwrap();
    let tree = files.display().to_string();
    own.run(&[
        "run",
        "-d",
        "--name",
        "one",
        "-e",
        "WORD=found",
        "--entrypoint",
        "/hello",
        "--rootfs",
        &tree,
        "wait-for-ever",
    ]);
    // It ends at once: a program that stays is the shell itself, which waits for input.
    fs::rename(files.join("hello"), files.join("sh")).unwrap();
    own.run(&[
        "run",
        "-d",
        "-i",
        "--name",
        "two",
        "-e",
        "WORD=found",
        "--entrypoint",
        "/sh",
        "--rootfs",
        &tree,
    ])
    .ok();
    let shell = |words: &[&str]| own.run(&[&["shell", "two"], words].concat());
    assert!(shell(&["env"]).ok().lines().any(|line| line == "WORD=found"));
    assert!(
        shell(&["ps"]).ok().lines().any(|line| line.trim_start().starts_with("1 ") && line.ends_with("/sh"))
    );
    assert!(shell(&["ls"]).ok().contains("bin"));
    assert!(shell(&["help"]).ok().contains("exit [CODE]"));
    shell(&["nosuch"]).code(127);
    let out = own.cmd(&["shell", "two"]).input("cd proc\npwd\nls 'a b'\nexit 5\n").run().code(5);
    assert_eq!(out.stdout, "/proc/1/root/proc\n");
    assert!(out.stderr.contains("ls: No such file"), "{}", out.stderr);
    own.run(&["rm", "-f", "one", "two"]).ok();
}

/// However it is killed: what a record says is taken away by the next `mount rm`, and nothing is mounted that no record has.
#[test]
fn killed_in_the_middle() {
    let Some(t) = Test::start() else { return };
    let (name, dir) = (t.name("c"), t.dir("d"));
    fs::create_dir_all(&dir).unwrap();
    t.sleeper(&name, []);
    let spec = format!("{}:/k", dir.display());
    let is_noted = || t.ok(["inspect", "-f", "{{len .Mounts}}", &name]) == "1";
    let is_live = || t.ok(["exec", &name, "cat", "/proc/mounts"]).lines().any(|line| line.contains(" /k "));
    for round in 0..rounds(24) {
        let words: &[&str] =
            if round % 2 == 0 { &["mount", "add", &name, &spec] } else { &["mount", "rm", &name, "/k"] };
        let running = t.cmd(words).spawn();
        std::thread::sleep(Duration::from_micros(400 * (round as u64 % 12)));
        running.signal("KILL");
        running.finish(Duration::from_secs(10));
        assert!(is_noted() || !is_live(), "round {round}: it is mounted, and no record says so");
        if round % 2 == 1 && is_noted() {
            t.ok(["mount", "rm", &name, "/k"]);
        }
        if round % 2 == 1 {
            assert!(!is_noted() && !is_live());
        }
    }
}

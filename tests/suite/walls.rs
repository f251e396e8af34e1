//! `--without`: containers that have a wall less, and what is seen then. Each is looked at with the wall and without it.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;

use crate::harness::{BUSYBOX, OnTerminal, Test};

/// A namespace of the host's, as links in /proc have it.
fn of_host(kind: &str) -> String {
    fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().to_string_lossy().into_owned()
}

/// What a script prints behind all walls, and without one.
fn both(t: &Test, wall: &str, script: &str) -> (String, String) {
    let behind = t.sh(script);
    let out = t.rbox(["run", "--rm", "--without", wall, "--yes", BUSYBOX, "sh", "-c", script]);
    let told: Vec<&str> = out.stderr.lines().collect();
    assert!(
        told.len() == 1 && told[0].starts_with(&format!("without {wall}: ")) && told[0].ends_with(')'),
        "{out:?}"
    );
    (behind, out.ok())
}

/// That the namespace of this kind is the host's only without its wall.
fn shares(t: &Test, kind: &str) {
    let (behind, without) = both(t, kind, &format!("readlink /proc/self/ns/{kind}"));
    assert_ne!(behind, of_host(kind));
    assert_eq!(without, of_host(kind));
}

#[test]
fn without_pid_the_processes_of_the_host_are_seen() {
    let Some(t) = Test::start() else { return };
    shares(&t, "pid");
    let script = "echo $$; ls /proc | grep -c '^[0-9]'; tr '\\0' ' ' < /proc/1/cmdline; true";
    let (behind, without) = both(&t, "pid", script);
    let (behind, without): (Vec<&str>, Vec<&str>) = (behind.lines().collect(), without.lines().collect());
    assert!(behind[0] == "1" && behind[2].starts_with("sh -c "), "{behind:?}");
    assert_ne!(without[0], "1");
    assert!(!without[2].starts_with("sh -c "), "{without:?}");
    assert!(without[1].parse::<u32>().unwrap() > behind[1].parse::<u32>().unwrap());
    let own = std::process::id();
    let (behind, without) = both(&t, "pid", &format!("test -d /proc/{own} && echo seen || echo not"));
    assert_eq!((behind.as_str(), without.as_str()), ("not", "seen"));
    // All that it leaves behind ends with it, though the kernel ends no namespace.
    let name = t.name("left");
    let script = "sleep 879 & sleep 0.2";
    t.ok(["run", "-d", "--name", &name, "--without", "pid", "--yes", BUSYBOX, "sh", "-c", script]);
    t.ok(["wait", &name]);
    t.ok(["rm", "-f", &name]);
    let all = fs::read_dir("/proc").unwrap().flatten();
    let sleeps = all
        .filter(|entry| fs::read(entry.path().join("cmdline")).is_ok_and(|words| words == b"sleep\x00879\0"));
    assert_eq!(sleeps.count(), 0);
}

#[test]
fn without_net_localhost_is_the_host() {
    let Some(t) = Test::start() else { return };
    shares(&t, "net");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || listener.accept().unwrap().0.write_all(b"of the host\n"));
    let script = format!("nc -w 5 127.0.0.1 {port} < /dev/null || echo nobody");
    assert_eq!(t.sh(&script), "nobody");
    assert_eq!(t.sh_with(["--without", "net"], &script), "of the host");
    server.join().unwrap().unwrap();
}

#[test]
fn without_uts_the_name_is_the_host_s() {
    let Some(t) = Test::start() else { return };
    shares(&t, "uts");
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let (behind, without) = both(&t, "uts", "hostname");
    assert_ne!(behind, host.trim_end());
    assert_eq!(without, host.trim_end());
}

#[test]
fn without_ipc_memory_is_the_host_s() {
    let Some(t) = Test::start() else { return };
    shares(&t, "ipc");
    let file = format!("/dev/shm/{}", t.name("word"));
    fs::write(&file, "of the host\n").unwrap();
    let seen = both(&t, "ipc", &format!("cat {file} 2> /dev/null || echo none"));
    fs::remove_file(&file).unwrap();
    assert_eq!(seen, ("none".into(), "of the host".into()));
}

#[test]
fn without_cgroup_the_place_in_the_tree_is_seen() {
    let Some(t) = Test::start() else { return };
    shares(&t, "cgroup");
    let name = t.name("c");
    t.sleeper(&name, []);
    let behind = t.ok(["exec", &name, "cat", "/proc/self/cgroup"]);
    assert!(behind.lines().all(|line| line.ends_with(":/")), "{behind}");
    t.ok(["rm", "-f", &name]);
    let id = t.sleeper(&name, ["--without", "cgroup"]);
    let without = t.ok(["exec", &name, "cat", "/proc/self/cgroup"]);
    assert!(without.lines().any(|line| line.ends_with(&id)), "{without}");
    t.ok(["rm", "-f", &name]);
}

#[test]
fn without_user_root_is_root() {
    let Some(t) = Test::start() else { return };
    let file = t.dir("conf").join("config.json");
    fs::write(&file, r#"{ "userns": "keep-id" }"#).unwrap();
    let script = "readlink /proc/self/ns/user";
    let with = |flags: &[&str]| {
        let words = [&["run", "--rm", "--network", "none"], flags, &[BUSYBOX, "sh", "-c", script]].concat();
        t.cmd(words).env("RBOX_CONFIG", &file).run().ok()
    };
    assert_eq!(with(&["--without", "user"]), of_host("user"));
    if crate::userns::can(&t) {
        assert_ne!(with(&[]), of_host("user"));
    }
}

#[test]
fn without_seccomp_the_kernel_is_asked() {
    let Some(t) = Test::start() else { return };
    let (behind, without) = both(&t, "seccomp", "grep -w Seccomp: /proc/self/status | tr -cd 0-9");
    assert_eq!((behind.as_str(), without.as_str()), ("2", "0"));
    if fs::read_to_string("/proc/sys/user/max_user_namespaces").is_ok_and(|most| most.trim() != "0") {
        let script = "unshare -U true 2> /dev/null && echo made || echo refused";
        assert_eq!(both(&t, "seccomp", script), ("refused".into(), "made".into()));
    }
}

#[test]
fn without_caps_root_may_mount() {
    let Some(t) = Test::start() else { return };
    let script = "mkdir /m; mount -t tmpfs none /m 2> /dev/null && echo mounted || echo not; grep CapBnd /proc/self/status";
    let (behind, without) = both(&t, "caps", script);
    let bound = fs::read_to_string("/proc/self/status").unwrap();
    let bound = bound.lines().find(|line| line.starts_with("CapBnd")).unwrap();
    assert!(behind.starts_with("not\n") && !behind.ends_with(bound), "{behind}");
    assert_eq!(without, format!("mounted\n{bound}"));
}

#[test]
fn several_walls_and_those_that_stay() {
    let Some(t) = Test::start() else { return };
    let script = "for n in uts net cgroup ipc; do readlink /proc/self/ns/$n; done";
    let out = t.rbox([
        "run",
        "--rm",
        "--without",
        "uts,net",
        "--without",
        "cgroup,uts",
        BUSYBOX,
        "sh",
        "-c",
        script,
    ]);
    assert_eq!(out.stderr.lines().count(), 3, "{out:?}");
    let out = out.ok();
    let seen: Vec<&str> = out.lines().collect();
    assert_eq!(seen[..3], [of_host("uts"), of_host("net"), of_host("cgroup")]);
    assert_ne!(seen[3], of_host("ipc"));
    // A container that is created has it too, and says so in flags that need no question.
    let name = t.name("c");
    t.ok(["create", "--name", &name, "--without", "pid", "--yes", BUSYBOX, "true"]);
    assert_eq!(t.ok(["inspect", "-f", "{{.HostConfig.PidMode}}", &name]), "host");
    assert!(t.ok(["inspect", "--create-command", &name]).contains(" --pid host "));
    t.ok(["rm", &name]);
}

#[test]
fn what_could_harm_the_host_is_confirmed() {
    let Some(t) = Test::start() else { return };
    let name = t.name("c");
    let refused = |flags: &[&str], words: &[&str]| {
        for command in ["run", "create"] {
            let line = [&[command, "--name", &name], flags, &[BUSYBOX, "true"]].concat();
            t.cmd(line).run().refused(125, words);
        }
    };
    for (wall, harm) in [
        ("pid", "could end processes of the host: say --yes too"),
        ("ipc", "could change and remove shared memory of the host: say --yes too"),
        ("caps", "could take over the host: say --yes too"),
        ("caps,uts", "--without caps,uts: a program in it could take over the host and rename the host"),
    ] {
        refused(&["--without", wall], &[harm]);
    }
    for wall in ["net", "uts", "cgroup", "seccomp"] {
        refused(&["--without", wall, "--cap-add", "SYS_ADMIN"], &["a program in it could", "--yes"]);
        refused(&["--without", wall, "--privileged"], &["a program in it could", "--yes"]);
    }
    for wall in ["mnt", "pivot"] {
        refused(&["--without", wall, "--yes"], &[&format!("--without {wall}: "), "docs/walls.md"]);
    }
    for (wall, flag) in [
        ("pid", "--pid=host"),
        ("net", "--network=none"),
        ("uts", "--uts=host"),
        ("ipc", "--ipc=private"),
        ("cgroup", "--cgroupns=private"),
        ("user", "--userns=keep-id"),
        ("user", "--uidmap=0:700000:10"),
        ("seccomp", "--security-opt=seccomp=unconfined"),
        ("caps", "--cap-add=CHOWN"),
        ("caps", "--cap-drop=CHOWN"),
    ] {
        let flag_name = flag.split('=').next().unwrap();
        let conflict = format!("conflicting options: --without {wall} and {flag_name}");
        refused(&["--without", wall, "--yes", flag], &[&conflict]);
    }
    refused(&["--without", "time"], &["'time'"]);
    refused(&["--without", ""], &["--without"]);
    refused(&["--yes"], &["--without"]);
    assert_eq!(t.ok(["ps", "-aq", "--filter", &format!("name={name}")]), "");
}

#[test]
fn on_a_terminal_it_is_asked() {
    let Some(t) = Test::start() else { return };
    let words = ["run", "--rm", "--without", "pid", BUSYBOX, "sh", "-c", "echo made$((1 + 1))"];
    for (answer, code) in [("y\n", 0), ("\n", 125), ("no\n", 125)] {
        let mut terminal = OnTerminal::start(t.cmd(words));
        terminal.expect("Without pid a program in it could end processes of the host. Go on? [y/N] ");
        terminal.keys(answer);
        terminal.expect(if code == 0 { "made2" } else { "nothing was made" });
        assert_eq!(terminal.ended(), code, "{}", terminal.shown());
        assert_eq!(terminal.shown().contains("made2"), code == 0);
    }
    let mut terminal =
        OnTerminal::start(t.cmd(["run", "--rm", "--without", "uts", BUSYBOX, "echo", "unasked"]));
    terminal.expect("unasked");
    assert_eq!(terminal.ended(), 0);
}

//! Control groups as a container sees its own, and as the host sees the container's. What only pure cgroup v2 has is tried
//! there (vm-test/run boots such a host).

use std::fs;
use std::path::PathBuf;

use crate::harness::{BUSYBOX, PYTHON, Test, skipped, wait_until};

/// The container's directory in the v2 tree, on a host with nothing else. None, having said so, elsewhere.
fn v2_group(t: &Test, container: &str) -> Option<PathBuf> {
    if fs::read_to_string("/proc/self/mountinfo").unwrap().contains(" - cgroup cgroup ") {
        skipped("this host's controllers are in cgroup v1");
        return None;
    }
    let text = fs::read_to_string(format!("/proc/{}/cgroup", t.pid(container))).unwrap();
    let path = text.trim().strip_prefix("0::/").unwrap_or_else(|| panic!("{text}"));
    Some(PathBuf::from("/sys/fs/cgroup").join(path))
}

#[test]
fn a_container_sees_its_group_as_the_root() {
    let Some(t) = Test::start() else { return };
    let out = t.sh("cat /proc/self/cgroup");
    assert!(out.lines().all(|line| line.ends_with(":/")), "{out}");
    // Nor does it see where in the host's tree that is.
    let out = t.sh("grep cgroup /proc/self/mountinfo | cut -d' ' -f4 | sort -u");
    assert!(out.is_empty() || out == "/", "{out}");
}

#[test]
fn the_view_inside_tells_its_own_limits_and_cannot_change_them() {
    let Some(t) = Test::start() else { return };
    let name = t.name("view");
    t.sleeper(&name, ["-m", "96m", "--pids-limit", "77"]);
    let Some(group) = v2_group(&t, &name) else { return };
    for (file, wanted) in [("memory.max", "100663296"), ("pids.max", "77")] {
        assert_eq!(t.ok(["exec", &name, "cat", &format!("/sys/fs/cgroup/{file}")]), wanted);
        assert_eq!(fs::read_to_string(group.join(file)).unwrap().trim(), wanted);
        let out = t.rbox(["exec", &name, "sh", "-c", &format!("echo max >/sys/fs/cgroup/{file}")]);
        assert_ne!(out.code, 0);
        assert!(out.stderr.contains("Read-only file system"), "{}", out.stderr);
    }
    assert_ne!(t.rbox(["exec", &name, "mkdir", "/sys/fs/cgroup/own"]).code, 0);
    // What exec starts is in the same group.
    assert_eq!(t.ok(["exec", &name, "cat", "/proc/self/cgroup"]), "0::/");
}

#[test]
fn a_privileged_container_divides_its_group() {
    let Some(t) = Test::start() else { return };
    let name = t.name("priv");
    t.sleeper(&name, ["--privileged", "-m", "96m"]);
    let Some(group) = v2_group(&t, &name) else { return };
    t.ok(["exec", &name, "mkdir", "/sys/fs/cgroup/own"]);
    assert!(group.join("own").is_dir());
    t.ok(["rm", "-f", &name]);
    wait_until("the group and what is in it are gone", || !group.exists());
}

#[test]
fn a_pause_freezes_the_group() {
    let Some(t) = Test::start() else { return };
    let name = t.name("frozen");
    t.sleeper(&name, []);
    let Some(group) = v2_group(&t, &name) else { return };
    let frozen = || fs::read_to_string(group.join("cgroup.events")).unwrap().contains("frozen 1");
    assert!(!frozen());
    t.ok(["pause", &name]);
    assert!(frozen());
    t.ok(["unpause", &name]);
    assert!(!frozen());
    // A frozen one can be removed.
    t.ok(["pause", &name]);
    t.ok(["rm", "-f", &name]);
}

/// Processes that left the session, ignore every signal they can, and go on starting others.
#[test]
fn the_whole_tree_is_killed_at_once() {
    let Some(t) = Test::start() else { return };
    let name = t.name("tree");
    let script = "
import os, signal, time
for n in range(1, 32):
    if n not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(n, signal.SIG_IGN)
for depth in range(40):
    if os.fork():
        break
    os.setsid()
while True:
    time.sleep(0.05)
";
    t.ok(["run", "-d", "--name", &name, "--pids-limit", "100", PYTHON, "python3", "-c", script]);
    let processes = || t.ok(["top", &name]).lines().count() - 1;
    wait_until("all have started", || processes() >= 40);
    let pids: Vec<String> = t
        .ok(["top", &name, "-o", "pid"])
        .lines()
        .skip(1)
        .map(|line| format!("/proc/{}", line.trim()))
        .collect();
    assert!(pids.len() >= 40 && pids.iter().all(|p| fs::exists(p).unwrap()), "{pids:?}");
    t.ok(["kill", &name]);
    wait_until("all are gone", || pids.iter().all(|p| !fs::exists(p).unwrap()));
    assert_eq!(t.ok(["wait", &name]), "137");
}

#[test]
fn reservation_protects_what_was_read() {
    let Some(t) = Test::start() else { return };
    let name = t.name("low");
    t.sleeper(&name, ["-m", "96m", "--memory-reservation", "48m"]);
    let Some(group) = v2_group(&t, &name) else { return };
    assert_eq!(fs::read_to_string(group.join("memory.low")).unwrap().trim(), "50331648");
    assert_eq!(t.inspect(&name)["HostConfig"]["MemoryReservation"], 50_331_648);
    // Under pressure of its own limit nothing is protected: it works on, with its cache given up.
    let out = t.rbox([
        "run",
        "--rm",
        "-m",
        "48m",
        "--memory-reservation",
        "32m",
        BUSYBOX,
        "sh",
        "-c",
        "dd if=/dev/zero of=/big bs=1M count=128 2>/dev/null && cat /big | wc -c",
    ]);
    assert_eq!(out.ok(), "134217728");
}

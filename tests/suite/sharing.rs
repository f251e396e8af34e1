//! Containers in namespaces of others: `--pid container:NAME` and `--ipc`.

use crate::harness::{BUSYBOX, OwnRoots, Test, wait_until};

fn namespace(t: &Test, container: &str, kind: &str) -> String {
    t.ok(["exec", container, "readlink", &format!("/proc/self/ns/{kind}")])
}

#[test]
fn processes_of_another_container() {
    let Some(t) = Test::start() else { return };
    let (owner, guest) = (t.name("owner"), t.name("guest"));
    let id = t.sleeper(&owner, []);
    let mode = format!("container:{owner}");
    t.sleeper(&guest, ["--pid", &mode, "-h", "itself"]);
    assert_eq!(namespace(&t, &owner, "pid"), namespace(&t, &guest, "pid"));
    for kind in ["net", "ipc", "uts", "mnt"] {
        assert_ne!(namespace(&t, &owner, kind), namespace(&t, &guest, kind), "{kind}");
    }
    assert_eq!(t.ok(["inspect", "-f", "{{.HostConfig.PidMode}}", &guest]), format!("container:{id}"));
    let script = "tr '\\0' ' ' < /proc/1/cmdline; echo $$; hostname; cat /proc/net/dev | grep -c eth0";
    let out = t.ok(["exec", &guest, "sh", "-c", script]);
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0].starts_with("sh -c trap ") && !lines[0].ends_with(" 1"), "{out}");
    assert_eq!(lines[1..], ["itself", "1"]);

    // All of another's at once, and its own settings reach no process but its own.
    let shared = t.name("shared");
    t.sleeper(&shared, ["--ipc", "shareable"]);
    let of = format!("container:{shared}");
    let all = ["--pid", &of, "--ipc", &of, "--network", &of, "--oom-score-adj", "321"];
    let kinds = "for n in pid ipc net; do readlink /proc/self/ns/$n; done; cat /proc/self/oom_score_adj /proc/1/oom_score_adj";
    let out = t.sh_with(all, kinds);
    let lines: Vec<&str> = out.lines().collect();
    for (at, kind) in ["pid", "ipc", "net"].iter().enumerate() {
        assert_eq!(lines[at], namespace(&t, &shared, kind), "{kind}");
    }
    assert_eq!(lines[3], "321");
    assert_ne!(lines[4], "321", "the other's first process was adjusted");

    // What is left of a guest ends with it, though the namespace stays.
    let left = t.name("left");
    t.ok(["run", "-d", "--name", &left, "--pid", &mode, BUSYBOX, "sh", "-c", "sleep 877 & sleep 0.2"]);
    t.ok(["wait", &left]);
    wait_until("nothing is left", || {
        !t.ok(["exec", &owner, "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '; true"])
            .contains("sleep 877")
    });
    assert!(t.ok(["exec", &owner, "ls", "/proc"]).contains("self"));
}

#[test]
fn what_becomes_of_the_one_joined() {
    let Some(t) = Test::start() else { return };
    let (owner, guest) = (t.name("owner"), t.name("guest"));
    t.sleeper(&owner, []);
    let mode = format!("container:{owner}");
    t.sleeper(&guest, ["--pid", &mode]);
    let renamed = t.name("renamed");
    t.ok(["rename", &owner, &renamed]);
    t.ok(["restart", "-t", "0", &guest]);
    // The processes of a PID namespace end with its first one.
    t.ok(["kill", &renamed]);
    assert_eq!(t.ok(["wait", &guest]), "137");
    let refused = format!("failed to join PID namespace: container {renamed} is not running");
    t.rbox(["start", &guest]).refused(1, &[&refused]);
    t.ok(["start", &renamed]);
    t.ok(["start", &guest]);
    assert_eq!(namespace(&t, &renamed, "pid"), namespace(&t, &guest, "pid"));
    t.ok(["rm", "-f", &renamed]);
    t.ok(["wait", &guest]);
    t.rbox(["start", &guest]).refused(1, &["No such container"]);
}

#[test]
fn memory_of_another_container() {
    let Some(t) = Test::start() else { return };
    let (owner, guest, alone) = (t.name("owner"), t.name("guest"), t.name("alone"));
    let id = t.sleeper(&owner, ["--ipc", "shareable", "--shm-size", "1m"]);
    assert_eq!(t.ok(["inspect", "-f", "{{.HostConfig.IpcMode}}", &owner]), "shareable");
    let mode = format!("container:{owner}");
    t.sleeper(&guest, ["--ipc", &mode]);
    assert_eq!(t.ok(["inspect", "-f", "{{.HostConfig.IpcMode}}", &guest]), format!("container:{id}"));
    assert_eq!(namespace(&t, &owner, "ipc"), namespace(&t, &guest, "ipc"));
    t.ok(["exec", &owner, "sh", "-c", "echo kept > /dev/shm/word"]);
    assert_eq!(t.ok(["exec", &guest, "cat", "/dev/shm/word"]), "kept");
    assert!(t.ok(["exec", &guest, "df", "-k", "/dev/shm"]).contains(" 1024 "));
    let options = t.ok(["exec", &guest, "grep", " /dev/shm ", "/proc/mounts"]);
    assert!(options.contains("nosuid,nodev,noexec"), "{options}");
    t.ok(["exec", &guest, "sh", "-c", "echo back > /dev/shm/word"]);
    // It outlives the one whose it was.
    t.ok(["rm", "-f", &owner]);
    assert_eq!(t.ok(["exec", &guest, "cat", "/dev/shm/word"]), "back");
    // One's own mount comes before.
    t.sleeper(&owner, ["--ipc", "shareable"]);
    assert_eq!(t.sh_with(["--ipc", &mode, "--tmpfs", "/dev/shm"], "ls -A /dev/shm | wc -l"), "0");

    t.sleeper(&alone, []);
    t.rbox(["run", "--rm", "--ipc", &format!("container:{alone}"), BUSYBOX, "true"]).refused(
        125,
        &[
            "failed to join IPC namespace",
            "non-shareable IPC (hint: use IpcMode:shareable for the donor container)",
        ],
    );
    t.ok(["pause", &owner]);
    t.ok(["unpause", &owner]);
    t.ok(["kill", &owner]);
    t.ok(["wait", &owner]);
    t.rbox(["run", "--rm", "--ipc", &mode, BUSYBOX, "true"]).refused(125, &["is not running"]);
}

#[test]
fn modes_that_are_none() {
    let Some(t) = Test::start() else { return };
    for (flag, mode, said) in [
        ("--pid", "container:", "--pid: invalid PID mode"),
        ("--pid", "bogus", "--pid: invalid PID mode"),
        ("--pid", "shareable", "--pid: invalid PID mode"),
        ("--uts", "container:x", "--uts: invalid UTS mode"),
        ("--ipc", "container:", "invalid IPC mode"),
        ("--ipc", "bogus", "invalid IPC mode"),
        ("--ipc", "container:no-such", "No such container: no-such"),
        ("--pid", "container:no-such", "No such container: no-such"),
        ("--pid", "container:../x", "No such container: ../x"),
    ] {
        t.rbox(["run", "--rm", flag, mode, BUSYBOX, "true"]).refused(125, &[said]);
    }
}

/// Until it is the program, the first process is the host's: nobody who may trace it may see it.
#[test]
fn who_may_trace_is_not_joined() {
    let Some(t) = Test::start() else { return };
    let (owner, tracer) = (t.name("owner"), t.name("tracer"));
    t.sleeper(&owner, []);
    let mode = format!("container:{owner}");
    // One that looks into another, which is what it is for.
    t.sleeper(&tracer, ["--pid", &mode, "--cap-add", "SYS_PTRACE"]);
    assert_ne!(t.ok(["exec", &tracer, "readlink", "/proc/1/exe"]), "");
    for mode in [mode, format!("container:{tracer}")] {
        t.rbox(["run", "--rm", "--pid", &mode, BUSYBOX, "true"])
            .refused(125, &["failed to join PID namespace", &tracer, "SYS_PTRACE"]);
    }
}

/// What programs inside have put at /dev/shm is not what is shared.
#[test]
fn something_else_at_the_shared_memory() {
    let Some(t) = Test::start() else { return };
    let owner = t.name("owner");
    t.sleeper(
        &owner,
        ["--ipc", "shareable", "--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined"],
    );
    let mode = format!("container:{owner}");
    for script in [
        "mount -o bind /etc /dev/shm",
        "umount /dev/shm",
        "umount -l /dev/shm; rmdir /dev/shm; ln -s /proc /dev/shm",
    ] {
        t.ok(["exec", &owner, "sh", "-c", script]);
        t.rbox(["run", "--rm", "--ipc", &mode, BUSYBOX, "true"]).refused(125, &["/dev/shm"]);
        t.ok(["restart", "-t", "0", &owner]);
    }
}

/// One that is joined comes first with the host, also when it was started later.
#[test]
fn who_is_joined_boots_first() {
    let Some(t) = Test::start() else { return };
    let own = OwnRoots::new(&t, "host", &t.suite.registry);
    let start = |name: &str, flags: &[&str]| {
        let begin = ["run", "-d", "--restart", "always", "--network", "none", "--name", name];
        own.run(&[&begin, flags, &[BUSYBOX, "sleep", "1000"]].concat()).ok();
    };
    start("owner", &["--ipc", "shareable"]);
    start("guest", &["--ipc", "container:owner", "--pid", "container:owner"]);
    start("third", &["--pid", "container:guest"]);
    own.run(&["restart", "-t", "0", "third"]).ok();
    own.run(&["restart", "-t", "0", "owner"]).ok();
    own.run(&["system", "shutdown", "-t", "0"]).ok();
    std::fs::remove_dir_all(&own.state).unwrap();
    assert_eq!(own.run(&["system", "boot"]).ok(), "owner\nguest\nthird");
    own.run(&["rm", "-f", "owner", "guest", "third"]).ok();
}

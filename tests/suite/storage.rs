//! `--storage-opt size=`: a container's own layer has a limit, which the kernel holds by the quota of a project.

use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::harness::{BUSYBOX, Disk, OwnRoots, PYTHON, Project, Test, skipped};

/// Roots on a disk with project quotas.
fn on(t: &Test, disk: &Disk) -> OwnRoots {
    let mut own = OwnRoots::new(t, "own", &t.suite.registry);
    own.root = disk.at.join("root");
    own.run(&["pull", "-q", BUSYBOX]).ok();
    own
}

/// What others than rbox see of the projects: number, KiB that are used, KiB that may be.
fn projects(disk: &Disk) -> Vec<(u32, u64, u64)> {
    let out = Command::new("repquota").args(["-P", "-n", "-p"]).arg(&disk.at).output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let line = |line: &str| {
        let mut words = line.strip_prefix('#')?.split_whitespace();
        let number = words.next()?.parse::<u32>().ok()?;
        // `--`, then used, soft, hard.
        let numbers: Vec<u64> = words.skip(1).filter_map(|word| word.parse().ok()).collect();
        (number > 0).then(|| (number, numbers[0], numbers[2]))
    };
    text.lines().filter_map(line).collect()
}

fn limited(disk: &Disk) -> Vec<(u32, u64, u64)> {
    projects(disk).into_iter().filter(|(_, _, limit)| *limit > 0).collect()
}

const FILL: &str = "dd if=/dev/zero of=/fill bs=64k count=1000; ls -l /fill | awk '{ print $5 }'";

/// A program gets as much as it may have, and then the error of a full disk. Its neighbours have their own.
fn holds(t: &Test, disk: &Disk) {
    let own = on(t, disk);
    let run = |name: &str, size: &str, script: &str| {
        let size = format!("size={size}");
        let flags =
            ["run", "--name", name, "--network", "none", "--storage-opt", &size, BUSYBOX, "sh", "-c", script];
        own.run(&flags)
    };
    let full = run("one", "8m", FILL);
    let written: u64 = full.stdout.trim().parse().unwrap();
    assert!((6 << 20..=8 << 20).contains(&written), "{full:?}");
    assert!(
        ["No space left on device", "Disk quota exceeded"].iter().any(|words| full.stderr.contains(words)),
        "{full:?}"
    );
    // Another beside it, with a limit of its own, and one without any.
    let other: u64 = run("two", "16M", FILL).stdout.trim().parse().unwrap();
    assert!((14 << 20..=16 << 20).contains(&other), "{other}");
    let free = "dd if=/dev/zero of=/fill bs=1M count=20 2>/dev/null && echo whole";
    assert_eq!(own.run(&["run", "--rm", "--network", "none", BUSYBOX, "sh", "-c", free]).ok(), "whole");
    let all = limited(disk);
    let mut limits: Vec<u64> = all.iter().map(|(.., limit)| *limit).collect();
    limits.sort_unstable();
    assert_eq!(limits, [8 << 10, 16 << 10]);
    assert!(all.iter().all(|(_, used, limit)| *used > limit - 2048), "{all:?}");
    assert_ne!(all[0].0, all[1].0);
    // What it is told: the size of its disk.
    let df = run("three", "32m", "df -k / | tail -n 1").ok();
    assert_eq!(df.split_whitespace().nth(1), Some("32768"), "{df}");
    shown(&own);
    starts_again(&own);
    // Gone with it.
    own.run(&["rm", "one", "two", "three"]).ok();
    assert_eq!(projects(disk), []);
    full_disk_of_another_kind(&own);
}

fn shown(own: &OwnRoots) {
    let inspected = own.run(&["inspect", "-f", "{{json .HostConfig.StorageOpt}}", "one"]).ok();
    assert_eq!(inspected, r#"{"size":"8m"}"#);
    let line = own.run(&["inspect", "--create-command", "one"]).ok();
    assert!(line.contains("--storage-opt size=8m"), "{line}");
    let why = own.run(&["why", "one"]).ok();
    assert!(!why.contains("its own limit"), "{why}");
    let failing = "dd if=/dev/zero of=/fill bs=64k count=1000";
    let flags = [
        "run",
        "--name",
        "failed",
        "--network",
        "none",
        "--storage-opt",
        "size=4m",
        BUSYBOX,
        "sh",
        "-c",
        failing,
    ];
    own.run(&flags).code(1);
    let why = own.run(&["why", "failed"]).ok();
    assert!(why.contains("its own limit of 4MiB") && why.contains("rbox diff failed"), "{why}");
    own.run(&["rm", "failed"]).ok();
}

/// A full layer does not keep a container from starting, its limit is still there, and files can be removed.
fn starts_again(own: &OwnRoots) {
    let again = own.run(&["start", "-a", "one"]);
    let written: u64 = again.stdout.trim().parse().unwrap();
    assert!((6 << 20..=8 << 20).contains(&written), "{again:?}");
    let flags = ["--network", "none", "--storage-opt", "size=8m"];
    own.run(&[&["run", "-d", "--name", "four"], &flags[..], &[BUSYBOX, "sleep", "1000"]].concat()).ok();
    own.run(&["exec", "four", "dd", "if=/dev/zero", "of=/fill", "bs=64k", "count=1000"]).code(1);
    // What is copied into it counts, and so does what exec writes.
    let large = own.dir.join("large");
    fs::write(&large, vec![1; 4 << 20]).unwrap();
    assert_eq!(own.run(&["cp", large.to_str().unwrap(), "four:/large"]).code, 1);
    let why = own.run(&["why", "four"]).ok();
    assert!(why.contains("its own limit of 8MiB"), "{why}");
    own.run(&["restart", "-t", "0", "four"]).ok();
    own.run(&["exec", "four", "sh", "-c", "rm /fill && dd if=/dev/zero of=/again bs=1M count=3"]).ok();
    own.run(&["stop", "-t", "0", "four"]).ok();
    assert_eq!(own.run(&["cp", large.to_str().unwrap(), "four:/large"]).code, 0);
    assert_eq!(own.run(&["cp", large.to_str().unwrap(), "four:/larger"]).code, 1);
    own.run(&["commit", "four", "kept:1"]).ok();
    let kept = "test -e /large && dd if=/dev/zero of=/fill bs=1M count=12 2>&- && echo free";
    assert_eq!(own.run(&["run", "--rm", "--network", "none", "kept:1", "sh", "-c", kept]).ok(), "free");
    own.run(&["rm", "four"]).ok();
    own.run(&["rmi", "kept:1"]).ok();
}

/// `why` does not take the limit for the cause of what fails elsewhere.
fn full_disk_of_another_kind(own: &OwnRoots) {
    let flags =
        ["run", "--name", "five", "--network", "none", "--storage-opt", "size=8m", "--tmpfs", "/t:size=1m"];
    own.run(&[&flags[..], &[BUSYBOX, "dd", "if=/dev/zero", "of=/t/x", "bs=64k", "count=100"]].concat())
        .code(1);
    let why = own.run(&["why", "five"]).ok();
    assert!(!why.contains("its own limit"), "{why}");
    own.run(&["rm", "five"]).ok();
}

#[test]
fn a_limit_holds_on_ext4() {
    let Some(t) = Test::start() else { return };
    let Some(disk) = Disk::with_project_quotas(&t, "ext4") else { return };
    holds(&t, &disk);
}

#[test]
fn a_limit_holds_on_xfs() {
    let Some(t) = Test::start() else { return };
    let Some(disk) = Disk::with_project_quotas(&t, "xfs") else { return };
    holds(&t, &disk);
}

/// Root inside cannot take its files out of the project, by whatever call, and so out of the limit.
#[test]
fn nobody_inside_leaves_the_project() {
    let Some(t) = Test::start() else { return };
    let Some(disk) = Disk::with_project_quotas(&t, "ext4") else { return };
    let own = on(&t, &disk);
    own.run(&["pull", "-q", PYTHON]).ok();
    let script = "
import ctypes, fcntl, os, struct
os.mkdir('/d')
d = os.open('/d', os.O_RDONLY)
attributes = bytearray(fcntl.ioctl(d, 0x801c581f, bytes(28)))
print(struct.unpack_from('I', attributes, 12)[0] >> 20, struct.unpack_from('I', attributes, 0)[0] & 0x200)
struct.pack_into('I', attributes, 12, 0)
flags = bytearray(fcntl.ioctl(d, 0x80086601, bytes(8)))
libc = ctypes.CDLL(None, use_errno=True)
def tried(*call):
    return ctypes.get_errno() if libc.syscall(*call) < 0 else 0
for number in 0x401c5820, 0x1401c5820:
    print(tried(ctypes.c_long(16), d, ctypes.c_ulong(number), bytes(attributes)))
print(tried(ctypes.c_long(16), d, ctypes.c_ulong(0x40086602), bytes(8)))
print(tried(ctypes.c_long(469), d, b'', bytes(24), 24, 0x1000))
print(tried(ctypes.c_long(443), d, 0x80000802, 0, bytes(72)))
";
    let flags =
        ["run", "--rm", "--network", "none", "--storage-opt", "size=20m", PYTHON, "python3", "-c", script];
    if std::env::consts::ARCH != "x86_64" {
        return skipped("the numbers are those of x86_64");
    }
    let said = own.run(&flags).ok();
    let lines: Vec<&str> = said.lines().collect();
    // EPERM for all; ENOSYS for calls that the profile does not know.
    assert_eq!(lines[0], "1318 512", "{said}");
    assert_eq!(lines[1..4], ["1", "1", "1"], "{said}");
    assert!(lines[4..].iter().all(|errno| ["1", "38"].contains(errno)), "{said}");
}

/// Many at once, with two roots on one file system and numbers of an administrator among theirs: none has another's.
#[test]
fn numbers_are_nobody_elses() {
    let Some(t) = Test::start() else { return };
    let Some(disk) = Disk::with_project_quotas(&t, "ext4") else { return };
    let first = on(&t, &disk);
    let mut second = OwnRoots::new(&t, "other", &t.suite.registry);
    second.root = disk.at.join("other");
    second.run(&["pull", "-q", BUSYBOX]).ok();
    // An administrator's: a directory of the first number there is.
    let theirs = disk.at.join("theirs");
    fs::create_dir(&theirs).unwrap();
    let status = Command::new("chattr").args(["+P", "-p", "1382023168"]).arg(&theirs).status().unwrap();
    assert!(status.success());
    let making: Vec<_> = (0..12)
        .map(|n| {
            let own = if n % 2 == 0 { &first } else { &second };
            own.cmd(&["create", "--name", &format!("c{n}"), "--storage-opt", "size=1m", BUSYBOX]).spawn()
        })
        .collect();
    for one in making {
        one.finish(Duration::from_mins(1)).ok();
    }
    let all = limited(&disk);
    assert_eq!(all.len(), 12, "{all:?}");
    assert!(all.iter().all(|(number, ..)| *number != 1_382_023_168));
    for n in 0..12 {
        let own = if n % 2 == 0 { &first } else { &second };
        own.run(&["rm", &format!("c{n}")]).ok();
    }
    assert_eq!(limited(&disk), []);
}

/// What this host's file systems cannot do is said, and nothing is made.
#[test]
fn told_where_it_cannot_be() {
    let Some(t) = Test::start() else { return };
    let name = t.name("c");
    // The suite's own directory is on one without quotas.
    for command in ["run", "create"] {
        t.rbox([command, "--name", &name, "--storage-opt", "size=1g", BUSYBOX]).refused(
            125,
            &["--storage-opt is supported only for overlay over xfs with 'pquota' mount option, or ext4 with 'prjquota'", " is on "],
        );
    }
    assert_eq!(t.ok(["ps", "-a", "-q"]), "");
    for (wrong, words) in [
        ("size", "invalid storage option"),
        ("size=much", "invalid size"),
        ("size=1k", "at least 64k"),
        ("dm.basesize=1g", "Unknown option dm.basesize"),
    ] {
        t.rbox(["create", "--storage-opt", wrong, BUSYBOX]).refused(125, &[words]);
    }
    let service = "services:\n  web:\n    image: busybox\n    storage_opt: {size: 1g}\n";
    let up = Project::new(&t, service).run(&["create"]);
    assert!(
        up.code != 0 && up.stderr.contains("--storage-opt is supported only for overlay over xfs"),
        "{up:?}"
    );
    // No limit is none to refuse.
    let unlimited = t.name("free");
    t.ok(["create", "--name", &unlimited, "--storage-opt", "size=0", BUSYBOX]);
    assert_eq!(t.ok(["inspect", "-f", "{{.HostConfig.StorageOpt.size}}", &unlimited]), "0");
}

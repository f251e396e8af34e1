//! Limits measured from outside while something runs against them: how much of a CPU, of memory and swap, of a disk it
//! gets. Shares and ratios, never seconds: the machine may be slow or busy.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::harness::{BUSYBOX, PYTHON, Test, patience, skipped, wait_until};
use crate::limits::value;

const SPIN: &str = "while :; do :; done";

/// Microseconds that PID 1 of a container has been on a CPU. Not from its group: on v1 hosts it has none that counts.
fn used(t: &Test, container: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/schedstat", t.pid(container))).unwrap();
    text.split_whitespace().next().unwrap().parse::<u64>().unwrap() / 1000
}

/// Tries a measurement a few times: what else runs on the machine takes shares too, but not each time.
fn one_of(tries: usize, what: &str, good: impl Fn(f64) -> bool, mut measure: impl FnMut() -> f64) {
    let mut seen = Vec::new();
    for _ in 0..tries {
        let got = measure();
        if good(got) {
            return;
        }
        seen.push(got);
    }
    panic!("{what}: {seen:?}");
}

#[test]
fn a_busy_loop_gets_the_share_of_its_quota() {
    let Some(t) = Test::start() else { return };
    for (cpus, share) in [("0.2", 0.2), ("0.5", 0.5)] {
        let name = t.name(&format!("q{}", cpus.len() + (share * 10.0) as usize));
        t.ok(["run", "-d", "--name", &name, "--cpus", cpus, BUSYBOX, "sh", "-c", SPIN]);
        wait_until("it is busy", || used(&t, &name) > 10_000);
        one_of(
            5,
            "share of a CPU",
            |got| (got / share - 1.0).abs() < 0.1,
            || {
                let (began, before) = (Instant::now(), used(&t, &name));
                std::thread::sleep(Duration::from_secs(3));
                let spent = used(&t, &name) - before;
                spent as f64 / began.elapsed().as_micros() as f64
            },
        );
        t.ok(["rm", "-f", &name]);
    }
}

#[test]
fn two_on_one_cpu_share_it_by_weight() {
    let Some(t) = Test::start() else { return };
    let (heavy, light) = (t.name("heavy"), t.name("light"));
    for (name, shares) in [(&heavy, "4096"), (&light, "1024")] {
        t.ok([
            "run",
            "-d",
            "--name",
            name,
            "--cpuset-cpus",
            "0",
            "--cpu-shares",
            shares,
            BUSYBOX,
            "sh",
            "-c",
            SPIN,
        ]);
    }
    wait_until("both are busy", || used(&t, &heavy) > 10_000 && used(&t, &light) > 10_000);
    // 4 on v1. On v2 shares become weights by the OCI runtimes' formula, which bends them: 302 and 100.
    one_of(
        5,
        "ratio of 4096 shares to 1024",
        |ratio| (2.5..4.8).contains(&ratio),
        || {
            let before = (used(&t, &heavy), used(&t, &light));
            std::thread::sleep(Duration::from_secs(4));
            (used(&t, &heavy) - before.0) as f64 / (used(&t, &light) - before.1) as f64
        },
    );
}

#[test]
fn a_set_of_cpus_is_all_it_runs_on() {
    let Some(t) = Test::start() else { return };
    let name = t.name("set");
    t.ok(["run", "-d", "--name", &name, "--cpuset-cpus", "0", BUSYBOX, "sh", "-c", SPIN]);
    let status = fs::read_to_string(format!("/proc/{}/status", t.pid(&name))).unwrap();
    assert!(status.contains("Cpus_allowed_list:\t0\n"), "{status}");
    // Field 39 of /proc/PID/stat: the CPU it was last on.
    for _ in 0..20 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", t.pid(&name))).unwrap();
        let rest = stat.rsplit(')').next().unwrap();
        assert_eq!(rest.split_whitespace().nth(36), Some("0"), "{stat}");
    }
}

/// Touches so many MiB and says so.
fn touch(mebibytes: u32) -> String {
    format!("x = bytearray({mebibytes} << 20); x[::4096] = b'1' * len(x[::4096]); print('touched')")
}

#[test]
fn swap_is_used_up_to_its_limit() {
    let Some(t) = Test::start() else { return };
    if fs::read_to_string("/proc/swaps").unwrap().lines().count() < 2 {
        return skipped("this host has no swap");
    }
    let run = |swap: &str| {
        t.rbox(["run", "--rm", "-m", "64m", "--memory-swap", swap, PYTHON, "python3", "-c", &touch(100)])
    };
    assert_eq!(run("192m").ok(), "touched");
    run("64m").code(137);
    run("80m").code(137);
    assert_eq!(run("-1").ok(), "touched");
    let name = t.name("files");
    t.sleeper(&name, ["-m", "64m", "--memory-swap", "192m"]);
    let limit = value(&t, &name, "memory", "memory.memsw.limit_in_bytes", "memory.swap.max");
    assert!(limit == "134217728" || limit == "201326592", "{limit}");
}

/// The whole disk that the file system of `path` is on, or None where it is on none.
fn disk_of(path: &Path) -> Option<PathBuf> {
    // By the table of mounts: the device number of a file on btrfs is no disk's.
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let source = mounts
        .lines()
        .filter_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            Some((left.split(' ').nth(4)?, right.split(' ').nth(1)?))
        })
        .filter(|(point, _)| path.starts_with(point))
        .max_by_key(|(point, _)| point.len())?
        .1;
    let name = Path::new(source).strip_prefix("/dev").ok()?;
    let mut node = fs::canonicalize(Path::new("/sys/class/block").join(name)).ok()?;
    if node.join("partition").exists() {
        node.pop();
    }
    Some(Path::new("/dev").join(node.file_name()?))
}

/// Bytes or operations a second that `rbox run FLAG=DISK:LIMIT` gets with direct I/O in pieces of `piece` bytes.
fn direct_rate(t: &Test, flag: &str, write: bool, piece: u32, count: u32) -> f64 {
    let dir = t.dir("io");
    let script = format!(
        "
import mmap, os, time
piece, count, write = {piece}, {count}, {}
buffer = mmap.mmap(-1, piece)
fd = os.open('/io/file', os.O_CREAT | os.O_RDWR | os.O_DIRECT)
if not write and os.fstat(fd).st_size < piece * count:
    raise SystemExit('prepare the file first')
began = time.monotonic()
for n in range(count):
    if write: os.pwrite(fd, buffer, n * piece)
    else: os.preadv(fd, [buffer], n * piece)
print(time.monotonic() - began)
",
        if write { "True" } else { "False" }
    );
    if !write {
        fs::write(dir.join("file"), vec![7_u8; (piece * count) as usize]).unwrap();
        fs::File::open(dir.join("file")).unwrap().sync_all().unwrap();
    }
    let volume = format!("{}:/io", dir.display());
    let mut args = vec!["run", "--rm", "-v", &volume];
    if !flag.is_empty() {
        args.push(flag);
    }
    args.extend([PYTHON, "python3", "-c", &script]);
    let seconds: f64 = t.cmd(args).run().ok().parse().unwrap();
    f64::from(count) / seconds
}

#[test]
fn a_disk_is_read_and_written_at_its_limit() {
    let Some(t) = Test::start() else { return };
    let Some(disk) = disk_of(&t.suite.scratch) else {
        return skipped("the tests' directory is not on a disk of its own");
    };
    let disk = disk.display().to_string();
    // 16 KiB a piece: a limit of 512 KiB/s is 32 pieces a second.
    for (flag, limit, write, wanted) in [
        ("--device-write-bps", "512kb", true, 32.0),
        ("--device-read-bps", "512kb", false, 32.0),
        ("--device-write-iops", "25", true, 25.0),
        ("--device-read-iops", "25", false, 25.0),
    ] {
        let rate = direct_rate(&t, &format!("{flag}={disk}:{limit}"), write, 16 << 10, 96);
        // The first slice of time is given in advance, so a little more than the limit is right.
        assert!((wanted * 0.7..wanted * 1.35).contains(&rate), "{flag}={disk}:{limit}: {rate} a second");
        let free = direct_rate(&t, "", write, 16 << 10, 96);
        assert!(free > wanted * 2.0, "without {flag}: {free} a second");
    }
}

#[test]
fn a_pause_stops_the_clock() {
    let Some(t) = Test::start() else { return };
    let name = t.name("p");
    t.ok(["run", "-d", "--name", &name, BUSYBOX, "sh", "-c", SPIN]);
    wait_until("it is busy", || used(&t, &name) > 10_000);
    t.ok(["pause", &name]);
    let before = used(&t, &name);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(used(&t, &name), before);
    t.ok(["unpause", &name]);
    let began = Instant::now();
    while used(&t, &name) <= before {
        assert!(began.elapsed() < patience(Duration::from_secs(10)), "still frozen");
    }
}

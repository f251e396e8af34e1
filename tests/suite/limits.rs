//! Limits, as the container's own group shows them and as they bite.

use std::path::PathBuf;
use std::time::Duration;

use crate::harness::{BUSYBOX, Output, PYTHON, Test, skipped, wait_until};

/// What the kernel holds for the group of a container's PID 1: `controller` and the file of v1, or the file of v2.
pub(crate) fn value(t: &Test, container: &str, controller: &str, v1: &str, v2: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{}/cgroup", t.pid(container))).unwrap();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    // On a mixed host v2 has what no v1 tree took.
    let in_v1 = mounts.lines().any(|l| {
        let (_, right) = l.split_once(" - ").unwrap();
        right.starts_with("cgroup ") && right.rsplit(' ').next().unwrap().split(',').any(|o| o == controller)
    });
    for line in text.lines() {
        let mut parts = line.splitn(3, ':');
        let (_, names, path) = (parts.next(), parts.next().unwrap(), parts.next().unwrap());
        let file = if names.split(',').any(|n| n == controller) {
            v1
        } else if names.is_empty() && !in_v1 {
            v2
        } else {
            continue;
        };
        let mount = mounts
            .lines()
            .find(|l| {
                let (left, right) = l.split_once(" - ").unwrap();
                left.split(' ').nth(3) == Some("/")
                    && if names.is_empty() {
                        right.starts_with("cgroup2 ")
                    } else {
                        right.starts_with("cgroup ")
                            && right.rsplit(' ').next().unwrap().split(',').any(|o| o == controller)
                    }
            })
            .unwrap_or_else(|| panic!("{controller} is not mounted"));
        let file =
            PathBuf::from(mount.split(' ').nth(4).unwrap()).join(path.trim_start_matches('/')).join(file);
        return std::fs::read_to_string(&file)
            .unwrap_or_else(|e| panic!("{}: {e}", file.display()))
            .trim()
            .to_owned();
    }
    panic!("no {controller} in\n{text}");
}

#[test]
fn memory_is_limited_and_the_end_is_told() {
    let Some(t) = Test::start() else { return };
    let name = t.name("oom");
    t.rbox([
        "run",
        "--name",
        &name,
        "-m",
        "64m",
        PYTHON,
        "python3",
        "-c",
        // Not zeros: Linux 6.12 gives pages of zeros back under pressure.
        "x = b'x' * (200 * 1024 * 1024); print(len(x))",
    ])
    .code(137);
    assert_eq!(
        t.ok(["inspect", "-f", "{{.State.OOMKilled}} {{.State.ExitCode}} {{.State.Status}}", &name]),
        "true 137 exited"
    );
    assert_eq!(t.inspect(&name)["HostConfig"]["Memory"], 64 * 1024 * 1024);
}

#[test]
fn only_a_child_killed_for_memory_is_told_too() {
    let Some(t) = Test::start() else { return };
    let name = t.name("child");
    t.rbox([
        "run",
        "--name",
        &name,
        "-m",
        "64m",
        PYTHON,
        "sh",
        "-c",
        "python3 -c 'x = bytes([1]) * (200 * 1024 * 1024)'; exit 5",
    ])
    .code(5);
    assert_eq!(t.ok(["inspect", "-f", "{{.State.OOMKilled}}", &name]), "true");
    let why = t.ok(["inspect", "-f", "{{.State.Error}}", &name]);
    if std::fs::File::open("/dev/kmsg").is_ok() {
        assert!(why.contains("the kernel killed python3 (process "), "{why}");
    } else {
        skipped("no kernel log that could be read");
    }
}

#[test]
fn enough_memory_is_enough() {
    let Some(t) = Test::start() else { return };
    let name = t.name("fits");
    t.ok(["run", "--name", &name, "-m", "128m", PYTHON, "python3", "-c", "x = bytearray(40 * 1024 * 1024)"]);
    assert_eq!(t.ok(["inspect", "-f", "{{.State.OOMKilled}}", &name]), "false");
}

#[test]
fn every_limit_reaches_the_kernel() {
    let Some(t) = Test::start() else { return };
    let name = t.name("all");
    t.sleeper(
        &name,
        [
            "--cpus",
            "0.5",
            "--cpu-shares",
            "512",
            "--cpuset-cpus",
            "0",
            "-m",
            "96m",
            "--memory-reservation",
            "32m",
            "--pids-limit",
            "50",
            "--oom-score-adj",
            "123",
        ],
    );
    let quota = value(&t, &name, "cpu", "cpu.cfs_quota_us", "cpu.max");
    assert!(quota == "50000" || quota == "50000 100000", "{quota}");
    let shares = value(&t, &name, "cpu", "cpu.shares", "cpu.weight");
    assert!(["512", "20", "59"].contains(&&*shares), "{shares}");
    assert_eq!(value(&t, &name, "cpuset", "cpuset.cpus", "cpuset.cpus"), "0");
    assert_eq!(value(&t, &name, "memory", "memory.limit_in_bytes", "memory.max"), "100663296");
    assert_eq!(value(&t, &name, "memory", "memory.soft_limit_in_bytes", "memory.low"), "33554432");
    assert_eq!(value(&t, &name, "pids", "pids.max", "pids.max"), "50");
    assert_eq!(t.ok(["exec", &name, "cat", "/proc/1/oom_score_adj"]), "123");
    assert_eq!(t.ok(["exec", &name, "nproc"]), "1");
    let host = t.inspect(&name)["HostConfig"].clone();
    assert_eq!(host["NanoCpus"], 500_000_000);
    assert_eq!(host["CpuShares"], 512);
    assert_eq!(host["CpusetCpus"], "0");
    assert_eq!(host["PidsLimit"], 50);
    assert_eq!(host["OomScoreAdj"], 123);
}

#[test]
fn swap_follows_memory() {
    let Some(t) = Test::start() else { return };
    let unlimited = t.name("default");
    t.sleeper(&unlimited, ["-m", "64m"]);
    if !std::path::Path::new("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes").exists()
        && !std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
    {
        // Docker's rule: a limit that the host cannot set is said.
        let out = t.rbox(["run", "--rm", "-m", "64m", "--memory-swap", "64m", BUSYBOX, "true"]);
        if out.code != 0 {
            out.refused(125, &["swap"]);
        }
        return skipped("this host has no swap accounting");
    }
    let same = t.name("same");
    t.sleeper(&same, ["-m", "64m", "--memory-swap", "64m"]);
    assert!(["67108864", "0"].contains(&&*value(
        &t,
        &same,
        "memory",
        "memory.memsw.limit_in_bytes",
        "memory.swap.max"
    )));
}

#[test]
fn the_default_is_2048_processes() {
    let Some(t) = Test::start() else { return };
    let name = t.name("pids");
    t.sleeper(&name, []);
    assert_eq!(value(&t, &name, "pids", "pids.max", "pids.max"), "2048");
}

#[test]
fn processes_are_limited() {
    let Some(t) = Test::start() else { return };
    let out = t.rbox([
        "run",
        "--rm",
        "--pids-limit",
        "10",
        PYTHON,
        "python3",
        "-c",
        "
import os, time
n = 0
try:
    while n < 50:
        if os.fork() == 0:
            time.sleep(5); os._exit(0)
        n += 1
except BlockingIOError:
    print('stopped at', n)
",
    ]);
    let out = out.ok();
    let count: u32 = out.strip_prefix("stopped at ").unwrap_or_else(|| panic!("{out}")).parse().unwrap();
    assert!((8..10).contains(&count), "{count}");
}

#[test]
fn a_fork_bomb_leaves_the_host_usable() {
    let Some(t) = Test::start() else { return };
    let name = t.name("bomb");
    t.ok([
        "run",
        "-d",
        "--name",
        &name,
        "--pids-limit",
        "200",
        BUSYBOX,
        "sh",
        "-c",
        "f() { f | f & }; f; while :; do sleep 1; done",
    ]);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(t.sh("echo fine"), "fine");
    t.ok(["rm", "-f", &name]);
    t.expect_nothing_left();
}

#[test]
fn ulimits() {
    let Some(t) = Test::start() else { return };
    let out = t.ok([
        "run",
        "--rm",
        "--ulimit",
        "nofile=123:456",
        "--ulimit",
        "core=0",
        BUSYBOX,
        "sh",
        "-c",
        "ulimit -Sn; ulimit -Hn; ulimit -c",
    ]);
    assert_eq!(out, "123\n456\n0");
    // What the kernel refuses is told by the limit's name.
    let over = (1_u64 << 40).to_string();
    t.rbox(["run", "--rm", "--ulimit", &format!("nofile={over}"), BUSYBOX, "true"])
        .refused(125, &[&format!("error setting the limit nofile={over}:{over}: operation not permitted")]);
    t.rbox(["run", "--rm", "--ulimit", "nonsense=1", BUSYBOX, "true"]).refused(125, &["nonsense"]);
    t.rbox(["run", "--rm", "--ulimit", "nofile=9:3", BUSYBOX, "true"]).refused(125, &["soft limit"]);
}

#[test]
fn shared_memory_size() {
    let Some(t) = Test::start() else { return };
    let size = |args: &[&str]| {
        let mut all = vec!["run", "--rm"];
        all.extend(args);
        all.extend([BUSYBOX, "sh", "-c", "df -k /dev/shm | tail -n 1 | awk '{print $2}'"]);
        t.cmd(all).run().ok()
    };
    assert_eq!(size(&[]), "65536");
    assert_eq!(size(&["--shm-size", "8m"]), "8192");
    // Docker: none is the default, and not what tmpfs understands by 0, no limit at all.
    assert_eq!(size(&["--shm-size", "0"]), "65536");
    t.rbox(["run", "--rm", "--shm-size", "lots", BUSYBOX, "true"]).refused(125, &["lots"]);
}

#[test]
fn sysctls_of_its_own_namespaces_only() {
    let Some(t) = Test::start() else { return };
    let host = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    assert_eq!(
        t.ok([
            "run",
            "--rm",
            "--sysctl",
            "net.core.somaxconn=77",
            BUSYBOX,
            "cat",
            "/proc/sys/net/core/somaxconn"
        ]),
        "77"
    );
    assert_eq!(std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap(), host);
    assert_eq!(
        t.ok(["run", "--rm", "--sysctl", "kernel.shmmni=99", BUSYBOX, "cat", "/proc/sys/kernel/shmmni"]),
        "99"
    );
    for bad in [
        "kernel.core_pattern=|/bin/evil",
        "vm.swappiness=1",
        "kernel.domainname=x",
        "net.core.somaxconn",
        "net/../kernel/core_pattern=x",
        "kernel.hostname=x",
    ] {
        t.rbox(["run", "--rm", "--sysctl", bad, BUSYBOX, "true"]).refused(125, &["sysctl"]);
    }
    t.rbox(["run", "--rm", "--network", "host", "--sysctl", "net.core.somaxconn=77", BUSYBOX, "true"])
        .refused(125, &["net.core.somaxconn"]);
    // The defaults of a network namespace of its own.
    assert_eq!(
        t.sh("cat /proc/sys/net/ipv4/ip_unprivileged_port_start; cat /proc/sys/net/ipv4/ping_group_range"),
        "0\n0\t2147483647"
    );
}

#[test]
fn limits_that_make_no_sense_are_refused() {
    let Some(t) = Test::start() else { return };
    for (flag, bad) in [
        ("-m", "lots"),
        ("-m", "1"),
        ("-m", "-5m"),
        ("--cpus", "-1"),
        ("--cpus", "1000"),
        ("--cpus", "x"),
        ("--cpuset-cpus", "99999"),
        ("--cpuset-cpus", "a-b"),
        ("--pids-limit", "x"),
        ("--oom-score-adj", "2000"),
        ("--memory-swap", "1m"),
    ] {
        let out = t.rbox(["run", "--rm", flag, bad, BUSYBOX, "true"]);
        out.refused(125, &[]);
    }
    t.rbox(["run", "--rm", "-m", "64m", "--memory-swap", "32m", BUSYBOX, "true"]).refused(125, &["swap"]);
    // What only the kernel refuses: its own reason is told, too.
    t.rbox(["run", "--rm", "--pids-limit", "99999999999", BUSYBOX, "true"])
        .refused(125, &["pids-limit", "pids.max", "invalid argument"]);
}

#[test]
fn the_group_is_gone_with_the_container() {
    let Some(t) = Test::start() else { return };
    let name = t.name("g");
    t.sleeper(&name, ["-m", "64m"]);
    assert!(
        !crate::harness::Left::look(t.suite).cgroups.is_empty(),
        "the leak check cannot see this suite's groups"
    );
    t.ok(["rm", "-f", &name]);
    wait_until("the groups are gone", || crate::harness::Left::look(t.suite).cgroups.is_empty());
}

#[test]
fn a_parent_and_the_hosts_view_can_be_asked_for() {
    let Some(t) = Test::start() else { return };
    let (name, slice) = (t.name("parent"), t.name("slice"));
    t.sleeper(&name, ["--cgroup-parent", "/rbox-test-parent/a", "--cgroupns", "host"]);
    let id = t.ok(["inspect", "-f", "{{.Id}}", &name]);
    let groups = std::fs::read_to_string(format!("/proc/{}/cgroup", t.pid(&name))).unwrap();
    assert!(groups.contains(&format!(":/rbox-test-parent/a/{id}\n")), "{groups}");
    let inside = t.ok(["exec", &name, "cat", "/proc/self/cgroup"]);
    assert!(inside.contains(&id), "{inside}");
    let host = t.inspect(&name)["HostConfig"].clone();
    assert_eq!(
        (&host["CgroupnsMode"], &host["CgroupParent"]),
        (&"host".into(), &"/rbox-test-parent/a".into())
    );
    t.sleeper(&slice, ["--cgroup-parent", "rbox-test.slice"]);
    let groups = std::fs::read_to_string(format!("/proc/{}/cgroup", t.pid(&slice))).unwrap();
    assert!(groups.contains(":/rbox.slice/rbox-test.slice/"), "{groups}");
    assert!(!t.ok(["exec", &slice, "cat", "/proc/self/cgroup"]).contains("slice"));
    t.rbox(["run", "--cgroup-parent", "../up", BUSYBOX, "true"]).refused(125, &["--cgroup-parent"]);
    t.ok(["rm", "-f", &name, &slice]);
    for tree in std::fs::read_dir("/sys/fs/cgroup")
        .unwrap()
        .flatten()
        .map(|e| e.path())
        .chain(["/sys/fs/cgroup".into()])
    {
        for group in ["rbox-test-parent/a", "rbox-test-parent", "rbox.slice/rbox-test.slice", "rbox.slice"] {
            let _ = std::fs::remove_dir(tree.join(group));
        }
    }
}

/// Huge pages of 2 MB that the host has free while the test runs.
struct HugePages {
    before: String,
}

impl HugePages {
    const NUMBER: &str = "/proc/sys/vm/nr_hugepages";

    /// None, having said why, where the host cannot limit or does not have so many.
    fn reserve(number: u64) -> Option<Self> {
        let pages = std::path::Path::new("/sys/kernel/mm/hugepages/hugepages-2048kB");
        let controllers = std::fs::read_to_string("/proc/cgroups").unwrap_or_default();
        if !controllers.lines().any(|l| l.starts_with("hugetlb\t")) || !pages.exists() {
            skipped("this kernel has no hugetlb controller, or no pages of 2 MB");
            return None;
        }
        let read = |file: &str| -> u64 {
            std::fs::read_to_string(pages.join(file)).unwrap().trim().parse().unwrap()
        };
        let made = Self { before: std::fs::read_to_string(Self::NUMBER).unwrap() };
        let wanted = read("nr_hugepages") + number;
        std::fs::write(pages.join("nr_hugepages"), wanted.to_string()).unwrap();
        if read("nr_hugepages") < wanted {
            skipped("the host has no memory in pieces of 2 MB left");
            return None;
        }
        Some(made)
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        let _ = std::fs::write(Self::NUMBER, &self.before);
    }
}

/// Maps so many huge pages (`MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB`), touches each and says how many they were.
const USE_HUGE_PAGES: &str = "import mmap, sys
m = mmap.mmap(-1, int(sys.argv[1]) << 21, flags=0x40022)
for at in range(0, len(m), 1 << 21): m[at] = 1
print(len(m) >> 21)";

#[test]
fn huge_pages() {
    let Some(t) = Test::start() else { return };
    let Some(_pages) = HugePages::reserve(8) else { return };
    let use_them = |number: &'static str| ["python3", "-c", USE_HUGE_PAGES, number];
    let run = |limit: &str, number| {
        let flags: &[&str] = if limit.is_empty() { &[] } else { &["--hugetlb-limit", limit] };
        t.cmd(["run", "--rm"]).args(flags).args(&[PYTHON]).args(&use_them(number)).run()
    };
    // mmap(2) refuses, or before Linux 5.7 the touched page ends the process.
    let denied = |out: Output| {
        assert!(out.code == 135 || out.stderr.contains("Cannot allocate memory"), "not limited: {out:?}");
        assert_eq!(out.stdout, "");
    };
    assert_eq!(run("", "4").ok(), "4");
    assert_eq!(run("2MB=8m", "4").ok(), "4");
    denied(run("2MB=4m", "4"));
    denied(run("2048k=0", "1"));
    // What the kernel holds, what `inspect` tells, and another limit while it runs.
    let name = t.name("huge");
    t.ok(["run", "-d", "--name", &name, "--hugetlb-limit", "2m=4m", PYTHON, "sleep", "1000"]);
    let held =
        || value(&t, &name, "hugetlb", "hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.max").parse::<u64>().ok();
    assert_eq!(held(), Some(4 << 20));
    let told = |limit: i64| {
        assert_eq!(
            t.inspect(&name)["HostConfig"]["HugetlbLimits"],
            serde_json::json!([{ "PageSize": "2MB", "Limit": limit }])
        );
    };
    told(4 << 20);
    let exec = |number| t.cmd(["exec", &name]).args(&use_them(number)).run();
    denied(exec("4"));
    t.ok(["update", "--hugetlb-limit", "2MB=10m", &name]);
    assert_eq!(held(), Some(10 << 20));
    assert_eq!(exec("4").ok(), "4");
    t.ok(["update", "--hugetlb-limit", "2MB=-1", &name]);
    assert_ne!(held(), Some(10 << 20));
    told(-1);
    assert_eq!(exec("6").ok(), "6");
}

#[test]
fn a_limit_of_huge_pages_that_starts_with_update() {
    let Some(t) = Test::start() else { return };
    let Some(_pages) = HugePages::reserve(4) else { return };
    let name = t.name("later");
    t.ok(["run", "-d", "--name", &name, PYTHON, "sleep", "1000"]);
    t.ok(["update", "--hugetlb-limit", "2MB=2m", &name]);
    let exec = |number| t.rbox(["exec", &name, "python3", "-c", USE_HUGE_PAGES, number]);
    assert_eq!(exec("1").ok(), "1");
    let out = exec("2");
    assert!(out.code == 135 || out.stderr.contains("Cannot allocate memory"), "not limited: {out:?}");
}

#[test]
fn limits_of_huge_pages_that_cannot_be() {
    let Some(t) = Test::start() else { return };
    for (limit, words) in [
        ("2MB", &["PAGESIZE=LIMIT"][..]),
        ("3MB=3m", &["PAGESIZE=LIMIT", "3MB=3m"]),
        ("2MB=x", &["PAGESIZE=LIMIT"]),
        ("512GB=0", &["huge pages of 512GB are not available"]),
    ] {
        t.rbox(["run", "--rm", "--hugetlb-limit", limit, BUSYBOX, "true"]).refused(125, words);
    }
    if std::path::Path::new("/sys/kernel/mm/hugepages/hugepages-2048kB").exists() {
        t.rbox(["run", "--rm", "--hugetlb-limit", "2MB=3m", BUSYBOX, "true"])
            .refused(125, &["no whole number of huge pages of 2MB"]);
    }
}

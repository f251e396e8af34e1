//! Real groups on this host, as root: each test makes its own parent and takes it away again.
#![allow(clippy::unwrap_used, missing_docs)]

use rbox_cgroup::{Cgroup, CgroupError, CgroupPaths, Controller, Hierarchy};
use rbox_spec::Resources;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A parent of the test's own, removed with everything below when the test ends.
struct Parent(String);

impl Parent {
    /// None, after saying why, where nothing can be made.
    fn new(name: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: control groups are made by root");
            return None;
        }
        if Hierarchy::detect().is_err() {
            println!("skipped: no cgroup file system is mounted");
            return None;
        }
        Some(Self(format!("rbox-test-{name}-{}", std::process::id())))
    }

    fn create(&self, resources: &Resources) -> Result<Cgroup, CgroupError> {
        Cgroup::create(Hierarchy::detect().unwrap(), &format!("{}/c1", self.0), resources)
    }

    fn directories(&self) -> Vec<PathBuf> {
        let hierarchy = Hierarchy::detect().unwrap();
        let roots = hierarchy.v1_mounts().iter().map(|m| m.mountpoint.as_path()).chain(hierarchy.unified());
        roots.flat_map(|root| [root.join(&self.0), root.join(format!("{}.devices", self.0))]).collect()
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        for directory in self.directories() {
            for child in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
                let _ = std::fs::remove_dir(child.path());
            }
            let _ = std::fs::remove_dir(directory);
        }
    }
}

/// A shell that enters the groups of `paths` as a container's first process would, then runs `script`.
fn enter(paths: &CgroupPaths, script: &str) -> Child {
    let mut joins = String::new();
    for group in paths.v1.values().chain(&paths.shared) {
        write!(joins, "echo 0 > {}/tasks && ", group.display()).unwrap();
    }
    if let Some(group) = &paths.unified {
        write!(joins, "echo 0 > {}/cgroup.procs && ", group.display()).unwrap();
    }
    Command::new("sh")
        .args(["-c", &format!("{joins} echo in; {script}")])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn wait_line(child: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    line
}

fn wait_until(mut done: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + Duration::from_secs(10);
    while Instant::now() < until {
        if done() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    done()
}

fn read(group: &Path, file: &str) -> String {
    std::fs::read_to_string(group.join(file)).unwrap().trim().to_owned()
}

#[test]
fn made_with_defaults_and_deleted() {
    let Some(parent) = Parent::new("default") else { return };
    let group = parent.create(&Resources::defaults()).unwrap();
    let pids = group.paths().v1(Controller::Pids).or(group.paths().unified.as_deref()).unwrap();
    assert_eq!(read(pids, "pids.max"), "2048");
    assert_eq!(group.join_fds().len(), group.paths().v1.len() + group.paths().shared.len());
    assert_eq!(group.clone_into().is_some(), Hierarchy::detect().unwrap().unified().is_some());
    assert!(!group.is_populated());
    // The record finds it again, and deleting twice is deleting once.
    let json = serde_json::to_string(group.paths()).unwrap();
    let again = Cgroup::open(&serde_json::from_str(&json).unwrap()).unwrap();
    again.delete().unwrap();
    assert!(group.paths().own().all(|path| !path.exists()));
    group.delete().unwrap();
    again.kill().unwrap();
    assert_eq!(again.oom_kills(), 0);
    // Without a record it is found by its name, the devices group beside the others included.
    let rule =
        Resources { device_cgroup_rules: vec!["c 10:200 rwm".parse().unwrap()], ..Resources::defaults() };
    let lost = parent.create(&rule).unwrap();
    let found = Cgroup::find(Hierarchy::detect().unwrap(), &format!("{}/c1", parent.0)).unwrap();
    assert_eq!(&found, lost.paths());
    Cgroup::open(&found).unwrap().delete().unwrap();
    assert!(lost.paths().own().all(|path| !path.exists()));
    assert_eq!(
        Cgroup::find(Hierarchy::detect().unwrap(), &format!("{}/c1", parent.0)).unwrap(),
        CgroupPaths::default()
    );
    // A leftover of that name is replaced.
    let first = parent.create(&Resources { memory: Some(64 << 20), ..Resources::defaults() }).unwrap();
    drop(first);
    let second = parent.create(&Resources::defaults()).unwrap();
    assert_eq!(second.stats().memory.unwrap().limit, None);
    second.delete().unwrap();
}

#[test]
fn limits_are_what_was_asked_for() {
    let Some(parent) = Parent::new("limits") else { return };
    let resources = Resources {
        memory: Some(64 << 20),
        memory_reservation: Some(32 << 20),
        nano_cpus: Some(500_000_000),
        cpu_shares: Some(512),
        cpuset_cpus: Some("0".into()),
        pids_limit: Some(17),
        ..Resources::default()
    };
    let mut group = parent.create(&resources).unwrap();
    let v1 = |controller| group.paths().v1(controller).map(Path::to_owned);
    if let (Some(memory), Some(cpu), Some(cpuset)) =
        (v1(Controller::Memory), v1(Controller::Cpu), v1(Controller::Cpuset))
    {
        assert_eq!(read(&memory, "memory.limit_in_bytes"), (64 << 20).to_string());
        assert_eq!(read(&memory, "memory.soft_limit_in_bytes"), (32 << 20).to_string());
        if memory.join("memory.memsw.limit_in_bytes").exists() {
            assert_eq!(read(&memory, "memory.memsw.limit_in_bytes"), (128 << 20).to_string());
        }
        assert_eq!(read(&cpu, "cpu.cfs_quota_us"), "50000");
        assert_eq!(read(&cpu, "cpu.shares"), "512");
        assert_eq!(read(&cpuset, "cpuset.cpus"), "0");
        assert!(!read(&cpuset, "cpuset.mems").is_empty());
    } else {
        let group = group.paths().unified.clone().unwrap();
        assert_eq!(read(&group, "memory.max"), (64 << 20).to_string());
        assert_eq!(read(&group, "cpu.max"), "50000 100000");
        assert_eq!(read(&group, "cpuset.cpus"), "0");
    }
    assert_eq!(group.stats().pids.unwrap().limit, Some(17));
    // Raised and lowered again: each order of memory and memsw.
    for memory in [256 << 20, 32 << 20, 64 << 20] {
        let change =
            Resources { memory: Some(memory), memory_reservation: Some(8 << 20), ..Resources::default() };
        group.update(Hierarchy::detect().unwrap(), &change).unwrap();
        assert_eq!(group.stats().memory.unwrap().limit, Some(memory));
    }
    let period = Resources { cpu_quota: Some(2000), cpu_period: Some(2000), ..Resources::default() };
    group.update(Hierarchy::detect().unwrap(), &period).unwrap();
    group.delete().unwrap();
}

#[test]
fn update_moves_a_living_container_to_new_controllers() {
    let Some(parent) = Parent::new("update") else { return };
    let mut group = parent.create(&Resources::defaults()).unwrap();
    let mut child = enter(group.paths(), "exec sleep 1000");
    assert_eq!(wait_line(&mut child), "in\n");
    let change = Resources { cpu_shares: Some(300), cpuset_cpus: Some("0".into()), ..Resources::default() };
    group.update(Hierarchy::detect().unwrap(), &change).unwrap();
    let membership = std::fs::read_to_string(format!("/proc/{}/cgroup", child.id())).unwrap();
    if group.paths().v1(Controller::Cpu).is_some() {
        for tree in ["cpu", "cpuset"] {
            assert!(membership.contains(&format!("{tree}:/{}/c1", parent.0)), "{membership}");
        }
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    assert!(status.contains("Cpus_allowed_list:\t0\n"));
    group.kill().unwrap();
    child.wait().unwrap();
    group.delete().unwrap();
}

#[test]
fn pids_freeze_kill() {
    let Some(parent) = Parent::new("kill") else { return };
    let group = parent.create(&Resources { pids_limit: Some(8), ..Resources::default() }).unwrap();
    // A process that ticks, and one that forks for ever against the limit.
    let mut child =
        enter(group.paths(), "i=0; (while :; do (exit 0) 2>/dev/null; done) & while :; do i=$((i+1)); done");
    assert_eq!(wait_line(&mut child), "in\n");
    assert!(wait_until(|| group.pids().unwrap().len() > 1));
    assert!(group.is_populated());
    assert!(group.pids().unwrap().contains(&(child.id() as i32)));
    let stats = group.stats();
    assert!(stats.pids.unwrap().current >= 2);
    assert!(wait_until(|| group.stats().cpu.unwrap().usage_usec > 20_000));
    group.freeze().unwrap();
    assert!(group.is_frozen());
    let ticks = group.stats().cpu.unwrap().usage_usec;
    std::thread::sleep(Duration::from_millis(100));
    assert!(group.stats().cpu.unwrap().usage_usec - ticks < 10_000);
    group.thaw().unwrap();
    assert!(wait_until(|| group.stats().cpu.unwrap().usage_usec > ticks + 50_000));
    group.freeze().unwrap();
    group.kill().unwrap();
    assert!(!group.is_populated());
    assert!(!child.wait().unwrap().success());
    group.delete().unwrap();
}

#[test]
fn v1_alone_freezes_and_kills_too() {
    let Some(parent) = Parent::new("v1") else { return };
    // The host as it would be without its v2 mount.
    let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let without: Vec<_> = mountinfo.lines().filter(|line| !line.contains(" - cgroup2 ")).collect();
    let Some(hierarchy) =
        Hierarchy::parse(&without.join("\n")).filter(|h| h.v1(Controller::Freezer).is_some())
    else {
        println!("skipped: this host has no v1 freezer");
        return;
    };
    let group = Cgroup::create(&hierarchy, &format!("{}/c1", parent.0), &Resources::defaults()).unwrap();
    assert!(group.clone_into().is_none());
    let mut child = enter(group.paths(), "while :; do (sleep 0.01); done");
    assert_eq!(wait_line(&mut child), "in\n");
    assert!(group.is_populated());
    group.freeze().unwrap();
    assert!(group.is_frozen());
    group.thaw().unwrap();
    assert!(wait_until(|| group.stats().cpu.unwrap().usage_usec > 0));
    group.kill().unwrap();
    assert!(group.pids().unwrap().is_empty());
    child.wait().unwrap();
    group.delete().unwrap();
}

#[test]
fn an_oom_kill_of_a_child_is_counted() {
    let Some(parent) = Parent::new("oom") else { return };
    let group = parent.create(&Resources { memory: Some(16 << 20), ..Resources::default() }).unwrap();
    // The child of the shell reads 64 MiB into one variable; the shell lives on.
    let mut child = enter(
        group.paths(),
        "(head -c 67108864 /dev/zero | tail -c 67108864 | wc -c) >/dev/null 2>&1; exit 7",
    );
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(7));
    assert!(group.oom_kills() >= 1);
    group.delete().unwrap();
}

#[test]
fn the_device_filter_holds() {
    let Some(parent) = Parent::new("dev") else { return };
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let node = directory.join("mem");
    // char 1:11 is /dev/kmsg: a node is made freely, and opened only with a rule.
    let script = format!(
        "mknod {0} c 1 11 || exit 3; : < /dev/null || exit 4; (: < {0}) 2>/dev/null && exit 5; exit 0",
        node.display()
    );
    let extra: Resources =
        Resources { device_cgroup_rules: vec!["c 1:11 r".parse().unwrap()], ..Resources::default() };
    let privileged = Resources { all_devices: true, ..Resources::default() };
    for (resources, expected) in [(&Resources::default(), 0), (&extra, 5), (&privileged, 5)] {
        let _ = std::fs::remove_file(&node);
        let group = parent.create(resources).unwrap();
        let status = enter(group.paths(), &script).wait().unwrap();
        assert_eq!(status.code(), Some(expected), "{resources:?}");
        group.delete().unwrap();
    }
    // And on v2, also where v1 has the devices controller: both are asked by the kernel.
    let hierarchy = Hierarchy::detect().unwrap();
    if let Some(root) = hierarchy.unified().filter(|_| !hierarchy.is_v2()) {
        let mountinfo = format!("1 1 0:1 / {} rw - cgroup2 cgroup2 rw\n", root.display());
        let v2 = Hierarchy::parse(&mountinfo).unwrap();
        let create = |resources: &Resources| Cgroup::create(&v2, &format!("{}/c2", parent.0), resources);
        for (resources, expected) in [(&Resources::default(), 0), (&extra, 5), (&privileged, 5)] {
            let _ = std::fs::remove_file(&node);
            let group = create(resources).unwrap();
            let status = enter(group.paths(), &script).wait().unwrap();
            assert_eq!(status.code(), Some(expected), "v2 {resources:?}");
            group.delete().unwrap();
        }
        // No memory controller there: said, not passed over.
        let error = create(&Resources { memory: Some(64 << 20), ..Resources::default() }).unwrap_err();
        assert!(error.to_string().starts_with("memory: this host has no memory controller"), "{error}");
    }
}

#[test]
fn bad_paths_and_records_are_refused() {
    let Ok(hierarchy) = Hierarchy::detect() else { return };
    for path in
        ["../x/y", "rbox/../../x", "rbox", "", "a//b", "a/.", "a/cgroup.procs", "a/b\n", "/", "a/tasks"]
    {
        let error = Cgroup::create(hierarchy, path, &Resources::default()).unwrap_err();
        assert!(matches!(error, CgroupError::Path { .. }), "{path:?}: {error}");
    }
    for path in ["/sys/fs/cgroup/../../../etc", "rbox/x"] {
        let paths = CgroupPaths { unified: Some(path.into()), ..CgroupPaths::default() };
        assert!(matches!(Cgroup::open(&paths), Err(CgroupError::Path { .. })));
    }
}

#[test]
fn making_and_deleting_is_cheap() {
    let Some(parent) = Parent::new("cheap") else { return };
    let mut made: Vec<_> = (0..30)
        .map(|_| {
            let begin = Instant::now();
            let group = parent.create(&Resources::defaults()).unwrap();
            let made = begin.elapsed();
            group.delete().unwrap();
            made
        })
        .collect();
    made.sort_unstable();
    println!("create with defaults: median {:?}, worst {:?}", made[15], made[29]);
    // A grace period is over 4 ms: none may be in there. The quickest of all, since the machine is shared.
    assert!(made[0] < Duration::from_millis(4), "{made:?}");
}

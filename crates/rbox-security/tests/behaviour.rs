//! The filter and the capabilities on this kernel: a child takes them on and tries. One process a case, since
//! there is no way back; `--exact` runs this very binary again as that child.
#![allow(clippy::unwrap_used, missing_docs)]

use nix::errno::Errno;
use rbox_security::seccomp::{DEFAULT_PROFILE, Filter, Profile, SeccompError, filter_for};
use rbox_security::{DEFAULT_CAPABILITIES, capabilities, no_new_privs};
use rbox_spec::{CapSet, Capability};
use rbox_sys::seccomp::{Probe, probe};
use std::process::Command;
use std::time::Instant;

/// Runs the test `name` of this binary in a process of its own, where [`child`] is true.
fn in_child(name: &str) {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: capabilities are dropped by root");
        return;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env("RBOX_SECURITY_CHILD", "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("child done"), "{text}");
    text.lines().filter(|line| line.contains("measured")).for_each(|line| println!("{line}"));
}

fn child() -> bool {
    std::env::var_os("RBOX_SECURITY_CHILD").is_some()
}

fn try_calls() {
    let refused =
        [Probe::Mount, Probe::Unshare, Probe::Setns, Probe::Keyctl, Probe::IoUringSetup, Probe::Userfaultfd];
    for call in refused.into_iter().chain([Probe::Bpf, Probe::Clone, Probe::Personality(0x0004_0000)]) {
        assert_eq!(probe(call), Err(Errno::EPERM), "{call:?}");
    }
    // The kernel reads 32 bits of a family, the filter all 64.
    for family in [38, 40, 0x1_0000_0026, 0x1_0000_0028] {
        assert_eq!(probe(Probe::Socket(family)), Err(Errno::EPERM), "family {family:#x}");
    }
    for call in [Probe::Socket(1), Probe::Socket(2), Probe::Personality(0xffff_ffff)] {
        assert_eq!(probe(call), Ok(()), "{call:?}");
    }
    assert_eq!(probe(Probe::Clone3), Err(Errno::ENOSYS));
    assert_eq!(probe(Probe::Number1000), Err(Errno::ENOSYS));
}

#[test]
fn the_default_filter_on_this_kernel() {
    if !child() {
        return in_child("the_default_filter_on_this_kernel");
    }
    // With no_new_privs and without any capability, as a non-root user installs it.
    no_new_privs().unwrap();
    capabilities::drop_bounding(DEFAULT_CAPABILITIES).unwrap();
    capabilities::apply(DEFAULT_CAPABILITIES, 1000).unwrap();
    // In threads: each starts without a filter, as each container's process does.
    let mut took: Vec<_> = (0..101)
        .map(|_| {
            let install = || {
                let begin = Instant::now();
                Filter::DEFAULT.install().unwrap();
                begin.elapsed()
            };
            std::thread::spawn(install).join().unwrap()
        })
        .collect();
    took.sort_unstable();
    let length = Filter::DEFAULT.instructions().len();
    println!("measured: installing {length} instructions: median {:?}, worst {:?}", took[50], took[100]);
    Filter::DEFAULT.install().unwrap();
    try_calls();
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    assert!(status.contains("\nNoNewPrivs:\t1\n"));
    println!("child done");
}

#[test]
fn a_filter_with_sys_admin_lets_mount_through() {
    if !child() {
        return in_child("a_filter_with_sys_admin_lets_mount_through");
    }
    let filter =
        filter_for(&Profile::Default, DEFAULT_CAPABILITIES.with(Capability::SysAdmin)).unwrap().unwrap();
    // Without no_new_privs: CAP_SYS_ADMIN installs it.
    filter.install().unwrap();
    // The kernel's own answer to null pointers.
    assert_eq!(probe(Probe::Mount), Err(Errno::EFAULT));
    assert_eq!(probe(Probe::Keyctl), Err(Errno::EPERM));
    println!("child done");
}

fn cap_lines() -> Vec<String> {
    // The thread's own: a test runs in a thread, and capabilities are a thread's.
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    status.lines().filter_map(|line| line.strip_prefix("Cap")).map(|line| line.replace('\t', " ")).collect()
}

#[test]
fn root_keeps_exactly_its_set() {
    if !child() {
        return in_child("root_keeps_exactly_its_set");
    }
    let begin = Instant::now();
    capabilities::drop_bounding(DEFAULT_CAPABILITIES).unwrap();
    println!("measured: dropping the bounding set took {:?}", begin.elapsed());
    capabilities::apply(DEFAULT_CAPABILITIES, 0).unwrap();
    let set = format!("{:016x}", DEFAULT_CAPABILITIES.bits());
    let none = "0000000000000000";
    assert_eq!(
        cap_lines(),
        [
            format!("Inh: {none}"),
            format!("Prm: {set}"),
            format!("Eff: {set}"),
            format!("Bnd: {set}"),
            format!("Amb: {none}")
        ]
    );
    assert_eq!(capabilities::available().unwrap(), DEFAULT_CAPABILITIES);
    println!("child done");
}

#[test]
fn others_keep_none_and_the_bounding_set() {
    if !child() {
        return in_child("others_keep_none_and_the_bounding_set");
    }
    let set = CapSet::of(&[Capability::Chown, Capability::CheckpointRestore]);
    capabilities::drop_bounding(set).unwrap();
    rustix::thread::set_thread_groups(&[]).unwrap();
    rustix::thread::set_thread_gid(rustix::process::Gid::from_raw(1000)).unwrap();
    rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(1000)).unwrap();
    capabilities::apply(set, 1000).unwrap();
    let none = "0000000000000000";
    let lines = cap_lines();
    assert_eq!(lines[..3], [format!("Inh: {none}"), format!("Prm: {none}"), format!("Eff: {none}")]);
    assert_eq!(lines[3..], [format!("Bnd: {:016x}", set.bits()), format!("Amb: {none}")]);
    println!("child done");
}

#[test]
fn privileged_drops_nothing() {
    if !child() {
        return in_child("privileged_drops_nothing");
    }
    let before = cap_lines()[3].clone();
    capabilities::drop_bounding(CapSet::ALL).unwrap();
    assert_eq!(cap_lines()[3], before);
    println!("child done");
}

#[test]
fn profiles_are_refused_with_the_reason() {
    let parse = |json: &str| Profile::parse(json.as_bytes()).unwrap_err().to_string();
    for (json, why) in [
        ("", "decoding seccomp profile failed"),
        ("{}", "defaultAction"),
        (r#"{"defaultAction":"SCMP_ACT_NOPE"}"#, "SCMP_ACT_NOPE"),
        (r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#, "supervisor"),
        (r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":5000}"#, "5000"),
        (r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]}"#, "SPEC_ALLOW"),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86"],"archMap":[{"architecture":"SCMP_ARCH_X86_64"}]}"#,
            "both 'architectures' and 'archMap'",
        ),
        (r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["x86"]}"#, "SCMP_ARCH_"),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"a","names":["b"],"action":"SCMP_ACT_ERRNO"}]}"#,
            "both 'name' and 'names'",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_ERRNO","args":[{"index":6,"value":1,"op":"SCMP_CMP_EQ"}]}]}"#,
            "arguments 0 to 5",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_ERRNO","args":[{"index":0,"value":1,"op":"EQ"}]}]}"#,
            "operator",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_ERRNO","includes":{"minKernel":"new"}}]}"#,
            "kernel version",
        ),
    ] {
        let error = parse(json);
        assert!(error.contains(why), "{json}: {error}");
    }
    assert!(matches!(Profile::from_option("/nonexistent"), Err(SeccompError::Read { .. })));
    assert!(matches!(Profile::from_option("unconfined"), Ok(Profile::Unconfined)));
    assert!(filter_for(&Profile::Unconfined, CapSet::ALL).unwrap().is_none());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("profile.json");
    std::fs::write(&file, DEFAULT_PROFILE).unwrap();
    let profile = Profile::from_option(file.to_str().unwrap());
    let read = filter_for(&profile.unwrap(), DEFAULT_CAPABILITIES).unwrap().unwrap();
    // Read at run time, the same profile is the same program as the one compiled in.
    assert_eq!(read, Filter::DEFAULT);
}

#[test]
fn compiling_is_quick() {
    let begin = Instant::now();
    filter_for(&Profile::Default, CapSet::ALL).unwrap();
    println!("compiling the default profile took {:?}", begin.elapsed());
}

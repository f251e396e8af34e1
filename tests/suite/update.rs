//! `update`: limits and restart policies of containers that exist.

use crate::harness::{BUSYBOX, Test, rounds};
use crate::limits::value;

/// The memory limit and the CPU quota that the kernel holds.
fn kernel(t: &Test, name: &str) -> (String, String) {
    let memory = value(t, name, "memory", "memory.limit_in_bytes", "memory.max");
    let quota = value(t, name, "cpu", "cpu.cfs_quota_us", "cpu.max");
    (memory, quota.split(' ').next().unwrap().to_owned())
}

#[test]
fn limits_of_what_runs_and_of_what_does_not() {
    let Some(t) = Test::start() else { return };
    let (runs, stands) = (t.name("runs"), t.name("stands"));
    t.sleeper(&runs, ["-m", "64m"]);
    t.ok([
        "create",
        "--name",
        &stands,
        BUSYBOX,
        "sh",
        "-c",
        "trap 'exit 0' TERM; while :; do sleep 0.1; done",
    ]);
    let said = t.ok([
        "update",
        "-m",
        "96m",
        "--memory-swap",
        "192m",
        "--memory-reservation",
        "32m",
        "--cpus",
        "0.5",
        "-c",
        "512",
        "--cpuset-cpus",
        "0",
        "--cpuset-mems",
        "0",
        "--pids-limit",
        "77",
        &runs,
        &stands,
    ]);
    assert_eq!(said, format!("{runs}\n{stands}"));
    t.ok(["start", &stands]);
    for name in [&runs, &stands] {
        assert_eq!(kernel(&t, name), ("100663296".into(), "50000".into()), "{name}");
        assert_eq!(value(&t, name, "pids", "pids.max", "pids.max"), "77");
        assert_eq!(value(&t, name, "cpuset", "cpuset.cpus", "cpuset.cpus"), "0");
        assert_eq!(value(&t, name, "cpuset", "cpuset.mems", "cpuset.mems"), "0");
        // v1 counts swap together with memory and has shares; v2 counts swap alone and has weights.
        let swap = value(&t, name, "memory", "memory.memsw.limit_in_bytes", "memory.swap.max");
        assert!(["201326592", "100663296"].contains(&&*swap), "{name}: {swap}");
        let shares = value(&t, name, "cpu", "cpu.shares", "cpu.weight");
        assert!(["512", "59"].contains(&&*shares), "{name}: {shares}");
        assert_eq!(value(&t, name, "memory", "memory.soft_limit_in_bytes", "memory.low"), "33554432");
        let host = t.inspect(name)["HostConfig"].clone();
        assert_eq!(host["Memory"], 96 << 20);
        assert_eq!(host["MemorySwap"], 192 << 20);
        assert_eq!(host["NanoCpus"], 500_000_000);
        assert_eq!(host["CpuShares"], 512);
        assert_eq!(host["PidsLimit"], 77);
    }
    // What is executed in it later has the limits too.
    assert_eq!(t.ok(["exec", &runs, "nproc"]), "1");
    t.ok(["restart", &runs]);
    assert_eq!(kernel(&t, &runs), ("100663296".into(), "50000".into()), "after a restart");
    t.ok(["update", "--pids-limit", "-1", &runs]);
    assert_eq!(value(&t, &runs, "pids", "pids.max", "pids.max"), "max");
}

#[test]
fn what_is_refused_changes_nothing() {
    let Some(t) = Test::start() else { return };
    let name = t.name("same");
    t.sleeper(&name, ["-m", "64m", "--cpus", "0.5"]);
    let before = (kernel(&t, &name), t.inspect(&name)["HostConfig"].clone());
    for (code, args, words) in [
        (1, &["-m", "1m"][..], &["Minimum memory limit"][..]),
        (1, &["-m", "200m"], &["already set memoryswap limit"]),
        (1, &["--cpus", "10000"], &["range of CPUs"]),
        (1, &["--cpu-quota", "50000"], &["NanoCPUs has already been set"]),
        (1, &["--cpuset-cpus", "9999"], &["cpuset cpus"]),
        (1, &["--blkio-weight", "5"], &["blkio weight"]),
        (125, &["--restart", "sometimes"], &["unknown policy 'sometimes'", "unless-stopped"]),
        (125, &["--restart", "always:3"], &["only be used with 'on-failure'"]),
        (125, &["--pids-limit", "100", "-m", "lots"], &["lots"]),
        (125, &[], &["one or more flags"]),
    ] {
        let mut all = vec!["update"];
        all.extend(args);
        all.push(&name);
        t.cmd(all).run().refused(code, words);
    }
    t.rbox(["update", "-m", "64m", "nobody"]).refused(1, &["no such container", "nobody"]);
    assert_eq!((kernel(&t, &name), t.inspect(&name)["HostConfig"].clone()), before);
    // The kernel's own refusal, of more processes than it can number, comes after it has taken the other limits.
    t.rbox([
        "update",
        "-m",
        "96m",
        "--memory-swap",
        "192m",
        "--cpus",
        "0.4",
        "--pids-limit",
        "5000000",
        &name,
    ])
    .refused(1, &["cannot update container", "pids-limit"]);
    assert_eq!((kernel(&t, &name), t.inspect(&name)["HostConfig"].clone()), before);
}

#[test]
fn a_rename_and_an_update_at_once_lose_nothing() {
    let Some(t) = Test::start() else { return };
    let name = t.name("a");
    // While it runs an update takes longer between reading what there is and writing it; and the more go on at once, the
    // likelier it is that two of them meet there.
    let id = t.sleeper(&name, []);
    for number in 101..=110_u64 {
        let (shares, pids) = (number.to_string(), number.to_string());
        let (cpus, policy) = (format!("0.{number}"), format!("on-failure:{number}"));
        let new = t.name(&format!("b{number}"));
        let at_once = [
            t.cmd(["update", "--cpu-shares", &shares, &id]).spawn(),
            t.cmd(["update", "--pids-limit", &pids, &id]).spawn(),
            t.cmd(["rename", &id, &new]).spawn(),
            t.cmd(["update", "--cpus", &cpus, &id]).spawn(),
            t.cmd(["update", "--restart", &policy, &id]).spawn(),
        ];
        for one in at_once {
            one.finish(std::time::Duration::from_secs(20)).ok();
        }
        let now = t.inspect(&id);
        let host = &now["HostConfig"];
        assert_eq!(
            (&now["Name"], &host["CpuShares"], &host["PidsLimit"], &host["NanoCpus"]),
            (&format!("/{new}").into(), &number.into(), &number.into(), &(number * 1_000_000).into())
        );
        assert_eq!(host["RestartPolicy"]["MaximumRetryCount"], number);
    }
}

/// Both find it by its id, as it is called before either is done.
#[test]
fn two_renames_to_one_name_at_once_leave_it_that_name() {
    let Some(t) = Test::start() else { return };
    let id = t.ok(["create", "--name", &t.name("first"), BUSYBOX, "true"]);
    for number in 0..rounds(10) {
        let new = t.name(&format!("second{number}"));
        let renames = [(); 3].map(|()| t.cmd(["rename", &id, &new]).spawn());
        let ends = renames.map(|one| one.finish(std::time::Duration::from_secs(20)));
        let mut done = 0;
        for end in ends {
            if end.code == 0 {
                done += 1;
            } else {
                end.refused(1, &["Renaming a container with the same name as its current name"]);
            }
        }
        assert_eq!(done, 1);
        assert_eq!(t.ok(["inspect", "-f", "{{.Id}}", &new]), id);
    }
}

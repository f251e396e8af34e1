//! What a command promised is there after a power cut, and what was cut off stands in nobody's way.

use std::path::Path;
use std::time::Duration;

use crate::crash::{Random, kill9};
use crate::harness::{BUSYBOX, Disk, OwnRoots, Test, poll, rounds};

/// How often the power is cut: `RBOX_TEST_CUTS`, else a few times.
fn cuts() -> usize {
    std::env::var("RBOX_TEST_CUTS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or_else(|| (rounds(100) / 8).max(3))
}

/// A host with a disk, and what it was promised.
struct Host<'a> {
    disk: &'a Disk,
    own: &'a OwnRoots,
}

impl Host<'_> {
    /// The power goes, all processes with it, and the host comes up again with an empty state directory.
    fn crash(&self) {
        self.disk.cut();
        let live = self.own.state.join("containers");
        for entry in std::fs::read_dir(&live).into_iter().flatten().flatten() {
            let text = std::fs::read(entry.path().join("state.json")).unwrap_or_default();
            let state: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
            for of in ["monitor", "pid"] {
                if let Some(pid) = state[of].as_i64().filter(|pid| *pid > 1) {
                    kill9(pid as i32);
                }
            }
            let id = entry.file_name().to_string_lossy().into_owned();
            assert!(poll(Duration::from_secs(20), || remove_groups(&id)), "the groups of {id}");
        }
        std::fs::remove_dir_all(&self.own.state).unwrap();
        self.disk.boot();
    }

    fn ok(&self, args: &[&str]) -> String {
        self.own.run(args).ok()
    }

    fn said(&self, of: &str, format: &str) -> String {
        self.ok(&["inspect", "-f", format, of])
    }

    /// Nothing that was cut off keeps a command from its work.
    fn works(&self, told: &str) {
        let lines: [&[&str]; 10] = [
            &["ps", "-a"],
            &["images"],
            &["volume", "ls"],
            &["network", "ls"],
            &["system", "df"],
            &["volume", "create", "probe"],
            &["create", "--name", "probe", "-v", "probe:/v", BUSYBOX, "true"],
            &["rm", "probe"],
            &["volume", "rm", "probe"],
            &["run", "--rm", "--network", "none", BUSYBOX, "true"],
        ];
        // A removal is no promise: the one of the last time may have come back.
        self.own.run(&["rm", "-f", "probe"]);
        for args in lines {
            let out = self.own.run(args);
            assert!(out.code == 0, "after {told}: {args:?}: {out:?}");
        }
    }
}

/// Removes a container's control groups: a machine that fell down has none.
fn remove_groups(id: &str) -> bool {
    fn walk(dir: &Path, id: &str, depth: usize) -> bool {
        let mut gone = true;
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_name().to_str() == Some(id) {
                gone &= std::fs::remove_dir(&path).is_ok();
            } else if depth < 5 && entry.file_type().is_ok_and(|t| t.is_dir()) {
                gone &= walk(&path, id, depth + 1);
            }
        }
        gone
    }
    walk(Path::new("/sys/fs/cgroup"), id, 0)
}

const SLEEP: [&str; 4] = [BUSYBOX, "sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.05; done"];

/// Does what is promised to last, cuts the power as soon as the command is back, and looks.
fn promise(host: &Host<'_>, kind: usize, n: usize) -> &'static str {
    let (name, volume) = (format!("c{n}"), format!("v{n}"));
    let run = |flags: &[&str]| {
        let mut args = vec!["run", "-d", "--network", "none", "--name", &name];
        args.extend(flags);
        args.extend(SLEEP);
        host.ok(&args)
    };
    let told = match kind {
        0 => {
            host.ok(&["volume", "create", "--label", "a=b", &volume]);
            host.crash();
            assert_eq!(host.ok(&["volume", "inspect", "-f", "{{.Labels.a}}", &volume]), "b");
            "volume create"
        }
        1 => {
            let id = host.ok(&["create", "--name", &name, "-v", "data:/data", "-e", "A=b", BUSYBOX, "true"]);
            host.crash();
            assert_eq!(
                host.said(&name, "{{.Id}} {{.State.Status}} {{len .Mounts}}"),
                format!("{id} created 1")
            );
            "create"
        }
        2 => {
            let id = run(&["--restart", "always"]);
            host.crash();
            let told = host.said(
                &name,
                "{{.Id}} {{.State.Status}} {{.State.ExitCode}} {{.HostConfig.RestartPolicy.Name}}",
            );
            assert_eq!(told, format!("{id} exited 255 always"));
            "run -d"
        }
        3 => {
            host.ok(&["create", "--name", &format!("{name}old"), BUSYBOX, "true"]);
            host.ok(&["rename", &format!("{name}old"), &name]);
            host.crash();
            assert_eq!(host.said(&name, "{{.Name}}"), format!("/{name}"));
            host.own.run(&["inspect", &format!("{name}old")]).code(1);
            "rename"
        }
        4 => {
            host.ok(&["create", "--name", &name, BUSYBOX, "true"]);
            host.ok(&["update", "--restart", "unless-stopped", &name]);
            host.crash();
            assert_eq!(host.said(&name, "{{.HostConfig.RestartPolicy.Name}}"), "unless-stopped");
            "update"
        }
        5 => {
            run(&["--restart", "unless-stopped"]);
            let listens = || host.ok(&["exec", &name, "grep", "SigCgt", "/proc/1/status"]).ends_with("4002");
            poll(Duration::from_secs(2), listens);
            host.ok(&["stop", "-t", "5", &name]);
            let before = host.said(&name, "{{.State.ExitCode}} {{.State.FinishedAt}}");
            host.crash();
            assert_eq!(host.said(&name, "{{.State.ExitCode}} {{.State.FinishedAt}}"), before);
            assert_eq!(host.ok(&["system", "boot"]), "", "it was stopped");
            "stop"
        }
        6 => {
            host.ok(&["network", "create", &name]);
            host.crash();
            assert_eq!(host.ok(&["network", "inspect", "-f", "{{.Name}}", &name]), name);
            host.ok(&["network", "rm", &name]);
            "network create"
        }
        _ => {
            host.ok(&["create", "--name", &name, BUSYBOX, "true"]);
            host.ok(&["start", &name]);
            host.crash();
            assert_eq!(host.said(&name, "{{.State.Status}}"), "exited");
            "start"
        }
    };
    host.own.run(&["rm", "-f", "-v", &name]);
    host.own.run(&["volume", "rm", &volume]);
    told
}

/// Cuts the power while a command is at work.
fn in_between(host: &Host<'_>, random: &mut Random, n: usize) -> String {
    let name = format!("c{n}");
    let lines: [&[&str]; 7] = [
        &["volume", "create", &name],
        &["create", "--name", &name, "-v", "/a", BUSYBOX, "true"],
        &["run", "-d", "--network", "none", "--name", &name, BUSYBOX, "sleep", "100"],
        &["run", "--rm", "--network", "none", "--name", &name, BUSYBOX, "true"],
        &["rename", "keep", "kept"],
        &["update", "--restart", "always", "keep"],
        &["network", "create", &name],
    ];
    let args = lines[random.below(lines.len() as u64) as usize];
    let running = host.own.cmd(args).spawn();
    std::thread::sleep(Duration::from_micros(random.below(25_000)));
    host.disk.cut();
    running.finish(Duration::from_secs(30));
    host.crash();
    // The one that is there all the time has its old state or its new one.
    let keep = host.own.run(&["rename", "kept", "keep"]);
    assert!(keep.code == 0 || host.own.run(&["inspect", "keep"]).code == 0, "after {args:?}: {keep:?}");
    let policy = host.said("keep", "{{.HostConfig.RestartPolicy.Name}}");
    assert!(["always", "no"].contains(&policy.as_str()), "{policy}");
    host.works(&args.join(" "));
    host.own.run(&["rm", "-f", "-v", &name]);
    host.own.run(&["volume", "rm", &name]);
    host.own.run(&["network", "rm", &name]);
    args.join(" ")
}

#[test]
fn promises_are_kept_and_the_rest_is_in_nobodys_way() {
    let Some(t) = Test::start() else { return };
    let Some(disk) = Disk::new(&t, "disk", 128, &[]) else { return };
    let mut own = OwnRoots::new(&t, "host", &t.suite.registry);
    own.root = disk.at.join("root");
    own.run(&["pull", "-q", BUSYBOX]).ok();
    own.run(&["create", "--name", "keep", BUSYBOX, "true"]).ok();
    let mut random = Random::new();
    let host = Host { disk: &disk, own: &own };
    let first = random.below(8) as usize;
    let mut counts = std::collections::BTreeMap::<String, u32>::new();
    for n in 0..cuts() {
        let told = if n % 3 == 2 {
            format!("during {}", in_between(&host, &mut random, n))
        } else {
            let told = promise(&host, (first + n - n / 3) % 8, n);
            host.works(told);
            format!("after {told}")
        };
        *counts.entry(told.split(" --").next().unwrap_or_default().to_owned()).or_default() += 1;
    }
    println!("the power was cut: {counts:#?}");
    drop(own);
}

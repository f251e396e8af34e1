//! A full disk: a clear line, nothing half-present, and the way out (rm, rmi, prune) still works.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::registry::PasswordRegistry;
use crate::harness::{BUSYBOX, Disk, OwnRoots, PYTHON, Test, wait_until};

/// A small file system, mounted for as long as it lives.
struct Small(PathBuf);

impl Small {
    fn mount(at: &Path, size: &str) -> Self {
        let ok = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "small"])
            .arg(at)
            .status()
            .unwrap()
            .success();
        assert!(ok, "mount a tmpfs of {size} on {}", at.display());
        Self(at.to_owned())
    }

    /// The same below the root of an rbox's own.
    fn roots(t: &Test, size: &str) -> (Self, OwnRoots) {
        let mut own = OwnRoots::new(t, "small", &t.suite.registry);
        own.root = t.dir("small-root");
        (Self::mount(&own.root, size), own)
    }

    fn resize(&self, size: &str) {
        assert!(
            Command::new("mount")
                .args(["-o", &format!("remount,size={size}")])
                .arg(&self.0)
                .status()
                .unwrap()
                .success()
        );
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// The state directory is memory, and small: nothing stands on it that a container can make large.
#[test]
fn no_container_fills_the_state_directory() {
    let Some(t) = Test::start() else { return };
    let mut own = OwnRoots::new(&t, "small", &t.suite.registry);
    own.run(&["pull", "-q", BUSYBOX]).ok();
    own.state = t.dir("small-state");
    let small = Small::mount(&own.state, "2m");
    let secret = own.dir.join("secret");
    std::fs::write(&secret, "word").unwrap();
    let secret = format!("id=word,src={}", secret.display());
    let fill = "for f in hosts hostname resolv.conf; do dd if=/dev/zero of=/etc/$f bs=64k count=128 2>&- && echo full $f; done
        for f in /dev/x /dev/shm/x /dev/mqueue/x /run/secrets/word /run/secrets/x /x; do dd if=/dev/zero of=$f bs=64k count=128 2>&-; done
        head -c 3000000 /dev/zero | tr '\\0' x; touch /done; sleep 1000";
    let flags = ["--network", "none", "--secret", &secret, "--health-interval", "50ms"];
    let check = ["--health-cmd", "head -c 3000000 /dev/zero | tr '\\0' x"];
    let mut args = vec!["run", "-d", "--name", "greedy"];
    args.extend(flags);
    args.extend(check);
    args.extend([BUSYBOX, "sh", "-c", fill]);
    own.run(&args).ok();
    wait_until("all is written", || own.run(&["exec", "greedy", "test", "-e", "/done"]).code == 0);
    wait_until("it is looked after", || {
        own.run(&["inspect", "-f", "{{.State.Health.Status}}", "greedy"]).ok() == "healthy"
    });
    let said = own.run(&["logs", "greedy"]).ok();
    assert!(
        said.starts_with("full hosts\nfull hostname\nfull resolv.conf\n"),
        "{}",
        &said[..100.min(said.len())]
    );
    let disk = rustix::fs::statvfs(&small.0).unwrap();
    let used = (disk.f_blocks - disk.f_bfree) * disk.f_frsize;
    assert!(used < 512 << 10, "{used} bytes of the state directory are in use");
    let out = own.run(&["run", "--rm", "--network", "none", BUSYBOX, "cat", "/etc/hostname"]).ok();
    assert_eq!(out.len(), 12);
    own.run(&["rm", "-f", "greedy"]).ok();
    own.run(&["rmi", BUSYBOX]).ok();
}

#[test]
fn during_a_pull() {
    let Some(t) = Test::start() else { return };
    let (small, own) = Small::roots(&t, "60m");
    own.run(&["pull", PYTHON]).refused(1, &["no space"]);
    assert_eq!(own.run(&["images", "-q"]).ok(), "");
    // A small image still fits beside what the failed pull left, or what it left was taken away.
    own.run(&["pull", "-q", BUSYBOX]).ok();
    small.resize("600m");
    own.run(&["pull", "-q", PYTHON]).ok();
    let out = own.run(&["run", "--rm", "--network", "none", PYTHON, "python3", "-c", "print('whole')"]);
    assert_eq!(out.ok(), "whole");
}

#[test]
fn a_stage_that_cannot_report_says_why() {
    let Some(t) = Test::start() else { return };
    let (small, own) = Small::roots(&t, "60m");
    own.run(&["pull", "-q", BUSYBOX]).ok();
    let context = t.dir("context");
    let big = "v".repeat(900_000);
    let stage = |name: &str| format!("FROM {BUSYBOX} AS {name}\nENV A={big} B={big}\n");
    let text = format!(
        "{}{}FROM scratch\nCOPY --from=one /bin /a\nCOPY --from=two /bin /b\n",
        stage("one"),
        stage("two")
    );
    std::fs::write(context.join("Dockerfile"), text).unwrap();
    let used = || {
        let stat = rustix::fs::statvfs(&own.root).unwrap();
        (stat.f_blocks - stat.f_bfree) * stat.f_frsize
    };
    small.resize(&format!("{}k", used() / 1024 + 400));
    own.run(&["build", "-q", context.to_str().unwrap()])
        .refused(1, &["could not report: ", "No space left on device"]);
    small.resize("600m");
    own.run(&["build", "-q", context.to_str().unwrap()]).ok();
}

#[test]
fn a_container_fills_it_and_can_be_removed() {
    let Some(t) = Test::start() else { return };
    let (_small, own) = Small::roots(&t, "24m");
    own.run(&["pull", "-q", BUSYBOX]).ok();
    let out = own.run(&[
        "run",
        "--name",
        "filler",
        "--network",
        "none",
        BUSYBOX,
        "sh",
        "-c",
        "cat /dev/zero > /big; echo code $?",
    ]);
    assert!(out.stdout.contains("code 1") && out.stderr.contains("No space left"), "{out:?}");
    // Zero bytes are free: a new container is refused in one line, the old one goes away, and then it works.
    let out = own.run(&["run", "--rm", "--network", "none", BUSYBOX, "true"]);
    assert!(out.code == 0 || (out.code == 125 && out.stderr.to_lowercase().contains("no space")), "{out:?}");
    own.run(&["ps", "-a"]).ok();
    own.run(&["rm", "filler"]).ok();
    assert_eq!(own.run(&["run", "--rm", "--network", "none", BUSYBOX, "echo", "room"]).ok(), "room");
}

#[test]
fn a_rename_that_finds_no_room_leaves_no_second_name() {
    let Some(t) = Test::start() else { return };
    let (_small, own) = Small::roots(&t, "24m");
    own.run(&["pull", "-q", BUSYBOX]).ok();
    own.run(&["create", "--name", "first", BUSYBOX, "true"]).ok();
    let _ = Command::new("dd").arg("if=/dev/zero").arg(format!("of={}/fill", own.root.display())).output();
    own.run(&["rename", "first", "second"]).refused(1, &["No space left"]);
    own.run(&["inspect", "second"]).code(1);
    own.run(&["inspect", "first"]).code(0);
    std::fs::remove_file(own.root.join("fill")).unwrap();
    own.run(&["rename", "first", "second"]).ok();
}

/// Nothing was ever removed there, so what removing needs was never made for that.
#[test]
fn all_can_be_removed_with_no_byte_or_no_inode_free() {
    let Some(t) = Test::start() else { return };
    for (what, inodes) in [("bytes", false), ("inodes", true)] {
        let Some(disk) = Disk::new(&t, what, 48, &["-N", "2048"]) else { return };
        let mut own = OwnRoots::new(&t, &format!("own-{what}"), &t.suite.registry);
        own.root = disk.at.join("root");
        own.run(&["pull", "-q", BUSYBOX]).ok();
        own.run(&["network", "create", "net"]).ok();
        own.run(&["volume", "create", "vol"]).ok();
        own.run(&["create", "--name", "off", "-v", "vol:/v", BUSYBOX, "true"]).ok();
        let sleep = "trap 'exit 7' TERM; while :; do sleep 0.05; done";
        for name in ["on", "on2", "on3"] {
            own.run(&["run", "-d", "--network", "none", "--name", name, BUSYBOX, "sh", "-c", sleep]).ok();
        }
        disk.fill(inodes);
        let ok = |args: &[&str]| {
            let out = own.run(args);
            assert!(out.code == 0, "no {what} free: {out:?}");
            out.stdout
        };
        own.run(&["create", "--name", "new", BUSYBOX, "true"]).refused(125, &["no space"]);
        own.run(&["run", "-d", "--name", "new", BUSYBOX, "true"]).refused(125, &["no space"]);
        own.run(&["volume", "create", "new"]).refused(1, &["no space"]);
        for args in [&["ps", "-a"][..], &["images"], &["volume", "ls"], &["network", "ls"], &["system", "df"]]
        {
            ok(args);
        }
        ok(&["exec", "on", "true"]);
        ok(&["stop", "-t", "5", "on"]);
        assert!(ok(&["ps", "-a"]).contains("Exited"), "no {what} free");
        ok(&["kill", "on2"]);
        ok(&["rm", "off"]);
        ok(&["rm", "-f", "on3"]);
        ok(&["container", "prune", "-f"]);
        assert_eq!(ok(&["ps", "-aq"]), "");
        ok(&["volume", "rm", "vol"]);
        ok(&["network", "rm", "net"]);
        ok(&["rmi", BUSYBOX]);
        ok(&["system", "prune", "-a", "-f", "--volumes"]);
        ok(&["system", "reset", "-f"]);
        assert!(!own.root.join("containers").exists(), "no {what} free");
        disk.free();
    }
}

/// What looks into images needs no room; what keeps something says that there is none, and leaves what was there.
#[test]
fn images_are_looked_into_and_shared_with_no_byte_or_no_inode_free() {
    let Some(t) = Test::start() else { return };
    let Some(registry) = PasswordRegistry::open(&t.dir("registry")) else { return };
    for (what, inodes) in [("bytes", false), ("inodes", true)] {
        let Some(disk) = Disk::new(&t, what, 48, &["-N", "2048"]) else { return };
        let mut own = OwnRoots::new(&t, &format!("own-{what}"), &t.suite.registry);
        (own.root, own.state) = (disk.at.join("root"), disk.at.join("state"));
        let docker = disk.at.join("docker");
        let cmd = |args: &[&str]| own.cmd(args).env("DOCKER_CONFIG", &docker).run();
        let named = |image: &str| format!("{}/{what}/{image}", registry.name);
        let (app, list, other) = (named("app:1"), named("list:1"), named("other:1"));
        for machine in ["amd64", "arm64"] {
            cmd(&["pull", "-q", "--platform", &format!("linux/{machine}"), "rbox/multi"]).ok();
        }
        cmd(&["pull", "-q", BUSYBOX]).ok();
        cmd(&["tag", BUSYBOX, &app]).ok();
        cmd(&["push", "-q", &app]).ok();
        cmd(&["manifest", "create", &list, &app]).ok();
        cmd(&["login", "-u", "me", "-p", "secret", &registry.name]).ok();
        cmd(&["image", "mount", BUSYBOX]).ok();
        let kept = |path: &str| std::fs::read(docker.join(path)).unwrap();
        let (config, shown) = (kept("config.json"), cmd(&["manifest", "inspect", &list]).ok());
        disk.fill(inodes);
        let ok = |args: &[&str]| {
            let out = cmd(args);
            assert!(out.code == 0, "no {what} free: {out:?}");
            out.stdout
        };
        let no = |args: &[&str]| {
            let out = cmd(args);
            let said = out.stderr.lines().count() < 4 && out.stderr.to_lowercase().contains("no space left");
            assert!(out.code == 1 && said, "no {what} free: {out:?}");
        };
        for args in [
            &["image", "tree", "rbox/multi"][..],
            &["images", "--tree"],
            &["image", "mount"],
            &["manifest", "inspect", &app],
            &["buildx", "imagetools", "inspect", &app],
            &["buildx", "imagetools", "create", "--dry-run", &app],
            &["buildx", "imagetools", "create", "-t", &named("copy:1"), &app],
            &["push", &app],
        ] {
            ok(args);
        }
        // The directories for these are on the same disk here.
        no(&["image", "mount", "rbox/multi"]);
        no(&["image", "diff", BUSYBOX, "rbox/multi"]);
        assert_eq!(ok(&["image", "mount"]).lines().count(), 1);
        no(&["login", "-u", "you", "-p", "new", &registry.name]);
        assert_eq!(kept("config.json"), config, "no {what} free");
        no(&["manifest", "create", &other, &app]);
        no(&["manifest", "annotate", "--variant", "v9", &list, &app]);
        assert_eq!(ok(&["manifest", "inspect", &list]).trim_end(), shown);
        let metadata = disk.at.join("metadata.json");
        let told = ["--metadata-file", metadata.to_str().unwrap(), &app];
        no(&[&["buildx", "imagetools", "create", "-t", &other], &told[..]].concat());
        cmd(&["buildx", "imagetools", "inspect", &other]).refused(1, &["not found"]);
        let archive = disk.at.join("archive.tar");
        no(&["save", "-o", archive.to_str().unwrap(), BUSYBOX]);
        assert!(!archive.exists() && !metadata.exists(), "no {what} free");
        ok(&["image", "unmount", BUSYBOX]);
        ok(&["manifest", "push", "--purge", &list]);
        ok(&["rmi", "--platform", "linux/arm64", "rbox/multi"]);
        ok(&["rmi", "rbox/multi"]);
        ok(&["logout", &registry.name]);
        disk.free();
        ok(&["manifest", "create", &other, &app]);
        ok(&["system", "reset", "-f"]);
    }
}

//! AppArmor: the default profile of containers, profiles of one's own, and none. On hosts whose kernel has it.

use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use crate::build::Builds;
use crate::harness::{BUSYBOX, PYTHON, Test, has, skipped};

const DEFAULT: &str = "rbox-default";
const CURRENT: &str = "cat /proc/self/attr/current";

/// A host with AppArmor: the kernel's view of it is mounted for as long as this is there, if nobody has mounted it.
struct AppArmor {
    t: Test,
    is_ours: bool,
}

impl AppArmor {
    fn start() -> Option<Self> {
        let t = Test::start()?;
        let is_on = fs::read_to_string("/sys/module/apparmor/parameters/enabled")
            .is_ok_and(|text| text.starts_with('Y'));
        if !is_on || !has("apparmor_parser") {
            skipped("needs a kernel with AppArmor, and apparmor_parser");
            return None;
        }
        let is_ours = !Path::new("/sys/kernel/security/apparmor").exists();
        if is_ours {
            let mount = ["-t", "securityfs", "securityfs", "/sys/kernel/security"];
            assert!(Command::new("mount").args(mount).status().unwrap().success());
        }
        Some(Self { t, is_ours })
    }
}

impl Drop for AppArmor {
    fn drop(&mut self) {
        if self.is_ours {
            let _ = Command::new("umount").args(["-l", "/sys/kernel/security"]).status();
        }
    }
}

impl std::ops::Deref for AppArmor {
    type Target = Test;
    fn deref(&self) -> &Test {
        &self.t
    }
}

/// `apparmor_parser`, with a profile to read.
fn parser(t: &Test, flag: &str, profile: &str) {
    let path = t.dir(&format!("profile{flag}")).join("text");
    fs::write(&path, profile).unwrap();
    let out = Command::new("apparmor_parser").args([flag, "-K"]).arg(&path).output().unwrap();
    assert!(out.status.success(), "{out:?}");
}

fn enforced(profile: &str) -> String {
    format!("{profile} (enforce)")
}

#[test]
fn containers_have_the_default_profile() {
    let Some(t) = AppArmor::start() else { return };
    let name = t.name("c");
    t.sleeper(&name, []);
    let of = |args: &[&str]| t.cmd(args).run().ok();
    assert_eq!(of(&["exec", &name, "sh", "-c", CURRENT]), enforced(DEFAULT));
    assert_eq!(of(&["exec", "-u", "1000", &name, "sh", "-c", CURRENT]), enforced(DEFAULT));
    // As with Docker its privileges are the container's, and the profile stays.
    assert_eq!(of(&["exec", "--privileged", &name, "sh", "-c", CURRENT]), enforced(DEFAULT));
    assert_eq!(of(&["exec", &name, "cat", "/proc/1/attr/current"]), enforced(DEFAULT));
    assert_eq!(
        of(&["inspect", "-f", "{{.AppArmorProfile}} {{.HostConfig.SecurityOpt}}", &name]),
        "rbox-default []"
    );
    for (flags, profile) in [
        (&[][..], enforced(DEFAULT)),
        (&["-u", "1000"], enforced(DEFAULT)),
        (&["--security-opt", "apparmor=rbox-default"], enforced(DEFAULT)),
        (&["--security-opt", "no-new-privileges"], enforced(DEFAULT)),
        (&["--uidmap", "0:100000:65536"], enforced(DEFAULT)),
        (&["--pid", "host"], enforced(DEFAULT)),
        (&["--init"], enforced(DEFAULT)),
        (&["--privileged"], "unconfined".into()),
        (&["--privileged", "--security-opt", "apparmor=rbox-default"], enforced(DEFAULT)),
        (&["--security-opt", "apparmor=unconfined"], "unconfined".into()),
        (&["--security-opt", "apparmor:unconfined"], "unconfined".into()),
    ] {
        let args = [&["run", "--rm"], flags, &[BUSYBOX, "sh", "-c", CURRENT]].concat();
        assert_eq!(t.cmd(&args).run().ok(), profile, "{flags:?}");
    }
    let options = t.ok(["info", "-f", "{{.SecurityOptions}}"]);
    assert!(options.starts_with("[name=apparmor name=seccomp"), "{options}");
    let unconfined = t.name("u");
    t.sleeper(&unconfined, ["--security-opt", "apparmor=unconfined"]);
    assert_eq!(
        of(&["inspect", "-f", "{{.AppArmorProfile}} {{.HostConfig.SecurityOpt}}", &unconfined]),
        "unconfined [apparmor=unconfined]"
    );
    assert!(of(&["inspect", "--create-command", &unconfined]).contains("--security-opt apparmor=unconfined"));
    assert_eq!(of(&["exec", &unconfined, "sh", "-c", CURRENT]), "unconfined");
}

#[test]
fn steps_of_a_build_have_it() {
    let Some(t) = AppArmor::start() else { return };
    let builds = Builds::new(&t);
    builds.built(&format!("FROM {BUSYBOX}\nRUN {CURRENT} > /profile"), &[]);
    assert_eq!(builds.sh("cat /profile"), enforced(DEFAULT));
}

/// A program of the host that is confined by nothing, until it is dropped.
struct OfHost(Child);

impl Drop for OfHost {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// With everything else taken away the profile stands alone: what it refuses is allowed without it.
#[test]
fn it_refuses_what_it_must() {
    let Some(t) = AppArmor::start() else { return };
    let victim = OfHost(Command::new("sleep").arg("1000").spawn().unwrap());
    let pid = victim.0.id();
    let seize = format!(
        "python3 -c 'import ctypes; libc = ctypes.CDLL(None); exit(1 if libc.ptrace(16, {pid}, 0, 0) else 0)'"
    );
    let (environ, signal) = (format!("head -c 1 /proc/{pid}/environ"), format!("kill -CONT {pid}"));
    let tries = [
        "mount -t tmpfs none /mnt",
        "mount --bind /etc /mnt",
        "cat /proc/sys/vm/swappiness > /proc/sys/vm/swappiness",
        "cat /proc/sys/kernel/core_pattern > /proc/sys/kernel/core_pattern",
        "cat /proc/sys/net/core/somaxconn > /proc/sys/net/core/somaxconn",
        "head -c 1 /proc/kcore",
        ": > /proc/sysrq-trigger",
        ": > /proc/irq/default_smp_affinity",
        ": > /sys/kernel/mm/ksm/run",
        "ls /sys/kernel/security/apparmor && cat /sys/kernel/security/apparmor/profiles",
        &environ,
        &signal,
        &seize,
    ];
    // What a program needs is not among it.
    let needs = [
        "cat /proc/1/status > /dev/null",
        "echo x > /tmp/x && mv /tmp/x /tmp/y && ln -s y /tmp/z && rm /tmp/y",
        "cat /proc/sys/kernel/shmmax > /proc/sys/kernel/shmmax",
        "sleep 100 & kill $!",
        "python3 -c 'import socket; socket.socket(socket.AF_UNIX); socket.socket()'",
        "echo 0 > /proc/self/oom_score_adj",
        "chown 1000:1000 /tmp && chmod 1777 /tmp",
    ];
    let script = |all: &[&str]| {
        let numbered = all.iter().enumerate();
        let lines = numbered.map(|(number, line)| format!("( {line} ) > /dev/null 2>&1 && echo {number}"));
        lines.collect::<Vec<_>>().join("\n")
    };
    let flags = [
        "run",
        "--rm",
        "--pid",
        "host",
        "--cap-add",
        "ALL",
        "--security-opt",
        "seccomp=unconfined",
        "--security-opt",
        "systempaths=unconfined",
        "-v",
        "/sys:/sys",
    ];
    let run = |more: &[&str], all: &[&str]| {
        let script = script(all);
        let out = t
            .cmd([&flags[..], more, &[PYTHON, "sh", "-c", &script]].concat())
            .limit(Duration::from_mins(3))
            .run();
        out.stdout.lines().map(|line| line.parse().unwrap()).collect::<Vec<usize>>()
    };
    let through =
        |done: &[usize], all: &[&str]| done.iter().map(|at| all[*at].to_owned()).collect::<Vec<_>>();
    let (confined, free) = (run(&[], &tries), run(&["--security-opt", "apparmor=unconfined"], &tries));
    assert_eq!(through(&confined, &tries), [] as [&str; 0]);
    // Each is possible otherwise, so that it is the profile that refuses it.
    assert_eq!(free, (0..tries.len()).collect::<Vec<_>>(), "{:?}", through(&free, &tries));
    assert_eq!(run(&[], &needs), (0..needs.len()).collect::<Vec<_>>());
}

#[test]
fn a_profile_of_ones_own() {
    let Some(t) = AppArmor::start() else { return };
    let profile = format!("rbox-test-{}", std::process::id());
    let text = format!(
        "profile {profile} flags=(attach_disconnected) {{\n  file,\n  network,\n  capability,\n  signal,\n  deny /etc/passwd r,\n}}\n"
    );
    let option = format!("apparmor={profile}");
    let name = t.name("c");
    // One that is not there is Docker's error, and nothing runs.
    let absent = t.rbox(["run", "--name", &name, "--security-opt", &option, BUSYBOX, "true"]);
    let words = [
        "unable to apply apparmor profile: apparmor failed to apply profile",
        "no such file or directory",
        &profile,
    ];
    absent.refused(127, &words);
    t.ok(["rm", &name]);
    parser(&t, "-r", &text);
    t.sleeper(&name, ["--security-opt", &option]);
    assert_eq!(t.ok(["exec", &name, "sh", "-c", CURRENT]), enforced(&profile));
    assert_eq!(t.ok(["inspect", "-f", "{{.AppArmorProfile}}", &name]), profile);
    let denied = t.rbox(["exec", &name, "cat", "/etc/passwd"]);
    assert!(denied.code != 0 && denied.stderr.contains("Permission denied"), "{denied:?}");
    t.ok(["exec", &name, "cat", "/etc/group"]);
    t.ok(["rm", "-f", &name]);
    parser(&t, "-R", &text);
    for wrong in ["apparmor=a\nb", &format!("apparmor={}", "x".repeat(2000))] {
        t.rbox(["create", "--security-opt", wrong, BUSYBOX])
            .refused(125, &["no AppArmor profile has such a name"]);
    }
}

/// Whoever unloads it, as upgrades of hosts do, has it loaded again with the next container.
#[test]
fn it_is_loaded_when_it_is_missing() {
    let Some(t) = AppArmor::start() else { return };
    let loaded =
        || fs::read_to_string("/sys/kernel/security/apparmor/profiles").unwrap().contains("rbox-default (");
    let own = || t.ok(["run", "--rm", BUSYBOX, "sh", "-c", CURRENT]);
    assert_eq!(own(), enforced(DEFAULT));
    assert!(loaded());
    parser(&t, "-R", "profile rbox-default { }\n");
    assert!(!loaded());
    assert_eq!(own(), enforced(DEFAULT));
}

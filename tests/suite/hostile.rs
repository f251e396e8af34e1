//! Images and containers that mean harm: rows of the catalogue of advisories that need a whole container to be seen.
//! The oracle is the host: a canary outside, the binary's bytes, `core_pattern` and the mount table stay as they were.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::harness::{BUSYBOX, PYTHON, Test, rounds, skipped, wait_until};

/// What must not change, and a secret that must not be read.
struct Canary {
    dir: PathBuf,
    core_pattern: String,
    mounts: usize,
    binary: Vec<u8>,
}

const SECRET: &str = "the host's secret";

impl Canary {
    fn plant(t: &Test) -> Self {
        let dir = t.dir("canary");
        fs::write(dir.join("secret"), SECRET).unwrap();
        Self {
            dir,
            core_pattern: core_pattern(),
            mounts: mounts(),
            binary: fs::read(crate::harness::binary()).unwrap(),
        }
    }

    fn check(&self) {
        assert_eq!(fs::read_to_string(self.dir.join("secret")).unwrap(), SECRET);
        assert_eq!(fs::read_dir(&self.dir).unwrap().count(), 1, "something was written beside the canary");
        assert_eq!(core_pattern(), self.core_pattern);
        wait_until("the mount table is as before", || mounts() <= self.mounts);
        assert!(fs::read(crate::harness::binary()).unwrap() == self.binary, "the binary was changed");
    }
}

fn core_pattern() -> String {
    fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap()
}

fn mounts() -> usize {
    fs::read_to_string("/proc/self/mounts").unwrap().lines().count()
}

/// An image made of busybox's tree, changed on the host by a shell script that runs in its root, and imported.
fn image(t: &Test, name: &str, script: &str, changes: &[&str]) -> String {
    let dir = t.dir(&format!("tree-{name}"));
    let tar = Command::new(crate::harness::binary())
        .args([
            "run",
            "--rm",
            "--network",
            "none",
            BUSYBOX,
            "tar",
            "c",
            "bin",
            "etc",
            "root",
            "tmp",
            "usr",
            "home",
        ])
        .env("RBOX_ROOT", &t.suite.root)
        .env("RBOX_STATE", &t.suite.state)
        .output()
        .unwrap();
    assert!(tar.status.success());
    let base = t.dir("base").join("base.tar");
    fs::write(&base, tar.stdout).unwrap();
    let line = format!("tar -xf {} && {script} && tar -cf {}.new .", base.display(), base.display());
    let out = Command::new("sh").args(["-c", &line]).current_dir(&dir).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let mut args = vec!["import"];
    for change in changes {
        args.extend(["--change", change]);
    }
    let (file, name) = (format!("{}.new", base.display()), format!("hostile/{name}:1"));
    args.extend([file.as_str(), name.as_str()]);
    t.cmd(args).run().ok();
    name
}

/// CVE-2025-31133, CVE-2025-52565: what the engine mounts over or opens is a link to somewhere else.
#[test]
fn dev_proc_and_sys_that_are_links() {
    let Some(t) = Test::start() else { return };
    let canary = Canary::plant(&t);
    let out = canary.dir.display();
    for (name, script) in [
        ("dev", format!("ln -s {out} dev")),
        ("proc", format!("ln -s {out} proc")),
        ("sys", format!("ln -s {out} sys")),
        ("null", "mkdir dev && ln -s /proc/sys/kernel/core_pattern dev/null".to_owned()),
        ("pts", format!("mkdir dev && ln -s {out} dev/pts")),
        ("console", "mkdir dev && ln -s /proc/sys/kernel/core_pattern dev/console".to_owned()),
        (
            "etc",
            format!(
                "rm -rf etc/hosts etc/hostname etc/resolv.conf && ln -s {out}/secret etc/hosts && ln -s {out}/new etc/hostname && ln -s ../../../..{out}/x etc/resolv.conf"
            ),
        ),
        ("etcdir", format!("mv etc etc2 && ln -s {out} etc")),
    ] {
        let image = image(&t, name, &script, &["CMD [\"/bin/sh\"]"]);
        // Either it runs with its own, or it is refused; the host is the same in both cases.
        let run = t.rbox(["run", "--rm", &image, "/bin/sh", "-c", "cat /proc/self/comm; cat /etc/hosts /etc/hostname; echo evil > /dev/null; echo evil > /etc/hosts; true"]);
        assert!(run.code == 0 || run.code == 125, "{name}: {run:?}");
        assert!(!run.stdout.contains(SECRET), "{name}: {run:?}");
        canary.check();
        t.ok(["rmi", "-f", &image]);
    }
}

/// CVE-2024-21626: a working directory that is a descriptor of the host.
#[test]
fn a_working_directory_in_proc() {
    let Some(t) = Test::start() else { return };
    let canary = Canary::plant(&t);
    let name = t.name("victim");
    t.sleeper(&name, []);
    for number in 3..20 {
        let dir = format!("/proc/self/fd/{number}");
        for out in [
            t.rbox([
                "run",
                "--rm",
                "-w",
                &dir,
                BUSYBOX,
                "sh",
                "-c",
                "cat ../../../../../../../../var/tmp/*/secret ../secret; ls -a",
            ]),
            t.rbox([
                "exec",
                "-w",
                &dir,
                &name,
                "sh",
                "-c",
                "cat ../../../../../../../../var/tmp/*/secret ../secret; ls -a",
            ]),
        ] {
            assert!(out.code != 0, "{dir} is taken as a working directory: {out:?}");
            assert!(!out.stdout.contains(SECRET), "{out:?}");
        }
    }
    // And through a link.
    let image = image(&t, "wd", "ln -s /proc/self/fd/7 leak", &["WORKDIR /leak", "CMD [\"/bin/ls\"]"]);
    let out = t.rbox(["run", "--rm", &image, "sh", "-c", "pwd; ls ../../../../.."]);
    assert!(!out.stdout.contains("sbin\nsrv"), "{out:?}");
    t.ok(["rmi", "-f", &image]);
    canary.check();
}

/// CVE-2024-9676, CVE-2026-47262: the files that USER is looked up in.
#[test]
fn passwd_that_is_no_plain_file() {
    let Some(t) = Test::start() else { return };
    let canary = Canary::plant(&t);
    fs::write(canary.dir.join("secret"), SECRET).unwrap();
    for (name, script) in [
        ("fifo", "rm etc/passwd && mkfifo etc/passwd".to_owned()),
        ("link", format!("ln -sf {}/secret etc/passwd", canary.dir.display())),
        ("dir", "rm etc/passwd && mkdir etc/passwd".to_owned()),
        ("none", "rm etc/passwd etc/group".to_owned()),
        ("device", "rm etc/passwd && mknod etc/passwd c 1 5".to_owned()),
    ] {
        let image = image(&t, name, &script, &["CMD [\"/bin/id\"]"]);
        let out = t
            .cmd(["run", "--rm", "-u", "someone", &image, "/bin/id"])
            .limit(std::time::Duration::from_secs(10))
            .run();
        assert_eq!(out.code, 125, "{name}: {out:?}");
        let out = t
            .cmd(["run", "--rm", "-u", "12:34", &image, "/bin/id"])
            .limit(std::time::Duration::from_secs(10))
            .run();
        assert!(out.stdout.starts_with("uid=12 gid=34") || out.code == 125, "{name}: {out:?}");
        assert!(!out.stderr.contains(SECRET));
        t.ok(["rmi", "-f", &image]);
    }
    // Made huge by the container itself; `exec` then reads it.
    let name = t.name("huge");
    t.sleeper(&name, []);
    t.ok([
        "exec",
        &name,
        "sh",
        "-c",
        "dd if=/dev/zero of=/etc/passwd bs=1 count=1 seek=4294967296 2>/dev/null",
    ]);
    let out = t.cmd(["exec", "-u", "someone", &name, "id"]).limit(std::time::Duration::from_secs(10)).run();
    assert!(out.code != 0, "{out:?}");
    canary.check();
}

/// CVE-2019-14271 and kin: nothing of a container's tree is run by the host.
#[test]
fn planted_programs_are_never_run_outside() {
    let Some(t) = Test::start() else { return };
    let marker = format!("/var/tmp/rbox-planted-{}", std::process::id());
    // Under the very names that the host would look for; busybox stays for the container's own use.
    let script = format!(
        "for p in ps xz tar gzip nsenter ip nft iptables mount id; do rm -f bin/$p usr/bin/$p sbin/$p; \
         printf '#!/bin/sh\\necho ran >> {marker}\\n' > bin/$p && chmod 755 bin/$p; done; \
         mkdir -p lib usr/lib && for l in libnss_files.so.2 libc.so.6 ld-linux-x86-64.so.2; do printf x > lib/$l; done"
    );
    let image = image(
        &t,
        "planted",
        &script,
        &[
            "CMD [\"/bin/sleep\", \"1000\"]",
            "ENV LD_PRELOAD=/lib/libnss_files.so.2",
            "ENV PATH=/bin",
            "LABEL io.rbox.privileged=true",
        ],
    );
    let name = t.name("c");
    t.ok(["run", "-d", "--name", &name, &image]);
    t.rbox(["top", &name]);
    t.rbox(["exec", &name, "id"]);
    t.rbox(["logs", &name]);
    t.rbox(["stop", "-t", "1", &name]);
    t.ok(["rm", "-f", &name]);
    assert!(!PathBuf::from(&marker).exists(), "a program of the container ran on the host");
    t.ok(["rmi", "-f", &image]);
}

/// CVE-2022-23648: volumes of the image's configuration that point outside. What is there is the image's own, or the image
/// is refused.
#[test]
fn volumes_that_point_outside() {
    let Some(t) = Test::start() else { return };
    let canary = Canary::plant(&t);
    let out = canary.dir.display().to_string();
    let up = format!("VOLUME /../../../../..{out}");
    let colon = format!("VOLUME {out}:/host");
    for (name, change) in
        [("up", up.as_str()), ("proc", "VOLUME /proc"), ("colon", &colon), ("root", "VOLUME /")]
    {
        let image = image(&t, &format!("volume-{name}"), "true", &[change, "CMD [\"/bin/sh\"]"]);
        let script = format!("cat /host/secret {out}/secret; echo evil > {out}/evil; echo ran");
        let run = t.rbox(["run", "--rm", &image, "sh", "-c", &script]);
        assert!(!run.stdout.contains(SECRET), "{change}: {run:?}");
        let ran = run.code == 0 && run.stdout == "ran\n";
        // Nothing may be mounted over /proc or /, and no path has a colon.
        let refused = run.code == 125 && run.stderr.starts_with("rbox: ");
        assert!(if name == "up" { ran } else { ran || refused }, "{change}: {run:?}");
        canary.check();
        t.ok(["rmi", "-f", &image]);
    }
}

/// What others start with while a container exchanges things for links: `{V}` is the volume that both have, `{D}` a directory
/// of the host, `{F}` a file, `{W}` another volume.
const MOVING: [&[&str]; 14] = [
    &["-v", "{V}:/v", "--tmpfs", "/v/a/x"],
    &["-v", "{V}:/v", "--tmpfs", "/v/a"],
    &["-v", "{V}:/v", "-v", "{D}:/v/a/x"],
    &["-v", "{V}:/v", "-v", "{D}:/v/a/x/y/z"],
    &["-v", "{V}:/v", "-v", "{F}:/v/a/file"],
    &["-v", "{V}:/v", "-v", "{F}:/v/null"],
    &["-v", "{V}:/v", "-v", "{W}:/v/a/x"],
    &["-v", "{V}:/v", "--mount", "type=tmpfs,dst=/v/../v/a/x"],
    &["-v", "{V}:/v", "-w", "/v/a/x"],
    &["-v", "{V}:/v", "-w", "/v/a"],
    // The devices of a container whose /dev is the volume.
    &["-v", "{V}:/dev"],
    &["-v", "{V}:/dev", "--tmpfs", "/dev/shm"],
    &["-v", "{V}:/dev", "-v", "{D}:/dev/shm/x"],
    &["-v", "{V}:/dev", "-u", "1000"],
];

/// A container that exchanges directories, a device and a link, over and over, while others start with a mount, a working
/// directory or devices below them.
#[test]
fn a_mount_target_that_moves() {
    let Some(t) = Test::start() else { return };
    let canary = Canary::plant(&t);
    let (volume, other, flipper) = (t.name("race"), t.name("other"), t.name("flipper"));
    let (given, file) = (t.dir("given"), t.dir("file").join("file"));
    fs::write(&file, "given").unwrap();
    let program = format!(
        "
import ctypes, os
libc = ctypes.CDLL(None)
pairs = []
for name, to in (('a', '{0}'), ('pts', '{0}'), ('shm', '{0}'), ('null', '/proc/sys/kernel/core_pattern'), ('console', '{0}/secret')):
    if name in ('null', 'console'): open(f'/v/{{name}}', 'w').close()
    else: os.makedirs(f'/v/{{name}}', exist_ok=True)
    os.symlink(to, f'/v/{{name}}-link')
    pairs.append((f'/v/{{name}}'.encode(), f'/v/{{name}}-link'.encode()))
while True:
    for one, two in pairs: libc.renameat2(-100, one, -100, two, 2)
",
        canary.dir.display()
    );
    t.ok(["run", "-d", "--name", &flipper, "-v", &format!("{volume}:/v"), PYTHON, "python3", "-c", &program]);
    let script = "touch /v/a/x/y 2>/dev/null; echo evil 2>/dev/null >/dev/null; echo evil 2>/dev/null >/dev/console; \
        cat /v/a/secret /v/b/secret secret ../secret /dev/shm/secret /dev/pts/secret 2>/dev/null; true";
    for flags in MOVING {
        let mut counts = (0, 0);
        for _ in 0..(rounds(80) / MOVING.len()).max(2) {
            let mut args: Vec<String> = ["run", "--rm", "--network", "none"].map(str::to_owned).to_vec();
            args.extend(flags.iter().map(|flag| {
                flag.replace("{V}", &volume)
                    .replace("{W}", &other)
                    .replace("{D}", &given.display().to_string())
                    .replace("{F}", &file.display().to_string())
            }));
            let run = t.cmd(args);
            let out = run.args(&[BUSYBOX, "sh", "-c", script]).run();
            assert!(!out.stdout.contains(SECRET), "{flags:?}: {out:?}");
            if out.code == 0 {
                counts.0 += 1;
            } else {
                counts.1 += 1;
            }
            canary.check();
        }
        println!("{flags:?}: {} started, {} refused", counts.0, counts.1);
    }
    for _ in 0..rounds(20) {
        let out = t.rbox(["exec", "-w", "/v/a", &flipper, "sh", "-c", "cat secret ../secret; ls"]);
        assert!(!out.stdout.contains(SECRET) && !out.stdout.lines().any(|name| name == "secret"), "{out:?}");
    }
    canary.check();
}

/// Signals, ptrace and /proc of those who join: PID 1 watches for them and touches nothing of theirs.
#[test]
fn those_who_join_cannot_be_traced() {
    let Some(t) = Test::start() else { return };
    let name = t.name("watch");
    let program = "
import os, time
seen = set()
while True:
    for p in os.listdir('/proc'):
        if p.isdigit() and int(p) > 1:
            try:
                exe = os.readlink(f'/proc/{p}/exe')
                root = os.readlink(f'/proc/{p}/root')
                fds = os.listdir(f'/proc/{p}/fd')
                for fd in fds:
                    try: seen.add(os.readlink(f'/proc/{p}/fd/{fd}'))
                    except OSError: pass
                if root != '/' : seen.add('root ' + root)
                seen.add('exe ' + exe)
            except OSError: pass
    with open('/seen.new', 'w') as f: f.write('\\n'.join(sorted(seen)))
    os.rename('/seen.new', '/seen')
";
    t.ok(["run", "-d", "--name", &name, PYTHON, "python3", "-c", program]);
    for _ in 0..rounds(60) {
        t.ok(["exec", &name, "true"]);
    }
    // It does look: a program that has been executed is the container's own, and seen.
    t.ok(["exec", &name, "sleep", "0.5"]);
    let seen = t.ok(["exec", &name, "cat", "/seen"]);
    assert!(seen.lines().any(|line| line.ends_with("/sleep")), "{seen}");
    for line in seen.lines() {
        let host = line.contains("rbox") || line.contains("/run/rbt") || line.starts_with("root ");
        assert!(!host, "PID 1 sees `{line}` of those who join:\n{seen}");
    }
}

/// The same by one that knows the number of the next process and asks for nothing but that: with the same user and no less
/// capabilities it may look into whatever is dumpable.
#[test]
fn those_who_join_are_not_dumpable() {
    let Some(t) = Test::start() else { return };
    let program = "
import os
pid, end, refused, here, turns, seen = 2, 22, 0, False, 0, set()
print('on', flush=True)
while pid < end:
    turns += 1
    try:
        seen.add(os.readlink(f'/proc/{pid}/exe'))
        pid, here = pid + 1, False
    except PermissionError:
        refused, here = refused + 1, True
    except OSError:
        if here: pid, here = pid + 1, False
        # One that came and went between two looks.
        elif turns % 100 == 0: pid = max(pid, int(open('/proc/sys/kernel/ns_last_pid').read()) + 1)
print('refused', refused, *sorted(seen), flush=True)
";
    let mut looked = 0;
    for user in ["0", "1000"] {
        let name = t.name(user);
        t.ok(["run", "-d", "--name", &name, "-u", user, PYTHON, "python3", "-c", program]);
        wait_until("it looks out", || t.ok(["logs", &name]) == "on");
        wait_until("it has looked at all", || {
            t.rbox(["exec", &name, "true"]);
            t.status(&name) == "exited"
        });
        let said = t.ok(["logs", &name]);
        let mut words = said.lines().last().unwrap_or_default().split(' ').skip(1);
        looked += words.next().and_then(|refused| refused.parse::<u32>().ok()).unwrap();
        assert!(words.all(|exe| exe.ends_with("/true")), "as user {user}: {said}");
    }
    if looked == 0 {
        skipped("it was never quick enough to see one before the program was executed");
    }
}

/// Nor is the monitor, whose memory they are made from: /proc shows it as root's, and not as its own group's.
#[test]
fn a_monitor_is_not_dumpable() {
    let Some(t) = Test::start() else { return };
    let name = t.name("c");
    let id = t.cmd(["run", "-d", "--name", &name, BUSYBOX, "sleep", "1000"]).group(12345).run().ok();
    let state = std::fs::read(t.suite.state.join("containers").join(id).join("state.json")).unwrap();
    let state: serde_json::Value = serde_json::from_slice(&state).unwrap();
    let of_monitor = format!("/proc/{}", state["monitor"]);
    let status = std::fs::read_to_string(format!("{of_monitor}/status")).unwrap();
    assert_eq!(crate::harness::fields(&status)["Gid"].split_whitespace().next(), Some("12345"));
    let meta = std::fs::metadata(format!("{of_monitor}/fd")).unwrap();
    assert_eq!(
        (std::os::unix::fs::MetadataExt::uid(&meta), std::os::unix::fs::MetadataExt::gid(&meta)),
        (0, 0)
    );
}

/// What a container can make grow stands on its own disk: the host's memory, where other containers have their state, stays as it is.
#[test]
fn a_large_hosts_file_is_no_memory_of_the_host() {
    let Some(t) = Test::start() else { return };
    let name = t.name("filler");
    t.sleeper(&name, []);
    for file in ["hosts", "hostname", "resolv.conf"] {
        t.ok(["exec", &name, "dd", "if=/dev/zero", &format!("of=/etc/{file}"), "bs=1M", "count=24"]);
    }
    // The state directory is in memory on most hosts.
    let du = Command::new("du").args(["-x", "-s", "-k"]).arg(&t.suite.state).output().unwrap();
    let used: u64 = String::from_utf8(du.stdout).unwrap().split('\t').next().unwrap().parse().unwrap();
    assert!(used < 8 << 10, "{used} KiB in {}", t.suite.state.display());
    // Others start, and whoever reads it does not read it whole.
    assert_eq!(t.ok(["run", "--rm", BUSYBOX, "echo", "fine"]), "fine");
    let network = t.name("n");
    t.ok(["network", "create", &network]);
    t.ok(["network", "connect", &network, &name]);
    t.ok(["rm", "-f", &name]);
    t.ok(["network", "rm", &network]);
    // What cannot be written cannot grow, and what the user mounts there is the user's.
    let out = t.rbox(["run", "--rm", "--read-only", BUSYBOX, "sh", "-c", "echo x >> /etc/hosts"]);
    assert!(out.code != 0 && out.stderr.contains("Read-only"), "{}", out.stderr);
    let volume = format!("{}:/etc", t.name("etc"));
    let script = "grep -q localhost /etc/hosts && ls /etc/passwd && hostname";
    assert!(t.ok(["run", "--rm", "-v", &volume, BUSYBOX, "sh", "-c", script]).starts_with("/etc/passwd"));
    t.ok(["volume", "rm", &t.name("etc")]);
}

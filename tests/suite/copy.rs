//! `export` and `cp`: files out of containers and into them.

use std::fs;
use std::path::Path;

use crate::harness::{BUSYBOX, OnTerminal, PYTHON, Test, rounds, wait_until};

/// The names in an archive.
fn names(tar: &Path) -> Vec<String> {
    let out = std::process::Command::new("tar").arg("-tf").arg(tar).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// One file's content in an archive.
fn content(tar: &Path, name: &str) -> String {
    let out = std::process::Command::new("tar").arg("-xOf").arg(tar).arg(name).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn a_container_is_exported_in_every_state() {
    let Some(t) = Test::start() else { return };
    let (name, volume) = (t.name("web"), t.name("data"));
    let dir = t.dir("export");
    let mount = format!("{volume}:/data");
    t.ok(["create", "--name", &name, "-v", &mount, BUSYBOX, "sleep", "1000"]);
    let export = |state: &str| {
        let file = dir.join(format!("{state}.tar"));
        t.ok(["export", "-o", file.to_str().unwrap(), &name]);
        file
    };
    let created = export("created");
    assert!(names(&created).iter().any(|name| name == "bin/busybox" || name == "bin/sh"));
    t.ok(["start", &name]);
    t.ok([
        "exec",
        &name,
        "sh",
        "-c",
        "echo new > /new; echo kept > /data/kept; rm /etc/passwd; mkdir /tmp/d; ln /new /tmp/d/link",
    ]);
    let running = export("running");
    t.ok(["pause", &name]);
    let paused = export("paused");
    t.ok(["unpause", &name]);
    t.ok(["stop", "-t", "0", &name]);
    let stopped = export("stopped");
    for file in [&running, &paused, &stopped] {
        let names = names(file);
        let has = |name: &str| names.iter().any(|found| found == name);
        assert_eq!(content(file, "new"), "new\n");
        assert!(has("tmp/d/") && has("tmp/d/link"), "{}", file.display());
        // The mount points, and nothing of what is mounted there.
        assert!(has("proc/") && has("dev/") && has("data/"), "{names:?}");
        for mounted in ["proc/", "dev/", "sys/", "data/"] {
            let inside = names.iter().find(|name| name.starts_with(mounted) && *name != mounted);
            assert!(inside.is_none(), "{}: {inside:?}", file.display());
        }
        assert!(!has("etc/passwd") && !names.iter().any(|name| name.contains(".wh.")), "{names:?}");
    }
    assert_eq!(fs::read(&running).unwrap(), fs::read(&paused).unwrap());
    assert_eq!(names(&running), names(&stopped));

    // What is exported is imported: an image of one layer.
    let image = format!("{}:flat", t.name("image").to_lowercase());
    t.ok(["import", stopped.to_str().unwrap(), &image]);
    assert_eq!(t.ok(["run", "--rm", &image, "cat", "/new"]), "new");
    t.ok(["rmi", &image]);
    t.ok(["start", &name]);
    assert_eq!(t.ok(["exec", &name, "cat", "/data/kept"]), "kept");
}

#[test]
fn export_refuses_what_docker_refuses() {
    let Some(t) = Test::start() else { return };
    let name = t.name("web");
    t.ok(["create", "--name", &name, BUSYBOX]);
    let mut terminal = OnTerminal::start(t.cmd(["export", &name]));
    terminal.expect("cowardly refusing to save to a terminal. Use the -o flag or redirect");
    assert_ne!(terminal.ended(), 0);
    let dir = t.dir("export");
    let absent = dir.join("absent/x.tar");
    t.rbox(["export", "-o", absent.to_str().unwrap(), &name])
        .refused(1, &["failed to export container: invalid output path: directory", "does not exist"]);
    t.rbox(["export", "no-such"]).refused(1, &["No such container: no-such"]);
    t.rbox(["container", "export", "-o", dir.to_str().unwrap(), &name]).refused(125, &["is a directory"]);
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
}

/// A container exchanges what it has for links to the host's files, and for what does something when it is opened, over and over.
#[test]
fn what_is_swapped_while_it_is_exported() {
    let Some(t) = Test::start() else { return };
    let (name, dir) = (t.name("swapper"), t.dir("host"));
    let secret = "only the host knows this";
    fs::write(dir.join("secret"), secret).unwrap();
    let program = format!(
        "
import ctypes, os
libc = ctypes.CDLL(None)
os.makedirs('/swap')
os.chdir('/swap')
pairs = []
host = '{}'
links = (host, host + '/secret', '/proc/self/root' + host, '/proc/1/root', '../..' + host)
for n, to in enumerate(links * 2):
    one, other = f'a{{n}}', f'b{{n}}'
    if n < len(links):
        os.mkdir(one)
        open(one + '/secret', 'w').write('inside')
    else:
        open(one, 'w').write('inside' * 1000)
    os.symlink(to, other)
    pairs.append((one.encode(), other.encode()))
for n in range(2):
    open(f'f{{n}}', 'w').write('inside')
    os.mkfifo(f'g{{n}}')
    pairs.append((f'f{{n}}'.encode(), f'g{{n}}'.encode()))
print('ready', flush=True)
while True:
    for one, other in pairs: libc.renameat2(-100, one, -100, other, 2)
",
        dir.display()
    );
    t.ok(["run", "-d", "--name", &name, PYTHON, "python3", "-c", &program]);
    wait_until("it swaps", || t.ok(["logs", &name]).contains("ready"));
    let file = t.dir("out").join("swapped.tar");
    for round in 0..rounds(8) {
        t.ok(["export", "-o", file.to_str().unwrap(), &name]);
        let names = names(&file);
        let swapped = names.iter().filter(|name| name.starts_with("swap/")).count();
        assert!(swapped >= 10, "{round}: {swapped} of what is swapped");
        let tar = fs::read(&file).unwrap();
        let found = tar.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!found, "{round}: the host's file is in the archive");
    }
}

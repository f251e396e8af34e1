//! `cp`: files between containers and the host. That targets are Docker's was compared with Docker 28.5 in 1,976 cases; some stand here.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::{BUSYBOX, OnTerminal, PYTHON, Test, rounds, wait_until};

/// A directory with one thing of each kind that a source or a target may be.
fn world(at: &Path) {
    fs::create_dir_all(at.join("dir/sub")).unwrap();
    for (name, text) in [("file", "file"), ("dir/a", "a"), ("dir/b", "b")] {
        fs::write(at.join(name), text).unwrap();
    }
    for (name, to) in [("link", "file"), ("linkdir", "dir"), ("broken", "nothing"), ("dir/la", "a")] {
        symlink(to, at.join(name)).unwrap();
    }
    fs::hard_link(at.join("dir/b"), at.join("dir/hb")).unwrap();
}

/// What is below a directory: kind and content by name.
fn tree(at: &Path) -> BTreeMap<String, String> {
    fn walk(top: &Path, at: &Path, into: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(at).unwrap().map(Result::unwrap) {
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            let name = path.strip_prefix(top).unwrap().to_string_lossy().into_owned();
            if kind.is_symlink() {
                into.insert(name, format!("-> {}", fs::read_link(&path).unwrap().display()));
            } else if kind.is_dir() {
                into.insert(name, "dir".into());
                walk(top, &path, into);
            } else {
                into.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut all = BTreeMap::new();
    walk(at, at, &mut all);
    all
}

/// Something of a container that was copied out.
fn taken(t: &Test, from: &str) -> PathBuf {
    let at = t.dir("taken");
    t.ok(["cp", from, at.to_str().unwrap()]);
    at
}

fn unpacked(t: &Test, tar: &Path) -> PathBuf {
    let at = t.dir("unpacked");
    t.program("tar", ["-xf", tar.to_str().unwrap(), "-C", at.to_str().unwrap()]).run().ok();
    at
}

#[test]
fn both_ways_in_every_state() {
    let Some(t) = Test::start() else { return };
    let (name, dir) = (t.name("web"), t.dir("host"));
    world(&dir.join("w"));
    let host = |below: &str| dir.join(below).to_str().unwrap().to_owned();
    t.ok(["create", "--name", &name, BUSYBOX, "sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"]);
    let check = |state: &str| {
        t.ok(["cp", &host("w"), &format!("{name}:/{state}")]);
        let back = taken(&t, &format!("{name}:/{state}/."));
        assert_eq!(tree(&back), tree(&dir.join("w")), "{state}");
        let of = |at: &Path, name: &str| {
            let meta = fs::metadata(at.join(name)).unwrap();
            (meta.mode(), meta.mtime(), meta.nlink())
        };
        for name in ["file", "dir", "dir/b"] {
            assert_eq!(of(&back, name), of(&dir.join("w"), name), "{state}: {name}");
        }
    };
    check("created");
    t.ok(["start", &name]);
    check("running");
    assert_eq!(t.ok(["exec", &name, "cat", "/created/dir/a"]), "a");
    t.ok(["pause", &name]);
    check("paused");
    t.ok(["unpause", &name]);
    t.ok(["stop", &name]);
    check("stopped");
    t.ok(["start", &name]);
    for state in ["created", "running", "paused", "stopped"] {
        assert_eq!(t.ok(["exec", &name, "cat", &format!("/{state}/link")]), "file");
    }
    t.ok(["rm", "-f", &name]);
    t.rbox(["cp", &format!("{name}:/etc"), &host("x")]).refused(1, &["No such container"]);
}

/// Source, target, and what is new there, or the refusal. A source with `-L ` before it is followed.
type New = Result<&'static [(&'static str, &'static str)], &'static str>;
const TARGETS: &[(&str, &str, New)] = &[
    ("file", "", Ok(&[("file", "file")])),
    ("file", "new", Ok(&[("new", "file")])),
    ("file", "new/", Err("no such directory")),
    ("file", "no/new", Err("no")),
    ("file", "t", Ok(&[("t/file", "file")])),
    ("file", "old", Ok(&[("old", "file")])),
    ("file", "old/", Err("not a directory")),
    ("file", "tolink", Ok(&[("old", "file")])),
    ("file", "tobroken", Ok(&[("nowhere", "file")])),
    ("file", "todir", Ok(&[("t/file", "file")])),
    ("file", "full", Err("cannot overwrite directory")),
    ("file/", "", Err("not a directory")),
    ("nope", "", Err("nope")),
    (
        "dir",
        "",
        Ok(&[
            ("dir", "dir"),
            ("dir/a", "a"),
            ("dir/b", "b"),
            ("dir/hb", "b"),
            ("dir/la", "-> a"),
            ("dir/sub", "dir"),
        ]),
    ),
    (
        "dir/",
        "new",
        Ok(&[
            ("new", "dir"),
            ("new/a", "a"),
            ("new/b", "b"),
            ("new/hb", "b"),
            ("new/la", "-> a"),
            ("new/sub", "dir"),
        ]),
    ),
    (
        "dir/.",
        "new/",
        Ok(&[
            ("new", "dir"),
            ("new/a", "a"),
            ("new/b", "b"),
            ("new/hb", "b"),
            ("new/la", "-> a"),
            ("new/sub", "dir"),
        ]),
    ),
    ("dir/.", "t", Ok(&[("t/a", "a"), ("t/b", "b"), ("t/hb", "b"), ("t/la", "-> a"), ("t/sub", "dir")])),
    ("dir/.", "new/.", Err("new")),
    ("dir", "old", Err("cannot copy directory")),
    ("dir", "full", Err("cannot overwrite non-directory")),
    ("link", "new", Ok(&[("new", "-> file")])),
    ("-L link", "new", Ok(&[("new", "file")])),
    ("-L link", "t", Ok(&[("t/link", "file")])),
    ("-L broken", "new", Err("broken")),
    ("broken", "new", Ok(&[("new", "-> nothing")])),
    ("linkdir", "new", Ok(&[("new", "-> dir")])),
    ("-L dir/la", "t/", Ok(&[("t/la", "a")])),
];

fn target(at: &Path) {
    fs::create_dir_all(at.join("t")).unwrap();
    fs::write(at.join("old"), "old").unwrap();
    for (name, to) in [("todir", "t"), ("tolink", "old"), ("tobroken", "nowhere")] {
        symlink(to, at.join(name)).unwrap();
    }
    fs::create_dir_all(at.join("full/file")).unwrap();
    fs::write(at.join("full/dir"), "in the way").unwrap();
}

#[test]
fn targets_are_dockers() {
    let Some(t) = Test::start() else { return };
    let (name, dir) = (t.name("web"), t.dir("host"));
    world(&dir.join("w"));
    for n in 0..TARGETS.len() {
        target(&dir.join(format!("from/{n}")));
        target(&dir.join(format!("to/{n}")));
    }
    t.ok(["create", "--name", &name, BUSYBOX]);
    for what in ["w", "to"] {
        t.ok(["cp", dir.join(what).to_str().unwrap(), &format!("{name}:/")]);
    }
    let before = tree(&dir.join("from/0"));
    let host = |what: &str| format!("{}/{what}", dir.display());
    for (n, (source, to, wanted)) in TARGETS.iter().enumerate() {
        let (flag, source) = source.strip_prefix("-L ").map_or(("-q", *source), |source| ("-L", source));
        let outs = [
            t.rbox(["cp", flag, &format!("{name}:w/{source}"), &host(&format!("from/{n}/{to}"))]),
            t.rbox(["cp", flag, &host(&format!("w/{source}")), &format!("{name}:/to/{n}/{to}")]),
        ];
        for out in outs {
            match wanted {
                Ok(_) => drop(out.ok()),
                Err(why) => out.refused(1, &[why]),
            }
        }
    }
    let inside = taken(&t, &format!("{name}:/to/."));
    for (n, (source, to, wanted)) in TARGETS.iter().enumerate() {
        let mut expected = before.clone();
        expected.extend(wanted.unwrap_or_default().iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        assert_eq!(tree(&dir.join(format!("from/{n}"))), expected, "from: {source} to {to}");
        assert_eq!(tree(&inside.join(n.to_string())), expected, "to: {source} to {to}");
    }
}

#[test]
fn archives_on_either_end() {
    let Some(t) = Test::start() else { return };
    let (name, dir) = (t.name("web"), t.dir("host"));
    world(&dir.join("w"));
    t.ok(["create", "--name", &name, BUSYBOX]);
    let host = |below: &str| dir.join(below).to_str().unwrap().to_owned();
    for (n, way) in ["", "z", "j", "J"].iter().enumerate() {
        let file = host(&format!("w.tar{way}"));
        t.program("tar", [&format!("-c{way}f"), &file, "-C", &host("w"), "."]).run().ok();
        let into = format!("{name}:/tmp/{n}");
        t.ok(["cp", &host("w/dir/sub"), &into]);
        t.cmd(["cp", "-", &into]).input(fs::read(&file).unwrap()).run().ok();
        assert_eq!(tree(&taken(&t, &format!("{into}/."))), tree(&dir.join("w")), "tar {way}");
    }
    let out = |what: &[&str]| {
        let script = format!("exec \"$0\" \"$@\" > {}", host("out.tar"));
        let mut args =
            vec!["-c".to_owned(), script, crate::harness::binary().display().to_string(), "cp".into()];
        args.extend(what.iter().map(|word| (*word).to_owned()));
        t.suite.with_roots(crate::harness::Cmd::new("sh", args)).run().ok();
        tree(&unpacked(&t, Path::new(&host("out.tar"))))
    };
    t.ok(["cp", &host("w"), &format!("{name}:/w")]);
    let names = |tree: BTreeMap<String, String>| tree.into_keys().collect::<Vec<_>>();
    let below = ["dir", "dir/a", "dir/b", "dir/hb", "dir/la", "dir/sub"];
    assert_eq!(names(out(&[&format!("{name}:/w/dir"), "-"])), below);
    assert_eq!(names(out(&[&format!("{name}:/w/dir/."), "-"])), ["a", "b", "hb", "la", "sub"]);
    assert_eq!(names(out(&[&format!("{name}:w/link"), "-"])), ["link"]);
    // With -L the archive has the name of what the link leads to, as with Docker.
    assert_eq!(names(out(&["-L", &format!("{name}:w/link"), "-"])), ["file"]);

    t.cmd(["cp", "-", &format!("{name}:/w/file")])
        .input("")
        .run()
        .refused(1, &["/w/file\" must be a directory"]);
    t.cmd(["cp", "-", &format!("{name}:/no")]).input("").run().refused(1, &["must be a directory"]);
    t.cmd(["cp", "-", &format!("{name}:/w")])
        .input("no archive")
        .run()
        .refused(1, &["the archive ends at byte"]);
    let half = fs::read(host("w.tarz")).unwrap();
    t.cmd(["cp", "-", &format!("{name}:/w")]).input(&half[..half.len() / 2]).run().refused(1, &["archive"]);
    for (args, what) in [
        (["cp", "-", &format!("{name}:/w")], "read an archive from"),
        (["cp", &format!("{name}:/w"), "-"], "write an archive to"),
    ] {
        let mut terminal = OnTerminal::start(t.cmd(args));
        terminal.expect(&format!("cowardly refusing to {what} a terminal"));
        assert_eq!(terminal.ended(), 125);
    }
}

#[test]
fn what_is_mounted_is_seen() {
    let Some(t) = Test::start() else { return };
    let (name, volume, dir) = (t.name("web"), t.name("data"), t.dir("host"));
    for below in ["bind/sub", "ro"] {
        fs::create_dir_all(dir.join(below)).unwrap();
        fs::write(dir.join(below).join("f"), below).unwrap();
    }
    let host = |below: &str| dir.join(below).to_str().unwrap().to_owned();
    fs::write(host("file"), "copied").unwrap();
    let at = |path: &str| format!("{name}:{path}");
    let mounts =
        [format!("{volume}:/data"), format!("{}:/bind", host("bind")), format!("{}:/ro:ro", host("ro"))];
    let [one, two, three] = &mounts;
    t.ok([
        "create",
        "--name",
        &name,
        "-v",
        one,
        "-v",
        two,
        "-v",
        three,
        "--tmpfs",
        "/mem",
        "--read-only",
        PYTHON,
        "sleep",
        "1000",
    ]);
    let check = |state: &str| {
        t.ok(["cp", &host("file"), &at(&format!("/data/{state}"))]);
        t.ok(["cp", &host("file"), &at(&format!("/bind/sub/{state}"))]);
        assert_eq!(fs::read_to_string(host(&format!("bind/sub/{state}"))).unwrap(), "copied");
        assert_eq!(
            fs::read_to_string(taken(&t, &at(&format!("/data/{state}"))).join(state)).unwrap(),
            "copied"
        );
        assert_eq!(fs::read_to_string(taken(&t, &at("/ro/f")).join("f")).unwrap(), "ro");
        t.rbox(["cp", &host("file"), &at("/ro/new")]).refused(1, &["mounted volume is marked read-only"]);
        t.rbox(["cp", &host("file"), &at("/tmp/new")]).refused(1, &["container rootfs is marked read-only"]);
        assert!(!Path::new(&host("ro/new")).exists());
    };
    check("created");
    t.ok(["start", &name]);
    check("running");
    assert_eq!(t.ok(["exec", &name, "cat", "/data/created", "/bind/sub/running"]), "copiedcopied");
    t.ok(["cp", &host("file"), &at("/mem/f")]);
    assert_eq!(t.ok(["exec", &name, "cat", "/mem/f"]), "copied");
    // Nothing of the kernel's and the engine's own, and what is mounted on stays mounted.
    t.rbox(["cp", &at("/proc/self/status"), &host("x")])
        .refused(1, &["Could not find the file /proc/self/status"]);
    t.ok(["stop", "-t", "0", &name]);
    check("stopped");
    t.ok(["rm", &name]);
    t.ok(["volume", "rm", &volume]);

    let plain = t.name("plain");
    t.sleeper(&plain, []);
    let hosts = t.ok(["exec", &plain, "cat", "/etc/hosts"]);
    t.rbox(["cp", &host("file"), &format!("{plain}:/etc/hosts")]).refused(1, &["/etc/hosts", "busy"]);
    assert_eq!(t.ok(["exec", &plain, "cat", "/etc/hosts"]), hosts);
    assert_eq!(
        fs::read_to_string(taken(&t, &format!("{plain}:/etc/hosts")).join("hosts")).unwrap().trim_end(),
        hosts
    );
    t.ok(["exec", &plain, "sh", "-c", "mkfifo /pipe; mkdir /odd; ln /pipe /odd/pipe"]);
    let all = taken(&t, &format!("{plain}:/"));
    for empty in ["proc", "sys", "dev"] {
        assert_eq!(fs::read_dir(all.join(empty)).unwrap().count(), 0, "{empty}");
    }
    assert!(all.join("bin/busybox").exists() || all.join("bin/sh").exists());
    assert_eq!(
        t.ok(["diff", &plain]).lines().filter(|line| !line.contains("pipe") && *line != "A /odd").count(),
        0
    );
}

#[test]
fn owners_are_as_with_docker() {
    let Some(t) = Test::start() else { return };
    let (name, dir) = (t.name("web"), t.dir("host"));
    let file = dir.join("f").to_str().unwrap().to_owned();
    fs::write(&file, "x").unwrap();
    std::os::unix::fs::chown(&file, Some(1234), Some(2345)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o4750)).unwrap();
    t.ok(["run", "-d", "--name", &name, "-u", "daemon", PYTHON, "sleep", "1000"]);
    let owner = |path: &str| t.ok(["exec", "-u", "0", &name, "stat", "-c", "%u:%g %a", path]);
    t.ok(["cp", &file, &format!("{name}:/plain")]);
    assert_eq!(owner("/plain"), "1234:2345 4750");
    t.ok(["cp", "-a", &file, &format!("{name}:/archive")]);
    let daemon = t.ok(["exec", &name, "sh", "-c", "echo $(id -u):$(id -g)"]);
    assert_eq!(owner("/archive"), format!("{daemon} 4750"));
    let back = taken(&t, &format!("{name}:/plain")).join("plain");
    let meta = fs::metadata(&back).unwrap();
    assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (0, 0, 0o4750));
}

#[test]
fn odd_files_go_both_ways() {
    let Some(t) = Test::start() else { return };
    let (name, dir) = (t.name("web"), t.dir("host"));
    let source = dir.join("w");
    fs::create_dir(&source).unwrap();
    let big = fs::File::create(source.join("big")).unwrap();
    big.set_len(5 << 30).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&big, b"end", (5 << 30) - 3).unwrap();
    fs::write(source.join(OsStr::from_bytes(b"\xff\xfe:x")), "bytes").unwrap();
    fs::write(source.join("a:b"), "colon").unwrap();
    fs::write(source.join("n".repeat(255)), "long").unwrap();
    let attribute =
        t.program("setfattr", ["-n", "user.note", "-v", "kept", source.join("a:b").to_str().unwrap()]);
    let has_attributes = crate::harness::has("setfattr") && attribute.run().code == 0;
    t.ok(["create", "--name", &name, BUSYBOX, "sleep", "1000"]);
    t.ok(["cp", source.to_str().unwrap(), &format!("{name}:/w")]);
    let back = taken(&t, &format!("{name}:/w")).join("w");
    let meta = fs::metadata(back.join("big")).unwrap();
    assert_eq!(meta.len(), 5 << 30);
    assert!(meta.blocks() * 512 < 100 << 20, "{} blocks of a sparse file", meta.blocks());
    let mut end = [0; 3];
    std::os::unix::fs::FileExt::read_exact_at(
        &fs::File::open(back.join("big")).unwrap(),
        &mut end,
        (5 << 30) - 3,
    )
    .unwrap();
    assert_eq!(&end, b"end");
    assert_eq!(fs::read(back.join(OsStr::from_bytes(b"\xff\xfe:x"))).unwrap(), b"bytes");
    assert_eq!(fs::read_to_string(back.join("n".repeat(255))).unwrap(), "long");
    if has_attributes {
        let shown = t
            .program("getfattr", ["-n", "user.note", "--only-values", back.join("a:b").to_str().unwrap()])
            .run()
            .ok();
        assert_eq!(shown, "kept");
    }
    // Names with a colon, and names that are no text, on the command line.
    let colon = format!("{name}:/w/a:b");
    assert_eq!(fs::read_to_string(taken(&t, &colon).join("a:b")).unwrap(), "colon");
    let script = format!("cd {} && exec \"$0\" cp \"$@\"", source.display());
    let from_there = |args: [&OsStr; 2]| {
        let binary = crate::harness::binary();
        let all = [OsStr::new("-c"), OsStr::new(&script), binary.as_os_str(), args[0], args[1]];
        t.suite.with_roots(crate::harness::Cmd::new("sh", all)).run()
    };
    from_there(["./a:b".as_ref(), format!("{name}:/tmp/").as_ref()]).ok();
    from_there(["a:b".as_ref(), format!("{name}:/tmp/").as_ref()])
        .refused(125, &["copying between containers is not supported"]);
    from_there([OsStr::from_bytes(b"./\xff\xfe:x"), format!("{name}:/tmp/bytes").as_ref()]).ok();
    assert_eq!(fs::read_to_string(taken(&t, &format!("{name}:/tmp/bytes")).join("bytes")).unwrap(), "bytes");

    // Devices are no way to the host's hardware, sockets and FIFOs are not opened, and many files are many files.
    let python = t.name("python");
    let program = "
import os, socket
os.makedirs('/odd'); os.mkfifo('/odd/fifo')
s = socket.socket(socket.AF_UNIX); s.bind('/odd/socket')
for n in range(20000): open(f'/odd/{n}', 'w').close()
print('ready', flush=True)
import time; time.sleep(1000)
";
    t.ok(["run", "-d", "--name", &python, PYTHON, "python3", "-c", program]);
    wait_until("all are there", || t.ok(["logs", &python]).contains("ready"));
    let odd = taken(&t, &format!("{python}:/odd")).join("odd");
    assert_eq!(fs::read_dir(&odd).unwrap().count(), 20_001);
    assert!(!odd.join("socket").exists());
    t.ok(["cp", odd.to_str().unwrap(), &format!("{python}:/again")]);
    assert_eq!(t.ok(["exec", &python, "sh", "-c", "ls /again | wc -l"]), "20001");
}

#[test]
fn a_full_disk_is_one_line() {
    let Some(t) = Test::start() else { return };
    let (name, dir) = (t.name("web"), t.dir("host"));
    let (small, file) = (dir.join("small"), dir.join("file").to_str().unwrap().to_owned());
    fs::create_dir(&small).unwrap();
    fs::write(&file, vec![1; 8 << 20]).unwrap();
    let small_path = small.to_str().unwrap();
    t.program("mount", ["-t", "tmpfs", "-o", "size=2m", "small", small_path]).run().ok();
    t.ok(["run", "-d", "--name", &name, "--tmpfs", "/mem:size=2m", BUSYBOX, "sleep", "1000"]);
    t.ok(["cp", &file, &format!("{name}:/f")]);
    let outs =
        [t.rbox(["cp", &file, &format!("{name}:/mem/f")]), t.rbox(["cp", &format!("{name}:/f"), small_path])];
    t.program("umount", [small_path]).run().ok();
    for out in outs {
        out.refused(1, &["no space left on device"]);
    }
}

#[test]
fn a_kill_leaves_nothing() {
    let Some(t) = Test::start() else { return };
    let (name, dir) = (t.name("web"), t.dir("host"));
    let volume = format!("{}:/data", t.name("data"));
    let source = dir.join("w");
    fs::create_dir(&source).unwrap();
    for n in 0..300 {
        fs::write(source.join(n.to_string()), vec![1; 20_000]).unwrap();
    }
    t.ok(["create", "--name", &name, "-v", &volume, BUSYBOX, "sleep", "1000"]);
    // Those of tests before may go meanwhile.
    let mounts = || -> BTreeSet<String> {
        fs::read_to_string("/proc/self/mountinfo").unwrap().lines().map(str::to_owned).collect()
    };
    let before = mounts();
    let begin = Instant::now();
    t.ok(["cp", source.to_str().unwrap(), &format!("{name}:/data/0")]);
    let whole = begin.elapsed();
    for round in 0..rounds(24) {
        let out = format!("{name}:/data/0");
        let back = dir.join(format!("back{round}"));
        let into = format!("{name}:/data/{round}");
        let args = if round % 2 == 0 {
            ["cp", source.to_str().unwrap(), &into]
        } else {
            ["cp", &out, back.to_str().unwrap()]
        };
        let command = t.cmd(args).spawn();
        std::thread::sleep(whole.mul_f64((round % 12) as f64 / 10.0));
        command.signal("KILL");
        command.finish(Duration::from_secs(20));
        let left: Vec<String> = mounts().difference(&before).cloned().collect();
        assert!(left.is_empty(), "round {round}: {left:#?}");
        t.ok(["start", &name]);
        t.ok(["stop", "-t", "0", &name]);
    }
    assert_eq!(tree(&taken(&t, &format!("{name}:/data/0/."))).len(), 300);
}

/// A container exchanges directories and files for links to the host, while files are copied out of it and into it.
#[test]
fn what_is_swapped_while_it_is_copied() {
    let Some(t) = Test::start() else { return };
    let (name, dir) = (t.name("swapper"), t.dir("host"));
    let secret = "only the host knows this";
    let canary = dir.join("canary");
    fs::create_dir(&canary).unwrap();
    fs::write(canary.join("secret"), secret).unwrap();
    let shared = dir.join("shared");
    fs::create_dir(&shared).unwrap();
    let program = format!(
        "
import ctypes, os
libc = ctypes.CDLL(None)
pairs = []
host = '{}'
for top in ('/swap', '/shared'):
    os.makedirs(top, exist_ok=True)
    for n, to in enumerate((host, '/proc/1/root' + host, '/proc/self/root' + host, '../' * 12 + host, '/')):
        one, other = f'{{top}}/d{{n}}', f'{{top}}/x{{n}}'
        os.mkdir(one); open(one + '/secret', 'w').write('inside')
        os.symlink(to, other); pairs.append((one.encode(), other.encode()))
        one, other = f'{{top}}/f{{n}}', f'{{top}}/y{{n}}'
        open(one, 'w').write('inside')
        os.symlink(to + '/secret', other); pairs.append((one.encode(), other.encode()))
print('ready', flush=True)
while True:
    for one, other in pairs: libc.renameat2(-100, one, -100, other, 2)
",
        canary.display()
    );
    let mount = format!("{}:/shared", shared.display());
    t.ok(["run", "-d", "--name", &name, "-v", &mount, PYTHON, "python3", "-c", &program]);
    wait_until("it swaps", || t.ok(["logs", &name]).contains("ready"));
    let source = dir.join("w");
    for n in 0..5 {
        for to in ["d", "x"] {
            fs::create_dir_all(source.join(format!("{to}{n}"))).unwrap();
            fs::write(source.join(format!("{to}{n}/secret")), "from the copy").unwrap();
        }
        for to in ["f", "y"] {
            fs::write(source.join(format!("{to}{n}")), "from the copy").unwrap();
        }
    }
    let content = format!("{}/.", source.display());
    let file = source.join("f0").to_str().unwrap().to_owned();
    let (mut copied, out) = (0, dir.join("out"));
    for round in 0..rounds(20) {
        for top in ["swap", "shared"] {
            // They may be refused, and never lead out.
            copied +=
                usize::from(t.rbox(["cp", &file, &format!("{name}:/{top}/d{}/new", round % 5)]).code == 0);
            copied += usize::from(t.rbox(["cp", &content, &format!("{name}:/{top}")]).code == 0);
            let _ = t.rbox(["cp", &content, &format!("{name}:/{top}/x{}", round % 5)]);
            let _ = fs::remove_dir_all(&out);
            for from in
                [format!("/{top}"), format!("/{top}/d{}/secret", round % 5), format!("/{top}/f{}", round % 5)]
            {
                let flag = if round % 2 == 0 { "-L" } else { "-q" };
                fs::create_dir_all(&out).unwrap();
                copied += usize::from(
                    t.rbox(["cp", flag, &format!("{name}:{from}"), out.to_str().unwrap()]).code == 0,
                );
            }
            let found = tree(&out).into_values().any(|text| text.contains(secret));
            assert!(!found, "{round}: the host's file was copied");
        }
        assert_eq!(tree(&canary).into_iter().collect::<Vec<_>>(), [("secret".to_owned(), secret.to_owned())]);
    }
    assert!(copied > rounds(20), "only {copied} copies");
    t.ok(["rm", "-f", &name]);
}

/// An archive that leads out on the host: what a container made is as hostile as any.
#[test]
fn links_that_a_container_made_lead_nowhere_on_the_host() {
    let Some(t) = Test::start() else { return };
    let (name, dir) = (t.name("web"), t.dir("host"));
    fs::create_dir(dir.join("canary")).unwrap();
    let script = format!(
        "mkdir -p /a/b; ln -s ../../canary /a/b/up; ln -s {0} /a/link; mkdir /c; echo x > /c/f",
        dir.join("canary").display()
    );
    t.ok(["run", "--name", &name, BUSYBOX, "sh", "-c", &script]);
    t.rbox(["cp", &format!("{name}:/a/b"), dir.to_str().unwrap()]).refused(1, &["invalid symlink"]);
    // A link that is on the host is the caller's: a directory of the archive does not follow it.
    symlink("canary", dir.join("c")).unwrap();
    t.rbox(["cp", &format!("{name}:/c"), dir.to_str().unwrap()])
        .refused(1, &["cannot overwrite non-directory"]);
    assert_eq!(fs::read_dir(dir.join("canary")).unwrap().count(), 0);
}

#[test]
fn words_and_refusals() {
    let Some(t) = Test::start() else { return };
    let (name, dir) = (t.name("web"), t.dir("host"));
    let file = dir.join("f").to_str().unwrap().to_owned();
    fs::write(&file, "x").unwrap();
    t.ok(["create", "--name", &name, BUSYBOX]);
    let at = |path: &str| format!("{name}:{path}");
    for (args, why) in [
        ([&file[..], "b"], "must specify at least one container source"),
        ([&at("/a"), &at("/b")], "copying between containers is not supported"),
        (["", &at("/b")], "source can not be empty"),
        ([&at("/b"), ""], "destination can not be empty"),
        ([&file, &at("")], "path in the container can not be empty"),
    ] {
        t.rbox(["cp", args[0], args[1]]).refused(125, &[why]);
    }
    t.rbox(["cp", &at("nope"), &file]).refused(1, &["Could not find the file nope in container"]);
    t.rbox(["cp", &file, &at("/no/where/f")]).refused(1, &["Could not find the file /no/where in container"]);
    t.rbox(["cp", &file, "no-such:/x"]).refused(1, &["No such container: no-such"]);

    // Nothing is said without a terminal, but on request; on one it is, but on request.
    let quiet = t.rbox(["cp", &file, &at("/f")]).code(0);
    assert_eq!((quiet.stdout, quiet.stderr), (String::new(), String::new()));
    let told = t.rbox(["container", "cp", "-q=false", &file, &at("/f")]).code(0);
    let is_told = |text: &str, to: &str| {
        text.starts_with("Successfully copied ") && text.ends_with(&format!("B to {to}\n"))
    };
    assert!(is_told(&told.stderr, &format!("{name}:/f")), "{}", told.stderr);
    let told = t.rbox(["cp", "--quiet=false", &at("/f"), &format!("{}/", dir.display())]).code(0);
    assert!(is_told(&told.stderr, &format!("{}/", dir.display())), "{}", told.stderr);
    let mut terminal = OnTerminal::start(t.cmd(["cp", &file, &at("/f")]));
    assert_eq!(terminal.ended(), 0);
    terminal.expect("Copying to container - ");
    terminal.expect("Successfully copied ");
    let mut terminal = OnTerminal::start(t.cmd(["cp", "-q", &file, &at("/f")]));
    assert_eq!(terminal.ended(), 0);
    assert_eq!(terminal.shown(), "");

    let events = t.ok([
        "events",
        "--since",
        "1h",
        "--until",
        "0s",
        "-f",
        &format!("container={name}"),
        "--format",
        "{{.Action}}",
    ]);
    let seen = |action: &str| events.lines().filter(|line| *line == action).count();
    assert_eq!((seen("archive-path"), seen("extract-to-dir")), (1, 4), "{events}");
}

/// No program of the container is run, whatever it has planted; neither is one of the host's.
#[test]
fn nothing_of_the_container_is_run() {
    let Some(t) = Test::start() else { return };
    let (name, dir) = (t.name("web"), t.dir("host"));
    let script = "for f in tar gzip xz sh cat nsenter libnss_files.so.2; do printf '#!/bin/sh\\ntouch /ran\\n' > /bin/$f.new; chmod 755 /bin/$f.new; mv /bin/$f.new /bin/$f 2>/dev/null; done; sleep 1000";
    t.ok([
        "run",
        "-d",
        "--name",
        &name,
        PYTHON,
        "python3",
        "-c",
        &format!("import os\nos.system({script:?})"),
    ]);
    wait_until("all are planted", || {
        t.rbox(["exec", &name, "test", "-e", "/bin/libnss_files.so.2"]).code == 0
    });
    t.ok(["cp", &format!("{name}:/bin"), dir.to_str().unwrap()]);
    let tar = Command::new("tar").args(["-C", dir.to_str().unwrap(), "-cz", "bin"]).output().unwrap().stdout;
    t.cmd(["cp", "-a", "-", &format!("{name}:/tmp")]).input(tar).run().ok();
    t.rbox(["cp", &format!("{name}:/ran"), dir.to_str().unwrap()]).refused(1, &["Could not find the file"]);
    assert!(!Path::new("/ran").exists());
}

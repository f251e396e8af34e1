//! What containers leave can be removed, whatever they made of it, and one bad thing stands in nobody's way.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::harness::{BUSYBOX, Output, OwnRoots, PYTHON, Test, has, rounds, skipped, wait_until};

/// Makes directories in one another, `DEPTH` deep, each with a file.
const NEST: &str = "
import os, sys
for top in sys.argv[2:]:
    os.chdir(top)
    for level in range(int(sys.argv[1])):
        os.mkdir('nested'); os.chdir('nested')
        if level % 50 == 0: open('file', 'w').close(); os.mkdir('closed', 0)
";

/// A command that may have few files open, and a small stack.
fn tight(t: &Test, line: &str) -> Output {
    let script = format!("ulimit -n 64 && ulimit -s 256 && exec \"$RBOX\" {line}");
    t.program("sh", ["-c", &script]).env("RBOX", crate::harness::binary()).run()
}

#[test]
fn deep_trees_go_and_stop_nothing() {
    let Some(t) = Test::start() else { return };
    // More than a command has descriptors for, and longer than a path can be.
    let depth = rounds(1500).max(700).to_string();
    let (kept, job) = (t.name("kept"), t.name("job"));
    t.ok(["volume", "create", &kept]);
    let volume = format!("{kept}:/kept");
    let nest = [PYTHON, "python3", "-c", NEST, &depth, "/tmp", "/kept", "/anonymous"];
    let run = |flags: &[&str]| {
        let mut args = vec!["run", "-v", "/anonymous", "--network", "none"];
        args.extend(flags);
        args.extend(nest);
        t.cmd(args).run().ok();
    };
    run(&["--name", &job, "-v", &volume]);
    tight(&t, &format!("rm -v {job}")).ok();
    tight(&t, &format!("volume rm {kept}")).ok();
    // Its monitor does it.
    t.ok(["volume", "create", &kept]);
    run(&["--rm", "-v", &volume]);
    // One that a killed command left in the trash, which any command empties.
    t.ok(["volume", "rm", &kept]);
    t.ok(["volume", "create", &kept]);
    run(&["--name", &job, "-v", &volume]);
    let id = t.ok(["inspect", "-f", "{{.Id}}", &job]);
    let live = t.suite.state.join("containers").join(&id);
    wait_until("its monitor is gone", || !live.exists());
    fs::rename(t.suite.root.join("containers").join(&id), t.suite.root.join("trash").join(&id)).unwrap();
    let out = tight(&t, "ps -a").code(0);
    assert_eq!(out.stderr, "");
    assert!(!t.suite.root.join("trash").join(&id).exists());
}

/// Flags of files, and a mount in the tree: the first go, the second is told of and left, and nothing else is held up by it.
#[test]
fn flags_go_and_a_mount_is_left() {
    let Some(t) = Test::start() else { return };
    let own = OwnRoots::new(&t, "flags", &t.suite.registry);
    let ids: Vec<String> =
        ["aa", "bb"].map(|name| own.run(&["create", "--name", name, BUSYBOX, "true"]).ok()).to_vec();
    let upper = own.root.join("containers").join(&ids[0]).join("upper");
    fs::create_dir_all(upper.join("dir/sub")).unwrap();
    for file in ["dir/file", "dir/sub/file"] {
        fs::write(upper.join(file), "x").unwrap();
    }
    let chattr = |flag: &str, names: &[&str]| {
        let paths = names.iter().map(|name| upper.join(name));
        Command::new("chattr").arg(flag).args(paths).status().is_ok_and(|s| s.success())
    };
    if !has("chattr") || !chattr("+i", &["dir/sub/file", "dir/sub"]) || !chattr("+a", &["dir/file", "dir"]) {
        skipped("files have no flags here");
    }
    let removed = own.run(&["rm", "aa"]);
    if removed.code != 0 || upper.exists() {
        // Whoever takes the scratch directory away has to be able to.
        let _ = Command::new("chattr").arg("-R").arg("-ia").arg(&own.root).status();
        panic!("{removed:?}");
    }
    removed.ok();

    let mounted = own.root.join("containers").join(&ids[1]).join("upper/mounted");
    let beside = own.root.join("containers").join(&ids[1]).join("upper/beside");
    for dir in [&mounted, &beside] {
        fs::create_dir(dir).unwrap();
    }
    if !Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&mounted).status().unwrap().success() {
        skipped("nothing can be mounted here");
        return;
    }
    fs::write(mounted.join("precious"), "x").unwrap();
    own.run(&["rm", "bb"]).refused(1, &["upper/mounted: something is mounted there"]);
    let ps = own.run(&["ps", "-a", "-q"]).code(0);
    let at = own.root.join("trash").join(&ids[1]).join("upper/mounted");
    let precious = at.join("precious").exists();
    let run = own.run(&["run", "--rm", "--network", "none", BUSYBOX, "echo", "well"]).code(0);
    assert!(Command::new("umount").arg(&at).status().unwrap().success());
    assert_eq!((ps.stdout.as_str(), run.stdout.as_str()), ("", "well\n"));
    assert!(ps.stderr.starts_with("rbox: warning: ") && ps.stderr.contains("something is mounted there"));
    assert!(precious && !own.root.join("trash").join(&ids[1]).join("upper/beside").exists());
    assert_eq!(own.run(&["ps", "-a", "-q"]).code(0).stderr, "");
    // The last container's monitor may still be at it.
    let trash = own.root.join("trash");
    wait_until("the trash is empty", || fs::read_dir(&trash).unwrap().count() == 0);
}

/// A name that a container could have.
const ID: &str = "00000000000000000000000000000000000000000000000000000000000000aa";

/// Makes one thing at a path.
type Make<'a> = &'a dyn Fn(&Path);

/// Puts what does not belong there into a directory of rbox's. Each has an ordinary name, and one that a container's record,
/// a network's or an image's file could have.
fn litter(dir: &Path) {
    fs::create_dir_all(dir).unwrap();
    let json = format!("{ID}.json");
    let kinds: [(&str, Make); 5] = [
        ("empty", &|path| fs::write(path, "").unwrap()),
        ("garbage", &|path| fs::write(path, "{\"id\": 7").unwrap()),
        ("dir", &|path| fs::create_dir(path).unwrap()),
        ("link", &|path| symlink("/nowhere/at/all", path).unwrap()),
        ("fifo", &|path| assert!(Command::new("mkfifo").arg(path).status().unwrap().success())),
    ];
    for (at, (what, make)) in kinds.iter().enumerate() {
        let name = |text: &str| dir.join(text.replacen("aa", &format!("{at:02x}"), 1));
        for path in [name(ID), name(&json), dir.join(what)] {
            if fs::symlink_metadata(&path).is_err() {
                make(&path);
            }
        }
    }
    // Directories that look like records, and have none or a bad one.
    for (name, config) in [("b0", None), ("b1", Some("")), ("b2", Some("null")), ("b3", Some("{"))] {
        let path = dir.join(ID.replacen("aa", name, 1));
        fs::create_dir(&path).unwrap();
        for file in ["config.json", "volume.json", "state.json", "layer.json", "exit.json", "started", "lock"]
        {
            if let Some(text) = config {
                fs::write(path.join(file), text).unwrap();
            }
        }
    }
}

#[test]
fn foreign_files_in_every_directory_stop_nothing() {
    let Some(t) = Test::start() else { return };
    let own = OwnRoots::new(&t, "litter", &t.suite.registry);
    own.run(&["pull", "-q", BUSYBOX]).ok();
    own.run(&["network", "create", "net"]).ok();
    own.run(&["volume", "create", "vol"]).ok();
    own.run(&["run", "-d", "--name", "on", "--network", "net", "-v", "vol:/v", BUSYBOX, "sleep", "1000"])
        .ok();
    own.run(&["create", "--name", "off", BUSYBOX, "true"]).ok();
    let root = [
        "",
        "containers",
        "names",
        "trash",
        "volumes",
        "network",
        "network/networks",
        "image",
        "image/layers",
        "image/tmp",
        "image/blobs",
        "image/blobs/sha256",
    ];
    let state = ["", "containers", "network", "network/networks", "names", "links", "changing"];
    let mut places: Vec<PathBuf> = root.iter().map(|dir| own.root.join(dir)).collect();
    places.extend(state.iter().map(|dir| own.state.join(dir)));
    let commands: [&[&str]; 19] = [
        &["ps", "-a"],
        &["images", "-a"],
        &["volume", "ls"],
        &["network", "ls"],
        &["system", "df"],
        &["inspect", "on", "off"],
        &["exec", "on", "true"],
        &["run", "--rm", "-v", "/anonymous", "--network", "net", BUSYBOX, "true"],
        &["create", "--name", "new", BUSYBOX, "true"],
        &["rename", "new", "newer"],
        &["rm", "newer"],
        &["volume", "create", "vol2"],
        &["volume", "rm", "vol2"],
        &["network", "create", "net2"],
        &["network", "rm", "net2"],
        &["restart", "-t", "0", "on"],
        &["container", "prune", "-f", "--filter", "label=none"],
        &["volume", "prune", "-a", "-f", "--filter", "label=none"],
        &["image", "prune", "-f", "--filter", "label=none"],
    ];
    let mut wrong = Vec::new();
    // One root, then the other, so that this takes a moment; each place by itself to find out which it is.
    let alone = std::env::var_os("RBOX_TEST_EACH_PLACE").is_some();
    let (of_root, of_state) = places.split_at(root.len());
    let groups: Vec<&[PathBuf]> = if alone { places.chunks(1).collect() } else { vec![of_root, of_state] };
    for group in groups {
        for place in group {
            litter(place);
        }
        for args in commands {
            let out = own.cmd(args).limit(Duration::from_secs(20)).run();
            if out.code != 0 || out.stderr.lines().any(|line| !line.starts_with("rbox: warning: ")) {
                wrong.push(format!("{}: {args:?}: {} {}", group[0].display(), out.code, out.stderr));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// An account of the host comes to nothing that belongs to a container (CVE-2021-41091), however the directories were made.
#[test]
fn nobody_else_walks_into_the_roots() {
    let Some(t) = Test::start() else { return };
    let open = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    for mode in [0o755, 0o777] {
        let own = OwnRoots::new(&t, &format!("walk{mode:o}"), &t.suite.registry);
        for dir in [&own.root, &own.state] {
            fs::create_dir_all(dir).unwrap();
            open(dir, mode);
        }
        for below in ["containers", "image", "volumes", "trash"] {
            fs::create_dir(own.root.join(below)).unwrap();
            open(&own.root.join(below), mode);
        }
        let script = "cp /bin/busybox /v/suid; chmod 4755 /v/suid; cp -p /v/suid /suid; echo secret > /v/file; sleep 1000";
        own.run(&[
            "run",
            "-d",
            "--name",
            "on",
            "--network",
            "none",
            "-v",
            "vol:/v",
            BUSYBOX,
            "sh",
            "-c",
            script,
        ])
        .ok();
        let suid = own.root.join("volumes/vol/_data/suid");
        wait_until("it is there", || fs::metadata(&suid).is_ok_and(|m| m.permissions().mode() & 0o4000 != 0));
        let as_other = |program: &str, args: &[&str]| own.other(program, args).user(1000).run();
        let root = own.root.to_string_lossy().into_owned();
        let state = own.state.to_string_lossy().into_owned();
        let id = own.run(&["inspect", "-f", "{{.Id}}", "on"]).ok();
        for path in [suid.clone(), own.root.join("containers").join(&id).join("upper/suid")] {
            assert!(path.exists());
            let out = as_other("sh", &["-c", &format!("'{}' id -u", path.display())]);
            assert!(out.code == 126 || out.code == 127, "mode {mode:o}: {out:?}");
        }
        let found = as_other("find", &[&root, &state]).stdout;
        let deep: Vec<_> = found.lines().filter(|line| *line != root && *line != state).collect();
        assert!(deep.is_empty(), "mode {mode:o}: {deep:?}");
    }
}

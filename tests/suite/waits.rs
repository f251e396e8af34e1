//! No command waits for ever for one that stands still.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::harness::{BUSYBOX, OwnRoots, Test, has, skipped};

/// A process that holds a lock and is stopped. Killed when dropped.
struct Stopped(Child);

impl Stopped {
    fn holding(path: &Path) -> Self {
        let mut child = Command::new("flock")
            .args(["-F", "-x", path.to_str().unwrap(), "sh", "-c", "echo held; exec sleep 1000"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "held\n", "{}", path.display());
        let stopped = Command::new("kill").args(["-STOP", &child.id().to_string()]).status().unwrap();
        assert!(stopped.success());
        Self(child)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Each lock is held by a stopped process; each command that wants it says who holds it, and ends.
#[test]
fn a_stopped_holder_of_a_lock_stops_nobody() {
    let Some(t) = Test::start() else { return };
    if !has("flock") {
        return skipped("flock is not installed");
    }
    let own = OwnRoots::new(&t, "own", &t.suite.registry);
    let ok = |args: &[&str]| own.run(args).ok();
    let filled = format!("{}/rbox/config", t.suite.registry);
    let tar = own.dir.join("image.tar").display().to_string();
    std::fs::create_dir(own.dir.join("tree")).unwrap();
    let tree = own.dir.join("tree");
    let made = Command::new("tar").arg("-C").arg(&tree).args(["-cf", &tar, "."]).status().unwrap();
    assert!(made.success());
    for args in [
        &["pull", "-q", BUSYBOX][..],
        &["pull", "-q", &filled],
        &["import", &tar, "pinned:1"],
        &["network", "create", "lab"],
        &["run", "--rm", "--network", "lab", BUSYBOX, "true"],
        &["volume", "create", "asked"],
        &["volume", "create", "fill"],
    ] {
        ok(args);
    }
    let id = ok(&["create", "--name", "first", BUSYBOX]);
    let pinned = ok(&["inspect", "-f", "{{.Id}}", "pinned:1"]);
    let bridge = format!("rb-{}", ok(&["network", "inspect", "-f", "{{slice .Id 0 12}}", "lab"]));
    let locks: [PathBuf; 8] = [
        own.root.join("network/networks"),
        own.state.join("network/networks").join(bridge).join("addresses"),
        own.root.join("containers").join(&id),
        own.root.join("volumes/asked"),
        own.root.join("volumes/fill/_data"),
        own.root.join("image/index.lock"),
        own.root.join("image/store.lock"),
        own.root.join("image/blobs/sha256").join(pinned.trim_start_matches("sha256:")),
    ];
    let [networks, addresses, record, asked, fill, index, store, blob] = &locks;
    let cases: [(&Path, i32, &[&str]); 15] = [
        (networks, 1, &["network", "create", "other"]),
        (networks, 1, &["network", "rm", "lab"]),
        (networks, 1, &["network", "reconcile"]),
        (addresses, 125, &["run", "--rm", "--network", "lab", BUSYBOX, "true"]),
        (record, 1, &["rename", "first", "second"]),
        (record, 1, &["update", "--restart", "no", "first"]),
        (record, 1, &["network", "connect", "lab", "first"]),
        (asked, 1, &["volume", "create", "asked"]),
        (asked, 1, &["volume", "rm", "asked"]),
        (asked, 125, &["create", "-v", "asked:/x", BUSYBOX]),
        (fill, 125, &["run", "--rm", "--network", "none", "-v", "fill:/data", &filled]),
        (index, 1, &["tag", BUSYBOX, "other:1"]),
        (index, 1, &["rmi", "pinned:1"]),
        (store, 1, &["import", &tar, "more:1"]),
        (blob, 125, &["create", "pinned:1", "x"]),
    ];
    let holders: Vec<(&PathBuf, Stopped)> = locks.iter().map(|path| (path, Stopped::holding(path))).collect();
    let running: Vec<_> = cases.iter().map(|(_, _, args)| own.cmd(args).spawn()).collect();
    for ((path, code, args), one) in cases.iter().zip(running) {
        let holder = holders.iter().find(|(held, _)| held.as_path() == *path).unwrap().1.0.id();
        let out = one.finish(Duration::from_mins(2));
        println!("{args:?}: {}", out.stderr.trim_end());
        out.refused(*code, &[&format!("process {holder} (sleep)"), "is stopped", "kill -CONT"]);
    }
    // They did nothing, and once the holders are gone all goes on.
    drop(holders);
    ok(&["rename", "first", "second"]);
    ok(&["volume", "rm", "asked"]);
    ok(&["run", "--rm", "--network", "lab", "-v", "fill:/data", &filled]);
    ok(&["rmi", "pinned:1"]);
    ok(&["network", "rm", "lab"]);
}

//! Binds whose files belong to somebody else inside: moby#7198.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};

use crate::harness::{BUSYBOX, Test, skipped};

fn owner(path: &Path) -> (u32, u32) {
    let meta = fs::symlink_metadata(path).unwrap();
    (meta.uid(), meta.gid())
}

/// A directory of user 1000 and group 1001 with a file of each of these; none where the file system cannot map ids.
fn directory(t: &Test) -> Option<PathBuf> {
    let dir = t.dir("d");
    for (name, uid, gid) in [("own", 1000, 1001), ("roots", 0, 0), ("others", 5, 6)] {
        fs::write(dir.join(name), name).unwrap();
        chown(dir.join(name), Some(uid), Some(gid)).unwrap();
    }
    chown(&dir, Some(1000), Some(1001)).unwrap();
    let bind = format!("{}:/d:idmap", dir.display());
    let out = t.rbox(["run", "--rm", "-v", &bind, BUSYBOX, "true"]);
    if out.code != 0 && out.stderr.contains("cannot map ids") {
        skipped("the file system of the scratch directory cannot map ids");
        return None;
    }
    out.ok();
    Some(dir)
}

#[test]
fn owner_and_user_change_places() {
    let Some(t) = Test::start() else { return };
    let Some(dir) = directory(&t) else { return };
    let mount = format!("type=bind,source={},target=/d,idmap", dir.display());
    let look = "cd /d; stat -c %u:%g own roots others .";
    assert_eq!(t.sh_with(["--mount", &mount], look), "0:0\n1000:1001\n5:6\n0:0");
    assert_eq!(t.sh_with(["--mount", &mount, "-u", "33:44"], look), "33:44\n0:0\n5:6\n33:44");
    // What is made inside belongs to the caller outside, whoever the program is.
    t.sh_with(["--mount", &mount], "touch /d/of-root; mkdir /d/dir; ln -s x /d/link");
    t.sh_with(["--mount", &mount, "-u", "33:44"], "touch /d/of-user; echo more >> /d/own");
    for made in ["of-root", "dir", "link", "of-user", "own"] {
        assert_eq!(owner(&dir.join(made)), (1000, 1001), "{made}");
    }
    // Nobody gets to what is another's: without capabilities root's file stays root's.
    let refused =
        t.rbox(["run", "--rm", "--mount", &mount, "-u", "33:44", BUSYBOX, "sh", "-c", "chmod 600 /d/roots"]);
    assert!(refused.code(1).stderr.contains("not permitted"));
    t.sh_with(["--mount", &mount], "chown 7:8 /d/of-root; chown 1000:1001 /d/of-user");
    assert_eq!((owner(&dir.join("of-root")), owner(&dir.join("of-user"))), ((7, 8), (0, 0)));
}

#[test]
fn ids_as_given() {
    let Some(t) = Test::start() else { return };
    let Some(dir) = directory(&t) else { return };
    let mount = |map: &str| format!("type=bind,source={},target=/d,idmap={map}", dir.display());
    let look = "cd /d; stat -c %u:%g own roots others";
    let both = mount("uids=1000-0-1#5-1005-1;gids=1001-70-2");
    assert_eq!(
        t.sh_with(["--mount", &both], look),
        "0:65534\n65534:65534\n1005:65534".replace("0:65534", "0:70")
    );
    // Whoever has no id on disk cannot make anything there.
    t.rbox(["run", "--rm", "--mount", &both, BUSYBOX, "touch", "/d/new"]).code(1);
    let users = mount("uids=1000-0-1");
    assert_eq!(t.sh_with(["--mount", &users], look), "0:1001\n65534:0\n65534:6");
    t.sh_with(["--mount", &users], "touch /d/new");
    assert_eq!(owner(&dir.join("new")), (1000, 0));
    assert_eq!(t.sh_with(["--mount", &mount("false")], look), "1000:1001\n0:0\n5:6");
    // `-v` has no place for a second list of its own, but for one.
    let bind = format!("{}:/d:ro,idmap=uids=1000-0-1", dir.display());
    assert_eq!(t.sh_with(["-v", &bind], look), "0:1001\n65534:0\n65534:6");
    for wrong in ["uids=0-1", "uids=0-0-10#5-20-1", "x"] {
        t.rbox(["run", "--rm", "--mount", &mount(wrong), BUSYBOX, "true"])
            .refused(125, &["invalid idmap", wrong]);
    }
    t.rbox(["run", "--rm", "--mount", "type=volume,target=/d,idmap", BUSYBOX, "true"])
        .refused(125, &["cannot mix 'idmap' with mount type 'volume'"]);
    // What is not asked for is of another kind all the same, as Docker has it.
    t.rbox(["run", "--rm", "--mount", "type=tmpfs,target=/d,idmap=false", BUSYBOX, "true"])
        .refused(125, &["cannot mix 'idmap' with mount type 'tmpfs'"]);
    for off in ["0", "FALSE", "f"] {
        assert_eq!(t.sh_with(["--mount", &mount(off)], look), "1000:1001\n0:0\n5:6", "{off}");
    }
    assert_eq!(t.sh_with(["--mount", &mount("1")], look), "0:0\n1000:1001\n5:6");
    let twice = format!("{},idmap=gids=0-5-1", mount("uids=0-5-1"));
    t.rbox(["run", "--rm", "--mount", &twice, BUSYBOX, "true"]).refused(125, &["idmap is there twice"]);
    let bad = format!("{}:/d:idmap=bad", dir.display());
    t.rbox(["run", "--rm", "-v", &bad, BUSYBOX, "true"])
        .refused(125, &[&bad, "invalid idmap \"bad\"", "something else than uids and gids"]);
    let long: Vec<String> = (0..300).map(|n| format!("{0}-{0}-1", n + 10_000)).collect();
    let long = format!("uids={}", long.join("#"));
    t.rbox(["run", "--rm", "--mount", &mount(&long), BUSYBOX, "true"]).refused(125, &["4095 bytes"]);
    t.rbox(["run", "--rm", "-v", "some-volume:/d:idmap", BUSYBOX, "true"])
        .refused(125, &["idmap is for bind mounts only"]);
    t.rbox(["run", "--rm", "--mount", "type=bind,source=/proc,target=/d,idmap", BUSYBOX, "true"])
        .refused(125, &["bind source path /proc", "cannot map ids"]);
}

#[test]
fn they_stay_and_are_seen_by_cp() {
    let Some(t) = Test::start() else { return };
    let Some(dir) = directory(&t) else { return };
    let (name, file) = (t.name("c"), t.dir("f").join("file"));
    let mount = format!("type=bind,source={},target=/d,idmap", dir.display());
    t.ok(["create", "--name", &name, "--mount", &mount, "-v", "/x", BUSYBOX, "sleep", "1000"]);
    fs::write(&file, "text").unwrap();
    let file = file.to_str().unwrap();
    t.ok(["cp", file, &format!("{name}:/d/stopped")]);
    t.ok(["start", &name]);
    t.ok(["cp", file, &format!("{name}:/d/running")]);
    t.ok(["exec", &name, "touch", "/d/exec"]);
    t.ok(["restart", "-t", "0", &name]);
    t.ok(["exec", &name, "touch", "/d/again"]);
    for made in ["stopped", "running", "exec", "again"] {
        assert_eq!(owner(&dir.join(made)), (1000, 1001), "{made}");
    }
    t.ok(["mount", "add", &name, &format!("type=bind,source={},target=/later,idmap", dir.display())]);
    t.ok(["exec", &name, "touch", "/later/live"]);
    assert_eq!(owner(&dir.join("live")), (1000, 1001));
    assert_eq!(t.inspect(&name)["HostConfig"]["Mounts"][0]["BindOptions"]["IDMap"], "owner");
    let command = t.ok(["inspect", "--create-command", &name]);
    assert!(command.contains("idmap=owner"), "{command}");
    t.ok(["rm", "-f", &name]);
}

/// Whose it is, is asked of what is mounted: another may have been at its path before. And `--explain` shows no map, which may be long.
#[test]
fn the_owner_is_that_of_what_is_mounted() {
    let Some(t) = Test::start() else { return };
    let Some(dir) = directory(&t) else { return };
    let other = t.dir("other");
    chown(&other, Some(2000), Some(2001)).unwrap();
    let (dir, other) = (dir.as_path(), other.as_path());
    let bind = format!("{}:/d:idmap", dir.display());
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let exchange = rustix::fs::RenameFlags::EXCHANGE;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                rustix::fs::renameat_with(rustix::fs::CWD, dir, rustix::fs::CWD, other, exchange).unwrap();
            }
        });
        let mut seen = Vec::new();
        for _ in 0..crate::harness::rounds(20) {
            let out = t.rbox([
                "run",
                "--rm",
                "--network",
                "none",
                "-v",
                &bind,
                BUSYBOX,
                "stat",
                "-c",
                "%u:%g",
                "/d",
            ]);
            seen.push((out.stdout.trim().to_owned(), out.stderr));
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        // Where it has to be opened twice that may be refused.
        let is_right =
            |(owner, error): &(String, String)| owner == "0:0" || error.contains("was replaced meanwhile");
        assert!(seen.iter().all(is_right), "{seen:?}");
    });
    let told =
        t.rbox(["run", "--rm", "--explain=calls", "--network", "none", "-v", &bind, BUSYBOX, "true"]).stderr;
    let line = told.lines().find(|line| line.contains("uid_map")).unwrap_or_default();
    assert!(line.contains("ranges of ids") && !line.contains("4294967295"), "{line}: {told}");
}

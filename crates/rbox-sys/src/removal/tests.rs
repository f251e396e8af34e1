#![allow(clippy::unwrap_used)]
use super::*;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;
use std::time::Instant;

/// A directory of a test's own, on a file system with flags.
struct Place(PathBuf);

impl Place {
    fn new(what: &str) -> Self {
        let path = PathBuf::from(format!("/var/tmp/rbox-removal-{what}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = remove_tree(&self.0);
    }
}

/// `depth` directories in one another, each with a file and, at every tenth, two more branches.
fn deep(top: &Path, depth: usize, name: &CStr) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut dir = rustix::fs::open(top, flags, Mode::empty()).unwrap();
    for level in 0..depth {
        rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(0o755)).unwrap();
        if level % 10 == 0 {
            rustix::fs::mkdirat(&dir, c"aside", Mode::from_raw_mode(0o000)).unwrap();
            rustix::fs::mkdirat(&dir, c"aside/full", Mode::from_raw_mode(0o700)).unwrap();
            rustix::fs::openat(&dir, c"file", OFlags::CREATE | OFlags::WRONLY, Mode::empty()).unwrap();
        }
        dir = rustix::fs::openat(&dir, name, flags, Mode::empty()).unwrap();
    }
}

#[test]
fn deep_and_longer_than_any_path() {
    let place = Place::new("deep");
    let tree = place.0.join("tree");
    fs::create_dir(&tree).unwrap();
    for (branch, name) in [("long", CString::new("n".repeat(200)).unwrap()), ("short", c"b".to_owned())] {
        fs::create_dir(tree.join(branch)).unwrap();
        deep(&tree.join(branch), 1500, &name);
    }
    // A thread whose stack is as small as it can be.
    let stack = std::thread::Builder::new().stack_size(16 << 10);
    let tree_of_thread = tree.clone();
    stack.spawn(move || remove_tree(&tree_of_thread)).unwrap().join().unwrap().unwrap();
    assert!(!tree.exists());
    // Gone already.
    remove_tree(&tree).unwrap();
    remove_tree(&tree.join("not/there")).unwrap();
}

#[test]
fn wide_and_bushy() {
    let place = Place::new("wide");
    let tree = place.0.join("tree");
    for branch in 0..40 {
        let dir = tree.join(format!("{branch}/a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/q/r/s/t"));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("file"), "").unwrap();
    }
    for file in 0..1500 {
        fs::write(tree.join(format!("a-file-with-a-long-name-{file}")), "").unwrap();
        if file % 5 == 0 {
            fs::create_dir_all(tree.join(format!("dir{file}/x"))).unwrap();
        }
    }
    let begin = Instant::now();
    remove_tree(&tree).unwrap();
    println!("{:?}", begin.elapsed());
    assert!(!tree.exists());
}

#[test]
fn links_are_removed_and_not_followed() {
    let place = Place::new("links");
    let (tree, outside) = (place.0.join("tree"), place.0.join("outside"));
    fs::create_dir_all(tree.join("sub")).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("precious"), "x").unwrap();
    symlink(&outside, tree.join("to-dir")).unwrap();
    symlink(outside.join("precious"), tree.join("sub/to-file")).unwrap();
    symlink("../..", tree.join("sub/up")).unwrap();
    fs::hard_link(outside.join("precious"), tree.join("hard")).unwrap();
    remove_tree(&tree).unwrap();
    assert_eq!(fs::read_to_string(outside.join("precious")).unwrap(), "x");
    // A link itself is what its path means.
    symlink(&outside, &tree).unwrap();
    remove_tree(&tree).unwrap();
    assert!(outside.join("precious").exists() && fs::symlink_metadata(&tree).is_err());
}

#[test]
fn modes_and_flags_do_not_keep_anything() {
    let place = Place::new("flags");
    let tree = place.0.join("tree");
    fs::create_dir_all(tree.join("a/b/c")).unwrap();
    fs::create_dir_all(tree.join("empty")).unwrap();
    for file in ["a/file", "a/b/log", "a/b/c/file"] {
        fs::write(tree.join(file), "x").unwrap();
    }
    let chattr = |flag: &str, names: &[&str]| {
        let paths = names.iter().map(|name| tree.join(name));
        Command::new("chattr").arg(flag).args(paths).status().is_ok_and(|status| status.success())
    };
    let flagged = chattr("+i", &["a/file", "a/b/c/file", "empty"]) && chattr("+a", &["a/b/log", "a/b"]);
    fs::set_permissions(tree.join("a/b/c"), fs::Permissions::from_mode(0o000)).unwrap();
    let flagged = flagged && chattr("+i", &["a/b/c", "a", "."]);
    if !flagged {
        println!("skipped: no flags on this file system, or no right to set them");
    }
    remove_tree(&tree).unwrap();
    assert!(!tree.exists());
}

/// A mount point stays, is reported, and is not looked into; all else goes.
#[test]
fn mount_points_are_not_crossed() {
    let place = Place::new("mounts");
    let (tree, other) = (place.0.join("tree"), place.0.join("other"));
    let mounted = tree.join("x/mounted");
    fs::create_dir_all(&mounted).unwrap();
    fs::create_dir_all(tree.join("x/y/z")).unwrap();
    fs::write(tree.join("file"), "").unwrap();
    fs::create_dir(&other).unwrap();
    fs::write(other.join("precious"), "x").unwrap();
    // Of the same file system: only that it is a mount tells it apart.
    let bind = Command::new("mount").arg("--bind").args([&other, &mounted]).status();
    if !bind.is_ok_and(|status| status.success()) {
        println!("skipped: nothing can be mounted here");
        return;
    }
    let error = remove_tree(&tree).unwrap_err().to_string();
    let left: Vec<_> = fs::read_dir(&tree).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(Command::new("umount").arg(&mounted).status().unwrap().success());
    assert!(error.ends_with("tree/x/mounted: something is mounted there"), "{error}");
    assert_eq!(left, ["x"]);
    assert!(!tree.join("x/y").exists() && other.join("precious").exists());
    remove_tree(&tree).unwrap();
    assert!(!tree.exists());
}

/// What cannot be removed far down is reported, and what is beside it goes, on the levels that were closed, too.
#[test]
fn one_that_stays_deep_down_keeps_nothing_beside_it() {
    let place = Place::new("stuck");
    let tree = place.0.join("tree");
    let mut at = tree.clone();
    let mut at_twenty = PathBuf::new();
    for level in 0..60 {
        for name in ["a", "z"] {
            fs::create_dir_all(at.join(name).join("full")).unwrap();
        }
        at = at.join("m");
        if level == 20 {
            at_twenty.clone_from(&at);
        }
    }
    fs::create_dir_all(&at).unwrap();
    if !Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&at).status().is_ok_and(|s| s.success()) {
        println!("skipped: nothing can be mounted here");
        return;
    }
    let error = remove_tree(&tree).unwrap_err().to_string();
    let left = fs::read_dir(&at_twenty).unwrap().count();
    assert!(Command::new("umount").arg(&at).status().unwrap().success());
    assert!(error.ends_with("m: something is mounted there"), "{error}");
    assert_eq!(left, 1);
    remove_tree(&tree).unwrap();
}

#[test]
fn a_directory_is_cleared_and_stays() {
    let place = Place::new("clear");
    fs::create_dir_all(place.0.join("a/b")).unwrap();
    fs::write(place.0.join("c"), "").unwrap();
    clear(fs::File::open(&place.0).unwrap()).unwrap();
    assert_eq!(fs::read_dir(&place.0).unwrap().count(), 0);
}

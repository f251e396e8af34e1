//! Archives put into trees that are in use, by archives that want out of them, and beside one who swaps what is there.
#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, RenameFlags};

use super::*;

/// One entry: type flag, name, link or data.
type Item<'a> = (u8, &'a str, &'a str);

fn archive(items: &[Item<'_>]) -> Vec<u8> {
    let mut tar = Vec::new();
    for (flag, name, text) in items {
        let mut header = tar::Header::new_ustar();
        let old = header.as_old_mut();
        for (to, from) in old.name.iter_mut().zip(name.bytes()) {
            *to = from;
        }
        let data = if *flag == b'0' { text.as_bytes() } else { b"" };
        if matches!(flag, b'1' | b'2') {
            for (to, from) in old.linkname.iter_mut().zip(text.bytes()) {
                *to = from;
            }
        }
        header.set_entry_type(tar::EntryType::new(*flag));
        header.set_mode(0o4750);
        header.set_uid(1234);
        header.set_gid(4321);
        header.set_mtime(1_000_000);
        header.set_size(data.len() as u64);
        if matches!(flag, b'3' | b'4') {
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
        }
        header.set_cksum();
        tar.extend_from_slice(header.as_bytes());
        tar.extend_from_slice(data);
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    tar.write_all(&[0; 1024]).unwrap();
    tar
}

/// A root with a directory `in`, and a canary beside the root.
fn world() -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir_all(root.join("in")).unwrap();
    fs::create_dir(dir.path().join("canary")).unwrap();
    fs::write(dir.path().join("canary/secret"), "untouched").unwrap();
    fs::set_permissions(dir.path().join("canary/secret"), fs::Permissions::from_mode(0o600)).unwrap();
    (dir, root)
}

fn canary_is_untouched(dir: &Path) {
    let names: Vec<_> = fs::read_dir(dir.join("canary")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["secret"]);
    let meta = fs::metadata(dir.join("canary/secret")).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.nlink()), (0o600, 0, 1));
    assert_eq!(fs::read_to_string(dir.join("canary/secret")).unwrap(), "untouched");
}

fn put_in_root(root: &Path, items: &[Item<'_>]) -> Result<Put, PutError> {
    let root = File::open(root).unwrap();
    let place = Place::InRoot { root: root.as_fd(), path: Path::new("/in") };
    put(&archive(items)[..], place, Owners::Archive)
}

fn put_beneath(dir: &Path, items: &[Item<'_>]) -> Result<Put, PutError> {
    let directory = File::open(dir).unwrap();
    put(&archive(items)[..], Place::Beneath { directory: directory.as_fd(), path: dir }, Owners::Own)
}

#[test]
fn things_are_made_merged_and_replaced() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (dir, root) = world();
    fs::create_dir(root.join("in/d")).unwrap();
    fs::write(root.join("in/d/kept"), "kept").unwrap();
    fs::write(root.join("in/d/old"), "old").unwrap();
    symlink(dir.path().join("canary/secret"), root.join("in/link")).unwrap();
    put_in_root(
        &root,
        &[
            (b'5', "./", ""),
            (b'5', "d/", ""),
            (b'0', "d/old", "new"),
            (b'0', "d/.wh.kept", "a name"),
            (b'0', "link", "a file now"),
            (b'1', "hard", "d/old"),
            (b'2', "soft", "/etc/absolute"),
            (b'6', "fifo", ""),
            (b'3', "null", ""),
            (b'0', "made/on/the/way", "x"),
        ],
    )
    .unwrap();
    let at = |name: &str| root.join("in").join(name);
    let read = |name: &str| fs::read_to_string(at(name)).unwrap();
    assert_eq!(
        (read("d/kept"), read("d/old"), read("d/.wh.kept")),
        ("kept".into(), "new".into(), "a name".into())
    );
    assert_eq!((read("link"), read("hard")), ("a file now".into(), "new".into()));
    assert_eq!(fs::read_link(at("soft")).unwrap(), Path::new("/etc/absolute"));
    for name in ["d", "d/old", "link", "fifo", "null"] {
        let meta = fs::symlink_metadata(at(name)).unwrap();
        assert_eq!(
            (meta.uid(), meta.gid(), meta.mode() & 0o7777, meta.mtime()),
            (1234, 4321, 0o4750, 1_000_000),
            "{name}"
        );
    }
    assert_eq!(fs::metadata(at("made/on")).unwrap().mode() & 0o7777, 0o755);
    // What the directory itself is stays.
    assert_eq!(fs::metadata(root.join("in")).unwrap().uid(), 0);
    canary_is_untouched(dir.path());
}

#[test]
fn on_the_host_no_owner_is_set_and_no_device_made() {
    let (dir, _root) = world();
    let into = dir.path().join("root/in");
    let done =
        put_beneath(&into, &[(b'0', "f", "x"), (b'3', "null", ""), (b'4', "disk", ""), (b'0', "g", "y")])
            .unwrap();
    assert_eq!(done.devices, 2);
    assert!(!into.join("null").exists() && !into.join("disk").exists());
    assert_eq!(fs::metadata(into.join("f")).unwrap().uid(), rustix::process::geteuid().as_raw());
    assert_eq!(fs::read_to_string(into.join("g")).unwrap(), "y");
}

#[test]
fn what_would_lead_out_is_refused() {
    let refused: [(&[Item<'_>], &str); 10] = [
        (&[(b'0', "../canary/secret", "x")], "has `..` in its name"),
        (&[(b'0', "a/../../x", "x")], "has `..` in its name"),
        (&[(b'2', "out", "../../canary")], "invalid symlink"),
        (&[(b'2', "d/out", "x/../../../canary")], "invalid symlink"),
        (&[(b'1', "hard", "../../canary/secret")], "has `..` in its name"),
        (&[(b'1', "hard", "nothing")], "invalid hardlink"),
        (&[(b'5', "d", ""), (b'1', "hard", "d")], "invalid hardlink"),
        (&[(b'5', "d", ""), (b'0', "d", "x")], "cannot overwrite directory"),
        (&[(b'0', "f", "x"), (b'5', "f", "")], "cannot overwrite non-directory"),
        (&[(b'2', "l", "/etc"), (b'5', "l", "")], "cannot overwrite non-directory"),
    ];
    for (items, why) in refused {
        let (dir, root) = world();
        for done in [put_in_root(&root, items), put_beneath(&root.join("in"), items)] {
            let error = done.unwrap_err().to_string();
            assert!(error.contains(why), "{items:?}: {error}");
            let _ = fs::remove_dir_all(root.join("in"));
            fs::create_dir(root.join("in")).unwrap();
        }
        canary_is_untouched(dir.path());
    }
}

/// Links that are there lead inside the root, and on the host nowhere.
#[test]
fn links_that_are_there_lead_nowhere_else() {
    let (dir, root) = world();
    let canary = dir.path().join("canary");
    symlink(&canary, root.join("in/out")).unwrap();
    symlink("/elsewhere", root.join("in/abs")).unwrap();
    put_in_root(&root, &[(b'0', "out/new", "x"), (b'0', "abs/new", "x"), (b'0', "/abs/two", "x")]).unwrap();
    let inside = root.join(canary.strip_prefix("/").unwrap());
    assert_eq!(fs::read_to_string(inside.join("new")).unwrap(), "x");
    assert_eq!(fs::read_to_string(root.join("elsewhere/two")).unwrap(), "x");
    for name in ["out/new", "abs/new"] {
        assert!(put_beneath(&root.join("in"), &[(b'0', name, "x")]).is_err());
    }
    assert!(put_in_root(&root, &[(b'1', "hard", "out/secret")]).is_err());
    canary_is_untouched(dir.path());
}

/// Directories, files and links are exchanged while archives are put: nothing outside changes.
#[test]
fn swapped_things_change_nothing_outside() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (dir, root) = world();
    let into = root.join("in");
    for n in 0..4 {
        fs::create_dir(into.join(format!("d{n}"))).unwrap();
        let to = if n % 2 == 0 { dir.path().join("canary") } else { "../../canary".into() };
        symlink(to, into.join(format!("x{n}"))).unwrap();
        symlink(dir.path().join("canary/secret"), into.join(format!("y{n}"))).unwrap();
    }
    // The swapper itself is not confined: it goes through no directory that it swaps.
    let names: Vec<_> = (0..4).map(|n| (format!("d{n}/"), format!("d{n}/secret"), format!("f{n}"))).collect();
    let items: Vec<Item<'_>> = names
        .iter()
        .flat_map(|(directory, below, file)| {
            let data = "from the archive";
            [(b'5', &directory[..], ""), (b'0', &below[..], data), (b'0', &file[..], data)]
        })
        .collect();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (into, done) = (&into, &done);
        scope.spawn(move || {
            let swap = |one: String, other: String| {
                let _ = rustix::fs::renameat_with(
                    CWD,
                    into.join(one),
                    CWD,
                    into.join(other),
                    RenameFlags::EXCHANGE,
                );
            };
            while !done.load(Ordering::Relaxed) {
                for n in 0..4 {
                    swap(format!("d{n}"), format!("x{n}"));
                    swap(format!("f{n}"), format!("y{n}"));
                }
            }
        });
        for _ in 0..500 {
            // It may be refused.
            let _ = put_in_root(&root, &items);
            let _ = put_beneath(into, &items);
        }
        done.store(true, Ordering::Relaxed);
    });
    canary_is_untouched(dir.path());
}

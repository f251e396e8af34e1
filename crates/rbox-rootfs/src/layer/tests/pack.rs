//! Trees packed and unpacked again: by `unpack`, and by GNU tar.

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use rustix::fs::{CWD, FileType, Mode, OFlags, XattrFlags, makedev, mknodat, setxattr};

use super::real::debian;
use super::tree::{ALL, Scratch, assert_same, gnu_tar, have, tree};
use crate::layer::{Limits, Members, PackOptions, Packed, TreeKind, pack};
use crate::overlay::Overlay;

const PLAIN: PackOptions<'_> =
    PackOptions { tree: TreeKind::Plain, root: Some(b"."), leave_out: &[], ids: None, is_settled: false };
const UPPER: PackOptions<'_> =
    PackOptions { tree: TreeKind::Upper, root: Some(b"."), leave_out: &[], ids: None, is_settled: false };

pub(super) fn packed(path: &Path, options: &PackOptions<'_>) -> (Vec<u8>, Packed) {
    let mut tar = Vec::new();
    let thing = rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()).unwrap();
    let done = pack(thing.as_fd(), &mut tar, options).unwrap();
    assert_eq!(done.stream_bytes, tar.len() as u64);
    // How its files are found makes no difference.
    let mut settled = Vec::new();
    let same = pack(thing.as_fd(), &mut settled, &PackOptions { is_settled: true, ..*options }).unwrap();
    assert!((settled == tar) && (same == done), "{same:?}, not {done:?}");
    (tar, done)
}

/// The archive's names, links with what they lead to.
pub(super) fn list(tar: &[u8]) -> Vec<String> {
    let limits = Limits::default();
    let mut members = Members::new(tar, &limits);
    let mut names = Vec::new();
    while let Some(member) = members.next_member().unwrap() {
        let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
        names.push(match &member.link[..] {
            b"" => text(&member.name),
            link => format!("{} -> {}", text(&member.name), text(link)),
        });
    }
    names
}

fn device(path: PathBuf, kind: FileType, mode: u32, device: u64) {
    mknodat(CWD, path, kind, Mode::from_raw_mode(mode), device).unwrap();
}

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("skipped: only root makes devices and owners");
    }
    root
}

/// One of everything.
fn everything(root: &Path) {
    let at = |name: &str| root.join(name);
    let long = "long".repeat(60);
    for dir in ["a/b", "empty", &format!("{long}/{long}/{long}"), "sticky"] {
        fs::create_dir_all(at(dir)).unwrap();
    }
    fs::write(at("a/file"), "content").unwrap();
    fs::write(at("a/b/exactly"), vec![7; 1024]).unwrap();
    fs::write(at("a/none"), "").unwrap();
    fs::write(at(&format!("{long}/{long}/{long}/{long}")), "deep").unwrap();
    fs::hard_link(at("a/file"), at("a/b/link")).unwrap();
    fs::hard_link(at("a/file"), at(&format!("{long}/{long}/link"))).unwrap();
    symlink("../../etc/passwd", at("a/out")).unwrap();
    symlink("x".repeat(300), at("long link")).unwrap();
    fs::hard_link(at("a/out"), at("same link")).unwrap();
    for bytes in [&b"\xff\xfe"[..], b"new\nline", b"%=", b"  ", b".wh.x", b"back\\slash"] {
        fs::write(root.join(std::ffi::OsString::from_vec(bytes.to_vec())), bytes).unwrap();
    }
    File::create(at("hole")).unwrap().set_len(3 << 20).unwrap();
    device(at("fifo"), FileType::Fifo, 0o640, 0);
    device(at("null"), FileType::CharacterDevice, 0o666, makedev(1, 3));
    device(at("large"), FileType::BlockDevice, 0o600, makedev(4095, 1_048_575));
    fs::hard_link(at("null"), at("zero")).unwrap();
    for (name, uid, gid) in
        [("a/file", 1000, 2_097_151), ("a/none", 2_097_152, 4_294_967_294), ("a/out", 3, 4), ("a", 5, 6)]
    {
        lchown(at(name), Some(uid), Some(gid)).unwrap();
    }
    let set = |name: &str, key: &str, value: &[u8]| setxattr(at(name), key, value, XattrFlags::empty());
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    set("a/none", "security.capability", &capability).unwrap();
    set("a/b/exactly", "user.a=b%c", b"x\n\0y").unwrap();
    set("a/b", "user.dir", b"").unwrap();
    for (name, mode) in [("a/file", 0o4755), ("sticky", 0o1777), ("a/b/exactly", 0o2000), ("empty", 0)] {
        fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    for (name, moment) in [
        ("a/file", UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789)),
        ("a/none", UNIX_EPOCH - Duration::new(5, 500_000_000)),
        ("a/b/exactly", UNIX_EPOCH + Duration::from_secs(1 << 33)),
        ("empty", UNIX_EPOCH + Duration::from_secs(1 << 30)),
        ("a", UNIX_EPOCH + Duration::new(7, 10)),
    ] {
        File::open(at(name)).unwrap().set_modified(moment).unwrap();
    }
}

#[test]
fn what_is_packed_is_unpacked_the_same() {
    if !is_root() {
        return;
    }
    let scratch = Scratch::new();
    let source = scratch.empty("source");
    everything(&source);
    fs::remove_file(source.join(".wh.x")).unwrap();
    let before = tree(&source, ALL);
    let (tar, done) = packed(&source, &PLAIN);
    assert_eq!((done.left_out, done.entries), (0, before.len() as u64), "{done:?}");
    assert_eq!(packed(&source, &PLAIN).0, tar, "it is the same each time");
    scratch.unpack("ours", &tar[..]).unwrap();
    let mut ours = tree(&scratch.path("ours"), ALL);
    // The times of the root change when a name is made in it.
    assert_same(&ours, &before, "unpack");
    assert_eq!(packed(&scratch.path("ours"), &PLAIN).0, tar, "and of what was unpacked");

    if have("tar") {
        let archive = scratch.path("archive.tar");
        fs::write(&archive, &tar).unwrap();
        let theirs = scratch.empty("theirs");
        let out = gnu_tar(&archive, &theirs);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let mut theirs = tree(&theirs, ALL);
        // GNU tar sets no fraction of a time before 1970 as others do.
        for tree in [&mut ours, &mut theirs] {
            tree.remove(&b"a/none"[..]);
        }
        assert_same(&ours, &theirs, "GNU tar");
    }
}

#[test]
fn debian_is_packed_as_it_is() {
    let Some(archive) = debian() else { return };
    let scratch = Scratch::new();
    scratch.unpack("first", File::open(&archive).unwrap()).unwrap();
    let begun = std::time::Instant::now();
    let (tar, done) = packed(&scratch.path("first"), &PLAIN);
    println!("{done:?} in {:?}", begun.elapsed());
    scratch.unpack("second", &tar[..]).unwrap();
    assert_same(&tree(&scratch.path("second"), ALL), &tree(&scratch.path("first"), ALL), "Debian");
}

/// `.wh.` means nothing in a tree that is no layer, and what stands for nothing in an archive is left out.
#[test]
fn the_root_is_named_as_asked() {
    let scratch = Scratch::new();
    let source = scratch.empty("source");
    fs::create_dir_all(source.join("dir/sub")).unwrap();
    for file in ["file", "dir/file", "dir/sub/.wh.x"] {
        fs::write(source.join(file), "x").unwrap();
    }
    fs::hard_link(source.join("file"), source.join("dir/link")).unwrap();
    let _socket = UnixListener::bind(source.join("socket")).unwrap();
    let listed = |root, leave_out| list(&packed(&source, &PackOptions { root, leave_out, ..PLAIN }).0);
    assert_eq!(
        listed(None, &[]),
        ["dir/", "dir/file", "dir/link", "dir/sub/", "dir/sub/.wh.x", "file -> dir/link"]
    );
    assert_eq!(listed(Some(b"x/y"), &[b"dir"]), ["x/y/", "x/y/file"]);
    assert_eq!(
        listed(Some(b"."), &[b"file"]),
        ["./", "./dir/", "./dir/file", "./dir/link", "./dir/sub/", "./dir/sub/.wh.x"]
    );
    assert_eq!(listed(Some(b"."), &[b"dir/link", b"dir/sub", b"file"]), ["./", "./dir/", "./dir/file"]);
    let one = |path: &str, options| list(&packed(&source.join(path), options).0);
    assert_eq!(one("file", &PackOptions { root: Some(b"name"), ..PLAIN }), ["name"]);
    symlink("to", source.join("link")).unwrap();
    assert_eq!(one("link", &PackOptions { root: Some(b"l"), ..PLAIN }), ["l -> to"]);
    let file = File::open(source.join("file")).unwrap();
    let refused = pack(file.as_fd(), std::io::sink(), &PackOptions::default()).unwrap_err();
    assert!(refused.to_string().contains("has no name"), "{refused}");
}

/// What overlayfs made of changes is packed, unpacked, and stacked again: the same tree.
#[test]
fn an_upper_directory_becomes_a_layer() {
    if !is_root() {
        return;
    }
    let scratch = Scratch::new();
    let [lower, upper, work, stage] = ["lower", "upper", "work", "stage"].map(|name| scratch.empty(name));
    for dir in ["gone/sub", "anew/old", "kept/deep", "replaced"] {
        fs::create_dir_all(lower.join(dir)).unwrap();
        fs::write(lower.join(dir).join("file"), dir).unwrap();
    }
    let longest = "n".repeat(255);
    for file in ["kept/removed", "kept/changed", "kept/to-dir", &longest] {
        fs::write(lower.join(file), "lower").unwrap();
    }
    let stack = |lowers: &[PathBuf], upper: &Path, work: &Path| {
        Overlay { lowers, upper, work, volatile: false, stage: &stage }.mount().unwrap()
    };
    let changed = {
        let mount = stack(std::slice::from_ref(&lower), &upper, &work);
        let at = |name: &str| PathBuf::from(format!("/proc/self/fd/{}/{name}", mount.as_raw_fd()));
        for dir in ["gone", "anew", "replaced"] {
            fs::remove_dir_all(at(dir)).unwrap();
        }
        for file in ["kept/removed", "kept/to-dir", &longest] {
            fs::remove_file(at(file)).unwrap();
        }
        fs::create_dir(at("anew")).unwrap();
        fs::write(at("anew/new"), "new").unwrap();
        fs::write(at("replaced"), "a file").unwrap();
        fs::write(at("kept/changed"), "changed").unwrap();
        fs::create_dir(at("kept/to-dir")).unwrap();
        fs::write(at("kept/.wh.file"), "would hide file").unwrap();
        fs::write(at("kept/plain"), "p").unwrap();
        fs::remove_file(at("kept/.wh.file")).unwrap();
        tree(&at("."), ALL)
    };
    fs::write(upper.join("kept/.wh.file"), "would hide file").unwrap();
    let (tar, done) = packed(&upper, &UPPER);
    assert_eq!(done.left_out, 1, "{done:?}");
    assert_eq!(done.first_left_out.unwrap().0, b"./kept/.wh.file");
    let names = list(&tar);
    for whiteout in ["./.wh.gone", "./anew/.wh..wh..opq", "./kept/.wh.removed", &format!("./.wh.{longest}")] {
        assert!(names.iter().any(|name| name == whiteout), "{whiteout}: {names:?}");
    }
    // What a nested overlay writes, which has no device 0:0.
    fs::write(upper.join("kept/nested"), "").unwrap();
    setxattr(upper.join("kept/nested"), "trusted.overlay.whiteout", b"", XattrFlags::empty()).unwrap();
    assert!(list(&packed(&upper, &UPPER).0).contains(&"./kept/.wh.nested".to_owned()));
    fs::remove_file(upper.join("kept/nested")).unwrap();

    scratch.unpack("layer", &tar[..]).unwrap();
    let (empty, work) = (scratch.empty("empty"), scratch.empty("work2"));
    let mount = stack(&[lower, scratch.path("layer")], &empty, &work);
    let again = tree(&PathBuf::from(format!("/proc/self/fd/{}/.", mount.as_raw_fd())), ALL);
    let strip = |mut tree: super::tree::Tree| {
        tree.remove(&b""[..]);
        tree
    };
    // The directory was written to behind the overlay's back.
    let (mut again, mut changed) = (strip(again), strip(changed));
    again.remove(&b"kept"[..]);
    changed.remove(&b"kept"[..]);
    assert_same(&again, &changed, "stacked again");
}

#[test]
fn an_upper_directory_without_its_data_is_refused() {
    if !is_root() {
        return;
    }
    let scratch = Scratch::new();
    let upper = scratch.empty("upper");
    fs::create_dir(upper.join("d")).unwrap();
    fs::write(upper.join("f"), "").unwrap();
    for (name, key) in [("d", "trusted.overlay.redirect"), ("f", "trusted.overlay.metacopy")] {
        setxattr(upper.join(name), key, b"/x", XattrFlags::empty()).unwrap();
        let root = File::open(&upper).unwrap();
        let refused = pack(root.as_fd(), std::io::sink(), &UPPER).unwrap_err().to_string();
        assert!(refused.contains("it is not whole"), "{refused}");
        assert!(pack(root.as_fd(), std::io::sink(), &PLAIN).is_ok());
        rustix::fs::removexattr(upper.join(name), key).unwrap();
    }
}

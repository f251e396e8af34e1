//! Every kind of entry, written by GNU tar, bsdtar and Python in every format they have, read as GNU tar reads it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;
use std::process::Command;

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};

use super::build::{Names, Tar, dir, file, item, link, record};
use super::tree::{ALL, Look, Scratch, assert_same, gnu_tar, have, tree, unpack_into, xattrs};

/// A tree with one of everything.
fn specimen(root: &Path) {
    let at = |name: &str| root.join(name);
    fs::create_dir_all(at("dir/inner")).unwrap();
    fs::create_dir(at("empty")).unwrap();
    fs::write(at("dir/plain"), "plain").unwrap();
    fs::write(at("dir/inner/empty-file"), "").unwrap();
    fs::write(at("block"), [7; 512]).unwrap();
    fs::write(at("big"), vec![b'x'; 700_001]).unwrap();
    fs::hard_link(at("dir/plain"), at("link-one")).unwrap();
    fs::hard_link(at("dir/plain"), at("dir/inner/link-two")).unwrap();
    symlink("dir/plain", at("relative")).unwrap();
    symlink("/etc/passwd", at("absolute")).unwrap();
    symlink("nowhere/at all", at("dangling")).unwrap();
    let long = "n".repeat(98);
    fs::write(at(&long), "98").unwrap();
    fs::write(at(&"m".repeat(101)), "101").unwrap();
    fs::write(at(&"k".repeat(255)), "255").unwrap();
    fs::create_dir_all(at(&format!("{long}d/{long}/{long}/{long}"))).unwrap();
    fs::write(at(&format!("{long}d/{long}/{long}/{long}/file")), "deep").unwrap();
    fs::hard_link(at(&format!("{long}d/{long}/{long}/{long}/file")), at("zz-long-link")).unwrap();
    symlink("t".repeat(500), at("long-target")).unwrap();
    fs::write(root.join(OsStr::from_bytes(b"latin\xe9\xff")), "bytes").unwrap();
    fs::write(at("new\nline and \"quotes\" é"), "odd").unwrap();
    for (name, kind, major, minor) in [
        ("fifo", FileType::Fifo, 0, 0),
        ("null", FileType::CharacterDevice, 1, 3),
        ("far", FileType::CharacterDevice, 300, 70_000),
        ("loop", FileType::BlockDevice, 7, 5),
    ] {
        rustix::fs::mknodat(CWD, at(name), kind, Mode::RUSR, rustix::fs::makedev(major, minor)).unwrap();
    }
    for (name, mode) in [("setuid", 0o4755), ("setgid", 0o2755), ("none", 0), ("all", 0o7777)] {
        fs::write(at(name), name).unwrap();
        rustix::fs::chmod(at(name), Mode::from_raw_mode(mode)).unwrap();
    }
    for (name, uid, gid) in [
        ("dir/inner", 1000, 1001),
        ("setuid", 65534, 7),
        ("big", 3_000_000, 4_000_000_000),
        ("relative", 12, 13),
        ("null", 5, 6),
    ] {
        std::os::unix::fs::lchown(at(name), Some(uid), Some(gid)).unwrap();
    }
    // A chown takes setuid away.
    rustix::fs::chmod(at("setuid"), Mode::from_raw_mode(0o4755)).unwrap();
    rustix::fs::chmod(at("dir/inner"), Mode::from_raw_mode(0o3500)).unwrap();
    for (start, length, name) in [(1_000_000, 5000, "holes-end"), (0, 4096, "holes-start")] {
        let file = File::create(at(name)).unwrap();
        file.write_all_at(&vec![b'd'; length], start).unwrap();
        file.set_len(3_000_001).unwrap();
    }
    let file = File::create(at("holes-many")).unwrap();
    for segment in 0..60 {
        file.write_all_at(format!("segment {segment}").as_bytes(), segment * 65536).unwrap();
    }
    File::create(at("holes-only")).unwrap().set_len(5 << 20).unwrap();
    // cap_net_raw+ep, version 2 of the attribute.
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    rustix::fs::setxattr(at("all"), "security.capability", &capability, XattrFlags::empty()).unwrap();
    for name in ["dir/plain", "dir", "empty"] {
        rustix::fs::setxattr(at(name), "user.note=%", b"a\0b\nc=", XattrFlags::empty()).unwrap();
    }
    for (index, name) in
        ["none", "dir/inner", "dir", "dangling", "setuid", "fifo", "null", "."].iter().enumerate()
    {
        let time = Timespec { tv_sec: -86_400 + 1_000_000_000 * index as i64, tv_nsec: 123_456_789 };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(CWD, at(name), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

/// Compares our reading of an archive with GNU tar's.
fn compare(scratch: &Scratch, archive: &Path, what: &str) {
    let (theirs, ours) = (scratch.empty("theirs"), scratch.empty("ours"));
    let read = gnu_tar(archive, &theirs);
    assert!(read.status.success(), "{what}: {}", String::from_utf8_lossy(&read.stderr));
    unpack_into(&ours, File::open(archive).unwrap())
        .unwrap_or_else(|error| panic!("{what}: {error}: {error:?}"));
    let (ours, theirs) = (tree(&ours, ALL), tree(&theirs, ALL));
    assert!(theirs.len() > 20, "{what}: only {} entries", theirs.len());
    assert_same(&ours, &theirs, what);
}

#[test]
fn gnu_tar_in_all_formats() {
    let scratch = Scratch::new();
    let source = scratch.empty("source");
    specimen(&source);
    let archive = scratch.path("a.tar");
    for arguments in [
        "--format=posix --xattrs --xattrs-include=*",
        "--format=posix -S --sparse-version=0.0 --xattrs --xattrs-include=*",
        "--format=posix -S --sparse-version=0.1",
        "--format=posix -S --sparse-version=1.0 --xattrs --xattrs-include=*",
        "--format=posix --pax-option=globexthdr.name=g,comment=hello,mtime=12345.5 ",
        "--format=gnu",
        "--format=gnu -S",
        "--format=gnu -S --label=volume",
        "--format=gnu --incremental",
        "--format=oldgnu -S",
        "--format=ustar",
        "--format=v7",
    ] {
        // ustar and v7 cannot hold some entries: tar says so, leaves them out, and exits 2.
        let made = Command::new("tar")
            .args(arguments.split_whitespace())
            .arg("-cf")
            .arg(&archive)
            .arg("-C")
            .arg(&source)
            .arg(".")
            .output()
            .unwrap();
        assert!(made.status.code().is_some_and(|code| code == 0 || code == 2), "{made:?}");
        compare(&scratch, &archive, arguments);
    }
}

#[test]
fn holes_stay_holes() {
    let scratch = Scratch::new();
    let source = scratch.empty("source");
    specimen(&source);
    let archive = scratch.path("a.tar");
    let made = Command::new("tar")
        .args(["--format=posix", "-S", "-cf"])
        .arg(&archive)
        .arg("-C")
        .arg(&source)
        .arg(".")
        .status();
    assert!(made.unwrap().success());
    let look = Look { times: false, holes: true };
    let ours = scratch.empty("ours");
    unpack_into(&ours, File::open(&archive).unwrap()).unwrap();
    let before = tree(&source, look);
    let after = tree(&ours, look);
    for name in ["holes-end", "holes-start", "holes-many", "holes-only"] {
        assert_eq!(after[name.as_bytes()], before[name.as_bytes()], "{name}");
    }
    assert!(after[&b"holes-only"[..]].contains(" 0 KiB"), "{}", after[&b"holes-only"[..]]);
}

#[test]
fn bsdtar_in_all_formats() {
    if !have("bsdtar") {
        return;
    }
    let scratch = Scratch::new();
    let source = scratch.empty("source");
    specimen(&source);
    let archive = scratch.path("a.tar");
    for arguments in
        ["--format pax", "--format pax --no-xattrs", "--format gnutar", "--format ustar", "--format v7"]
    {
        let made = Command::new("bsdtar")
            .args(arguments.split(' '))
            .arg("-cf")
            .arg(&archive)
            .arg("-C")
            .arg(&source)
            .arg(".")
            .output()
            .unwrap();
        assert!(made.status.code().is_some_and(|code| code == 0 || code == 1), "{arguments}: {made:?}");
        compare(&scratch, &archive, &format!("bsdtar {arguments}"));
    }
}

#[test]
fn python_in_all_formats() {
    if !have("python3") {
        return;
    }
    let scratch = Scratch::new();
    let source = scratch.empty("source");
    specimen(&source);
    let archive = scratch.path("a.tar");
    let program = "
import os, sys, tarfile
form, out, source = sys.argv[1:]
with tarfile.open(out, 'w', format=getattr(tarfile, form), errors='surrogateescape') as tar:
    def add(path, name):
        try:
            tar.add(path, name, recursive=False)
        except ValueError:
            pass
    add(source, '.')
    for top, dirs, files in os.walk(source):
        for name in sorted(dirs + files):
            path = os.path.join(top, name)
            add(path, os.path.relpath(path, source))
";
    for format in ["PAX_FORMAT", "GNU_FORMAT", "USTAR_FORMAT"] {
        let made =
            Command::new("python3").args(["-c", program, format]).args([&archive, &source]).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        compare(&scratch, &archive, format);
    }
}

#[test]
fn later_entries_replace_earlier_ones() {
    let scratch = Scratch::new();
    let items = [
        dir("d"),
        file("d/below/deep/file", "gone"),
        file("f", "first"),
        link(b'1', "hard", "f"),
        file("f", "second"),
        file("d", "a file where a directory was"),
        link(b'2', "s", "elsewhere"),
        dir("s"),
        file("s/inside", "in the directory, not behind the link"),
        file("was-file", "gone"),
        dir("was-file/"),
        link(b'1', "f", "f"),
        file("implied/by/name", "x"),
        dir("twice"),
        file("twice/kept", "kept"),
        dir("twice"),
    ];
    scratch.unpack("root", &Tar::of(&items).end()[..]).unwrap();
    let root = scratch.path("root");
    let read = |name: &str| fs::read_to_string(root.join(name)).unwrap();
    assert_eq!(read("d"), "a file where a directory was");
    assert_eq!((read("f"), read("hard")), ("second".to_owned(), "first".to_owned()));
    assert!(root.join("s/inside").is_file() && !root.join("elsewhere").exists());
    assert!(root.join("was-file").is_dir());
    assert_eq!(read("twice/kept"), "kept");
    let look = Look { times: false, holes: false };
    assert_eq!(tree(&root, look)[&b"implied"[..]], "40755 0:0 dev 0");
    assert_eq!(
        tree(&root, look)[&b""[..]],
        "40755 0:0 dev 0",
        "the root when the archive does not speak of it"
    );
}

#[test]
fn a_very_deep_directory_gives_way_to_a_file() {
    let scratch = Scratch::new();
    let deep = "d/".repeat(1500);
    let items =
        [file(format!("{deep}one"), "1").named(Names::Pax), file("d/d/d/two", "2"), file("d", "flat")];
    scratch.unpack("root", &Tar::of(&items).end()[..]).unwrap();
    assert_eq!(fs::read_to_string(scratch.path("root/d")).unwrap(), "flat");
}

#[test]
fn links_of_the_layer_lead_inside_the_layer() {
    let scratch = Scratch::new();
    let items = [
        dir("usr/lib"),
        link(b'2', "lib", "usr/lib"),
        file("lib/through", "1"),
        link(b'2', "abs", "/usr/lib"),
        file("abs/also", "2"),
        link(b'2', "dangling", "/not/../yet/there"),
        file("dangling/made", "3"),
        link(b'1', "hard", "abs/through"),
        dir("lib/sub"),
        link(b'2', "loop", "loop"),
    ];
    scratch.unpack("root", &Tar::of(&items).end()[..]).unwrap();
    let root = scratch.path("root");
    for name in ["usr/lib/through", "usr/lib/also", "yet/there/made", "hard", "usr/lib/sub"] {
        assert!(fs::symlink_metadata(root.join(name)).is_ok(), "{name}");
    }
    let looped = [&items[..], &[file("loop/x", "")]].concat();
    let error = scratch.unpack("root", &Tar::of(&looped).end()[..]).unwrap_err();
    assert_eq!(error.to_string(), "open layer entry loop/x");
}

#[test]
fn attributes_that_are_not_the_image_s_are_left_out() {
    let scratch = Scratch::new();
    let mut item = dir("d");
    for key in [
        "trusted.overlay.opaque",
        "trusted.overlay.redirect",
        "trusted.other",
        "user.overlay.opaque",
        "user.overlay.whiteout",
        "security.selinux",
        "security.ima",
        "system.nfs4_acl",
        "user.kept",
    ] {
        item = item.pax(&format!("SCHILY.xattr.{key}"), "y");
    }
    let summary = scratch.unpack("root", &Tar::of([&item]).end()[..]).unwrap();
    assert_eq!(summary.xattrs_left_out, 8);
    assert_eq!(xattrs(&scratch.path("root/d")).keys().collect::<Vec<_>>(), ["user.kept"]);
}

#[test]
fn a_stream_may_end_without_its_zeros_and_is_read_to_its_end() {
    let scratch = Scratch::new();
    let mut tar = Tar::of([&file("f", "data")]);
    scratch.unpack("root", &tar.bytes[..]).unwrap();
    tar.bytes.extend([0; 512]);
    scratch.unpack("root", &tar.bytes[..]).unwrap();
    tar.bytes.extend([0; 512 * 19]);
    let mut reader = &tar.bytes[..];
    let summary = scratch.unpack("root", &mut reader).unwrap();
    assert!(reader.is_empty(), "a digest taken on the way would miss {} bytes", reader.len());
    assert_eq!(summary.stream_bytes, tar.bytes.len() as u64);
}

#[test]
fn owners_and_devices_beyond_their_fields() {
    let scratch = Scratch::new();
    let mut device = item(b'3', "dev").pax("SCHILY.devmajor", "400").pax("SCHILY.devminor", "300000");
    device.device = (1, 1);
    let items = [file("f", "x").pax("uid", "4294967294").pax("gid", "3000000000"), device];
    scratch.unpack("root", &Tar::of(&items).end()[..]).unwrap();
    let tree = tree(&scratch.path("root"), Look { times: false, holes: false });
    assert!(tree[&b"f"[..]].starts_with("100644 4294967294:3000000000 "), "{tree:?}");
    assert!(tree[&b"dev"[..]].contains(&format!("dev {:x} ", rustix::fs::makedev(400, 300_000))), "{tree:?}");
    for (key, value) in [("uid", "4294967295"), ("gid", "4294967296"), ("uid", "-1"), ("uid", "0x10")] {
        let tar = Tar::of([&file("f", "x").pax(key, value)]);
        assert!(scratch.unpack("root", &tar.end()[..]).is_err(), "{key}={value}");
    }
    assert_eq!(record("uid", b"1"), b"8 uid=1\n");
}

//! Trees that are made to be hard to pack, and that change while they are packed.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, FileType, Mode, OFlags, RenameFlags};

use super::pack::{list, packed};
use super::tree::{Scratch, unpack_into};
use crate::layer::{PackOptions, pack};

const NO_NAME: PackOptions<'_> = PackOptions {
    tree: crate::layer::TreeKind::Plain,
    root: None,
    leave_out: &[],
    ids: None,
    is_settled: false,
};

/// A chain of directories, from one to the next; the innermost is given.
fn chain(root: &Path, depth: usize, each: impl Fn(&OwnedFd, usize)) -> OwnedFd {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut here = rustix::fs::open(root, flags, Mode::empty()).unwrap();
    for level in 0..depth {
        each(&here, level);
        rustix::fs::mkdirat(&here, "d", Mode::RWXU).unwrap();
        here = rustix::fs::openat(&here, "d", flags, Mode::empty()).unwrap();
    }
    here
}

/// Tells the threads to end, also when the test fails.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Writes, and does something once when so many bytes were written.
struct Then<'a, F> {
    into: &'a mut Vec<u8>,
    at: usize,
    act: Option<F>,
}

impl<F: FnOnce()> Write for Then<'_, F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.into.extend_from_slice(bytes);
        if self.into.len() > self.at
            && let Some(act) = self.act.take()
        {
            act();
        }
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn touch(dir: &OwnedFd, name: &str) {
    let flags = OFlags::WRONLY | OFlags::CREATE;
    rustix::fs::openat(dir, name, flags, Mode::RUSR).unwrap();
}

/// Counts the descriptors whenever something is written.
struct Watch(usize);
impl Write for Watch {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.max(fs::read_dir("/proc/self/fd").unwrap().count());
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Far deeper than a name can be: what has a name is there, the rest is counted, and few descriptors are open.
#[test]
fn depth_costs_nothing() {
    let scratch = Scratch::new();
    let root = scratch.empty("deep");
    // Files before and after the directory in the order of names: each level is come back to, or every other.
    chain(&root, 5000, |dir, level| {
        touch(dir, "a");
        if level % 2 == 0 {
            touch(dir, "z");
        }
    });
    let (tar, done) = packed(&root, &NO_NAME);
    let names = list(&tar);
    assert_eq!(names.len(), 2047 + 2047 + 1024, "as many as have names of 4094 bytes");
    assert_eq!(done.left_out, 1 + 1, "{done:?}");
    assert!(names.iter().any(|name| *name == format!("{}z", "d/".repeat(2046))));
    // Other tests open some at the same time, but not hundreds.
    let mut watch = Watch(0);
    pack(File::open(&root).unwrap().as_fd(), &mut watch, &NO_NAME).unwrap();
    assert!(watch.0 < 400, "{} descriptors", watch.0);
}

/// Each level is moved away as soon as the walk is below it, and what takes its place has the rest of its names.
#[test]
fn a_directory_that_is_moved_is_found_by_its_name() {
    let scratch = Scratch::new();
    let (root, aside) = (scratch.empty("root"), scratch.empty("aside"));
    chain(&root, 100, |dir, _| touch(dir, "z"));
    let deep = "d/".repeat(100);
    fs::write(root.join(&deep).join("big"), vec![1; 1 << 20]).unwrap();
    // Level 30 hangs elsewhere; another, with a file of that name, takes its place.
    let move_it = || {
        let level = root.join("d/".repeat(30));
        fs::rename(&level, aside.join("d")).unwrap();
        fs::create_dir(&level).unwrap();
        fs::write(level.join("z"), "other").unwrap();
    };
    let mut tar = Vec::new();
    let mut into = Then { into: &mut tar, at: 300 << 10, act: Some(move_it) };
    let done = pack(File::open(&root).unwrap().as_fd(), &mut into, &NO_NAME).unwrap();
    assert!(into.act.is_none());
    assert!(list(&tar).contains(&format!("{}z", "d/".repeat(30))));
    // 100 directories; `big`; `z` of those levels that can be reached: the 12 innermost that were open and 30 others with their
    // replacement at least.
    assert!(done.entries >= 101 + 43, "{done:?}");
}

/// What is there when it is looked at is another thing when it is opened: nothing of the host is in the archive, each archive is whole,
/// and nothing waits.
#[test]
fn swapped_things_are_never_followed() {
    let scratch = Scratch::new();
    let root = scratch.empty("root");
    let at = |name: String| root.join(name);
    for n in 0..40 {
        fs::create_dir(at(format!("dir{n}"))).unwrap();
        fs::write(at(format!("dir{n}/secret")), "inside").unwrap();
        fs::write(at(format!("file{n}")), "inside").unwrap();
        symlink(scratch.path("canary"), at(format!("xdir{n}"))).unwrap();
        symlink(scratch.path("canary/secret"), at(format!("xfile{n}"))).unwrap();
        rustix::fs::mknodat(CWD, at(format!("yfile{n}")), FileType::Fifo, Mode::RUSR, 0).unwrap();
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for half in 0..2 {
            let (at, done) = (&at, &done);
            scope.spawn(move || {
                let swap = |one: String, other: String| {
                    rustix::fs::renameat_with(CWD, at(one), CWD, at(other), RenameFlags::EXCHANGE).unwrap();
                };
                while !done.load(Ordering::Relaxed) {
                    for n in (0..40).filter(|n| n % 2 == half) {
                        swap(format!("dir{n}"), format!("xdir{n}"));
                        swap(format!("file{n}"), format!("xfile{n}"));
                        swap(format!("file{n}"), format!("yfile{n}"));
                    }
                }
            });
        }
        let _done = Done(&done);
        let file = File::open(&root).unwrap();
        for round in 0..300 {
            let mut tar = Vec::new();
            pack(file.as_fd(), &mut tar, &NO_NAME).unwrap();
            assert!(list(&tar).len() >= 40 * 5, "{round}");
            assert!(!tar.windows(9).any(|window| window == b"untouched"), "{round}: the host's");
        }
    });
}

/// A file has the size in the archive that it had when it was looked at, whatever it becomes while it is read.
#[test]
fn sizes_that_change_leave_the_archive_whole() {
    let scratch = Scratch::new();
    let root = scratch.empty("root");
    let path = root.join("changing");
    fs::write(root.join("next"), "next").unwrap();
    for now in [0, 1, 200_000, 999_999, 1_000_001, 3_000_000] {
        fs::write(&path, vec![b'x'; 1_000_000]).unwrap();
        let change = || File::options().write(true).open(&path).unwrap().set_len(now).unwrap();
        let mut tar = Vec::new();
        let mut into = Then { into: &mut tar, at: 300 << 10, act: Some(change) };
        pack(File::open(&root).unwrap().as_fd(), &mut into, &NO_NAME).unwrap();
        assert!(into.act.is_none());
        assert_eq!(list(&tar), ["changing", "next"], "{now}");
        scratch.unpack("again", &tar[..]).unwrap();
        let data = fs::read(scratch.path("again/changing")).unwrap();
        assert_eq!(data.len(), 1_000_000, "{now}");
        let end = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
        assert!(data[end..].iter().all(|byte| *byte == 0), "{now}: zeros from {end}");
    }
}

/// What has the number of a file that was met, and does not look like it any more, is written itself: it may be another one.
#[test]
fn a_number_that_is_another_files_is_no_link() {
    let scratch = Scratch::new();
    let root = scratch.empty("root");
    fs::write(root.join("a"), vec![b'x'; 1 << 20]).unwrap();
    fs::hard_link(root.join("a"), root.join("b")).unwrap();
    let mut tar = Vec::new();
    assert_eq!(list(&packed(&root, &NO_NAME).0), ["a", "b -> a"]);
    let change = || File::options().write(true).open(root.join("b")).unwrap().set_len(3).unwrap();
    let mut into = Then { into: &mut tar, at: 300 << 10, act: Some(change) };
    pack(File::open(&root).unwrap().as_fd(), &mut into, &NO_NAME).unwrap();
    assert_eq!(list(&tar), ["a", "b"]);
}

/// Attributes of more bytes than an archive's reader takes do not make the archive one that it refuses.
#[test]
fn attributes_have_a_limit() {
    let scratch = Scratch::new();
    // Where a file may have large ones.
    let memory = tempfile::tempdir_in("/dev/shm");
    let root = memory.as_ref().map_or_else(|_| scratch.empty("root"), |dir| dir.path().to_owned());
    let path = root.join("file");
    fs::write(&path, "x").unwrap();
    let mut set = 0;
    for n in 0..100 {
        let value = vec![b'v'; 60_000];
        let name = CString::new(format!("user.{n}")).unwrap();
        if rustix::fs::setxattr(&path, &name, &value, rustix::fs::XattrFlags::empty()).is_err() {
            break;
        }
        set += 1;
    }
    let (tar, done) = packed(&root, &NO_NAME);
    println!("{set} attributes of 60,000 bytes: {done:?}");
    assert_eq!(done.left_out, u64::from(set > 8));
    // Beside it: this file system takes what was packed.
    let again = root.join("again");
    fs::create_dir(&again).unwrap();
    unpack_into(&again, &tar[..]).unwrap();
}

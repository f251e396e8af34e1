//! A tree on disk as a value to compare, and the places tests unpack into.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use crate::layer::{Limits, Summary, UnpackError, unpack};

/// All that an entry of a tree is, one line an entry.
pub(super) type Tree = BTreeMap<Vec<u8>, String>;

/// What of an entry is compared.
#[derive(Clone, Copy)]
pub(super) struct Look {
    pub(super) times: bool,
    pub(super) holes: bool,
}

pub(super) const ALL: Look = Look { times: true, holes: false };

/// Reads a tree whole. The first name of an inode, in order, stands for the group of its links.
pub(super) fn tree(root: &Path, look: Look) -> Tree {
    let mut all = Tree::new();
    let mut inodes = HashMap::new();
    let mut left = vec![root.to_owned()];
    let mut paths = Vec::new();
    while let Some(path) = left.pop() {
        if fs::symlink_metadata(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).is_dir()
        {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        paths.push(path);
    }
    paths.sort_by(|a, b| a.as_os_str().as_bytes().cmp(b.as_os_str().as_bytes()));
    for path in paths {
        let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
        let meta = fs::symlink_metadata(&path).unwrap();
        let mut line = format!("{:o} {}:{}", meta.mode(), meta.uid(), meta.gid());
        if look.times {
            write!(line, " {}.{:09}", meta.mtime(), meta.mtime_nsec()).unwrap();
        }
        if meta.is_symlink() {
            write!(line, " -> {}", fs::read_link(&path).unwrap().as_os_str().as_bytes().escape_ascii())
                .unwrap();
        } else if meta.is_file() {
            let mut hash = Sha256::new();
            std::io::copy(&mut File::open(&path).unwrap(), &mut hash).unwrap();
            write!(line, " {} bytes {:x}", meta.len(), hash.finalize()).unwrap();
            if look.holes {
                write!(line, " {} KiB", meta.blocks() / 2).unwrap();
            }
        } else {
            write!(line, " dev {:x}", meta.rdev()).unwrap();
        }
        if !meta.is_dir() {
            let first = inodes.entry(meta.ino()).or_insert_with(|| name.clone());
            write!(line, " links {} of {}", meta.nlink(), first.escape_ascii()).unwrap();
        }
        for (key, value) in xattrs(&path) {
            write!(line, " {key}={}", value.escape_ascii()).unwrap();
        }
        all.insert(name, line);
    }
    all
}

/// The extended attributes of one file, sorted.
pub(super) fn xattrs(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut list = vec![0; 65536];
    let length = rustix::fs::llistxattr(path, &mut list[..]).unwrap();
    let names = list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let value = |name: &[u8]| {
        let mut value = vec![0; 65536];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
        value.truncate(length);
        value
    };
    names.map(|name| (String::from_utf8_lossy(name).into_owned(), value(name))).collect()
}

/// Fails with the lines that differ, not with two whole trees.
pub(super) fn assert_same(ours: &Tree, theirs: &Tree, what: &str) {
    let mut differences = Vec::new();
    for (path, line) in theirs {
        match ours.get(path) {
            Some(own) if own == line => {}
            own => differences.push(format!("{}\n  rbox  {own:?}\n  other {line}", path.escape_ascii())),
        }
    }
    for path in ours.keys().filter(|path| !theirs.contains_key(*path)) {
        differences.push(format!("{}: only rbox has it", path.escape_ascii()));
    }
    let count = differences.len();
    differences.truncate(20);
    assert!(count == 0, "{what}: {count} differences\n{}", differences.join("\n"));
}

/// A directory to unpack into, beside a canary that nothing may touch.
pub(super) struct Scratch {
    pub(super) temp: tempfile::TempDir,
}

impl Scratch {
    pub(super) fn new() -> Self {
        let temp = tempfile::Builder::new().prefix("rbox-layer-").tempdir().unwrap();
        let scratch = Self { temp };
        for name in ["canary", "canary/inner"] {
            fs::create_dir(scratch.path(name)).unwrap();
        }
        for name in ["canary/secret", "canary/inner/file"] {
            fs::write(scratch.path(name), "untouched").unwrap();
            fs::set_permissions(scratch.path(name), fs::Permissions::from_mode(0o600)).unwrap();
        }
        scratch
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    /// Everything but what is unpacked.
    pub(super) fn outside(&self) -> Tree {
        let mut tree = tree(self.temp.path(), ALL);
        tree.retain(|path, _| path.starts_with(b"canary"));
        for entry in fs::read_dir(self.temp.path()).unwrap() {
            tree.insert(entry.unwrap().file_name().as_bytes().to_vec(), "present".to_owned());
        }
        tree
    }

    /// An empty directory `name`.
    pub(super) fn empty(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => panic!("{error}"),
            _ => fs::create_dir(&path).unwrap(),
        }
        path
    }

    /// Unpacks into the empty directory `name`.
    pub(super) fn unpack(&self, name: &str, tar: impl Read) -> Result<Summary, UnpackError> {
        unpack_into(&self.empty(name), tar)
    }
}

pub(super) fn unpack_into(path: &Path, tar: impl Read) -> Result<Summary, UnpackError> {
    unpack(tar, File::open(path).unwrap().as_fd(), &Limits::default())
}

/// Whether a program is there; says so when it is not.
pub(super) fn have(program: &str) -> bool {
    let found =
        std::env::split_paths(&std::env::var_os("PATH").unwrap()).any(|path| path.join(program).exists());
    if !found {
        println!("skipped: {program} is not installed");
    }
    found
}

/// GNU tar's reading of an archive.
pub(super) fn gnu_tar(archive: &Path, into: &Path) -> std::process::Output {
    Command::new("tar")
        .args([
            "-x",
            "--xattrs",
            "--xattrs-include=*",
            "--numeric-owner",
            "--delay-directory-restore",
            "-p",
            "-f",
        ])
        .arg(archive)
        .arg("-C")
        .arg(into)
        .output()
        .unwrap()
}

//! Several layers made one, on the same base.
//!
//! The result is what an overlay's upper directory would be in which all of it was done at once: what was made and removed on the way is
//! not in it, and whiteouts and opaque directories are there where the base has something to hide. Files are hard links to those of the
//! layers: names that are one file stay one, and nothing is copied. Whoever keeps it makes copies.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rbox_sys::inode::Inode;
use rustix::fs::{AtFlags, FileType, Gid, Mode, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use super::change::{ChangesError, as_path};
use super::lower::{Found, Lowers, list};

/// Layers that become one.
#[derive(Debug, Clone, Copy)]
pub struct Squashed<'a> {
    /// All layers, base first.
    pub layers: &'a [PathBuf],
    /// How many of them are the base, and stay.
    pub base: usize,
}

/// A directory that is still to be filled.
struct Todo {
    path: Vec<u8>,
    /// The layers whose directories are merged in it, the topmost first.
    layers: Vec<usize>,
    /// Those of the base that have it, hidden or not.
    base: Vec<usize>,
}

/// Writes what the layers above the base come to into `into`, an empty directory of the same file system.
///
/// # Errors
/// A layer cannot be read, or the directory cannot be written.
pub fn squash(squashed: Squashed<'_>, into: &Path) -> Result<(), ChangesError> {
    let lowers = Lowers { dirs: squashed.layers };
    let base: Vec<usize> = (0..squashed.base).rev().collect();
    let root = Todo { path: Vec::new(), layers: lowers.all(), base };
    let mut squash = Squash { lowers, base: squashed.base, into, left: vec![root], made: Vec::new() };
    while let Some(next) = squash.left.pop() {
        squash.fill(&next)?;
    }
    // What is made in a directory changes its time: those come last, the innermost first.
    while let Some((path, layer)) = squash.made.pop() {
        squash.finish(&path, layer)?;
    }
    Ok(())
}

struct Squash<'a> {
    lowers: Lowers<'a>,
    base: usize,
    into: &'a Path,
    left: Vec<Todo>,
    /// The directories that were made, and the layer that each is as in.
    made: Vec<(Vec<u8>, usize)>,
}

impl Squash<'_> {
    fn fill(&mut self, todo: &Todo) -> Result<(), ChangesError> {
        let path = &todo.path;
        let above: Vec<usize> = todo.layers.iter().copied().filter(|layer| *layer >= self.base).collect();
        // The topmost layer that says something of a name.
        let mut names: BTreeMap<CString, usize> = BTreeMap::new();
        let mut open = BTreeMap::new();
        for layer in above {
            let Some(dir) = self.lowers.open(layer, path)? else { continue };
            for name in list(&dir).map_err(ChangesError::call("getdents64", path))? {
                names.entry(name).or_insert(layer);
            }
            open.insert(layer, dir);
        }
        if let Some(top) = open.keys().next_back() {
            self.made.push((path.clone(), *top));
        }
        let (names, from): (Vec<CString>, Vec<usize>) = names.into_iter().unzip();
        let all = self.lowers.look(&todo.layers, path, &names)?;
        let below = self.lowers.look(&todo.base, path, &names)?;
        let sees_base = todo.layers.iter().any(|layer| *layer < self.base);
        let into = self.opened(path)?;
        for (((name, layer), found), base) in names.iter().zip(from).zip(&all).zip(&below) {
            if found.is_directory() {
                self.directory(todo, &into, name, found, base, sees_base)?;
            } else if found.stat.is_some() {
                let dir = open.get(&layer).ok_or_else(|| ChangesError::Moved(as_path(path).to_owned()))?;
                rustix::fs::linkat(dir, name, &into, name, AtFlags::empty())
                    .map_err(ChangesError::call_at("linkat", path, name))?;
            } else if base.stat.is_some() && sees_base {
                let device = FileType::CharacterDevice;
                rustix::fs::mknodat(&into, name, device, Mode::empty(), 0)
                    .map_err(ChangesError::call_at("mknodat", path, name))?;
            }
        }
        Ok(())
    }

    /// Makes a directory; it is opaque where what the base has under its name does not show.
    fn directory(
        &mut self,
        todo: &Todo,
        into: &OwnedFd,
        name: &CStr,
        found: &Found,
        base: &Found,
        sees_base: bool,
    ) -> Result<(), ChangesError> {
        let failed = |call| ChangesError::call_at(call, &todo.path, name);
        rustix::fs::mkdirat(into, name, Mode::RWXU).map_err(failed("mkdirat"))?;
        let shows = found.layers.iter().any(|layer| *layer < self.base);
        if sees_base && base.is_directory() && !shows {
            let made = Inode::beneath(into, name).map_err(failed("openat2"))?;
            made.set_xattr(b"trusted.overlay.opaque", b"y").map_err(failed("setxattr"))?;
        }
        let path = [&todo.path[..], b"/", name.to_bytes()].concat();
        let base = if base.is_directory() { base.layers.clone() } else { Vec::new() };
        self.left.push(Todo { path, layers: found.layers.clone(), base });
        Ok(())
    }

    /// A directory of the result.
    fn opened(&self, path: &[u8]) -> Result<OwnedFd, ChangesError> {
        let result = [self.into.to_owned()];
        let there = Lowers { dirs: &result }.open(0, path)?;
        there.ok_or_else(|| ChangesError::Moved(as_path(path).to_owned()))
    }

    /// Gives a directory the owner, mode, attributes and time that it has in a layer.
    fn finish(&self, path: &[u8], layer: usize) -> Result<(), ChangesError> {
        let Some(from) = self.lowers.open(layer, path)? else { return Ok(()) };
        let to = self.opened(path)?;
        let stat = rustix::fs::fstat(&from).map_err(ChangesError::call("fstat", path))?;
        give(&from, &to, &stat).map_err(ChangesError::call("copy the attributes of", path))
    }
}

fn give(from: &OwnedFd, to: &OwnedFd, stat: &Stat) -> Result<(), Errno> {
    let (from, to) = (Inode::of(from)?, Inode::of(to)?);
    for name in from.xattr_names()? {
        let is_overlay = name.to_bytes().starts_with(b"trusted.overlay.");
        if let (Some(value), false) = (from.xattr(&name)?, is_overlay) {
            match to.set_xattr(name.to_bytes(), &value) {
                Ok(()) | Err(Errno::NOTSUP | Errno::PERM) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
    to.set_owner(Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid))?;
    to.set_mode(Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    let time = |seconds, nanoseconds| Timespec { tv_sec: seconds, tv_nsec: nanoseconds as _ };
    to.set_times(&Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    use super::*;
    use crate::changes::lower::{is_opaque, is_whiteout, kind, open_root};

    fn white(path: &Path) {
        rustix::fs::mknodat(rustix::fs::CWD, path, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
    }

    fn opaque(path: &Path) {
        let dir = open_root(path).unwrap();
        Inode::of(&dir).unwrap().set_xattr(b"trusted.overlay.opaque", b"y").unwrap();
    }

    /// What is in a directory, each with what it is.
    fn told(dir: &Path, below: &str, all: &mut Vec<String>) {
        let mut entries: Vec<_> = fs::read_dir(dir.join(below)).unwrap().flatten().collect();
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let name = format!("{below}{}", entry.file_name().to_string_lossy());
            let stat = rustix::fs::statat(rustix::fs::CWD, entry.path(), AtFlags::SYMLINK_NOFOLLOW).unwrap();
            if is_whiteout(&stat) {
                all.push(format!("-{name}"));
            } else if kind(&stat) == FileType::Directory {
                let hides = is_opaque(&Inode::of(open_root(&entry.path()).unwrap()).unwrap()).unwrap();
                all.push(format!("{name}/{}", if hides { "!" } else { "" }));
                told(dir, &format!("{name}/"), all);
            } else if kind(&stat) == FileType::RegularFile {
                all.push(format!("{name}={}", fs::read_to_string(entry.path()).unwrap()));
            } else {
                all.push(format!("{name}?"));
            }
        }
    }

    /// Each with the number of its layer in it. The first two layers are the base's.
    const FILES: [(usize, &str); 27] = [
        (0, "etc/passwd"),
        (0, "gone"),
        (1, "late"),
        (0, "dir/a"),
        (0, "dir/sub/b"),
        (0, "swap/x"),
        (0, "file"),
        (0, "cut/old"),
        (0, "back"),
        (0, "kept/x"),
        (1, "twice/x"),
        (2, "made"),
        (2, "tmp/away"),
        (2, "etc/new"),
        (2, "fresh/in"),
        (3, "fresh/more"),
        (3, "made"),
        (2, "dir/c"),
        (3, "cut/new"),
        (3, "swap"),
        (4, "swap2/y"),
        (2, "back2/z"),
        (3, "file/now"),
        (4, "twice/y"),
        (2, "tree/one"),
        (4, "tree/two"),
        (4, "back"),
    ];

    /// What the layers take away, and what is special in them.
    fn mark(layers: &[PathBuf]) {
        let at = |layer: usize, path: &str| layers[layer].join(path);
        white(&at(2, "gone"));
        white(&at(4, "late"));
        white(&at(2, "back"));
        // Made and removed: no trace.
        fs::create_dir_all(at(3, "dir")).unwrap();
        white(&at(3, "tmp"));
        white(&at(3, "dir/c"));
        fs::create_dir_all(at(4, "etc")).unwrap();
        white(&at(4, "etc/new"));
        opaque(&at(3, "cut"));
        // Removed as a whole, and made again.
        white(&at(2, "twice"));
        opaque(&at(4, "twice"));
        // A directory of the build's own that was opaque: the base has nothing there.
        opaque(&at(2, "fresh"));
        white(&at(3, "tree"));
        opaque(&at(4, "tree"));
        symlink("nowhere", at(2, "link")).unwrap();
        fs::hard_link(at(2, "link"), at(2, "same")).unwrap();
        fs::set_permissions(at(3, "fresh"), fs::Permissions::from_mode(0o2711)).unwrap();
        std::os::unix::fs::chown(at(3, "fresh"), Some(7), Some(8)).unwrap();
    }

    #[test]
    fn layers_become_one() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: only root may make whiteouts");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let layers: Vec<PathBuf> = ["b0", "b1", "n0", "n1", "n2"].map(|name| dir.path().join(name)).into();
        let put = |layer: usize, path: &str, text: &str| {
            let path = layers[layer].join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        for (layer, path) in FILES {
            put(layer, path, &layer.to_string());
        }
        for layer in &layers {
            fs::create_dir_all(layer).unwrap();
        }
        mark(&layers);
        let into = dir.path().join("into");
        fs::create_dir(&into).unwrap();
        squash(Squashed { layers: &layers, base: 2 }, &into).unwrap();
        let mut all = Vec::new();
        told(&into, "", &mut all);
        all.sort();
        assert_eq!(
            all,
            [
                "-gone",
                "-late",
                "back2/",
                "back2/z=2",
                "back=4",
                "cut/!",
                "cut/new=3",
                "dir/",
                "etc/",
                "file/",
                "file/now=3",
                "fresh/",
                "fresh/in=2",
                "fresh/more=3",
                "link?",
                "made=3",
                "same?",
                "swap2/",
                "swap2/y=4",
                "swap=3",
                "tree/",
                "tree/two=4",
                "twice/!",
                "twice/y=4",
            ]
        );
        let fresh = into.join("fresh").metadata().unwrap();
        assert_eq!((fresh.mode() & 0o7777, fresh.uid(), fresh.gid()), (0o2711, 7, 8));
        assert_eq!(
            into.join("link").symlink_metadata().unwrap().ino(),
            into.join("same").symlink_metadata().unwrap().ino()
        );
    }
}

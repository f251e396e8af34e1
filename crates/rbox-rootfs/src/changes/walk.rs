//! The way through the upper directory.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rbox_sys::inode::Inode;
use rustix::fs::{AtFlags, FileType, Mode, ResolveFlags, Stat};
use rustix::io::Errno;

use super::change::{ChangeKind, ChangesError, Layers, Own, Seen, as_path};
use super::lower::{
    BENEATH, DIRECTORY, Found, Lowers, capability, is_opaque, is_whiteout, kind, list, open_root,
};

/// How many directories are open at a time.
const WINDOW: usize = 16;

/// What an entry of the upper directory is beside what is below.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Changed(ChangeKind),
    /// As below.
    Same,
    /// What the engine has put there.
    Own,
}

/// An entry that is to be told.
struct Entry {
    name: CString,
    verdict: Verdict,
    is_directory: bool,
    /// The layers whose directories are below it.
    layers: Vec<usize>,
}

/// A directory on the way down.
struct Level {
    /// None when it is too far up to be kept open.
    fd: Option<OwnedFd>,
    /// Device and inode.
    id: (u64, u64),
    /// What is still to be told of it, the next at the end.
    entries: Vec<Entry>,
    /// How many letters its path has.
    length: usize,
    /// What is below shows nowhere in it: it is opaque, or in such a directory.
    opaque: bool,
    /// It has something to say: itself, or by what is in it.
    used: bool,
}

pub(super) struct Walk<'a> {
    upper: &'a std::path::Path,
    lowers: Lowers<'a>,
    own: &'a [Own<'a>],
    tell: &'a mut dyn FnMut(Seen<'_>) -> io::Result<()>,
    levels: Vec<Level>,
    /// Where the walk is.
    path: Vec<u8>,
    /// The lengths of the paths of those directories on the way down that were not told yet, and are once something in them is.
    untold: Vec<usize>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(layers: &'a Layers<'a>, tell: &'a mut dyn FnMut(Seen<'_>) -> io::Result<()>) -> Self {
        Self {
            upper: layers.upper,
            lowers: Lowers { dirs: layers.lowers },
            own: layers.own,
            tell,
            levels: Vec::new(),
            path: Vec::new(),
            untold: Vec::new(),
        }
    }

    /// Whether anything in it is used.
    pub(super) fn run(mut self) -> Result<bool, ChangesError> {
        let root = open_root(self.upper)?;
        // The root is there in any case, and overlayfs looks for no mark on it.
        self.descend(root, &self.lowers.all(), false, false)?;
        loop {
            match self.levels.last_mut().map(|level| level.entries.pop()) {
                Some(Some(entry)) => self.visit(&entry)?,
                Some(None) if self.levels.len() == 1 => break,
                _ => self.ascend()?,
            }
        }
        Ok(self.levels.first().is_some_and(|root| root.used))
    }

    fn visit(&mut self, entry: &Entry) -> Result<(), ChangesError> {
        self.path.truncate(self.levels.last().map_or(0, |level| level.length));
        self.path.push(b'/');
        self.path.extend_from_slice(entry.name.to_bytes());
        match entry.verdict {
            Verdict::Changed(change) => self.change(change)?,
            Verdict::Same if !entry.is_directory => self.use_level(),
            Verdict::Own if !entry.is_directory => (self.tell)(Seen::Unused(as_path(&self.path)))?,
            Verdict::Same | Verdict::Own => {}
        }
        if entry.is_directory { self.enter(entry) } else { Ok(()) }
    }

    /// Tells of a change of the thing at the path, and of the directories that it is in.
    fn change(&mut self, change: ChangeKind) -> Result<(), ChangesError> {
        for length in std::mem::take(&mut self.untold) {
            let above = self.path.get(..length).unwrap_or_default();
            (self.tell)(Seen::Change(ChangeKind::Modified, as_path(above)))?;
        }
        self.use_level();
        Ok((self.tell)(Seen::Change(change, as_path(&self.path)))?)
    }

    fn use_level(&mut self) {
        if let Some(level) = self.levels.last_mut() {
            level.used = true;
        }
    }

    /// Goes into the directory at the path.
    fn enter(&mut self, entry: &Entry) -> Result<(), ChangesError> {
        let Some(level) = self.levels.last() else { return Ok(()) };
        let (Some(above), is_cut_off) = (&level.fd, level.opaque) else { return Ok(()) };
        let fd = match rustix::fs::openat2(above, &entry.name, DIRECTORY, Mode::empty(), BENEATH) {
            // Something else is there by now.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            fd => fd.map_err(ChangesError::call("openat2", &self.path))?,
        };
        let marks = marks(fd.as_fd()).map_err(ChangesError::call("getxattr", &self.path))?;
        if marks.redirected {
            return Err(ChangesError::Redirected(as_path(&self.path).to_owned()));
        }
        let is_told = matches!(entry.verdict, Verdict::Changed(_));
        if !is_told {
            self.untold.push(self.path.len());
        }
        let used = is_told || marks.opaque || marks.attributes;
        self.descend(fd, &entry.layers, is_cut_off || marks.opaque, used)
    }

    /// Takes a directory, whose path is set, as the next to walk through.
    fn descend(
        &mut self,
        fd: OwnedFd,
        layers: &[usize],
        opaque: bool,
        used: bool,
    ) -> Result<(), ChangesError> {
        let entries = self.entries(&fd, layers, opaque)?;
        let id = identity(&fd).map_err(ChangesError::call("fstat", &self.path))?;
        self.levels.push(Level { fd: Some(fd), id, entries, length: self.path.len(), opaque, used });
        if let Some(far) = self.levels.len().checked_sub(WINDOW + 1).and_then(|at| self.levels.get_mut(at)) {
            far.fd = None;
        }
        Ok(())
    }

    /// Goes up from a directory of which all was told.
    fn ascend(&mut self) -> Result<(), ChangesError> {
        let Some(done) = self.levels.pop() else { return Ok(()) };
        if self.untold.last() == Some(&done.length) {
            self.untold.pop();
        }
        self.path.truncate(done.length);
        let Some(above) = self.levels.last_mut() else { return Ok(()) };
        above.used |= done.used;
        if !done.used {
            (self.tell)(Seen::Unused(as_path(&self.path)))?;
        }
        // Also where nothing is left of it: the way up leads through it.
        if above.fd.is_none() {
            let moved = || ChangesError::Moved(as_path(&self.path).to_owned());
            let fd = done.fd.as_ref().ok_or_else(moved)?;
            let how = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
            let back = rustix::fs::openat2(fd, c"..", DIRECTORY, Mode::empty(), how).map_err(|_| moved())?;
            if identity(&back).ok() != Some(above.id) {
                return Err(moved());
            }
            above.fd = Some(back);
        }
        Ok(())
    }

    /// What is to be told of a directory, the last first. Of an `opaque` one, what is below and has no counterpart is gone.
    fn entries(&self, fd: &OwnedFd, layers: &[usize], opaque: bool) -> Result<Vec<Entry>, ChangesError> {
        let mut names = list(fd).map_err(ChangesError::call("getdents64", &self.path))?;
        names.sort_unstable();
        let below = self.lowers.look(layers, &self.path, &names)?;
        let mut deleted = Vec::new();
        if opaque {
            deleted = self.lowers.names(layers, &self.path)?;
            deleted.retain(|name| names.binary_search(name).is_err());
        }
        let mut entries = Vec::new();
        for (name, below) in names.into_iter().zip(below) {
            let stat = match rustix::fs::statat(fd, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => continue,
                stat => stat.map_err(ChangesError::call_at("newfstatat", &self.path, &name))?,
            };
            if is_whiteout(&stat) {
                deleted.extend(below.stat.map(|_| name));
                continue;
            }
            let is_directory = kind(&stat) == FileType::Directory;
            let verdict = self.judge(fd.as_fd(), &name, &stat, &below)?;
            let layers = if below.is_directory() { below.layers } else { Vec::new() };
            entries.push(Entry { name, verdict, is_directory, layers });
        }
        deleted.sort_unstable();
        let gone = Verdict::Changed(ChangeKind::Deleted);
        let deleted = deleted.into_iter().map(|name| Entry {
            name,
            verdict: gone,
            is_directory: false,
            layers: Vec::new(),
        });
        entries.extend(deleted);
        entries.reverse();
        Ok(entries)
    }

    fn judge(
        &self,
        dir: BorrowedFd<'_>,
        name: &CStr,
        stat: &Stat,
        below: &Found,
    ) -> Result<Verdict, ChangesError> {
        let Some(old) = &below.stat else {
            let is_own = self.is_own(name, stat);
            return Ok(if is_own { Verdict::Own } else { Verdict::Changed(ChangeKind::Added) });
        };
        let failed = ChangesError::call_at("getxattr", &self.path, name);
        let differs = differs(old, stat)
            || match capability(dir, name, stat) {
                Err(Errno::NOENT | Errno::LOOP) => false,
                now => now.map_err(failed)? != below.capability,
            };
        Ok(if differs { Verdict::Changed(ChangeKind::Modified) } else { Verdict::Same })
    }

    /// Whether the engine has put this there, and nobody has put anything in it.
    fn is_own(&self, name: &CStr, stat: &Stat) -> bool {
        let is_here = |own: &str| {
            let place = own.rsplit_once('/');
            place.is_some_and(|(dir, own)| dir.as_bytes() == self.path && own.as_bytes() == name.to_bytes())
        };
        let looks_so = |own: &Own<'_>| match own {
            Own::Directory(path) => is_here(path) && kind(stat) == FileType::Directory,
            Own::File(path) => is_here(path) && kind(stat) == FileType::RegularFile && stat.st_size == 0,
        };
        stat.st_uid == 0 && stat.st_gid == 0 && self.own.iter().any(looks_so)
    }
}

fn identity(fd: &OwnedFd) -> Result<(u64, u64), Errno> {
    let stat = rustix::fs::fstat(fd)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// Docker's rule: of a directory neither size nor time says that somebody changed it.
fn differs(old: &Stat, new: &Stat) -> bool {
    let looks = |stat: &Stat| (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_rdev);
    looks(old) != looks(new)
        || (kind(new) != FileType::Directory && (old.st_size != new.st_size || !same_time(old, new)))
}

/// Archives may have whole seconds only.
fn same_time(old: &Stat, new: &Stat) -> bool {
    let (one, other) = (old.st_mtime_nsec, new.st_mtime_nsec);
    old.st_mtime == new.st_mtime && (one == other || one == 0 || other == 0)
}

/// What attributes say of a directory.
struct Marks {
    /// It hides those below.
    opaque: bool,
    /// Those below have another name.
    redirected: bool,
    /// It has attributes of its own.
    attributes: bool,
}

fn marks(directory: BorrowedFd<'_>) -> Result<Marks, Errno> {
    let directory = Inode::of(directory)?;
    let names = directory.xattr_names()?;
    Ok(Marks {
        opaque: is_opaque(&directory)?,
        redirected: names.iter().any(|name| name.to_bytes() == b"trusted.overlay.redirect"),
        attributes: names
            .iter()
            .any(|name| name.to_bytes().starts_with(b"user.") || name.to_bytes() == b"security.capability"),
    })
}

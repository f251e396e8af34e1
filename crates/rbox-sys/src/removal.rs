//! Removing trees that a container made, whatever it made of them.
//!
//! The only way in which rbox deletes a directory with what is in it. A container decides how deep its tree is, how wide, and
//! what flags its files have. So the walk keeps a fixed number of descriptors open and nothing on the stack: above that many
//! levels a directory is closed, and found again through `..` of the one below it, checked to be the same. Paths are
//! never put together, links never followed, and mount points neither crossed nor removed. What has the flags `i` or `a`
//! (chattr(1)) loses them. One entry that cannot be removed does not keep the others from it.

use std::collections::{HashSet, VecDeque};
use std::ffi::{CStr, CString};
use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, IFlags, Mode, OFlags, RawDir, ResolveFlags, SeekFrom};
use rustix::io::Errno;

/// How many directories are open at a time.
const WINDOW: usize = 16;
/// After so many entries that could not be removed the rest is not tried.
const MOST_FAILURES: usize = 1000;
/// Bytes of directory entries read at a time.
const BATCH: usize = 32 << 10;

/// Removes `path` with all that is in it; one that is not there is no error.
///
/// # Errors
/// When something could not be removed: the first such thing, and how many more there were. All else is gone.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a path of something in a directory"));
    };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let parent =
        match rustix::fs::open(parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(()),
            other => other?,
        };
    remove_at(parent, &CString::new(name.as_bytes())?)
}

/// Removes `name` of the directory `dir` with all that is in it; one that is not there is no error.
///
/// # Errors
/// As of [`remove_tree`].
pub fn remove_at(dir: impl AsFd, name: &CStr) -> io::Result<()> {
    let dir = dir.as_fd();
    let mut walk = Walk::default();
    loop {
        match walk.try_remove(dir, name, FileType::Unknown, false) {
            Tried::Gone => return Ok(()),
            Tried::Kept => return walk.result(),
            Tried::Full => {}
        }
        let Some(top) = walk.enter(dir, name) else { return walk.result() };
        if walk.empty(top) == Emptied::Nothing {
            walk.keep(dir, name, Errno::NOTEMPTY);
        }
        if !walk.failures.is_empty() {
            return walk.result();
        }
    }
}

/// Removes all that is in the directory `dir`, which stays.
///
/// # Errors
/// As of [`remove_tree`].
pub fn clear(dir: impl AsFd) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut walk = Walk::default();
    // What appears while the tree is emptied is taken in the next round.
    loop {
        let fd = rustix::fs::openat(dir.as_fd(), c".", flags, Mode::empty())?;
        let top = Level::new(fd, None)?;
        let emptied = walk.empty(top);
        if emptied == Emptied::Nothing || !walk.failures.is_empty() {
            return walk.result();
        }
    }
}

/// Why a tree is not gone.
#[derive(Debug)]
struct NotRemoved {
    what: PathBuf,
    why: Errno,
    others: usize,
}

impl fmt::Display for NotRemoved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The end of a long path tells more than its beginning.
        let path = self.what.to_string_lossy();
        match path.char_indices().rev().nth(300) {
            Some((at, _)) => write!(f, "…{}", path[at..].escape_debug())?,
            None => write!(f, "{}", path.escape_debug())?,
        }
        match self.why {
            Errno::BUSY | Errno::XDEV => write!(f, ": something is mounted there")?,
            why => write!(f, ": {}", nix::errno::Errno::from_raw(why.raw_os_error()).desc())?,
        }
        match self.others {
            0 => Ok(()),
            others => write!(f, " (and {others} more)"),
        }
    }
}

impl std::error::Error for NotRemoved {}

/// What became of one entry.
#[derive(PartialEq, Eq)]
enum Tried {
    Gone,
    /// It cannot be removed, which was noted.
    Kept,
    /// A directory with something in it.
    Full,
}

/// Whether a walk removed anything.
#[derive(PartialEq, Eq)]
enum Emptied {
    Something,
    Nothing,
}

/// A directory on the way down, open.
struct Level {
    fd: OwnedFd,
    /// Device and inode.
    id: (u64, u64),
    /// Its name in the level above, while that is open.
    name: Option<CString>,
    /// Where the entries of this moment were read from, and where the next come from.
    from: u64,
    next: u64,
    /// The descriptor is not at `next`.
    seek: bool,
    /// Directories with something in them, of the entries that were read.
    full: Vec<CString>,
    marks: Marks,
}

/// A directory on the way down that was closed again.
struct Closed {
    id: (u64, u64),
    from: u64,
    marks: Marks,
}

#[derive(Clone, Copy, Default)]
struct Marks {
    /// Something in it was removed.
    progress: bool,
    /// Something in it stays.
    kept: bool,
}

impl Level {
    fn new(fd: OwnedFd, name: Option<CString>) -> Result<Self, Errno> {
        let id = identity(&fd)?;
        Ok(Self { fd, id, name, from: 0, next: 0, seek: false, full: Vec::new(), marks: Marks::default() })
    }
}

fn identity(fd: &OwnedFd) -> Result<(u64, u64), Errno> {
    let stat = rustix::fs::fstat(fd)?;
    Ok((stat.st_dev, stat.st_ino))
}

#[derive(Default)]
struct Walk {
    closed: Vec<Closed>,
    open: VecDeque<Level>,
    /// Inodes of what stays, so that it is not tried again.
    kept: HashSet<u64>,
    failures: Failures,
}

#[derive(Default)]
struct Failures {
    first: Option<(PathBuf, Errno)>,
    count: usize,
}

impl Failures {
    fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl Walk {
    fn result(self) -> io::Result<()> {
        match self.failures.first {
            None => Ok(()),
            Some((what, why)) => {
                let kind = io::Error::from(why).kind();
                Err(io::Error::new(kind, NotRemoved { what, why, others: self.failures.count - 1 }))
            }
        }
    }

    /// Notes that `name` stays.
    fn keep(&mut self, dir: BorrowedFd<'_>, name: &CStr, why: Errno) {
        let name = Path::new(std::ffi::OsStr::from_bytes(name.to_bytes()));
        self.failures.count += 1;
        if self.failures.first.is_none() {
            let at = std::fs::read_link(format!("/proc/self/fd/{}", dir.as_raw_fd())).unwrap_or_default();
            self.failures.first = Some((at.join(name), why));
        }
    }

    /// Removes one entry of `dir`; `inside`: `dir` is part of the tree, so its flags may be taken away too.
    fn try_remove(&mut self, dir: BorrowedFd<'_>, name: &CStr, kind: FileType, inside: bool) -> Tried {
        let mut is_dir = kind == FileType::Directory;
        let mut unlocked = false;
        // Each turn but the last changes what is tried.
        for _ in 0..4 {
            let flags = if is_dir { AtFlags::REMOVEDIR } else { AtFlags::empty() };
            match rustix::fs::unlinkat(dir, name, flags) {
                Ok(()) | Err(Errno::NOENT) => return Tried::Gone,
                Err(Errno::ISDIR) if !is_dir => is_dir = true,
                Err(Errno::NOTDIR) if is_dir => is_dir = false,
                Err(Errno::NOTEMPTY | Errno::EXIST) if is_dir => return Tried::Full,
                Err(Errno::PERM | Errno::ACCESS) if !unlocked => {
                    unlocked = true;
                    unlock(dir, name, inside);
                }
                Err(Errno::INTR) => {}
                Err(why) => {
                    self.keep(dir, name, why);
                    return Tried::Kept;
                }
            }
        }
        self.keep(dir, name, Errno::AGAIN);
        Tried::Kept
    }

    /// Opens a directory of `dir`. None when it cannot be walked, which was noted, or is gone.
    fn enter(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> Option<Level> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let opened = rustix::fs::openat2(dir, name, flags, Mode::empty(), how);
        match opened.and_then(|fd| Level::new(fd, Some(name.to_owned()))) {
            Ok(level) => Some(level),
            Err(Errno::NOENT) => None,
            Err(why) => {
                self.keep(dir, name, why);
                None
            }
        }
    }

    /// Removes what is in `top`.
    fn empty(&mut self, top: Level) -> Emptied {
        self.open.push_back(top);
        let mut fruitless = 0;
        while let Some(mut level) = self.open.pop_back() {
            if self.failures.count >= MOST_FAILURES || fruitless >= MOST_FAILURES {
                let progress = level.marks.progress;
                self.open.clear();
                self.closed.clear();
                return if progress { Emptied::Something } else { Emptied::Nothing };
            }
            if let Some(name) = level.full.pop() {
                self.descend(level, &name);
                continue;
            }
            match self.read(&mut level) {
                Ok(true) => self.open.push_back(level),
                Ok(false) => {
                    fruitless += usize::from(!level.marks.progress && !level.marks.kept);
                    if let Some(marks) = self.ascend(level) {
                        return if marks.progress { Emptied::Something } else { Emptied::Nothing };
                    }
                }
                Err(why) => {
                    self.keep(level.fd.as_fd(), c".", why);
                    level.marks.kept = true;
                    if let Some(marks) = self.ascend(level) {
                        return if marks.progress { Emptied::Something } else { Emptied::Nothing };
                    }
                }
            }
        }
        Emptied::Nothing
    }

    /// Goes from `level` into its directory `name`.
    fn descend(&mut self, mut level: Level, name: &CStr) {
        let mut child = self.enter(level.fd.as_fd(), name);
        if child.is_none() {
            level.marks.kept |= !self.failures.is_empty();
            self.open.push_back(level);
            return;
        }
        self.open.push_back(level);
        self.open.extend(child.take());
        if self.open.len() > WINDOW
            && let Some(far) = self.open.pop_front()
        {
            // What of its entries is still to do is read again.
            self.closed.push(Closed { id: far.id, from: far.from, marks: far.marks });
            if let Some(first) = self.open.front_mut() {
                first.name = None;
            }
        }
    }

    /// Reads entries, removing what can be removed at once. False at the end of the directory.
    fn read(&mut self, level: &mut Level) -> Result<bool, Errno> {
        if std::mem::take(&mut level.seek) {
            rustix::fs::seek(&level.fd, SeekFrom::Start(level.next))?;
        }
        level.from = level.next;
        let mut buffer = vec![MaybeUninit::uninit(); BATCH];
        let mut entries = Vec::new();
        let mut listing = RawDir::new(&level.fd, &mut buffer);
        loop {
            match listing.next() {
                None | Some(Err(Errno::NOENT)) => break,
                Some(Err(Errno::INTR)) => {}
                Some(entry) => {
                    let entry = entry?;
                    entries.push((entry.file_name().to_owned(), entry.file_type(), entry.ino()));
                    level.next = entry.next_entry_cookie();
                }
            }
            if listing.is_buffer_empty() {
                break;
            }
        }
        let at_end = entries.is_empty();
        for (name, kind, inode) in entries {
            if matches!(name.to_bytes(), b"." | b"..") || self.kept.contains(&inode) {
                continue;
            }
            match self.try_remove(level.fd.as_fd(), &name, kind, true) {
                Tried::Gone => level.marks.progress = true,
                Tried::Full => level.full.push(name),
                Tried::Kept => {
                    self.kept.insert(inode);
                    level.marks.kept = true;
                }
            }
        }
        Ok(!at_end)
    }

    /// Goes up from a directory whose end was reached. What it came to, when it was the tree's top.
    fn ascend(&mut self, done: Level) -> Option<Marks> {
        let mut above = match self.open.pop_back() {
            Some(above) => above,
            None => match self.closed.pop() {
                None => return Some(done.marks),
                Some(closed) => match reopen(&done, &closed) {
                    Ok(level) => level,
                    Err(why) => {
                        // Somebody moves the tree about. What was not reached is the next attempt's.
                        self.keep(done.fd.as_fd(), c"..", why);
                        self.closed.clear();
                        return Some(done.marks);
                    }
                },
            },
        };
        let Level { fd, id, name, marks, .. } = done;
        drop(fd);
        above.marks.progress |= marks.progress;
        if marks.kept {
            self.kept.insert(id.1);
            above.marks.kept = true;
        } else if let Some(name) = name {
            match self.try_remove(above.fd.as_fd(), &name, FileType::Directory, true) {
                Tried::Gone => above.marks.progress = true,
                // Something was put in, or a position in the directory was not what it was.
                Tried::Full if marks.progress => above.full.push(name),
                Tried::Full => {
                    self.keep(above.fd.as_fd(), &name, Errno::NOTEMPTY);
                    self.kept.insert(id.1);
                    above.marks.kept = true;
                }
                Tried::Kept => {
                    self.kept.insert(id.1);
                    above.marks.kept = true;
                }
            }
        }
        self.open.push_back(above);
        None
    }
}

/// The directory above `done`, which had been closed.
fn reopen(done: &Level, closed: &Closed) -> Result<Level, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let how = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let fd = rustix::fs::openat2(&done.fd, c"..", flags, Mode::empty(), how)?;
    let level = Level::new(fd, None)?;
    if level.id != closed.id {
        return Err(Errno::STALE);
    }
    Ok(Level { from: closed.from, next: closed.from, seek: true, marks: closed.marks, ..level })
}

/// Takes the flags away that keep `name` from being removed, its own and with `inside` its directory's. Best effort: the next
/// attempt to remove it reports.
fn unlock(dir: BorrowedFd<'_>, name: &CStr, inside: bool) {
    if inside {
        unlock_one(dir);
    }
    let Ok(stat) = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) else { return };
    // Only these have flags, and opening anything else may do something.
    if !matches!(FileType::from_raw_mode(stat.st_mode), FileType::RegularFile | FileType::Directory) {
        return;
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    if let Ok(file) = rustix::fs::openat2(dir, name, flags, Mode::empty(), how) {
        unlock_one(file.as_fd());
    }
}

fn unlock_one(file: BorrowedFd<'_>) {
    let locks = IFlags::IMMUTABLE | IFlags::APPEND;
    if let Ok(flags) = rustix::fs::ioctl_getflags(file)
        && flags.intersects(locks)
    {
        let _ = rustix::fs::ioctl_setflags(file, flags.difference(locks));
    }
}

#[cfg(test)]
#[path = "removal/tests.rs"]
mod tests;

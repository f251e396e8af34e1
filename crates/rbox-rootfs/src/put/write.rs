//! Makes the entries, one after the other.

use std::borrow::Cow;
use std::ffi::{CStr, CString, OsStr};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rbox_sys::file::{make_dir, open_beneath, open_in_root};
use rbox_sys::inode::Inode;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use super::error::PutError;
use super::place::{Owners, Place, Put};
use crate::file_capability;
use crate::layer::entry::{Entries, Entry, Kind};
use crate::layer::place::{DIRECTORY, clean, split};
use crate::layer::stream::padding;
use crate::layer::write::{is_the_archives, write_all};
use crate::layer::{Limits, Name};
use crate::tree;

/// Another thing may take a name just when it was freed: so often it is tried again.
const TRIES: u32 = 10;

/// A file is written in pieces of so many bytes; one that has zeros only, and is not shorter than a block, becomes a hole.
const PIECE: usize = 64 << 10;
const HOLE: usize = 4 << 10;

/// A copy may be as large as the disk takes; names, headers and what is held in memory are bounded.
pub(super) fn limits() -> Limits {
    let none = u64::MAX >> 1;
    Limits { stream_bytes: none, entries: none, file_bytes: none, held_bytes: 256 << 20, ..Limits::default() }
}

/// A directory whose times are set when all is in it.
struct Directory {
    path: Vec<u8>,
    id: (u64, u64),
    times: Timestamps,
}

pub(super) struct Putter<'a, R> {
    entries: Entries<'a, R>,
    place: Place<'a>,
    owners: Owners<'a>,
    limits: &'a Limits,
    /// The directory the last entry was made in.
    last: Option<(Vec<u8>, OwnedFd)>,
    directories: Vec<Directory>,
    held: usize,
    put: Put,
    /// The directory itself is what the archive says of it.
    with_top: bool,
}

impl<'a, R: Read> Putter<'a, R> {
    pub(super) fn new(tar: R, place: Place<'a>, owners: Owners<'a>, limits: &'a Limits) -> Self {
        Self {
            entries: Entries::new(tar, limits),
            place,
            owners,
            limits,
            last: None,
            directories: Vec::new(),
            held: 0,
            put: Put::default(),
            with_top: false,
        }
    }

    pub(super) fn with_top(self) -> Self {
        Self { with_top: true, ..self }
    }

    pub(super) fn run(mut self) -> Result<Put, PutError> {
        while let Some(entry) = self.entries.next()? {
            self.put.entries += 1;
            self.entry(&entry)?;
        }
        for directory in std::mem::take(&mut self.directories).into_iter().rev() {
            // What is another directory by now, or none, has times of its own.
            if let Ok(parent) = self.parent(&directory.path)
                && let Ok(fd) = open_one(parent, &directory.path)
                && rustix::fs::fstat(&fd).is_ok_and(|stat| (stat.st_dev, stat.st_ino) == directory.id)
            {
                system("utimensat", &directory.path, rustix::fs::futimens(&fd, &directory.times))?;
            }
        }
        self.put.stream_bytes = self.entries.stream.offset();
        Ok(self.put)
    }

    fn entry(&mut self, entry: &Entry) -> Result<(), PutError> {
        let path = if entry.kind == Kind::Label { Vec::new() } else { clean(&entry.path, self.limits)? };
        let is_dir = entry.kind == Kind::Directory;
        if path.is_empty() {
            if !is_dir && entry.kind != Kind::Label {
                return Err(PutError::Refused("the archive has a file without a name".to_owned()));
            }
            if is_dir && self.with_top {
                self.top(entry)?;
            }
            return self.skip(entry.stored);
        }
        let is_device = matches!(entry.kind, Kind::Character | Kind::Block);
        if is_device && self.owners == Owners::Own {
            self.put.devices += 1;
            return self.skip(entry.stored);
        }
        if entry.kind != Kind::Hardlink {
            self.check_ids(&path, entry)?;
        }
        match entry.kind {
            Kind::Directory => {
                self.directory(&path, entry)?;
                return self.skip(entry.stored);
            }
            Kind::File => return self.file(&path, entry),
            Kind::Hardlink => self.hardlink(&path, entry)?,
            Kind::Symlink => {
                self.check_symlink(&path, &entry.link)?;
                let target = c_string(&entry.link, &path)?;
                let link =
                    self.make("symlinkat", &path, |parent, name| Inode::make_symlink(parent, name, &target))?;
                self.dress(&link, &path, entry)?;
            }
            Kind::Character | Kind::Block | Kind::Fifo => {
                let kind = match entry.kind {
                    Kind::Character => FileType::CharacterDevice,
                    Kind::Block => FileType::BlockDevice,
                    _ => FileType::Fifo,
                };
                let device = rustix::fs::makedev(entry.device.0, entry.device.1);
                let node =
                    self.make("mknodat", &path, |parent, name| Inode::make_node(parent, name, kind, device))?;
                self.dress(&node, &path, entry)?;
            }
            Kind::Label => {}
        }
        Ok(())
    }

    /// The directory itself.
    fn top(&self, entry: &Entry) -> Result<(), PutError> {
        let name = b".";
        self.check_ids(name, entry)?;
        let thing = match self.place {
            Place::InRoot { root, path } => Inode::of(tree::directory(root, path)?),
            Place::Beneath { directory, .. } => Inode::of(directory),
        };
        self.dress(&system("fcntl", name, thing)?, name, entry)
    }

    /// Passes over data that makes nothing, with its padding.
    fn skip(&mut self, data: u64) -> Result<(), PutError> {
        Ok(self.entries.stream.skip(data + padding(data), "a file's data")?)
    }

    /// The directory that `path` belongs in, made when it is missing.
    fn parent(&mut self, path: &[u8]) -> Result<BorrowedFd<'_>, PutError> {
        let (directory, _) = split(path);
        if self.last.as_ref().is_none_or(|(last, _)| last != directory) {
            let fd = match self.place {
                Place::InRoot { root, path } => tree::directory(root, &path.join(os(directory)))?,
                Place::Beneath { directory: top, .. } => make_beneath(top, directory)?,
            };
            self.last = Some((directory.to_vec(), fd));
        }
        match (&self.last, self.place) {
            (Some((_, fd)), _) => Ok(fd.as_fd()),
            (None, Place::InRoot { root: top, .. } | Place::Beneath { directory: top, .. }) => Ok(top),
        }
    }

    /// Makes `path` by `make`, in the place of what has its name and is no directory.
    fn make<T>(
        &mut self,
        call: &'static str,
        path: &[u8],
        make: impl Fn(BorrowedFd<'_>, &CStr) -> Result<T, Errno>,
    ) -> Result<T, PutError> {
        let shown = self.place.path().to_owned();
        let name = name_of(path)?;
        let parent = self.parent(path)?;
        for _ in 0..TRIES {
            match make(parent, &name) {
                Err(Errno::EXIST) => {}
                done => return system(call, path, done),
            }
            if stat(parent, &name).is_some_and(|found| is_directory(&found)) {
                return Err(PutError::Refused(format!(
                    "cannot overwrite directory \"{}\" with non-directory \"{}\"",
                    shown.join(os(path)).display(),
                    shown.display()
                )));
            }
            match rustix::fs::unlinkat(parent, &name, AtFlags::empty()) {
                Err(Errno::NOENT) => {}
                Err(Errno::BUSY) => {
                    return Err(PutError::Refused(format!(
                        "cannot replace {}: device or resource busy: something is mounted on it",
                        shown.join(os(path)).display()
                    )));
                }
                removed => system("unlinkat", path, removed)?,
            }
        }
        system(call, path, Err(Errno::EXIST))
    }

    fn directory(&mut self, path: &[u8], entry: &Entry) -> Result<(), PutError> {
        let shown = self.place.path().to_owned();
        let name = name_of(path)?;
        let parent = self.parent(path)?;
        match rustix::fs::mkdirat(parent, &name, Mode::RWXU) {
            Ok(()) => {}
            Err(Errno::EXIST) if stat(parent, &name).is_none_or(|found| is_directory(&found)) => {}
            Err(Errno::EXIST) => {
                return Err(PutError::Refused(format!(
                    "cannot overwrite non-directory \"{}\" with directory \"{}\"",
                    shown.join(os(path)).display(),
                    shown.display()
                )));
            }
            failed => system("mkdirat", path, failed)?,
        }
        let fd = system("openat", path, open_one(parent, path))?;
        let found = system("fstat", path, rustix::fs::fstat(&fd))?;
        let thing = system("fcntl", path, Inode::of(&fd))?;
        self.dress(&thing, path, entry)?;
        self.held += 2 * path.len() + size_of::<Directory>();
        if self.held <= self.limits.held_bytes {
            let id = (found.st_dev, found.st_ino);
            self.directories.push(Directory { path: path.to_vec(), id, times: times(entry) });
        }
        Ok(())
    }

    fn file(&mut self, path: &[u8], entry: &Entry) -> Result<(), PutError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = self.make("openat", path, |parent, name| {
            rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR)
        })?;
        let inside = "a file's data";
        let stream = &mut self.entries.stream;
        if let Some(map) = &entry.map {
            for segment in &map.segments {
                let mut at = segment.offset;
                stream.take(segment.length, inside, |slice| {
                    let write = |rest: &[u8]| {
                        rustix::io::pwrite(&file, rest, at).inspect(|count| at += *count as u64)
                    };
                    write_all(slice, write, path)
                })?;
            }
            system("ftruncate", path, rustix::fs::ftruncate(&file, map.size))?;
        } else {
            let mut at = 0;
            stream.take(entry.stored, inside, |slice| {
                for piece in slice.chunks(PIECE) {
                    if piece.len() < HOLE || piece.iter().any(|byte| *byte != 0) {
                        let mut here = at;
                        let write = |rest: &[u8]| {
                            rustix::io::pwrite(&file, rest, here).inspect(|count| here += *count as u64)
                        };
                        write_all(piece, write, path)?;
                    }
                    at += piece.len() as u64;
                }
                Ok(())
            })?;
            system("ftruncate", path, rustix::fs::ftruncate(&file, entry.stored))?;
        }
        stream.skip(padding(entry.stored), inside)?;
        let thing = system("fcntl", path, Inode::of(&file))?;
        self.dress(&thing, path, entry)
    }

    /// Another name for a file that is below the directory.
    fn hardlink(&mut self, path: &[u8], entry: &Entry) -> Result<(), PutError> {
        let target = clean(&entry.link, self.limits)?;
        let refused = || {
            let (path, target) = (Name(path.to_vec()), Name(entry.link.clone()));
            PutError::Refused(format!("invalid hardlink \"{path}\" -> \"{target}\""))
        };
        let target_name = name_of(&target).map_err(|_| refused())?;
        let (directory, _) = split(&target);
        let from = match self.place {
            Place::InRoot { root, path } => {
                open_in_root(root, &path.join(os(directory)), OFlags::PATH | OFlags::DIRECTORY, 0)
            }
            Place::Beneath { directory: top, .. } => {
                let below = if directory.is_empty() { Path::new(".") } else { Path::new(os(directory)) };
                open_beneath(top, below, OFlags::PATH | OFlags::DIRECTORY, 0)
            }
        };
        let from = from.map_err(|_| refused())?;
        let found = stat(from.as_fd(), &target_name).ok_or_else(refused)?;
        if is_directory(&found) {
            return Err(refused());
        }
        // A link to itself is there already, and what is in the way would be its target.
        let name = name_of(path)?;
        if stat(self.parent(path)?, &name)
            .is_some_and(|there| (there.st_dev, there.st_ino) == (found.st_dev, found.st_ino))
        {
            return Ok(());
        }
        self.make("linkat", path, |parent, name| {
            rustix::fs::linkat(&from, &target_name, parent, name, AtFlags::empty())
        })
    }

    /// A link that climbs above the directory with `..` is refused; an absolute one stays as it is.
    fn check_symlink(&self, path: &[u8], target: &[u8]) -> Result<(), PutError> {
        let mut depth =
            if target.starts_with(b"/") { 0 } else { path.split(|byte| *byte == b'/').count() as i64 - 1 };
        for part in target.split(|byte| *byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." => depth -= 1,
                _ => depth += 1,
            }
            if depth < 0 && !target.starts_with(b"/") && self.place.path() != Path::new("/") {
                return Err(PutError::Refused(format!(
                    "invalid symlink \"{}\" -> \"{}\"",
                    self.place.path().join(os(path)).display(),
                    Name(target.to_vec())
                )));
            }
        }
        Ok(())
    }

    /// Refuses what belongs to a user that the container has not, while nothing of it is there.
    fn check_ids(&self, path: &[u8], entry: &Entry) -> Result<(), PutError> {
        self.owner(path, entry)?;
        entry.xattrs.iter().try_for_each(|(name, value)| self.attribute(path, name, value).map(drop))
    }

    fn owner(&self, path: &[u8], entry: &Entry) -> Result<Option<(u32, u32)>, PutError> {
        let owner = (entry.uid, entry.gid);
        Ok(match self.owners {
            Owners::Archive => Some(owner),
            Owners::All(uid, gid) => Some((uid, gid)),
            Owners::Inside(inside) => Some(inside.owner(owner).map_err(|why| not_ours(path, &why))?),
            Owners::Own => None,
        })
    }

    /// The value that an attribute gets.
    fn attribute<'v>(&self, path: &[u8], name: &[u8], value: &'v [u8]) -> Result<Cow<'v, [u8]>, PutError> {
        match self.owners {
            Owners::Inside(inside) if name == file_capability::NAME => {
                Ok(inside.capability(value).map_err(|why| not_ours(path, &why))?.into())
            }
            _ => Ok(value.into()),
        }
    }

    /// Owner, mode, attributes, times, in the order in which none undoes another.
    fn dress(&self, thing: &Inode, path: &[u8], entry: &Entry) -> Result<(), PutError> {
        if let Some((uid, gid)) = self.owner(path, entry)? {
            system("fchownat", path, thing.set_owner(Uid::from_raw(uid), Gid::from_raw(gid)))?;
        }
        if entry.kind != Kind::Symlink {
            system("fchmodat2", path, thing.set_mode(Mode::from_raw_mode(entry.mode)))?;
        }
        for (name, value) in entry.xattrs.iter().filter(|(name, _)| is_the_archives(name)) {
            match thing.set_xattr(name, &self.attribute(path, name, value)?) {
                // The file system has none, or not for this kind of file.
                Err(Errno::OPNOTSUPP | Errno::PERM) => {}
                set => system("setxattr", path, set)?,
            }
        }
        system("utimensat", path, thing.set_times(&times(entry)))
    }
}

fn not_ours(path: &[u8], why: &str) -> PutError {
    PutError::Refused(format!("{}: {why}: nothing was made of it", Name(path.to_vec())))
}

/// The directory `below` beneath `top`, made as far as it is missing. No link leads to it.
fn make_beneath(top: BorrowedFd<'_>, below: &[u8]) -> Result<OwnedFd, PutError> {
    let how = OFlags::PATH | OFlags::DIRECTORY;
    let mut here = open_beneath(top, Path::new("."), how, 0)?;
    for name in below.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
        let name = Path::new(os(name));
        here = match open_beneath(&here, name, how, 0) {
            Err(error) if error.errno as i32 == Errno::NOENT.raw_os_error() => {
                make_dir(&here, name, 0o755)?;
                open_beneath(&here, name, how, 0)?
            }
            other => other?,
        };
    }
    Ok(here)
}

/// The directory that `path` names in `parent`; no link.
fn open_one(parent: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    let (_, name) = split(path);
    rustix::fs::openat(parent, name, DIRECTORY, Mode::empty())
}

fn stat(parent: BorrowedFd<'_>, name: &CStr) -> Option<Stat> {
    rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).ok()
}

fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

fn name_of(path: &[u8]) -> Result<CString, PutError> {
    c_string(split(path).1, path)
}

fn c_string(bytes: &[u8], path: &[u8]) -> Result<CString, PutError> {
    let text =
        if bytes.is_empty() { Err(Errno::NOENT) } else { CString::new(bytes).map_err(|_| Errno::INVAL) };
    system("openat", path, text)
}

fn os(bytes: &[u8]) -> &OsStr {
    OsStr::from_bytes(bytes)
}

fn system<T>(call: &'static str, path: &[u8], result: Result<T, Errno>) -> Result<T, PutError> {
    result.map_err(|source| PutError::System { call, path: Name(path.to_vec()), source })
}

fn times(entry: &Entry) -> Timestamps {
    let time = |(seconds, nanoseconds): (i64, u32)| Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
    Timestamps { last_access: time(entry.atime), last_modification: time(entry.mtime) }
}

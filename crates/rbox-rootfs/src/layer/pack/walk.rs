//! Goes through the tree, by descriptors and one name at a time. A container decides how deep it is and may move it about meanwhile, so a
//! fixed number of directories is open: above that many levels one is closed, and found again through `..` of the one below it,
//! checked to be the same, or else from the root, name by name.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::io::Write;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rbox_sys::inode::{Inode, OwnDescriptors, xattr_names_of, xattr_of};
use rustix::fs::{FileType, Mode, OFlags, RawDir, ResolveFlags, Stat};
use rustix::io::Errno;

use super::super::entry::Time;
use super::super::error::Name;
use super::super::place::{DIRECTORY, OPAQUE, WHITEOUT};
use super::member::Member;
use super::options::{PackError, PackOptions, Packed, TreeKind};
use super::output::Output;
use crate::file_capability;

/// How many directories are open at a time, beside the one that is entered.
const WINDOW: usize = 12;
/// The longest name: what the kernel takes of one (`PATH_MAX`), with a slash at the end and its zero.
const LONGEST: usize = 4094;
/// How often a way is walked again from the root, because what was above had been moved.
const MOST_RETURNS: u32 = 5000;
/// Bytes of attributes an entry has at most: half of what [`super::super::Limits`] lets an extended header have.
const ATTRIBUTES: usize = 512 << 10;
/// Bytes of directory entries read at a time.
const BATCH: usize = 32 << 10;

/// A directory on the way down.
struct Level {
    /// None when it was closed again.
    fd: Option<OwnedFd>,
    id: (u64, u64),
    /// What is still to do in it, the next one last.
    names: Vec<Listed>,
    /// How much of the path leads to it, with the slash.
    length: usize,
}

/// A name in a directory, and whether it was said to be a regular file's.
struct Listed {
    name: CString,
    is_file: bool,
}

/// What has a name.
enum Found {
    /// Looked at, and not opened.
    Thing(Inode),
    /// A regular file, opened.
    File(OwnedFd, Stat),
}

/// A file of which not all names were met.
struct Linked {
    first: Vec<u8>,
    left: usize,
    /// A number may be another file's by now, which then does not look the same.
    looks: (u32, u32, u32, i64, Time),
}

/// What a file's or directory's attributes say.
#[derive(Default)]
struct Attributes {
    kept: Vec<(Vec<u8>, Vec<u8>)>,
    opaque: bool,
    whiteout: bool,
    /// The data or the entries are elsewhere.
    elsewhere: bool,
}

pub(super) struct Packer<'o, W: Write> {
    out: Output<W>,
    options: &'o PackOptions<'o>,
    /// Found when the first file is opened.
    descriptors: Option<OwnDescriptors>,
    levels: Vec<Level>,
    path: Vec<u8>,
    links: HashMap<(u64, u64), Linked>,
    returns: u32,
    packed: Packed,
}

impl<'o, W: Write> Packer<'o, W> {
    pub(super) fn new(into: W, options: &'o PackOptions<'o>) -> Self {
        Self {
            out: Output::new(into),
            options,
            descriptors: None,
            levels: Vec::new(),
            path: options.root.unwrap_or_default().to_vec(),
            links: HashMap::new(),
            returns: 0,
            packed: Packed::default(),
        }
    }

    pub(super) fn run(mut self, thing: BorrowedFd<'_>) -> Result<Packed, PackError> {
        let root = Inode::of(thing).map_err(|errno| self.failed("fcntl", errno))?;
        self.entry(&root)?;
        while let Some(level) = self.levels.last_mut() {
            match level.names.pop() {
                Some(name) => self.next(&root, &name)?,
                None => self.ascend(),
            }
        }
        self.out.end()?;
        self.packed.stream_bytes = self.out.written;
        Ok(self.packed)
    }

    fn failed(&self, call: &'static str, source: Errno) -> PackError {
        PackError::System { call, path: Name(self.path.clone()), source }
    }

    fn refused(&self, why: &'static str) -> PackError {
        PackError::Refused { path: Name(self.path.clone()), why }
    }

    fn is_upper(&self) -> bool {
        self.options.tree == TreeKind::Upper
    }

    fn leave_out(&mut self) {
        self.packed.left_out += 1;
        self.packed.first_left_out.get_or_insert_with(|| Name(self.path.clone()));
    }

    /// Takes `name` of the innermost directory.
    fn next(&mut self, root: &Inode, listed: &Listed) -> Result<(), PackError> {
        self.path.truncate(self.levels.last().map_or(0, |level| level.length));
        let opens = self.options.is_settled && listed.is_file;
        let Some(here) = self.here(root)? else { return Ok(()) };
        let name = &listed.name;
        let found = if opens { opened(here, name) } else { Inode::beneath(here, name).map(Found::Thing) };
        self.path.extend_from_slice(name.to_bytes());
        let first = self.levels.first().map_or(0, |level| level.length);
        let below_root = self.path.get(first..).unwrap_or_default();
        if self.options.leave_out.binary_search(&below_root).is_ok() {
            return Ok(());
        }
        if self.path.len() > LONGEST || (self.is_upper() && name.to_bytes().starts_with(WHITEOUT)) {
            self.leave_out();
            return Ok(());
        }
        match found {
            Ok(Found::Thing(thing)) => self.entry(&thing),
            Ok(Found::File(file, stat)) => self.file(&file, &stat),
            Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(self.failed("openat2", errno)),
        }
    }

    /// The innermost directory, found again from the root if it is not open. None when it is gone, and then it is left.
    fn here(&mut self, root: &Inode) -> Result<Option<BorrowedFd<'_>>, PackError> {
        if self.levels.last().is_some_and(|level| level.fd.is_none()) {
            self.returns += 1;
            if self.returns > MOST_RETURNS {
                return Err(self.refused("is moved about while it is read"));
            }
            match self.find_again(root) {
                Ok((fd, id)) => {
                    if let Some(level) = self.levels.last_mut() {
                        (level.fd, level.id) = (Some(fd), id);
                    }
                }
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                    self.levels.pop();
                    return Ok(None);
                }
                Err(errno) => return Err(self.failed("openat2", errno)),
            }
        }
        Ok(self.levels.last().and_then(|level| level.fd.as_ref()).map(AsFd::as_fd))
    }

    /// Whatever directory now has the path of the innermost level. No link leads to it, so it is in the tree.
    fn find_again(&self, root: &Inode) -> Result<(OwnedFd, (u64, u64)), Errno> {
        let first = self.levels.first().map_or(0, |level| level.length);
        let way = self.path.get(first..).unwrap_or_default();
        let mut here = root.open_directory()?;
        for name in way.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            let name = CString::new(name).map_err(|_| Errno::INVAL)?;
            here = Inode::beneath(&here, &name)?.open_directory()?;
        }
        let id = identity(&rustix::fs::fstat(&here)?);
        Ok((here, id))
    }

    /// Goes up from a directory in which all is done.
    fn ascend(&mut self) {
        let done = self.levels.pop().and_then(|level| level.fd);
        let (Some(done), Some(above)) = (done, self.levels.last_mut()) else { return };
        if above.fd.is_some() {
            return;
        }
        // What is found is the directory that was left, or nothing.
        let how = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let opened = rustix::fs::openat2(&done, c"..", DIRECTORY, Mode::empty(), how);
        above.fd =
            opened.ok().filter(|fd| rustix::fs::fstat(fd).is_ok_and(|stat| identity(&stat) == above.id));
    }

    /// One thing, the path being its name.
    fn entry(&mut self, thing: &Inode) -> Result<(), PackError> {
        let stat = thing.stat().map_err(|errno| self.failed("fstat", errno))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            return self.directory(thing, &stat);
        }
        if self.path.is_empty() {
            return Err(self.refused("is no directory and has no name in the archive"));
        }
        let is_whiteout = kind == FileType::CharacterDevice && stat.st_rdev == 0;
        if self.is_upper() && is_whiteout {
            return self.whiteout(&stat);
        }
        let flag = match kind {
            FileType::RegularFile => {
                return match self.open(thing) {
                    Err(Errno::NOENT) => Ok(()),
                    file => self.file(&file.map_err(|errno| self.failed("openat", errno))?, &stat),
                };
            }
            FileType::Symlink => b'2',
            FileType::CharacterDevice => b'3',
            FileType::BlockDevice => b'4',
            FileType::Fifo => b'6',
            _ => return Ok(()),
        };
        if self.linked(&stat)? {
            return Ok(());
        }
        let link = if kind == FileType::Symlink {
            thing.link_target().map_err(|errno| self.failed("readlinkat", errno))?
        } else {
            CString::default()
        };
        let number = if matches!(flag, b'3' | b'4') { stat.st_rdev } else { 0 };
        let device = (rustix::fs::major(number), rustix::fs::minor(number));
        self.write(&Member { link: link.to_bytes(), device, ..self.member(flag, &stat) })
    }

    fn member<'m>(&self, flag: u8, stat: &Stat) -> Member<'m> {
        let owner = (stat.st_uid, stat.st_gid);
        let (uid, gid) = self.options.ids.map_or(owner, |ids| ids.to_inside(owner));
        Member { flag, mode: stat.st_mode, uid, gid, mtime: modified(stat), ..Member::default() }
    }

    fn write(&mut self, member: &Member<'_>) -> Result<(), PackError> {
        self.packed.entries += 1;
        self.out.write(&member.headers(&self.path))
    }

    fn directory(&mut self, thing: &Inode, stat: &Stat) -> Result<(), PackError> {
        let fd = match thing.open_directory() {
            Err(Errno::NOENT) if !self.levels.is_empty() => return Ok(()),
            fd => fd.map_err(|errno| self.failed("openat", errno))?,
        };
        let attributes = self.attributes(&fd)?;
        if !self.path.is_empty() {
            self.path.push(b'/');
            self.write(&Member { xattrs: attributes.kept, ..self.member(b'5', stat) })?;
        }
        let length = self.path.len();
        if attributes.opaque {
            self.path.extend_from_slice(OPAQUE);
            self.marker(stat)?;
            self.path.truncate(length);
        }
        let names = names(&fd).map_err(|errno| self.failed("getdents64", errno))?;
        self.levels.push(Level { fd: Some(fd), id: identity(stat), names, length });
        if let Some(far) = self.levels.len().checked_sub(WINDOW + 1).and_then(|at| self.levels.get_mut(at)) {
            far.fd = None;
        }
        Ok(())
    }

    fn file(&mut self, file: &OwnedFd, stat: &Stat) -> Result<(), PackError> {
        let attributes = self.attributes(file)?;
        if attributes.whiteout && stat.st_size == 0 {
            return self.whiteout(stat);
        }
        if self.linked(stat)? {
            return Ok(());
        }
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        self.write(&Member { size, xattrs: attributes.kept, ..self.member(b'0', stat) })?;
        let path = &self.path;
        let failed = |source| PackError::System { call: "read", path: Name(path.clone()), source };
        self.out.data(file.as_fd(), size, failed)?;
        self.packed.data_bytes += size;
        Ok(())
    }

    fn open(&mut self, thing: &Inode) -> Result<OwnedFd, Errno> {
        let descriptors = match self.descriptors.take() {
            Some(found) => found,
            None => OwnDescriptors::find()?,
        };
        self.descriptors.insert(descriptors).open_regular(thing)
    }

    /// Writes a link when the file was met by another name; true when it was.
    fn linked(&mut self, stat: &Stat) -> Result<bool, PackError> {
        if stat.st_nlink < 2 {
            return Ok(false);
        }
        let key = identity(stat);
        let looks = (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_size, modified(stat));
        let Some(linked) = self.links.get_mut(&key).filter(|linked| linked.looks == looks) else {
            let left = (stat.st_nlink as usize).saturating_sub(1);
            self.links.insert(key, Linked { first: self.path.clone(), left, looks });
            return Ok(false);
        };
        linked.left = linked.left.saturating_sub(1);
        let (first, is_last) = (linked.first.clone(), linked.left == 0);
        if is_last {
            self.links.remove(&key);
        }
        self.write(&Member { link: &first, ..self.member(b'1', stat) })?;
        Ok(true)
    }

    /// What hides the path's last component in lower layers.
    fn whiteout(&mut self, stat: &Stat) -> Result<(), PackError> {
        let name = self.levels.last().map_or(0, |level| level.length);
        self.path.splice(name..name, WHITEOUT.iter().copied());
        self.marker(stat)
    }

    /// An empty file whose name is all that it says.
    fn marker(&mut self, stat: &Stat) -> Result<(), PackError> {
        if self.path.len() > LONGEST {
            self.leave_out();
            return Ok(());
        }
        let mtime = modified(stat);
        self.write(&Member { flag: b'0', mode: 0o600, mtime, ..Member::default() })
    }

    /// Those of an open file or directory.
    fn attributes(&mut self, of: &OwnedFd) -> Result<Attributes, PackError> {
        let names = xattr_names_of(of).map_err(|errno| self.failed("flistxattr", errno))?;
        let mut found = Attributes::default();
        let mut bytes = 0;
        for name in names {
            let value = || xattr_of(of, &name).map_err(|errno| self.failed("fgetxattr", errno));
            match name.to_bytes() {
                b"trusted.overlay.opaque" if self.is_upper() => {
                    found.opaque = value()?.is_some_and(|value| value == b"y");
                }
                b"trusted.overlay.whiteout" => found.whiteout = self.is_upper(),
                b"trusted.overlay.redirect" | b"trusted.overlay.metacopy" => {
                    found.elsewhere = self.is_upper();
                }
                kept if keeps(kept) => {
                    let Some(mut value) = value()? else { continue };
                    if let Some(ids) = self.options.ids.filter(|_| kept == file_capability::NAME) {
                        value = file_capability::inside(value, ids);
                    }
                    bytes += kept.len() + value.len() + 64;
                    if bytes > ATTRIBUTES {
                        self.leave_out();
                        break;
                    }
                    found.kept.push((kept.to_vec(), value));
                }
                _ => {}
            }
        }
        if found.elsewhere {
            return Err(
                self.refused("is a part of an overlay with redirect_dir or metacopy: it is not whole")
            );
        }
        Ok(found)
    }
}

/// Whether an attribute is the tree's: not the host's, not overlayfs's.
fn keeps(name: &[u8]) -> bool {
    name == file_capability::NAME || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
}

fn modified(stat: &Stat) -> Time {
    (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0))
}

fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

/// What `name` in `dir` is now, opened if it is a regular file.
fn opened(dir: BorrowedFd<'_>, name: &CStr) -> Result<Found, Errno> {
    let how = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(dir, name, how, Mode::empty())?;
    let stat = rustix::fs::fstat(&file)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(Found::File(file, stat)),
        _ => Inode::of(file).map(Found::Thing),
    }
}

/// The names in a directory, the one that comes first last.
fn names(dir: &OwnedFd) -> Result<Vec<Listed>, Errno> {
    let mut buffer = vec![MaybeUninit::uninit(); BATCH];
    let mut listing = RawDir::new(dir, &mut buffer);
    let mut names = Vec::new();
    loop {
        match listing.next() {
            // It was removed.
            None | Some(Err(Errno::NOENT)) => break,
            Some(Err(Errno::INTR)) => {}
            Some(entry) => {
                let entry = entry?;
                if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                    let is_file = entry.file_type() == FileType::RegularFile;
                    names.push(Listed { name: entry.file_name().to_owned(), is_file });
                }
            }
        }
    }
    names.sort_unstable_by(|one: &Listed, other| other.name.cmp(&one.name));
    Ok(names)
}

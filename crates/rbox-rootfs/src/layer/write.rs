//! Makes the entries of a layer, then its whiteouts, then what is true of its directories.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rbox_sys::inode::Inode;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::entry::{Entries, Entry, Kind};
use super::error::{UnpackError, refused, system};
use super::limits::{Limits, Summary};
use super::place::{DIRECTORY, OPAQUE, Place, WHITEOUT, clean, split};
use super::stream::padding;

/// AUFS's own bookkeeping, found in old layers: means nothing here.
const AUFS: &[u8] = b".wh..wh.";
/// Where AUFS kept the files that have several names. They are needed for the links to them, and not in the layer.
const AUFS_LINKS: &[u8] = b".wh..wh.plnk";

/// What a directory gets when everything is in it.
struct Directory {
    path: Vec<u8>,
    inode: u64,
    entry: Entry,
}

pub(super) struct Unpacker<'fd, 'l, R> {
    entries: Entries<'l, R>,
    place: Place<'fd, 'l>,
    limits: &'l Limits,
    directories: Vec<Directory>,
    /// Names that whiteouts hide.
    hidden: Vec<Vec<u8>>,
    /// Directories with an opaque marker.
    opaque: Vec<Vec<u8>>,
    held: usize,
    /// There is a directory of AUFS's links, to be removed.
    aufs_links: bool,
    /// Who new files belong to without a chown.
    own: (u32, u32),
    summary: Summary,
}

impl<'fd, 'l, R: Read> Unpacker<'fd, 'l, R> {
    pub(super) fn new(tar: R, into: BorrowedFd<'fd>, limits: &'l Limits) -> Result<Self, UnpackError> {
        let unpacker = Self {
            entries: Entries::new(tar, limits),
            place: Place::new(into, limits),
            limits,
            directories: Vec::new(),
            hidden: Vec::new(),
            opaque: Vec::new(),
            held: 0,
            aufs_links: false,
            own: (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()),
            summary: Summary::default(),
        };
        // Without setgid on the root nothing below inherits a group: directories get theirs at the end.
        system("fchmod", b".", rustix::fs::fchmod(into, Mode::RWXU))?;
        Ok(unpacker)
    }

    pub(super) fn run(mut self) -> Result<Summary, UnpackError> {
        while let Some(entry) = self.entries.next()? {
            self.entry(entry)?;
        }
        if self.aufs_links {
            self.place.remove(AUFS_LINKS)?;
        }
        self.whiteouts()?;
        self.finish_directories()?;
        self.summary.stream_bytes = self.entries.stream.offset();
        Ok(self.summary)
    }

    fn entry(&mut self, entry: Entry) -> Result<(), UnpackError> {
        let data = entry.stored;
        if entry.kind == Kind::Label {
            return Ok(());
        }
        let path = clean(&entry.path, self.limits)?;
        if self.whiteout(&path, &entry)? {
            return self.skip(data);
        }
        if path.is_empty() && entry.kind != Kind::Directory {
            return Err(refused(&entry.path, "would replace the root directory"));
        }
        self.summary.entries += 1;
        match entry.kind {
            Kind::File => return self.file(&path, &entry),
            Kind::Directory => {
                self.directory(path, entry)?;
                return self.skip(data);
            }
            Kind::Hardlink => return self.hardlink(&path, &entry),
            Kind::Symlink => {
                if entry.link.is_empty() {
                    return Err(refused(&path, "is a symbolic link to nothing"));
                }
                self.place.make("symlinkat", &path, |parent, name| {
                    rustix::fs::symlinkat(&entry.link[..], parent, name)
                })?;
            }
            Kind::Character | Kind::Block | Kind::Fifo => self.node(&path, &entry)?,
            Kind::Label => {}
        }
        self.dress_inode(&path, &entry)
    }

    /// Passes over data that makes nothing, with its padding.
    fn skip(&mut self, data: u64) -> Result<(), UnpackError> {
        self.entries.stream.skip(data + padding(data), "a file's data")
    }

    /// Keeps memory held to the end within its limit.
    fn hold(&mut self, bytes: usize) -> Result<(), UnpackError> {
        self.held += bytes;
        if self.held > self.limits.held_bytes {
            return Err(UnpackError::Limit {
                limit: self.limits.held_bytes as u64,
                of: "bytes of directory and whiteout names",
            });
        }
        Ok(())
    }

    /// Takes an entry whose name makes it a whiteout. True if it was one.
    fn whiteout(&mut self, path: &[u8], entry: &Entry) -> Result<bool, UnpackError> {
        let (directory, name) = split(path);
        if directory == AUFS_LINKS && entry.kind == Kind::File && !name.starts_with(WHITEOUT) {
            self.aufs_links = true;
            return Ok(false);
        }
        if path.split(|byte| *byte == b'/').any(|part| part.starts_with(AUFS) && part != OPAQUE) {
            return Ok(true);
        }
        if directory.split(|byte| *byte == b'/').any(|part| part.starts_with(WHITEOUT)) {
            return Err(refused(&entry.path, "is below a whiteout"));
        }
        let Some(hidden) = name.strip_prefix(WHITEOUT) else {
            if entry.kind == Kind::Character && entry.device == (0, 0) {
                return Err(refused(&entry.path, "is a device 0:0, which overlayfs takes for a whiteout"));
            }
            return Ok(false);
        };
        self.hold(path.len() + 64)?;
        if name == OPAQUE {
            self.opaque.push(directory.to_vec());
        } else if matches!(hidden, b"" | b"." | b"..") {
            return Err(refused(&entry.path, "is a whiteout that names nothing"));
        } else if directory.is_empty() {
            self.hidden.push(hidden.to_vec());
        } else {
            self.hidden.push([directory, b"/", hidden].concat());
        }
        Ok(true)
    }

    fn file(&mut self, path: &[u8], entry: &Entry) -> Result<(), UnpackError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = self.place.make("openat", path, |parent, name| {
            rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR)
        })?;
        let inside = "a file's data";
        let stream = &mut self.entries.stream;
        if let Some(map) = &entry.map {
            for segment in &map.segments {
                let mut at = segment.offset;
                stream.take(segment.length, inside, |slice| {
                    write_all(
                        slice,
                        |rest| rustix::io::pwrite(&file, rest, at).inspect(|count| at += *count as u64),
                        path,
                    )
                })?;
            }
            system("ftruncate", path, rustix::fs::ftruncate(&file, map.size))?;
        } else {
            stream.take(entry.stored, inside, |slice| {
                write_all(slice, |rest| rustix::io::write(&file, rest), path)
            })?;
        }
        stream.skip(padding(entry.stored), inside)?;
        self.summary.data_bytes += entry.stored;
        self.dress(file.as_fd(), path, entry)
    }

    /// Owner, permissions, attributes, times of an open file or directory, in the order in which none undoes
    /// another: chown takes setuid and capabilities away, so it comes first.
    fn dress(&mut self, fd: BorrowedFd<'_>, path: &[u8], entry: &Entry) -> Result<(), UnpackError> {
        if (entry.uid, entry.gid) != self.own || entry.kind == Kind::Directory {
            system(
                "fchown",
                path,
                rustix::fs::fchown(fd, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid))),
            )?;
        }
        system("fchmod", path, rustix::fs::fchmod(fd, Mode::from_raw_mode(entry.mode)))?;
        for (name, value) in &entry.xattrs {
            if self.takes(name) {
                let set = rustix::fs::fsetxattr(fd, &name[..], value, XattrFlags::empty());
                self.attribute(name, path, set)?;
            }
        }
        system("utimensat", path, rustix::fs::futimens(fd, &times(entry)))
    }

    /// The same for what cannot be opened without an effect (a device, a FIFO, a symbolic link): by a descriptor that
    /// stands for the thing itself.
    fn dress_inode(&mut self, path: &[u8], entry: &Entry) -> Result<(), UnpackError> {
        let (_, name) = split(path);
        let name = system("openat", path, CString::new(name).map_err(|_| Errno::INVAL))?;
        let thing = system("openat", path, Inode::at(self.place.parent(path)?, &name))?;
        let found = FileType::from_raw_mode(system("fstat", path, thing.stat())?.st_mode);
        if file_type(entry.kind) != Some(found) {
            return Err(refused(path, "was replaced while the layer was unpacked"));
        }
        if (entry.uid, entry.gid) != self.own {
            system("fchownat", path, thing.set_owner(Uid::from_raw(entry.uid), Gid::from_raw(entry.gid)))?;
        }
        if entry.kind != Kind::Symlink {
            system("fchmodat2", path, thing.set_mode(Mode::from_raw_mode(entry.mode)))?;
        }
        for (attribute, value) in &entry.xattrs {
            if self.takes(attribute) {
                let set = thing.set_xattr(attribute, value);
                self.attribute(attribute, path, set)?;
            }
        }
        system("utimensat", path, thing.set_times(&times(entry)))
    }

    /// Whether an attribute is the image's to set; one that is not is counted.
    fn takes(&mut self, name: &[u8]) -> bool {
        let takes = is_the_archives(name);
        self.summary.xattrs_left_out += u64::from(!takes);
        takes
    }

    /// An attribute the file system or the type of file cannot hold is counted; file capabilities have to hold,
    /// for a program without them is another program.
    fn attribute(&mut self, name: &[u8], path: &[u8], set: Result<(), Errno>) -> Result<(), UnpackError> {
        let unsupported = matches!(set, Err(Errno::OPNOTSUPP))
            || (matches!(set, Err(Errno::PERM)) && name.starts_with(b"user."));
        if unsupported && name != b"security.capability" {
            self.summary.xattrs_unsupported += 1;
            return Ok(());
        }
        system("setxattr", path, set)
    }

    fn directory(&mut self, path: Vec<u8>, entry: Entry) -> Result<(), UnpackError> {
        let inode = if path.is_empty() {
            system("fstat", &path, rustix::fs::fstat(self.place.root()))?.st_ino
        } else {
            // Two directories of one name merge; anything else there gives way.
            let found = match self.make_directory(&path) {
                Err(UnpackError::System { source: Errno::EXIST, .. }) => self.place.kind(&path)?,
                made => {
                    made?;
                    None
                }
            };
            match found {
                Some(stat) if is(&stat, FileType::Directory) => stat.st_ino,
                Some(_) => {
                    self.place.remove(&path)?;
                    self.make_directory(&path)?;
                    self.place.kind(&path)?.map_or(0, |stat| stat.st_ino)
                }
                None => self.place.kind(&path)?.map_or(0, |stat| stat.st_ino),
            }
        };
        let attributes: usize = entry.xattrs.iter().map(|(name, value)| name.len() + value.len() + 64).sum();
        self.hold(2 * path.len() + attributes + size_of::<Directory>())?;
        self.directories.push(Directory { path, inode, entry });
        Ok(())
    }

    fn make_directory(&mut self, path: &[u8]) -> Result<(), UnpackError> {
        self.place.count()?;
        let (_, name) = split(path);
        let parent = self.place.parent(path)?;
        system("mkdirat", path, rustix::fs::mkdirat(parent, name, Mode::RWXU))
    }

    fn hardlink(&mut self, path: &[u8], entry: &Entry) -> Result<(), UnpackError> {
        let target = clean(&entry.link, self.limits)?;
        let (directory, target_name) = split(&target);
        if target.is_empty() || target_name.starts_with(WHITEOUT) {
            return Err(refused(path, "is a hard link to no file of the layer"));
        }
        let absent = || refused(path, "is a hard link to a file the layer does not have before it");
        let from = match self.place.existing(directory) {
            Err(Errno::NOENT) => return Err(absent()),
            from => system("openat2", path, from)?,
        };
        let found = match rustix::fs::statat(&from, target_name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Err(absent()),
            found => system("newfstatat", path, found)?,
        };
        if is(&found, FileType::Directory) {
            return Err(refused(path, "is a hard link to a directory"));
        }
        // A link to itself is there already, and removing what is in the way would remove its target.
        if let Some(there) = self.place.kind(path)?
            && (there.st_dev, there.st_ino) == (found.st_dev, found.st_ino)
        {
            return Ok(());
        }
        self.place.make("linkat", path, |parent, name| {
            rustix::fs::linkat(&from, target_name, parent, name, AtFlags::empty())
        })
    }

    fn node(&mut self, path: &[u8], entry: &Entry) -> Result<(), UnpackError> {
        let kind = match entry.kind {
            Kind::Character => FileType::CharacterDevice,
            Kind::Block => FileType::BlockDevice,
            _ => FileType::Fifo,
        };
        let device = rustix::fs::makedev(entry.device.0, entry.device.1);
        let mode = Mode::RUSR | Mode::WUSR;
        self.place.make("mknodat", path, |parent, name| rustix::fs::mknodat(parent, name, kind, mode, device))
    }

    /// Whiteouts in overlayfs's terms. Upper ones first: what is hidden as a whole has no inside to hide. Inside an
    /// opaque directory none is made: overlayfs reads that directory as it is, and would list the whiteout.
    fn whiteouts(&mut self) -> Result<(), UnpackError> {
        let mut hidden = std::mem::take(&mut self.hidden);
        hidden.sort_by_cached_key(|path| (depth(path), path.clone()));
        hidden.dedup();
        let mut opaque: BTreeSet<Vec<u8>> = std::mem::take(&mut self.opaque).into_iter().collect();
        let mut shared = None;
        for path in hidden {
            if ancestors(&path).any(|directory| opaque.contains(directory)) {
                continue;
            }
            let found = match self.place.kind(&path) {
                Err(error) if not_a_directory(&error) => continue,
                found => found?,
            };
            match found {
                None => {
                    self.make_whiteout(&path, &mut shared)?;
                    self.summary.whiteouts += 1;
                }
                Some(stat) if is(&stat, FileType::Directory) => {
                    opaque.insert(path);
                }
                Some(_) => {}
            }
        }
        for path in opaque {
            self.make_opaque(&path)?;
        }
        Ok(())
    }

    /// A whiteout: one more name of the last one that was made, as overlayfs makes its own. A file system looks for a free
    /// inode only once then, which ext4 is slow at where many were deleted a moment ago.
    fn make_whiteout(&mut self, path: &[u8], shared: &mut Option<OwnedFd>) -> Result<(), UnpackError> {
        if let Some(before) = shared {
            let (_, name) = split(path);
            let parent = self.place.parent(path)?;
            if rustix::fs::linkat(before, "", parent, name, AtFlags::EMPTY_PATH).is_ok() {
                return Ok(());
            }
            // It has as many names as there may be (65,000 on ext4).
        }
        let device = rustix::fs::makedev(0, 0);
        self.place.make("mknodat", path, |parent, name| {
            rustix::fs::mknodat(parent, name, FileType::CharacterDevice, Mode::empty(), device)
        })?;
        let (_, name) = split(path);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        *shared = rustix::fs::openat(self.place.parent(path)?, name, flags, Mode::empty()).ok();
        Ok(())
    }

    fn make_opaque(&mut self, path: &[u8]) -> Result<(), UnpackError> {
        // The marker's directory is found as its entries' parent is: through links, and made if it is missing.
        let marker = [path, b"/", OPAQUE].concat();
        let parent = match self.place.parent(if path.is_empty() { OPAQUE } else { &marker }) {
            Err(error) if not_a_directory(&error) => return Ok(()),
            parent => parent?,
        };
        let directory =
            system("openat", &marker, rustix::fs::openat(parent, c".", DIRECTORY, Mode::empty()))?;
        let set = rustix::fs::fsetxattr(&directory, c"trusted.overlay.opaque", b"y", XattrFlags::empty());
        system("fsetxattr", &marker, set)?;
        self.summary.opaque += 1;
        self.summary.root_opaque |= path.is_empty();
        Ok(())
    }

    /// Directories get what the archive says of them, inner ones first, now that nothing changes in them any more.
    fn finish_directories(&mut self) -> Result<(), UnpackError> {
        let root = Mode::from_raw_mode(0o755);
        system("fchown", b".", rustix::fs::fchown(self.place.root(), Some(Uid::ROOT), Some(Gid::ROOT)))?;
        system("fchmod", b".", rustix::fs::fchmod(self.place.root(), root))?;
        let mut directories = std::mem::take(&mut self.directories);
        // Stable: of two entries for one directory the later one wins.
        directories.sort_by_key(|directory| std::cmp::Reverse(depth(&directory.path)));
        for Directory { path, inode, entry } in directories {
            let fd = match self.place.open(&path, DIRECTORY) {
                // A later entry put something else in its place.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                fd => system("openat2", &path, fd)?,
            };
            if system("fstat", &path, rustix::fs::fstat(&fd))?.st_ino == inode {
                self.dress(fd.as_fd(), &path, &entry)?;
            }
        }
        Ok(())
    }
}

/// Whether an attribute is an archive's to set. overlayfs's own would forge whiteouts and redirects; an LSM's
/// label and integrity signatures are the host's.
pub(crate) fn is_the_archives(name: &[u8]) -> bool {
    const HOST: [&[u8]; 5] = [b"selinux", b"ima", b"evm", b"apparmor", b"SMACK64"];
    if let Some(user) = name.strip_prefix(b"user.") {
        !user.starts_with(b"overlay.")
    } else if let Some(label) = name.strip_prefix(b"security.") {
        !HOST.iter().any(|host| label.starts_with(host))
    } else {
        matches!(name, b"system.posix_acl_access" | b"system.posix_acl_default")
    }
}

/// What the kernel calls an entry's kind; none for what makes no file of its own.
fn file_type(kind: Kind) -> Option<FileType> {
    match kind {
        Kind::File => Some(FileType::RegularFile),
        Kind::Directory => Some(FileType::Directory),
        Kind::Symlink => Some(FileType::Symlink),
        Kind::Character => Some(FileType::CharacterDevice),
        Kind::Block => Some(FileType::BlockDevice),
        Kind::Fifo => Some(FileType::Fifo),
        Kind::Hardlink | Kind::Label => None,
    }
}

fn depth(path: &[u8]) -> usize {
    if path.is_empty() { 0 } else { path.split(|byte| *byte == b'/').count() }
}

/// The directories above a path, the root (empty) among them.
fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(split(path).0), |above| (!above.is_empty()).then(|| split(above).0))
}

fn is(stat: &Stat, kind: FileType) -> bool {
    FileType::from_raw_mode(stat.st_mode) == kind
}

fn not_a_directory(error: &UnpackError) -> bool {
    matches!(error, UnpackError::System { source: Errno::NOTDIR, .. })
}

fn times(entry: &Entry) -> Timestamps {
    let time = |(seconds, nanoseconds): (i64, u32)| Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
    Timestamps { last_access: time(entry.atime), last_modification: time(entry.mtime) }
}

/// Writes a slice whole.
pub(crate) fn write_all(
    mut rest: &[u8],
    mut write: impl FnMut(&[u8]) -> Result<usize, Errno>,
    path: &[u8],
) -> Result<(), UnpackError> {
    while !rest.is_empty() {
        match write(rest) {
            Err(Errno::INTR) => {}
            Ok(0) => return system("write", path, Err(Errno::NOSPC)),
            done => rest = rest.get(system("write", path, done)?..).unwrap_or_default(),
        }
    }
    Ok(())
}

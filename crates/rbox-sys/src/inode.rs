//! Owner, mode, attributes and times of what lies where a container can write.
//!
//! Between a call that makes a thing and one that changes it by its name, the container can put something else in
//! its place, such as a link to a file of the host. So the thing is opened first, by a descriptor that follows no link
//! and reads nothing (`O_PATH`), looked at, and changed through that.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

/// A file, directory, link, node or socket, by itself and not by a name.
#[derive(Debug)]
pub struct Inode(OwnedFd);

impl Inode {
    /// What `name` in `dir` is now. A link is the link; a FIFO or a device is not opened in its own sense.
    pub fn at(dir: impl AsFd, name: &CStr) -> Result<Self, Errno> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(dir, name, flags, Mode::empty()).map(Self)
    }

    /// What the single component `name` below `dir` is now, as the kernel resolves it without following anything.
    pub fn beneath(dir: impl AsFd, name: &CStr) -> Result<Self, Errno> {
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let itself = OFlags::PATH | OFlags::NOFOLLOW;
        rustix::fs::openat2(dir, name, itself | OFlags::CLOEXEC, Mode::empty(), how).map(Self)
    }

    /// What a descriptor stands for, which may be an `O_PATH` one.
    pub fn of(found: impl AsFd) -> Result<Self, Errno> {
        rustix::io::fcntl_dupfd_cloexec(found, 0).map(Self)
    }

    /// The descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Opens it for reading, when it is a regular file: this very one, whatever has its name by now. Nothing else is opened.
    pub fn open_regular(&self) -> Result<OwnedFd, Errno> {
        OwnDescriptors::find()?.open_regular(self)
    }

    /// Opens it for reading, when it is a directory.
    pub fn open_directory(&self) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.0, c".", flags, Mode::empty())
    }

    /// Where a symbolic link leads.
    pub fn link_target(&self) -> Result<CString, Errno> {
        rustix::fs::readlinkat(&self.0, c"", Vec::new())
    }

    /// The names of its extended attributes. A file system without any is one that has none.
    pub fn xattr_names(&self) -> Result<Vec<CString>, Errno> {
        let path = self.own_path()?;
        listed(|list| rustix::fs::listxattr(&path, list))
    }

    /// The value of an extended attribute; none when it has no such one (any more).
    pub fn xattr(&self, name: &CStr) -> Result<Option<Vec<u8>>, Errno> {
        let path = self.own_path()?;
        valued(|value| rustix::fs::getxattr(&path, name, value))
    }

    /// A path that leads to this very thing: calls that follow links go through the magic link and no further.
    fn own_path(&self) -> Result<String, Errno> {
        OwnDescriptors::find()?;
        Ok(format!("{OWN_FDS}/{}", self.0.as_raw_fd()))
    }

    /// Makes a FIFO, socket or device without permissions. What is found there afterwards is of this kind and number,
    /// or the call fails.
    pub fn make_node(dir: impl AsFd, name: &CStr, kind: FileType, device: u64) -> Result<Self, Errno> {
        let dir = dir.as_fd();
        rustix::fs::mknodat(dir, name, kind, Mode::empty(), device)?;
        let node = Self::at(dir, name)?;
        let found = node.stat()?;
        let is_device = matches!(kind, FileType::CharacterDevice | FileType::BlockDevice);
        let same = FileType::from_raw_mode(found.st_mode) == kind && (!is_device || found.st_rdev == device);
        if same { Ok(node) } else { Err(Errno::STALE) }
    }

    /// Makes a symbolic link. What is found there afterwards is one, or the call fails.
    pub fn make_symlink(dir: impl AsFd, name: &CStr, target: &CStr) -> Result<Self, Errno> {
        let dir = dir.as_fd();
        rustix::fs::symlinkat(target, dir, name)?;
        let link = Self::at(dir, name)?;
        let is_link = FileType::from_raw_mode(link.stat()?.st_mode) == FileType::Symlink;
        if is_link { Ok(link) } else { Err(Errno::STALE) }
    }

    /// fstat(2).
    pub fn stat(&self) -> Result<Stat, Errno> {
        rustix::fs::fstat(&self.0)
    }

    /// Changes the owner; takes the set-id bits away, so it comes before [`Self::set_mode`].
    pub fn set_owner(&self, uid: Uid, gid: Gid) -> Result<(), Errno> {
        rustix::fs::chownat(&self.0, c"", Some(uid), Some(gid), AtFlags::EMPTY_PATH)
    }

    /// Changes the mode. A link has none that could be changed: it is refused.
    pub fn set_mode(&self, mode: Mode) -> Result<(), Errno> {
        match fchmodat2(&self.0, mode) {
            // Before Linux 6.6.
            Err(Errno::NOSYS) => self.set_mode_through_proc(mode),
            other => other,
        }
    }

    /// chmod(2) of the magic link in /proc that stands for the descriptor, found in a procfs and nowhere else.
    fn set_mode_through_proc(&self, mode: Mode) -> Result<(), Errno> {
        if FileType::from_raw_mode(self.stat()?.st_mode) == FileType::Symlink {
            return Err(Errno::OPNOTSUPP);
        }
        rustix::fs::chmodat(OwnDescriptors::find()?.0, self.0.as_raw_fd().to_string(), mode, AtFlags::empty())
    }

    /// Sets an extended attribute. A link has its own, where its file system lets it have any.
    pub fn set_xattr(&self, name: &[u8], value: &[u8]) -> Result<(), Errno> {
        // setxattrat(2) is there since Linux 6.13 only. Whatever the magic link stands for is not followed further.
        rustix::fs::setxattr(self.own_path()?, name, value, XattrFlags::empty())
    }

    /// Changes access and modification time.
    pub fn set_times(&self, times: &Timestamps) -> Result<(), Errno> {
        rustix::fs::utimensat(&self.0, c"", times, AtFlags::EMPTY_PATH)
    }
}

/// `XATTR_LIST_MAX` and `XATTR_SIZE_MAX`.
const XATTR_MOST: usize = 65_536;

/// Where this process's descriptors are files.
const OWN_FDS: &str = "/proc/self/fd";

/// This process's descriptors as files, found in a procfs and nowhere else. Whoever opens many things finds them once; a child
/// has others, and must not use its parent's.
#[derive(Debug)]
pub struct OwnDescriptors(OwnedFd);

impl OwnDescriptors {
    /// Finds them; `ENOSYS` where `/proc` is no procfs.
    pub fn find() -> Result<Self, Errno> {
        const PROC_SUPER_MAGIC: u64 = 0x9fa0;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let own = rustix::fs::open(OWN_FDS, flags, Mode::empty())?;
        if u64::try_from(rustix::fs::fstatfs(&own)?.f_type) != Ok(PROC_SUPER_MAGIC) {
            return Err(Errno::NOSYS);
        }
        Ok(Self(own))
    }

    /// Opens a regular file for reading, as [`Inode::open_regular`].
    pub fn open_regular(&self, thing: &Inode) -> Result<OwnedFd, Errno> {
        if FileType::from_raw_mode(thing.stat()?.st_mode) != FileType::RegularFile {
            return Err(Errno::INVAL);
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        rustix::fs::openat(&self.0, thing.0.as_raw_fd().to_string(), flags, Mode::empty())
    }
}

/// The names of the extended attributes of an open file. A file system without any is one that has none.
pub fn xattr_names_of(file: impl AsFd) -> Result<Vec<CString>, Errno> {
    listed(|list| rustix::fs::flistxattr(&file, list))
}

/// The value of an extended attribute of an open file; none when it has no such one (any more).
pub fn xattr_of(file: impl AsFd, name: &CStr) -> Result<Option<Vec<u8>>, Errno> {
    valued(|value| rustix::fs::fgetxattr(&file, name, value))
}

/// The names of the extended attributes of what `name` in a directory is, a link's own if it is one.
pub fn xattr_names_at(dir: impl AsFd, name: &OsStr) -> Result<Vec<CString>, Errno> {
    let path = path_at(dir, name);
    listed(|list| rustix::fs::llistxattr(&path, list))
}

/// The value of one of these; none when it has no such one (any more).
pub fn xattr_at(dir: impl AsFd, name: &OsStr, attribute: &CStr) -> Result<Option<Vec<u8>>, Errno> {
    let path = path_at(dir, name);
    valued(|value| rustix::fs::lgetxattr(&path, attribute, value))
}

/// There is no call for the attributes of a name below a descriptor (listxattrat(2) is there since Linux 6.13 only): the
/// descriptor's own link is the way, and the name, which has no slash, is not followed.
fn path_at(dir: impl AsFd, name: &OsStr) -> PathBuf {
    Path::new(OWN_FDS).join(dir.as_fd().as_raw_fd().to_string()).join(name)
}

fn listed(list: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<CString>, Errno> {
    // The kernel's limit is XATTR_LIST_MAX; most files have none.
    let mut names = vec![0_u8; 512];
    let length = loop {
        match list(&mut names) {
            Ok(length) => break length,
            Err(Errno::RANGE) if names.len() < XATTR_MOST => names.resize(XATTR_MOST, 0),
            Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        }
    };
    let names = names.get(..length).unwrap_or_default().split_inclusive(|byte| *byte == 0);
    Ok(names.filter_map(|name| CStr::from_bytes_with_nul(name).ok()).map(CStr::to_owned).collect())
}

fn valued(read: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Option<Vec<u8>>, Errno> {
    let mut value = vec![0_u8; 512];
    loop {
        match read(&mut value) {
            Ok(length) => {
                value.truncate(length);
                return Ok(Some(value));
            }
            Err(Errno::RANGE) if value.len() < XATTR_MOST => value.resize(XATTR_MOST, 0),
            Err(Errno::NODATA | Errno::OPNOTSUPP) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

/// Its number is the same on all architectures that rbox runs on; the C library's crate has no name for it on aarch64.
const SYS_FCHMODAT2: libc::c_long = 452;

fn fchmodat2(fd: impl AsFd, mode: Mode) -> Result<(), Errno> {
    // SAFETY: the path is a static empty string, and the call reads nothing else of ours.
    let result = unsafe {
        libc::syscall(
            SYS_FCHMODAT2,
            fd.as_fd().as_raw_fd(),
            c"".as_ptr(),
            mode.as_raw_mode(),
            libc::AT_EMPTY_PATH,
        )
    };
    if result == 0 { Ok(()) } else { Err(Errno::from_raw_os_error(nix::errno::Errno::last_raw())) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use rustix::fs::Timespec;

    use super::*;

    #[test]
    fn a_link_is_changed_itself_and_never_what_it_leads_to() {
        let path = tempfile::tempdir().unwrap();
        let path = path.path();
        let (target, dir) = (path.join("target"), fs::File::open(path).unwrap());
        fs::write(&target, "").unwrap();
        fs::set_permissions(&target, fs::Permissions::from_mode(0o600)).unwrap();
        symlink(&target, path.join("link")).unwrap();
        let link = Inode::at(&dir, c"link").unwrap();
        let time = Timespec { tv_sec: 1_000, tv_nsec: 5 };
        link.set_times(&Timestamps { last_access: time, last_modification: time }).unwrap();
        assert!(link.set_mode(Mode::from_raw_mode(0o777)).is_err());
        assert_eq!(link.set_mode_through_proc(Mode::from_raw_mode(0o777)), Err(Errno::OPNOTSUPP));
        assert_eq!(fs::symlink_metadata(path.join("link")).unwrap().mtime(), 1_000);
        let meta = fs::metadata(&target).unwrap();
        assert_eq!(meta.mode() & 0o7777, 0o600);
        assert_ne!(meta.mtime(), 1_000);

        let fifo = Inode::make_node(&dir, c"fifo", FileType::Fifo, 0).unwrap();
        let mode = || fs::symlink_metadata(path.join("fifo")).unwrap().mode() & 0o7777;
        assert_eq!(mode(), 0);
        fifo.set_mode(Mode::from_raw_mode(0o6751)).unwrap();
        assert_eq!(mode(), 0o6751);
        fifo.set_mode_through_proc(Mode::from_raw_mode(0o640)).unwrap();
        assert_eq!(mode(), 0o640);
        // Whatever has the name by now.
        fs::rename(path.join("link"), path.join("fifo")).unwrap();
        fifo.set_mode(Mode::from_raw_mode(0o777)).unwrap();
        assert_eq!(fs::metadata(&target).unwrap().mode() & 0o7777, 0o600);
        let other = Inode::make_symlink(&dir, c"other", c"target").unwrap();
        // An attribute of the link is the link's, where it may have one, and never the file's.
        let _ = other.set_xattr(b"trusted.rbox", b"x");
        assert!(other.set_xattr(b"user.rbox", b"x").is_err());
        let mut value = [0; 8];
        for name in ["trusted.rbox", "user.rbox"] {
            assert!(rustix::fs::getxattr(&target, name, &mut value[..]).is_err(), "{name}");
        }
        assert_eq!(fs::read_link(path.join("other")).unwrap(), std::path::Path::new("target"));
    }
}

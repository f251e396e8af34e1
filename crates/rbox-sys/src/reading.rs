//! Reading a file that an image or a container can write: the one way to do so.
//!
//! Such a file may be anything by now: a device whose opening does something, a FIFO that nobody writes to, 3 GB of
//! nothing. So it is found without being opened (`O_PATH`), looked at, and then that very file is opened; and no more of
//! it is read than the caller has use for.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags};

use crate::error::{SysError, told};
use crate::file::open_in_root;

/// Why such a file was not read.
#[derive(Debug, Clone)]
pub enum ReadError {
    /// It is not there, or cannot be opened or read.
    Call(SysError),
    /// It is no regular file but this.
    Kind(&'static str),
    /// It has more bytes than the caller reads.
    Large {
        /// How many it has, as far as is known.
        size: u64,
        /// How many are read.
        most: u64,
    },
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(error) => write!(f, "cannot be read: {}", error.errno.desc()),
            Self::Kind(kind) => write!(f, "is not a regular file but a {kind}"),
            Self::Large { size, most } => write!(f, "has {size} bytes; {most} are read at most"),
        }
    }
}

impl std::error::Error for ReadError {}

/// Reads `path` as a process whose root is `root` would find it: all of it, which is `most` bytes at most.
pub fn read_in_root(root: impl AsFd, path: &Path, most: u64) -> Result<Vec<u8>, ReadError> {
    whole(&open_in_root(root, path, OFlags::PATH, 0).map_err(ReadError::Call)?, most)
}

/// Reads the beginning of `path` as a process whose root is `root` would find it: `most` bytes at most.
pub fn read_start_in_root(root: impl AsFd, path: &Path, most: u64) -> Result<Vec<u8>, ReadError> {
    start(&open_in_root(root, path, OFlags::PATH, 0).map_err(ReadError::Call)?, most)
}

/// Reads a file of the host's that a container writes to, such as its `/etc/hosts`; the last part of `path` is no link.
pub fn read_file(path: &Path, most: u64) -> Result<Vec<u8>, ReadError> {
    whole(&find(path)?, most)
}

/// Reads the beginning of a file that the kernel makes of what a process says of itself, such as `/proc/PID/cmdline`.
pub fn read_start(path: &Path, most: u64) -> Result<Vec<u8>, ReadError> {
    start(&find(path)?, most)
}

fn find(path: &Path) -> Result<OwnedFd, ReadError> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    told(
        "openat",
        || format!("AT_FDCWD, {}, {}", crate::trace::quoted(path), crate::trace::flags_of("O_", flags)),
        || rustix::fs::openat(CWD, path, flags, Mode::empty()),
    )
    .map_err(ReadError::Call)
}

fn whole(found: &OwnedFd, most: u64) -> Result<Vec<u8>, ReadError> {
    let large = |size| Err(ReadError::Large { size, most });
    let size = regular(found)?;
    if size > most {
        return large(size);
    }
    // It may have grown since.
    let bytes = content(found, size, most.saturating_add(1))?;
    if bytes.len() as u64 > most { large(bytes.len() as u64) } else { Ok(bytes) }
}

/// The first `most` bytes of a file that was found, but not opened.
fn start(found: &OwnedFd, most: u64) -> Result<Vec<u8>, ReadError> {
    content(found, regular(found)?, most)
}

/// The size of a regular file; an error for all else.
fn regular(found: &OwnedFd) -> Result<u64, ReadError> {
    let stat = rustix::fs::fstat(found)
        .map_err(|errno| ReadError::Call(SysError::new("fstat", crate::trace::fd(found), errno)))?;
    Err(ReadError::Kind(match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => return Ok(u64::try_from(stat.st_size).unwrap_or(0)),
        FileType::Directory => "directory",
        FileType::Symlink => "symbolic link",
        FileType::Fifo => "FIFO",
        FileType::Socket => "socket",
        FileType::CharacterDevice => "character device",
        FileType::BlockDevice => "block device",
        FileType::Unknown => "file of an unknown kind",
    }))
}

/// Opens what was found, and reads `most` bytes of it.
fn content(found: &OwnedFd, size: u64, most: u64) -> Result<Vec<u8>, ReadError> {
    // The link leads to what the descriptor stands for, whatever the path leads to by now.
    let link = format!("/proc/self/fd/{}", found.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = told(
        "open",
        || format!("{}, O_RDONLY|O_NONBLOCK|O_NOCTTY|O_CLOEXEC", crate::trace::quoted(&link)),
        || rustix::fs::open(&link, flags, Mode::empty()),
    )
    .map_err(ReadError::Call)?;
    let mut bytes = Vec::with_capacity(size.min(most) as usize);
    File::from(file)
        .take(most)
        .read_to_end(&mut bytes)
        .map_err(|error| ReadError::Call(SysError::new("read", crate::trace::fd(found), error)))?;
    Ok(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use rustix::fs::inotify;
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn what_is_no_file_of_bounded_size_is_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let root = File::open(dir.path()).unwrap();
        let mut kinds = vec![("directory", "is not a regular file but a directory")];
        fs::create_dir(at("directory")).unwrap();
        let make = |name: &str, kind, device| rustix::fs::mknodat(&root, name, kind, Mode::RUSR, device);
        make("fifo", FileType::Fifo, 0).unwrap();
        kinds.push(("fifo", "a FIFO"));
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        kinds.push(("socket", "a socket"));
        match make("null", FileType::CharacterDevice, rustix::fs::makedev(1, 3)) {
            Err(Errno::PERM) => println!("skipped: devices cannot be made here"),
            done => {
                done.unwrap();
                kinds.push(("null", "a character device"));
            }
        }
        File::create(at("sparse")).unwrap().set_len(3 << 30).unwrap();
        kinds.push(("sparse", "has 3221225472 bytes; 1000 are read at most"));
        File::create(at("long")).unwrap().set_len(1001).unwrap();
        kinds.push(("long", "has 1001 bytes"));
        kinds.push(("absent", "No such file or directory"));
        let watch = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
        inotify::add_watch(&watch, dir.path(), inotify::WatchFlags::OPEN).unwrap();
        for (name, why) in &kinds {
            // Directly, and as an image would have it.
            let _ = fs::remove_file(at("link"));
            symlink(format!("/{name}"), at("link")).unwrap();
            for refused in [
                read_file(&at(name), 1000).unwrap_err(),
                read_in_root(&root, Path::new(name), 1000).unwrap_err(),
                read_in_root(&root, Path::new("/link"), 1000).unwrap_err(),
            ] {
                assert!(refused.to_string().contains(why), "{name}: {refused}");
            }
            let mut events = [0; 1024];
            assert_eq!(rustix::io::read(&watch, &mut events), Err(Errno::AGAIN), "{name} was opened");
        }
        fs::write(at("file"), "1000").unwrap();
        symlink("/../file", at("to-file")).unwrap();
        assert_eq!(read_file(&at("file"), 4).unwrap(), b"1000");
        assert_eq!(read_in_root(&root, Path::new("/to-file"), 4).unwrap(), b"1000");
        assert_eq!(read_start(&at("sparse"), 3).unwrap(), [0; 3]);
        assert!(read_file(&at("to-file"), 4).unwrap_err().to_string().contains("symbolic link"));
    }
}

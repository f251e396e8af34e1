//! Places of the host that a copy comes from or goes to. The caller names them, so they are looked up as the caller would.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use rbox_runtime::rootfs::put::Inside;
use rbox_sys::inode::Inode;
use rbox_sys::plain;
use rustix::fs::{Dir, FileType, Mode, OFlags};

use crate::copy::inside::{Source, kind};
use crate::copy::target::{There, asserts_directory, cleaned, source_name};
use crate::error::EngineError;

/// Links that are followed from a target.
const MOST_LINKS: usize = 10;

/// The path from the root, without `.` and `..`.
fn absolute(path: &Path) -> Result<PathBuf, EngineError> {
    let whole = std::path::absolute(path).map_err(EngineError::file("find", path))?;
    Ok(cleaned(&whole))
}

fn failed(path: &Path, error: impl Into<std::io::Error>) -> EngineError {
    let error = error.into();
    let text = format!("lstat {}: {}", path.display(), plain(&error).to_lowercase());
    if error.kind() == ErrorKind::NotFound { EngineError::NoFile(text) } else { EngineError::Conflict(text) }
}

/// What is at `path`; a link itself, unless it is to be followed or the path says that it is a directory.
pub(crate) fn source(path: &Path, follow: bool) -> Result<Source, EngineError> {
    let whole = absolute(path)?;
    let mut how = OFlags::PATH | OFlags::CLOEXEC;
    if asserts_directory(path) {
        how |= OFlags::DIRECTORY;
    } else if !follow {
        how |= OFlags::NOFOLLOW;
    }
    let thing: OwnedFd =
        rustix::fs::open(&whole, how, Mode::empty()).map_err(|errno| failed(&whole, errno))?;
    let is_dir = kind(&thing)?.is_dir();
    // `..` has the name of the directory that it is.
    let name = if asserts_directory(path) { source_name(path) } else { source_name(&whole) };
    let name =
        if name == "." && !crate::copy::target::means_content(path) { source_name(&whole) } else { name };
    Ok(Source { thing, is_dir, name })
}

/// So deep a tree is looked through before anything is copied; what is below is looked at when it is its turn.
const DEEP: usize = 64;

/// Refuses what is to be copied if something of it belongs to a user that the container has not, or has capabilities of one.
pub(crate) fn check_users(thing: BorrowedFd<'_>, path: &Path, inside: Inside<'_>) -> Result<(), EngineError> {
    if crate::copy::target::means_content(path) {
        // The directory itself stays behind.
        return check_below(thing, path, DEEP, inside);
    }
    check_one(thing, path, DEEP, inside)
}

fn check_one(thing: BorrowedFd<'_>, path: &Path, deep: usize, inside: Inside<'_>) -> Result<(), EngineError> {
    let refused =
        |why: String| EngineError::Conflict(format!("{}: {why}: nothing was copied", path.display()));
    let stat = rustix::fs::fstat(thing).map_err(|errno| failed(path, errno))?;
    if FileType::from_raw_mode(stat.st_mode).is_socket() {
        // Never copied.
        return Ok(());
    }
    inside.owner((stat.st_uid, stat.st_gid)).map_err(refused)?;
    if FileType::from_raw_mode(stat.st_mode).is_file()
        && let Ok(Some(value)) = Inode::of(thing).and_then(|thing| thing.xattr(c"security.capability"))
    {
        inside.capability(&value).map_err(refused)?;
    }
    if !FileType::from_raw_mode(stat.st_mode).is_dir() || deep == 0 {
        return Ok(());
    }
    check_below(thing, path, deep, inside)
}

/// The same for what is in a directory.
fn check_below(
    thing: BorrowedFd<'_>,
    path: &Path,
    deep: usize,
    inside: Inside<'_>,
) -> Result<(), EngineError> {
    // What cannot be read, or goes meanwhile, is for the copy to tell of.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(directory) = rustix::fs::openat(thing, ".", flags, Mode::empty()) else { return Ok(()) };
    let Ok(entries) = Dir::read_from(&directory) else { return Ok(()) };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if !matches!(name.to_bytes(), b"." | b"..")
            && let Ok(below) = rustix::fs::openat(&directory, name, flags, Mode::empty())
        {
            check_one(below.as_fd(), &path.join(OsStr::from_bytes(name.to_bytes())), deep - 1, inside)?;
        }
    }
    Ok(())
}

/// Refuses a target that is in nothing.
fn check_above(path: &Path) -> Result<(), EngineError> {
    let above = path.parent().unwrap_or(Path::new("/"));
    let meta = fs::metadata(above).map_err(|_| {
        EngineError::NoFile(format!("invalid output path: directory \"{}\" does not exist", above.display()))
    })?;
    if !meta.is_dir() {
        return Err(EngineError::Conflict("not a directory".to_owned()));
    }
    Ok(())
}

/// The target `path` with its last links resolved, and what is there. What it is in has to be there.
pub(crate) fn look(path: &Path) -> Result<(PathBuf, There), EngineError> {
    let mut whole = absolute(path)?;
    if asserts_directory(path) && fs::metadata(&whole).is_err() {
        // What is there is a link that leads to nothing, or nothing.
        check_above(&whole)?;
        return Ok((whole, There::Nothing));
    }
    for _ in 0..=MOST_LINKS {
        let meta = match fs::symlink_metadata(&whole) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                check_above(&whole)?;
                return Ok((whole, There::Nothing));
            }
            other => other.map_err(|error| failed(&whole, error))?,
        };
        let kind = meta.file_type();
        if kind.is_symlink() {
            let to = fs::read_link(&whole).map_err(|error| failed(&whole, error))?;
            whole = whole.parent().unwrap_or(Path::new("/")).join(to);
            continue;
        }
        if kind.is_dir() {
            return Ok((whole, There::Directory));
        }
        if kind.is_char_device() || kind.is_block_device() {
            return Err(EngineError::Conflict(format!(
                "invalid output path: \"{}\" must be a directory or a regular file: got a device",
                whole.display()
            )));
        }
        return Ok((whole, There::Other));
    }
    Err(EngineError::Conflict(format!("too many symlinks in {}", path.display())))
}

/// Opens a directory to put things into.
pub(crate) fn directory(path: &Path) -> Result<File, EngineError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| failed(path, errno))?;
    Ok(fd.into())
}

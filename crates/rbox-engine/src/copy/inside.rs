//! Places inside a container that a copy comes from or goes to.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use rbox_sys::file::open_in_root;
use rbox_sys::{SysError, trace};
use rustix::fs::{FileType, OFlags};

use crate::copy::target::{There, asserts_directory, cleaned, source_name};
use crate::copy::view::View;
use crate::error::EngineError;

/// Links that are followed by hand, from one that leads to nothing.
const MOST_LINKS: usize = 40;

/// The source of a copy.
pub(crate) struct Source {
    pub(crate) thing: OwnedFd,
    pub(crate) is_dir: bool,
    pub(crate) name: OsString,
}

/// Docker's words for a file that is not there.
fn not_found(view: &View<'_>, path: &Path) -> EngineError {
    let shown = path.display();
    EngineError::NoFile(format!("Could not find the file {shown} in container {}", view.record.name))
}

fn failed(view: &View<'_>, path: &Path, error: &SysError) -> EngineError {
    match error.errno {
        Errno::ENOENT => not_found(view, path),
        errno => {
            EngineError::Conflict(format!("lstat {}: {}", path.display(), rbox_sys::error::reason(errno)))
        }
    }
}

pub(crate) fn kind(thing: &OwnedFd) -> Result<FileType, EngineError> {
    let stat = rustix::fs::fstat(thing).map_err(|errno| SysError::new("fstat", trace::fd(thing), errno))?;
    Ok(FileType::from_raw_mode(stat.st_mode))
}

/// What is at `path`; a link itself, unless it is to be followed or the path says that it is a directory.
pub(crate) fn source(view: &View<'_>, path: &Path, follow: bool) -> Result<Source, EngineError> {
    let how = if asserts_directory(path) {
        OFlags::PATH | OFlags::DIRECTORY
    } else if follow {
        OFlags::PATH
    } else {
        OFlags::PATH | OFlags::NOFOLLOW
    };
    let inside = cleaned(path);
    let thing = open_in_root(&view.root, &inside, how, 0).map_err(|error| failed(view, path, &error))?;
    let is_dir = kind(&thing)?.is_dir();
    Ok(Source { thing, is_dir, name: source_name(path) })
}

/// The name of what the link at `path` leads to in the end. None when it is no link, or has none.
pub(crate) fn name_at_end(view: &View<'_>, path: &Path) -> Option<OsString> {
    let mut path = Path::new("/").join(path);
    let mut name = None;
    for _ in 0..MOST_LINKS {
        let link = open_in_root(&view.root, &path, OFlags::PATH | OFlags::NOFOLLOW, 0).ok()?;
        let Ok(to) = rustix::fs::readlinkat(&link, c"", Vec::new()) else { break };
        path = path.parent()?.join(OsStr::from_bytes(to.as_bytes()));
        name = Some(path.file_name()?.to_owned());
    }
    name
}

/// The target `path` with its last links resolved, and what is there. A link that leads to nothing has what it leads to made.
pub(crate) fn look(view: &View<'_>, path: &Path) -> Result<(PathBuf, There), EngineError> {
    let mut inside = cleaned(path);
    if asserts_directory(path) {
        return match open_in_root(&view.root, &inside, OFlags::PATH | OFlags::DIRECTORY, 0) {
            Ok(_) => Ok((inside, There::Directory)),
            Err(error) if error.errno == Errno::ENOENT => Ok((inside, There::Nothing)),
            Err(error) => Err(failed(view, path, &error)),
        };
    }
    for _ in 0..MOST_LINKS {
        let thing = match open_in_root(&view.root, &inside, OFlags::PATH | OFlags::NOFOLLOW, 0) {
            Ok(thing) => thing,
            Err(error) if error.errno == Errno::ENOENT => return Ok((inside, There::Nothing)),
            Err(error) => return Err(failed(view, path, &error)),
        };
        match kind(&thing)? {
            FileType::Directory => return Ok((inside, There::Directory)),
            FileType::Symlink => {
                let to = rustix::fs::readlinkat(&thing, c"", Vec::new())
                    .map_err(|errno| SysError::new("readlinkat", trace::fd(&thing), errno))?;
                let above = inside.parent().unwrap_or(Path::new("/"));
                inside = above.join(OsStr::from_bytes(to.as_bytes()));
            }
            FileType::CharacterDevice | FileType::BlockDevice => return Err(no_target(view, path)),
            _ => return Ok((inside, There::Other)),
        }
    }
    Err(EngineError::Conflict(format!("too many symlinks in {}", path.display())))
}

fn no_target(view: &View<'_>, path: &Path) -> EngineError {
    let name = &view.record.name;
    EngineError::Conflict(format!(
        "destination \"{name}:{}\" must be a directory or a regular file: got a device",
        path.display()
    ))
}

/// Checks that `path` is a directory that can be written to.
pub(crate) fn check_directory(view: &View<'_>, path: &Path) -> Result<(), EngineError> {
    let directory =
        open_in_root(&view.root, path, OFlags::PATH, 0).map_err(|error| failed(view, path, &error))?;
    if !kind(&directory)?.is_dir() {
        return Err(EngineError::Conflict("extraction point is not a directory".to_owned()));
    }
    view.check_writable(&directory)
}

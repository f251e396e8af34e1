//! Places inside a container's tree, reached through its root descriptor only (law 3).

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use pathrs::RootRef;
use rbox_sys::file::{make_dir, open_in_root};
use rbox_sys::{SysError, trace};
use rustix::fs::OFlags;

/// Why a place inside a container's tree could not be had.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// A call failed.
    #[error("{0}")]
    Call(#[from] SysError),
    /// Directories could not be made.
    #[error("make directory {path} inside the container: {source}")]
    Make {
        /// The path inside.
        path: PathBuf,
        /// Why.
        source: Box<pathrs::error::Error>,
    },
    /// A file stands where a directory is wanted, or the other way round.
    #[error("{path} inside the container is {found}, but {wanted} is to be mounted on it")]
    Kind {
        /// The path inside.
        path: PathBuf,
        /// What stands there.
        found: &'static str,
        /// What is wanted.
        wanted: &'static str,
    },
}

impl TreeError {
    /// The kernel's number for it, 0 when there is none.
    pub fn errno(&self) -> i32 {
        match self {
            Self::Call(error) => error.errno as i32,
            Self::Make { .. } | Self::Kind { .. } => 0,
        }
    }
}

/// The directory `path` inside `root`, made with all its parents (mode 0755) when missing.
pub fn directory(root: impl AsFd, path: &Path) -> Result<OwnedFd, TreeError> {
    let root = root.as_fd();
    match open_in_root(root, path, OFlags::PATH | OFlags::DIRECTORY, 0) {
        Err(error) if error.errno == nix::errno::Errno::ENOENT => make_directories(root, path),
        other => Ok(other?),
    }
}

fn make_directories(root: std::os::fd::BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, TreeError> {
    // One component below an existing directory is the usual case and needs one call.
    if let (Some(parent), Some(Component::Normal(name))) = (path.parent(), path.components().next_back())
        && let Ok(parent) = open_in_root(root, parent, OFlags::PATH | OFlags::DIRECTORY, 0)
        && make_dir(&parent, Path::new(name), 0o755).is_ok()
    {
        return Ok(open_in_root(root, path, OFlags::PATH | OFlags::DIRECTORY, 0)?);
    }
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    trace::call(
        "mkdir_all",
        || format!("{}, {}", trace::fd(root), trace::quoted(path)),
        || RootRef::from_fd(root).mkdir_all(path, &permissions).map(OwnedFd::from),
    )
    .map_err(|source| TreeError::Make { path: path.to_owned(), source: Box::new(source) })
}

/// The file `path` inside `root`, made empty (mode 0644) with its parents when missing, as an `O_PATH` descriptor.
pub fn file(root: impl AsFd, path: &Path) -> Result<OwnedFd, TreeError> {
    let root = root.as_fd();
    match open_in_root(root, path, OFlags::PATH, 0) {
        Err(error) if error.errno == nix::errno::Errno::ENOENT => {
            if let Some(parent) = path.parent() {
                directory(root, parent)?;
            }
            // O_EXCL: nothing that appeared meanwhile is taken for ours.
            open_in_root(root, path, OFlags::CREATE | OFlags::EXCL | OFlags::RDONLY, 0o644)?;
            Ok(open_in_root(root, path, OFlags::PATH, 0)?)
        }
        other => Ok(other?),
    }
}

/// The place to mount on: a directory or a file, made when missing, refused when it is of the other kind.
pub fn mount_target(root: impl AsFd, path: &Path, is_dir: bool) -> Result<OwnedFd, TreeError> {
    let root = root.as_fd();
    let kind = |found, wanted| TreeError::Kind { path: path.to_owned(), found, wanted };
    if is_dir {
        return directory(root, path).map_err(|error| match error {
            TreeError::Call(e) if e.errno == nix::errno::Errno::ENOTDIR => {
                kind("not a directory", "a directory")
            }
            other => other,
        });
    }
    let target = file(root, path)?;
    let stat = rustix::fs::fstat(&target).map_err(|e| SysError::new("fstat", trace::fd(&target), e))?;
    if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir() {
        return Err(kind("a directory", "a file"));
    }
    Ok(target)
}

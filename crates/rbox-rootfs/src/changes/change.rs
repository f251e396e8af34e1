//! What is told, and what can go wrong.

use std::ffi::CStr;
use std::io;
use std::path::{Path, PathBuf};

use rbox_spec::Kind;
use rbox_sys::SysError;

/// What became of one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is another than below, or something in it is.
    Modified,
    /// It is not below.
    Added,
    /// It is below only.
    Deleted,
}

impl ChangeKind {
    /// Docker's letter.
    pub fn letter(self) -> char {
        match self {
            Self::Modified => 'C',
            Self::Added => 'A',
            Self::Deleted => 'D',
        }
    }
}

/// One thing that the walk met. Paths begin with a slash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen<'a> {
    /// It was changed.
    Change(ChangeKind, &'a Path),
    /// The upper directory has it for nobody's sake: the engine's own file or directory, or one that only such things made it
    /// copy. Of what is in it nothing is told but this.
    Unused(&'a Path),
}

/// A container's layers.
#[derive(Debug, Clone, Copy)]
pub struct Layers<'a> {
    /// What it has written.
    pub upper: &'a Path,
    /// What it stands on, base first.
    pub lowers: &'a [PathBuf],
    /// What the engine itself puts in the upper directory to mount on. It counts as being below, as long as it is what was put there.
    pub own: &'a [Own<'a>],
}

/// A place that the engine mounts something on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Own<'a> {
    /// A directory at this path.
    Directory(&'a str),
    /// An empty file at this path.
    File(&'a str),
}

/// Why the changes could not be told.
#[derive(Debug, thiserror::Error)]
pub enum ChangesError {
    /// A layer could not be read.
    #[error("look for changes: {0}")]
    Call(#[from] SysError),
    /// The tree is not as a walk left it.
    #[error("look for changes: {0} is moved about while it is read; pause the container first")]
    Moved(PathBuf),
    /// The kernel's overlayfs wrote down that a directory was moved, which no layer can say.
    #[error(
        "look for changes: {0} was moved by overlayfs's redirect_dir, which is switched on on this host: a layer cannot say so"
    )]
    Redirected(PathBuf),
    /// Whoever is told does not want to hear more.
    #[error(transparent)]
    Told(#[from] io::Error),
}

impl ChangesError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Call(error) => Kind::of_errno(error.errno as i32),
            Self::Moved(_) => Kind::Conflict,
            Self::Redirected(_) => Kind::Unsupported,
            Self::Told(error) => Kind::of_io(error),
        }
    }

    /// For `map_err` on a call that was made on `path`.
    pub(super) fn call(call: &'static str, path: &[u8]) -> impl FnOnce(rustix::io::Errno) -> Self {
        move |errno| Self::Call(SysError::new(call, rbox_sys::trace::quoted(as_path(path)), errno))
    }

    /// The same for what has this name in the directory `path`.
    pub(super) fn call_at(
        call: &'static str,
        path: &[u8],
        name: &CStr,
    ) -> impl FnOnce(rustix::io::Errno) -> Self {
        move |errno| Self::call(call, &[path, b"/", name.to_bytes()].concat())(errno)
    }
}

pub(super) fn as_path(bytes: &[u8]) -> &Path {
    Path::new(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(bytes))
}

//! Why an archive could not be put into a tree.

use rbox_spec::Kind;
use rbox_sys::SysError;
use rustix::io::Errno;

use crate::layer::{Name, UnpackError};
use crate::tree::TreeError;

/// Why an archive, or a part of it, could not be put.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// The archive is damaged.
    #[error(transparent)]
    Archive(UnpackError),
    /// The archive's stream cannot be read.
    #[error("read the archive")]
    Read(#[source] std::io::Error),
    /// The archive ends in the middle of something.
    #[error("the archive ends at byte {offset}, inside {inside}")]
    Truncated {
        /// Bytes read.
        offset: u64,
        /// What was being read.
        inside: &'static str,
    },
    /// An entry that is not put, in Docker's words where it has some.
    #[error("{0}")]
    Refused(String),
    /// The kernel refused.
    #[error("{} {path}", rbox_sys::action(call))]
    System {
        /// The system call.
        call: &'static str,
        /// The entry's name.
        path: Name,
        /// The kernel's answer.
        source: Errno,
    },
    /// The directory of an entry could not be found or made.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A call failed.
    #[error(transparent)]
    Call(#[from] SysError),
}

impl PutError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Archive(error) => error.kind(),
            Self::Read(source) => Kind::of_io(source),
            Self::Truncated { .. } => Kind::Damaged,
            Self::Refused(_) => Kind::Conflict,
            Self::System { source, .. } => Kind::of_errno(source.raw_os_error()),
            Self::Tree(error) => error.kind(),
            Self::Call(error) => Kind::of_errno(error.errno as i32),
        }
    }
}

impl From<UnpackError> for PutError {
    fn from(error: UnpackError) -> Self {
        match error {
            UnpackError::Refused { path, why } => Self::Refused(format!("archive entry {path}: {why}")),
            UnpackError::Read { source, .. } => Self::Read(source),
            UnpackError::Truncated { offset, inside } => Self::Truncated { offset, inside },
            // The same calls, made for the same thing.
            UnpackError::System { call, path, source } => Self::System { call, path, source },
            other => Self::Archive(other),
        }
    }
}

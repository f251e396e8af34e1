//! Why a container's process did not come to be.

use std::io;
use std::path::PathBuf;

use rbox_cgroup::CgroupError;
use rbox_namespace::handshake::{Failure, HandshakeError};
use rbox_spec::Kind;
use rbox_sys::SysError;

/// Errors of create, start and exec.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// A call of the parent failed.
    #[error("{0}")]
    Call(#[from] SysError),
    /// The two sides lost each other.
    #[error("{0}")]
    Handshake(#[from] HandshakeError),
    /// A step of the child failed.
    #[error("{}", .0.message)]
    Init(Failure),
    /// The child ended without a word: somebody killed it.
    #[error("the container's first process was killed while it was being set up")]
    Killed,
    /// The config asks for what it cannot have.
    #[error("{0}")]
    Config(String),
    /// A hook failed; its kind and path stand in the text.
    #[error("{0}")]
    Hook(String),
    /// The control group.
    #[error("control group of the container")]
    Cgroup(#[from] CgroupError),
    /// No container of this id was created.
    #[error("container {0} does not exist")]
    NotFound(String),
    /// The container's status does not allow it.
    #[error("container {id} {why}")]
    Conflict {
        /// Its id.
        id: String,
        /// `is running, not stopped`
        why: String,
    },
    /// A file of the container's record.
    #[error("{action} {path}")]
    File {
        /// What was attempted: `write`.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl RuntimeError {
    /// For `map_err`.
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }

    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Call(error) => Kind::of_errno(error.errno as i32),
            Self::Handshake(error) => error.kind(),
            Self::Init(failure) => failure.kind(),
            Self::Killed => Kind::Unavailable,
            Self::Config(_) => Kind::Invalid,
            Self::Hook(_) => Kind::Internal,
            Self::Cgroup(error) => error.kind(),
            Self::NotFound(_) => Kind::NotFound,
            Self::Conflict { .. } => Kind::Conflict,
            Self::File { source, .. } => Kind::of_io(source),
        }
    }
}

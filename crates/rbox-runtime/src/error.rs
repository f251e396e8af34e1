//! Why a container's process did not come to be.

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
}

impl RuntimeError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Call(error) => Kind::of_errno(error.errno as i32),
            Self::Handshake(error) => error.kind(),
            Self::Init(failure) => failure.kind(),
            Self::Killed => Kind::Unavailable,
            Self::Config(_) => Kind::Invalid,
        }
    }
}

//! What can go wrong with documents of registries.
use std::io;
use std::path::PathBuf;

use rbox_spec::{Digest, Kind};

use crate::media::DocumentError;
use crate::registry::{RegistriesError, RegistryError};
use crate::transfer::Fault;

/// A failure.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The registry that a copy comes from.
    #[error(transparent)]
    Source(RegistryError),
    /// The configuration of registries.
    #[error(transparent)]
    Config(#[from] RegistriesError),
    /// A document that is refused.
    #[error("{digest}")]
    Document {
        /// Its digest.
        digest: Digest,
        /// Why.
        source: DocumentError,
    },
    /// A document that cannot be made or read.
    #[error("{what}")]
    Json {
        /// Which.
        what: String,
        /// Why.
        source: serde_json::Error,
    },
    /// A file.
    #[error("{action} {path}", path = path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Nothing of that name.
    #[error("{0}")]
    NotFound(String),
    /// It cannot be done with these.
    #[error("{0}")]
    Refused(String),
}

impl RemoteError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Registry(error) | Self::Source(error) => error.kind(),
            Self::Config(error) => error.kind(),
            Self::Document { source, .. } => source.kind(),
            Self::Json { .. } => Kind::Damaged,
            Self::Io { source, .. } => Kind::of_io(source),
            Self::NotFound(_) => Kind::NotFound,
            Self::Refused(_) => Kind::Conflict,
        }
    }

    /// The same, when that was to be read while another registry is written to: no reason to begin there again.
    pub(super) fn of_source(self) -> Self {
        match self {
            Self::Registry(error) => Self::Source(error),
            other => other,
        }
    }

    pub(super) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}

impl Fault for RemoteError {
    fn of_registry(&self) -> Option<&RegistryError> {
        match self {
            Self::Registry(error) => Some(error),
            _ => None,
        }
    }
}

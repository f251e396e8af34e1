//! What can go wrong in a push.
use std::io;

use rbox_spec::{Digest, Kind, Platform};

use crate::media::DocumentError;
use crate::registry::{RegistriesError, RegistryError};
use crate::store::StoreError;
use crate::transfer::Fault;

/// A failed push. The store is as it was; the registry may have some of the blobs, and no manifest that names them.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The registry.
    #[error(transparent)]
    Registry(RegistryError),
    /// No permission, in the registry's words.
    #[error("{0}")]
    Denied(String),
    /// The configuration of registries.
    #[error(transparent)]
    Config(#[from] RegistriesError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nothing here has this repository's name.
    #[error("An image does not exist locally with the tag: {0}")]
    NoImage(String),
    /// There are images of the repository, and none with this tag.
    #[error("tag does not exist: {0}")]
    NoTag(String),
    /// A digest names what is there already.
    #[error("cannot push a digest reference")]
    Digest,
    /// The image is for something else.
    #[error("image with reference {name} was found but does not provide the specified platform ({wanted})")]
    WrongPlatform {
        /// The reference.
        name: String,
        /// What was wanted.
        wanted: Platform,
    },
    /// The manifest cannot be made, or names what cannot be pushed.
    #[error("{digest}")]
    Document {
        /// The manifest.
        digest: Digest,
        /// Why.
        source: DocumentError,
    },
    /// The new manifest cannot be written down.
    #[error("make the manifest")]
    Json(#[from] serde_json::Error),
    /// A file of the store.
    #[error("{action} {path}")]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: String,
        /// Why it failed.
        source: io::Error,
    },
    /// Given up because another layer failed.
    #[error("given up because another layer failed")]
    Abandoned,
}

impl From<RegistryError> for PushError {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::Denied { message, .. } => Self::Denied(message),
            other => Self::Registry(other),
        }
    }
}

impl PushError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Registry(error) => error.kind(),
            Self::Config(error) => error.kind(),
            Self::Store(error) => error.kind(),
            Self::Document { source, .. } => source.kind(),
            Self::Io { source, .. } => Kind::of_io(source),
            Self::Denied(_) => Kind::Denied,
            Self::NoImage(_) | Self::NoTag(_) | Self::WrongPlatform { .. } => Kind::NotFound,
            Self::Digest => Kind::Unsupported,
            Self::Json(_) => Kind::Internal,
            Self::Abandoned => Kind::Unavailable,
        }
    }
}

impl Fault for PushError {
    fn of_registry(&self) -> Option<&RegistryError> {
        match self {
            Self::Registry(error) => Some(error),
            _ => None,
        }
    }
}

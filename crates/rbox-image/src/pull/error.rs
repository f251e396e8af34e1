//! What can go wrong in a pull.
use std::io;

use rbox_spec::{Digest, Kind, Platform};

use crate::disk::is_full;
use crate::layer::LayerError;
use crate::media::DocumentError;
use crate::registry::{RegistriesError, RegistryError};
use crate::store::StoreError;

/// A failed pull. Nothing of the image is visible after it.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The configuration of registries.
    #[error(transparent)]
    Config(#[from] RegistriesError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The registry itself failed, and so did the mirrors before it.
    #[error("{source} (before that, {mirrors})")]
    Mirrors {
        /// What the mirrors said.
        mirrors: String,
        /// What the registry said.
        source: Box<PullError>,
    },
    /// A document that is refused.
    #[error("{digest}")]
    Document {
        /// The document.
        digest: Digest,
        /// Why.
        source: DocumentError,
    },
    /// The image configuration is not one.
    #[error("image configuration {digest} is not valid")]
    Configuration {
        /// Its digest.
        digest: Digest,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// The index has nothing that runs here.
    #[error("no matching manifest for {wanted} in the manifest list entries (it has {offered})")]
    NoPlatform {
        /// What was wanted.
        wanted: Platform,
        /// What there is.
        offered: String,
    },
    /// The image is for something else.
    #[error(
        "image {name} was found but does not provide the specified platform: wanted {wanted}, it is for {found}"
    )]
    WrongPlatform {
        /// The reference.
        name: String,
        /// What was wanted.
        wanted: Platform,
        /// What it is.
        found: Platform,
    },
    /// It is not signed as the registry's configuration wants it.
    #[error("refused {name}: it is not signed by a key of {key}: {why}")]
    Unsigned {
        /// The reference.
        name: String,
        /// The file of keys.
        key: String,
        /// What was found instead.
        why: String,
    },
    /// The keys that have to have signed cannot be read.
    #[error(transparent)]
    Key(#[from] crate::signature::KeyError),
    /// The content is not what its digest says.
    #[error("{what}: the registry sent content with digest {found}, expected {want}")]
    Digest {
        /// Layer, manifest, …
        what: &'static str,
        /// From the manifest.
        want: Digest,
        /// Of what came.
        found: Digest,
    },
    /// The content is longer or shorter than promised.
    #[error("{what} {digest}: the registry sends {found} bytes, the manifest says {want}")]
    Size {
        /// Layer, manifest, …
        what: &'static str,
        /// Its digest.
        digest: Digest,
        /// From the manifest.
        want: u64,
        /// What the registry says or sends.
        found: String,
    },
    /// A layer cannot be unpacked.
    #[error("layer {digest}")]
    Layer {
        /// The blob.
        digest: Digest,
        /// Why.
        source: LayerError,
    },
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
    /// The disk is full; what the pull had put there is removed.
    #[error(
        "no space left on the disk under {dir}: the image needs more than is free; nothing of it is kept"
    )]
    DiskFull {
        /// The store.
        dir: String,
        /// The call that failed.
        source: Box<PullError>,
    },
    /// Given up because another layer failed.
    #[error("given up because another layer failed")]
    Abandoned,
}

impl PullError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Registry(error) => error.kind(),
            Self::Config(error) => error.kind(),
            Self::Store(error) => error.kind(),
            Self::Unsigned { .. } => Kind::Denied,
            Self::Key(error) => error.kind(),
            Self::Mirrors { source, .. } => source.kind(),
            Self::Document { source, .. } => source.kind(),
            Self::Layer { source, .. } => source.kind(),
            Self::Io { source, .. } => Kind::of_io(source),
            Self::NoPlatform { .. } | Self::WrongPlatform { .. } => Kind::NotFound,
            Self::Configuration { .. } | Self::Digest { .. } | Self::Size { .. } => Kind::Damaged,
            Self::DiskFull { .. } => Kind::NoSpace,
            Self::Abandoned => Kind::Unavailable,
        }
    }
}

impl PullError {
    /// Whether the disk was full.
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Store(error) => error.is_disk_full(),
            Self::Layer { source, .. } => source.is_disk_full(),
            Self::Io { source, .. } => is_full(source),
            Self::DiskFull { .. } => true,
            Self::Mirrors { source, .. } => source.is_disk_full(),
            _ => false,
        }
    }

    /// Whether another endpoint may do better.
    pub(super) fn is_endpoints_fault(&self) -> bool {
        match self {
            Self::Layer { source, .. } => !source.is_disk_full(),
            Self::Registry(RegistryError::Config(_))
            | Self::Config(_)
            | Self::Key(_)
            | Self::Store(_)
            | Self::Io { .. }
            | Self::DiskFull { .. }
            | Self::NoPlatform { .. }
            | Self::WrongPlatform { .. }
            | Self::Abandoned => false,
            _ => true,
        }
    }
}

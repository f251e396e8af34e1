//! What can go wrong with an archive.

use std::io;

use rbox_rootfs::layer::{Name, UnpackError};
use rbox_spec::{Digest, Kind, ReferenceError};

use super::change::ChangeError;
use crate::layer::LayerError;
use crate::media::DocumentError;
use crate::store::StoreError;

/// A failure of `load`, `save` or `import`.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The stream could not be read or inflated.
    #[error("read the archive")]
    Read(#[source] io::Error),
    /// The archive is not a tar, or one that is refused.
    #[error("read the archive")]
    Tar(#[from] UnpackError),
    /// Nothing was in it.
    #[error("the archive is empty")]
    Empty,
    /// A tar without an image.
    #[error(
        "the archive has neither manifest.json, index.json nor repositories: it is no saved image (`rbox import` takes a root filesystem)"
    )]
    NoImage,
    /// A member that no archive of an image has.
    #[error("archive member {name}: {why}")]
    Member {
        /// Its name.
        name: Name,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A file of the archive that is not of the form it should have.
    #[error("read {name} of the archive")]
    Json {
        /// Its name.
        name: String,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// A name that leads to no file of the archive.
    #[error("{by} names {name}, which is not in the archive")]
    Absent {
        /// The file that names it.
        by: &'static str,
        /// What it names, escaped.
        name: String,
    },
    /// A file that is too large for what it is.
    #[error("{name} of the archive is over {limit} bytes long")]
    TooLarge {
        /// Its name.
        name: String,
        /// How large it may be.
        limit: u64,
    },
    /// More names than any archive has.
    #[error("the archive's images have more than {0} names")]
    TooManyNames(usize),
    /// More files than any archive has.
    #[error("the archive has more than {0} files")]
    TooMany(usize),
    /// A manifest or an index that is refused.
    #[error("manifest {digest} of the archive")]
    Document {
        /// The document.
        digest: Digest,
        /// Why.
        source: DocumentError,
    },
    /// An image for other machines only.
    #[error("the archive has no image for {0}")]
    Platform(String),
    /// More platforms than any image is for.
    #[error("an image of the archive is for more than {0} platforms")]
    TooManyPlatforms(usize),
    /// An image for another operating system.
    #[error("cannot load {0} image on linux")]
    System(String),
    /// Layers that are each other's parents.
    #[error("the parents of layer {0} lead back to it")]
    Circle(String),
    /// Too many layers one on another, or without an end.
    #[error("image {id} of the archive has more than {limit} layers, or its parents lead back to themselves")]
    Chain {
        /// The uppermost one.
        id: String,
        /// How many it may have.
        limit: usize,
    },
    /// Fewer or more layers than the configuration has.
    #[error("manifest.json lists {layers} layers and the image configuration {diff_ids}")]
    LayerCount {
        /// In manifest.json.
        layers: usize,
        /// In the configuration.
        diff_ids: usize,
    },
    /// A layer that is refused.
    #[error("layer {digest}")]
    Layer {
        /// Its blob, or its diff ID.
        digest: Digest,
        /// Why.
        source: LayerError,
    },
    /// A name for an image that is none.
    #[error("the archive names its image {name:?}")]
    Reference {
        /// The name.
        name: String,
        /// Why it is none.
        source: ReferenceError,
    },
    /// `--change`.
    #[error(transparent)]
    Change(#[from] ChangeError),
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
    /// The archive could not be written.
    #[error("write the archive")]
    Write(#[source] io::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ArchiveError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Read(error) | Self::Io { source: error, .. } | Self::Write(error) => Kind::of_io(error),
            Self::Tar(error) => error.kind(),
            Self::Document { source, .. } => source.kind(),
            Self::Layer { source, .. } => source.kind(),
            Self::Change(error) => error.kind(),
            Self::Store(error) => error.kind(),
            Self::Platform(_) => Kind::NotFound,
            Self::System(_)
            | Self::TooLarge { .. }
            | Self::TooMany(_)
            | Self::TooManyNames(_)
            | Self::TooManyPlatforms(_) => Kind::Unsupported,
            _ => Kind::Damaged,
        }
    }
}

//! What can go wrong in the store.
use std::io;
use std::path::{Path, PathBuf};

use rbox_spec::{Digest, Kind};

use crate::disk::is_full;
use crate::layer::LayerError;
use crate::media::DocumentError;

/// A failure of the image store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A system call on a file of the store.
    #[error("{action} {path}", path = path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A record that cannot be read.
    #[error("read {path}", path = path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// A record of a version this program does not know.
    #[error("{path} is not an image store of a known version: {found}", path = path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: String,
    },
    /// A manifest or an index that is refused.
    #[error("{digest}")]
    Document {
        /// The document.
        digest: Digest,
        /// Why.
        source: DocumentError,
    },
    /// A blob whose length or content is not what its digest promises.
    #[error("{what} {digest} is damaged: {found}")]
    Damaged {
        /// The kind of blob.
        what: &'static str,
        /// Its name.
        digest: Digest,
        /// What was found.
        found: String,
    },
    /// A layer that cannot be unpacked.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// A tree that cannot be packed as a layer.
    #[error("make a layer of {path}", path = path.display())]
    Pack {
        /// The tree.
        path: PathBuf,
        /// Why.
        source: rbox_rootfs::layer::PackError,
    },
    /// A layer of the image is not in the store.
    #[error("layer {0} of the image is not in the store, or not of the size that its manifest says")]
    MissingLayer(Digest),
    /// No such image.
    #[error("No such image: {0}")]
    NotFound(String),
    /// An image that is here for other platforms only.
    #[error("image {name} was found but does not provide the specified platform ({wanted})")]
    NoPlatform {
        /// What was asked for.
        name: String,
        /// For which platforms.
        wanted: String,
    },
    /// A prefix of several ids.
    #[error("image id {prefix} is ambiguous: it is the start of {count} ids")]
    Ambiguous {
        /// What was asked for.
        prefix: String,
        /// How many ids start so.
        count: usize,
    },
    /// An operation that needs a tag was given a digest.
    #[error("refusing to create a tag with a digest reference")]
    TagWithDigest,
    /// A name that would be read as the beginning of a digest.
    #[error("refusing to create an ambiguous tag using digest algorithm as name")]
    TagLikeDigest,
    /// What index.json names cannot be read.
    #[error("image {name} is damaged; pull it again, or remove it with 'rbox rmi {name}'")]
    Broken {
        /// The image, as the user may call it.
        name: String,
        /// What is wrong.
        source: Box<StoreError>,
    },
    /// Something else is where a directory of the store was made.
    #[error("the image store is damaged: {} is not there, or is no directory; move it away, make the directory, and pull the images again", .0.display())]
    NoDirectory(PathBuf),
    /// It is not known what is in use, so nothing may be deleted.
    #[error("list the containers that use images")]
    Users(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// In use: Docker's wording.
    #[error("conflict: {0}")]
    Conflict(String),
}

impl StoreError {
    /// Whether a file is not there, or not what it must be.
    pub(super) fn is_damage_of_a_file(&self) -> bool {
        match self {
            Self::Json { .. } => true,
            Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => true,
            Self::Io { path, .. } => std::fs::symlink_metadata(path).is_ok_and(|meta| !meta.is_file()),
            _ => false,
        }
    }

    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Io { source, .. } => Kind::of_io(source),
            Self::Json { .. } | Self::Damaged { .. } | Self::MissingLayer(_) | Self::Broken { .. } => {
                Kind::Damaged
            }
            Self::NoDirectory(_) => Kind::Damaged,
            Self::Version { .. } => Kind::Unsupported,
            Self::Document { source, .. } => source.kind(),
            Self::Layer(error) => error.kind(),
            Self::Pack { source, .. } => source.kind(),
            Self::NotFound(_) | Self::NoPlatform { .. } => Kind::NotFound,
            Self::TagWithDigest | Self::TagLikeDigest => Kind::Invalid,
            Self::Ambiguous { .. } | Self::Conflict(_) => Kind::Conflict,
            Self::Users(_) => Kind::Internal,
        }
    }
}

impl StoreError {
    /// The error number of the failed system call, if it was one.
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Io { source, .. } => is_full(source),
            Self::Layer(error) => error.is_disk_full(),
            _ => false,
        }
    }
}

/// `map_err(io_error("rename", path))`
pub(crate) fn io_error<E: Into<io::Error>>(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(E) -> StoreError {
    move |source| StoreError::Io { action, path: path.to_owned(), source: source.into() }
}

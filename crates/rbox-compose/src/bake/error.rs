//! Why bake files cannot be read, or say what cannot be.

use std::io;
use std::path::PathBuf;

use rbox_spec::Kind;

use crate::error::{ComposeError, Place};

/// Why bake files come to no targets.
#[derive(Debug, thiserror::Error)]
pub enum BakeError {
    /// There is no file.
    #[error("couldn't find a bake definition: there is none of {0} here, and -f names none")]
    NoFile(String),
    /// A file cannot be read.
    #[error("read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What stands at a place cannot be.
    #[error("{at}: {message}")]
    At {
        /// Where.
        at: Place,
        /// What is wrong with it.
        message: String,
    },
    /// A compose file among them.
    #[error(transparent)]
    Compose(#[from] ComposeError),
    /// A target or a group that is not there.
    #[error("{0}")]
    NotFound(String),
    /// What the files or the options say cannot be.
    #[error("{0}")]
    Invalid(String),
}

impl BakeError {
    /// What the error means.
    pub fn kind(&self) -> Kind {
        match self {
            Self::NoFile(_) | Self::NotFound(_) => Kind::NotFound,
            Self::Io { source, .. } => Kind::of_io(source),
            Self::Compose(error) => error.kind(),
            Self::At { .. } | Self::Invalid(_) => Kind::Invalid,
        }
    }
}

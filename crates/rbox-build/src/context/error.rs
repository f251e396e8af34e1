//! Why a context cannot be read.

use std::io;
use std::path::PathBuf;

use rbox_image::registry::RegistryError;
use rbox_spec::Kind;
use rbox_sys::reading::ReadError;

/// Why a context cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// The kernel refused.
    #[error("{action} {}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file of it cannot be read.
    #[error("the context's {name} {source}")]
    File {
        /// Which.
        name: String,
        /// Why not.
        source: ReadError,
    },
    /// A repository cannot be had.
    #[error("failed to fetch {url}: {message}")]
    Git {
        /// Where it is.
        url: String,
        /// What git says, or why it was not asked.
        message: String,
    },
    /// A web server does not give a context.
    #[error("failed to fetch the remote context")]
    Fetch(#[from] RegistryError),
    /// An archive cannot be unpacked.
    #[error("unpack the context's archive")]
    Archive(#[source] Box<rbox_engine::error::EngineError>),
    /// A pattern is wrong.
    #[error("{name}: {message}")]
    Pattern {
        /// The file.
        name: String,
        /// What is wrong.
        message: String,
    },
}

impl ContextError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Io { source, .. } => Kind::of_io(source),
            Self::File { .. } | Self::Pattern { .. } => Kind::Invalid,
            Self::Git { .. } => Kind::Unavailable,
            Self::Fetch(error) => error.kind(),
            Self::Archive(error) => error.kind(),
        }
    }
}

/// `map_err(io_error("open", path))`
pub(super) fn io_error(
    action: &'static str,
    path: &std::path::Path,
) -> impl FnOnce(io::Error) -> ContextError {
    let path = path.to_owned();
    move |source| ContextError::Io { action, path, source }
}

//! Why a project cannot be loaded, and why it cannot be carried out.

use std::fmt;
use std::io;
use std::path::PathBuf;

use rbox_engine::engine::VolumeError;
use rbox_engine::error::EngineError;
use rbox_engine::image::StoreError;
use rbox_spec::Kind;

/// A place in a compose file: `FILE:LINE:COLUMN`, both counted from 1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The file as it was found; `-` is the standard input.
    pub file: String,
    /// The line; 0 where none is known.
    pub line: u32,
    /// The column, in characters.
    pub column: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}:{}", self.file, self.column),
        }
    }
}

/// Why a project cannot be loaded. The words are Compose's where it has words for it.
#[derive(Debug, thiserror::Error)]
pub enum ComposeError {
    /// There is no compose file here and in no parent.
    #[error("no configuration file provided: not found")]
    NoFile,
    /// A file cannot be read.
    #[error("{action} {}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file is not YAML as compose files are.
    #[error("failed to parse {at}: {message}")]
    Syntax {
        /// Where.
        at: Place,
        /// What is wrong.
        message: String,
    },
    /// A key that is not known, or a value of a wrong type.
    #[error("validating {at}: {message}")]
    Schema {
        /// Where.
        at: Place,
        /// The path of the key, and what is wrong with it.
        message: String,
    },
    /// A variable cannot be put in.
    #[error("{at}: {message}")]
    Interpolation {
        /// Where.
        at: Place,
        /// The path of the key, and what is wrong with it.
        message: String,
    },
    /// A service, a file or a profile that was named is not there.
    #[error("{0}")]
    NotFound(String),
    /// What the files say cannot be.
    #[error("{0}")]
    Invalid(String),
}

impl ComposeError {
    /// What the error means.
    pub fn kind(&self) -> Kind {
        match self {
            Self::NoFile | Self::NotFound(_) => Kind::NotFound,
            Self::Io { source, .. } => Kind::of_io(source),
            Self::Syntax { .. } | Self::Schema { .. } | Self::Interpolation { .. } | Self::Invalid(_) => {
                Kind::Invalid
            }
        }
    }
}

/// Why a project cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A service asks for what cannot be.
    #[error("service {service:?}: {why}")]
    Service {
        /// Its name.
        service: String,
        /// The key, and what is wrong with it.
        why: String,
    },
    /// A container could not be made or started.
    #[error("container {name}: {source}")]
    Container {
        /// Its name.
        name: String,
        /// Why not.
        source: Box<EngineError>,
    },
    /// What another service waits for did not come.
    #[error("dependency failed to start: {0}")]
    Dependency(String),
    /// What `--wait` waits for did not come.
    #[error("{0}")]
    NotReady(String),
    /// A service, network, volume or container that is not there.
    #[error("{0}")]
    NotFound(String),
    /// What is asked for cannot be.
    #[error("{0}")]
    Invalid(String),
    /// The engine cannot do it.
    #[error(transparent)]
    Engine(Box<EngineError>),
    /// A network cannot be made or removed.
    #[error(transparent)]
    Network(#[from] rbox_engine::network::Error),
    /// A volume cannot be made or removed.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// The image store cannot be read.
    #[error(transparent)]
    Image(#[from] StoreError),
    /// An image cannot be built.
    #[error("{0}")]
    Build(String),
    /// It was interrupted by the user.
    #[error("interrupted")]
    Interrupted,
}

impl From<EngineError> for RunError {
    fn from(error: EngineError) -> Self {
        Self::Engine(Box::new(error))
    }
}

impl RunError {
    /// A container of this name that could not be made, started, stopped or removed.
    pub(crate) fn of_container(name: &str, source: EngineError) -> Self {
        Self::Container { name: name.to_owned(), source: Box::new(source) }
    }

    /// What the error means.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Service { .. } | Self::Invalid(_) | Self::Build(_) => Kind::Invalid,
            Self::Container { source, .. } | Self::Engine(source) => source.kind(),
            Self::Dependency(_) | Self::NotReady(_) | Self::Interrupted => Kind::Conflict,
            Self::NotFound(_) => Kind::NotFound,
            Self::Network(error) => error.kind(),
            Self::Volume(error) => error.kind(),
            Self::Image(error) => error.kind(),
        }
    }
}

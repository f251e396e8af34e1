//! Why a project cannot be loaded.

use std::fmt;
use std::io;
use std::path::PathBuf;

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

//! Why a build failed.

use std::io;
use std::path::{Path, PathBuf};

use rbox_engine::error::EngineError;
use rbox_image::archive::ArchiveError;
use rbox_image::registry::RegistryError;
use rbox_image::remote::RemoteError;
use rbox_image::{PushError, StoreError};
use rbox_spec::{Kind, Platform};

use crate::context::ContextError;
use crate::dockerfile::{DockerfileError, Lines, MountError};
use crate::expand::ExpandError;
use crate::tree::TreeError;

/// Why a build failed.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The file is no Dockerfile.
    #[error(transparent)]
    Dockerfile(#[from] DockerfileError),
    /// Variables cannot be expanded.
    #[error(transparent)]
    Expand(#[from] ExpandError),
    /// A `--mount` cannot be.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// The context cannot be read.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// A tree cannot be read or written.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The engine refused.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The image store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file cannot be fetched.
    #[error(transparent)]
    Fetch(#[from] RegistryError),
    /// A cache cannot be read from a registry.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// Nor be pushed to one.
    #[error(transparent)]
    Push(#[from] PushError),
    /// The image cannot be made.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A file of a build cannot be read or written.
    #[error("{action} {}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A program ended with another code than 0. BuildKit's words.
    #[error("process {command:?} did not complete successfully: exit code: {code}")]
    Exited {
        /// What was run, as one line.
        command: String,
        /// Its exit code.
        code: i32,
    },
    /// A program of another machine's.
    #[error(transparent)]
    Foreign(Box<Foreign>),
    /// A source is not there. BuildKit's words.
    #[error("failed to calculate checksum of ref {from}: {source}")]
    Source {
        /// Where it was looked for.
        from: String,
        /// What is missing.
        source: TreeError,
    },
    /// Why a stage failed that another process carried out, in its words.
    #[error("{message}")]
    InStage {
        /// The words.
        message: String,
        /// What it means to the caller.
        kind: Kind,
    },
    /// What was asked for cannot be, in the words that say why.
    #[error("{0}")]
    Invalid(String),
    /// What was named is not there.
    #[error("{0}")]
    NotFound(String),
    /// Another build is in the way.
    #[error("{0}")]
    Conflict(String),
    /// What should not happen.
    #[error("{0}")]
    Internal(String),
    /// The same, of some lines of the Dockerfile.
    #[error(transparent)]
    At(Box<At>),
}

/// A program of another machine's, which this one's kernel does not run.
#[derive(Debug, thiserror::Error)]
#[error(
    "no program for {image} runs here, on {host}: binfmt_misc has no handler for it; install qemu-user-static, which registers one, or have the stage's programs be this machine's with FROM --platform=$BUILDPLATFORM"
)]
pub struct Foreign {
    /// What the stage is for.
    pub image: Platform,
    /// What this machine is.
    pub host: Platform,
    /// What the kernel said.
    pub source: EngineError,
}

impl Foreign {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        self.source.kind()
    }
}

/// An error of an instruction.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
pub struct At {
    /// The lines of the instruction.
    pub lines: Lines,
    /// What went wrong.
    pub source: BuildError,
}

impl At {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        self.source.kind()
    }
}

pub(crate) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BuildError + use<> {
    let path = path.to_owned();
    move |source| BuildError::Io { action, path, source }
}

impl BuildError {
    /// The same, and which lines it is about. The innermost say it best.
    pub(crate) fn at(self, lines: Lines) -> Self {
        match self {
            Self::At(_) => self,
            source => Self::At(Box::new(At { lines, source })),
        }
    }

    /// The lines of the Dockerfile that it is about.
    pub fn lines(&self) -> Option<Lines> {
        match self {
            Self::At(at) => Some(at.lines),
            Self::Dockerfile(error) => error.lines,
            _ => None,
        }
    }

    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Dockerfile(_) | Self::Expand(_) | Self::Mount(_) | Self::Invalid(_) => Kind::Invalid,
            Self::Context(error) => error.kind(),
            Self::Tree(error) | Self::Source { source: error, .. } => error.kind(),
            Self::Engine(error) => error.kind(),
            Self::Foreign(foreign) => foreign.kind(),
            Self::Store(error) => error.kind(),
            Self::Fetch(error) => error.kind(),
            Self::Remote(error) => error.kind(),
            Self::Push(error) => error.kind(),
            Self::Archive(error) => error.kind(),
            Self::Io { source, .. } => Kind::of_io(source),
            Self::Exited { .. } | Self::Internal(_) => Kind::Internal,
            Self::At(at) => at.kind(),
            Self::InStage { kind, .. } => *kind,
            Self::NotFound(_) => Kind::NotFound,
            Self::Conflict(_) => Kind::Conflict,
        }
    }

    /// A process could not be started.
    pub(crate) fn process(error: rbox_sys::SysError) -> Self {
        EngineError::from(error).into()
    }

    /// The error with its causes, in a line.
    pub(crate) fn chain(&self) -> String {
        rbox_engine::error::chain(self)
    }
}

//! What a build may read beside images: its context, and others by name.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rbox_spec::Kind;
use rbox_sys::reading::{ReadError, read_in_root};
use rustix::fs::{Mode, OFlags};

use crate::ignore::Ignore;
use crate::tree::Source;

/// Where a context is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Context {
    /// A directory.
    Directory(PathBuf),
    /// Nothing: the Dockerfile came alone.
    Empty,
}

/// What a name in `--build-context` stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedContext {
    /// Files.
    Files(Context),
    /// An image by its name.
    Image(String),
}

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
        }
    }
}

/// A Dockerfile and an ignore file are no larger.
const MOST_BYTES: u64 = 16 << 20;

/// A context that is open.
pub(crate) struct OpenContext {
    pub(crate) source: Source,
    /// What its files are remembered by.
    pub(crate) name: String,
}

impl Context {
    /// What is left out of it.
    pub(crate) fn ignore(&self, dockerfile: Option<&str>) -> Result<Option<Ignore>, ContextError> {
        match self {
            Self::Directory(dir) => ignore_of(&open_dir(dir)?, dockerfile),
            Self::Empty => Ok(None),
        }
    }

    /// Opens it. `dockerfile`: the Dockerfile's path below it, whose own ignore file comes before the common one.
    pub(crate) fn open(&self, dockerfile: Option<&str>, empty: &Path) -> Result<OpenContext, ContextError> {
        let dir = match self {
            Self::Directory(dir) => dir,
            Self::Empty => empty,
        };
        let root = open_dir(dir)?;
        let ignore = ignore_of(&root, dockerfile)?;
        let name = rbox_image::hash::sha256(dir.as_os_str().as_encoded_bytes()).hex();
        Ok(OpenContext { source: Source { root, ignore, is_context: true }, name })
    }
}

pub(crate) fn open_dir(dir: &Path) -> Result<OwnedFd, ContextError> {
    let how = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(dir, how, Mode::empty()).map_err(|error| ContextError::Io {
        action: "open",
        path: dir.to_owned(),
        source: error.into(),
    })
}

fn ignore_of(root: &OwnedFd, dockerfile: Option<&str>) -> Result<Option<Ignore>, ContextError> {
    let own = dockerfile.map(|name| format!("{name}.dockerignore"));
    for name in own.into_iter().chain([".dockerignore".to_owned()]) {
        let Some(text) = read_file(root, &name)? else { continue };
        let text = String::from_utf8_lossy(&text).into_owned();
        let ignore = Ignore::parse(&text)
            .map_err(|error| ContextError::Pattern { name, message: error.to_string() })?;
        return Ok(Some(ignore));
    }
    Ok(None)
}

/// A file below a context's root; none when it is not there.
pub(crate) fn read_file(root: &OwnedFd, name: &str) -> Result<Option<Vec<u8>>, ContextError> {
    match read_in_root(root, Path::new(name), MOST_BYTES) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(ReadError::Call(error))
            if error.call == "openat2" && crate::tree::errno(&error) == rustix::io::Errno::NOENT =>
        {
            Ok(None)
        }
        Err(source) => Err(ContextError::File { name: name.to_owned(), source }),
    }
}

//! Where a context is, and opening it.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::dir::{open_dir, read_file};
use super::error::ContextError;
use super::fetched::Fetched;
use crate::ignore::Ignore;
use crate::tree::Source;

/// Where a context is.
#[derive(Debug, Clone)]
pub enum Context {
    /// A directory.
    Directory(PathBuf),
    /// One that was fetched, or came as an archive.
    Fetched(Arc<Fetched>),
    /// Nothing: the Dockerfile came alone.
    Empty,
}

/// What a name in `--build-context` stands for.
#[derive(Debug, Clone)]
pub enum NamedContext {
    /// Files.
    Files(Context),
    /// An image by its name.
    Image(String),
}

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
            Self::Fetched(fetched) => ignore_of(&open_dir(fetched.dir())?, dockerfile),
            Self::Empty => Ok(None),
        }
    }

    /// Reads a file of it, whatever is left out of it; none when it is not there.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, ContextError> {
        match self {
            Self::Directory(dir) => read_file(&open_dir(dir)?, name),
            Self::Fetched(fetched) => read_file(&open_dir(fetched.dir())?, name),
            Self::Empty => Ok(None),
        }
    }

    /// Opens it. `dockerfile`: the Dockerfile's path below it, whose own ignore file comes before the common one.
    pub(crate) fn open(&self, dockerfile: Option<&str>, empty: &Path) -> Result<OpenContext, ContextError> {
        let dir = match self {
            Self::Directory(dir) => dir,
            Self::Fetched(fetched) => fetched.dir(),
            Self::Empty => empty,
        };
        let root = open_dir(dir)?;
        let ignore = ignore_of(&root, dockerfile)?;
        // What was fetched is in another directory each time.
        let known_by = match self {
            Self::Fetched(fetched) => fetched.origin().as_bytes(),
            _ => dir.as_os_str().as_encoded_bytes(),
        };
        let name = rbox_image::hash::sha256(known_by).hex();
        Ok(OpenContext { source: Source { root, ignore, is_context: true }, name })
    }
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

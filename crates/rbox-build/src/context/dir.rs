//! Directories, and files below them.

use std::os::fd::OwnedFd;
use std::path::Path;

use rbox_sys::reading::{ReadError, read_in_root};
use rustix::fs::{Mode, OFlags};

use super::error::ContextError;

/// A Dockerfile and an ignore file are no larger.
pub(crate) const MOST_BYTES: u64 = 16 << 20;

pub(crate) fn open_dir(dir: &Path) -> Result<OwnedFd, ContextError> {
    let how = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(dir, how, Mode::empty()).map_err(|error| ContextError::Io {
        action: "open",
        path: dir.to_owned(),
        source: error.into(),
    })
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

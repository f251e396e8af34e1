//! One file of a record: written whole, read with a limit.

use std::io::{self, Error, ErrorKind};
use std::path::{Path, PathBuf};

use rbox_spec::Kind;
use rbox_spec::record::{DecodeError, Record, decode, encode};
use rbox_sys::plain;

/// Whether a write failed because no room was left.
pub(crate) fn is_full(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// A record that could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file system refused.
    #[error("{action} {path}: {}", plain(source))]
    Io {
        /// `read`, `write`, …
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its text is not what rbox writes.
    #[error("read {path}: {source}")]
    Format {
        /// The file.
        path: PathBuf,
        /// Why.
        source: DecodeError,
    },
    /// A directory is not one to keep records in.
    #[error("{0}")]
    Refused(String),
}

impl RecordError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Io { source, .. } => Kind::of_io(source),
            Self::Format { source, .. } => source.kind(),
            Self::Refused(_) => Kind::Invalid,
        }
    }
}

impl RecordError {
    /// For `map_err` on file operations.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    /// For `map_err` on what encodes and decodes.
    pub(crate) fn format(path: &Path, error: impl Into<DecodeError>) -> Self {
        Self::Format { path: path.to_owned(), source: error.into() }
    }
}

/// Writes `value` as JSON so that readers see the old file or the new one, whole. For live state, which no power cut survives.
pub(crate) fn write_json<T: Record>(path: &Path, value: &T) -> Result<(), RecordError> {
    let io_error = |action| move |source| RecordError::Io { action, path: path.to_owned(), source };
    let text = encode(value).map_err(|error| RecordError::format(path, error))?;
    // The writer's pid tells two writers' temporary files apart; a left one is overwritten or swept with its directory.
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    rbox_sys::trace::call(
        "write",
        || format!("{}, {} bytes", rbox_sys::trace::quoted(&temporary), text.len()),
        || rbox_sys::own::write(&temporary, &text).map(|()| text.len()),
    )
    .map(drop)
    .map_err(|source| {
        let _ = std::fs::remove_file(&temporary);
        io_error("write")(source)
    })?;
    std::fs::rename(&temporary, path).map_err(io_error("rename to"))
}

/// Reads a JSON file, of this version or an older one; none when it is not there.
pub(crate) fn read_json<T: Record>(path: &Path) -> Result<Option<T>, RecordError> {
    let text = match read_file(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(RecordError::Io { action: "read", path: path.to_owned(), source }),
    };
    decode(&text).map(Some).map_err(|error| RecordError::format(path, error))
}

/// The same for what is written again and again: a damaged one is as good as none. One that a newer rbox wrote is not.
pub(crate) fn read_renewed<T: Record>(path: &Path) -> Result<Option<T>, RecordError> {
    match read_json(path) {
        Err(error) if error.kind() != Kind::Unsupported => Ok(None),
        other => other,
    }
}

/// Reads a file of ours. What somebody else put in its place is not waited for (a FIFO), and not read without end.
pub(crate) fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    rbox_sys::own::read(path, MOST_BYTES)
}

/// No record is larger: a container has at most some megabytes of environment and labels.
pub(crate) const MOST_BYTES: u64 = 64 << 20;

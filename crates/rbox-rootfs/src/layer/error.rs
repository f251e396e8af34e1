//! What unpacking a layer can refuse, and the words it does so in.

use std::fmt;
use std::io;

use rbox_spec::Kind;
use rustix::io::Errno;

/// Why a layer could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The reader behind the tar stream failed (a cut download, a broken gzip member, a wrong digest).
    #[error("read the layer's tar stream at byte {offset}")]
    Read {
        /// Uncompressed bytes read before the failure.
        offset: u64,
        /// What the reader said.
        source: io::Error,
    },
    /// The stream ended inside a header or inside a file's data.
    #[error("the layer's tar stream ends at byte {offset}, inside {inside}")]
    Truncated {
        /// Uncompressed bytes read.
        offset: u64,
        /// What was being read.
        inside: &'static str,
    },
    /// A tar header that is malformed, or that readers of tar disagree about.
    #[error("tar header at byte {offset}: {why}")]
    Header {
        /// Offset of the 512-byte header in the uncompressed stream.
        offset: u64,
        /// What is wrong with it.
        why: String,
    },
    /// An entry that is well formed and that no layer may hold.
    #[error("layer entry {path}: {why}")]
    Refused {
        /// The entry's name as the archive has it.
        path: Name,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The kernel refused to make an entry.
    #[error("{} layer entry {path}", rbox_sys::action(call))]
    System {
        /// The system call.
        call: &'static str,
        /// The entry's name as the archive has it.
        path: Name,
        /// The kernel's answer.
        source: Errno,
    },
    /// What an earlier entry made could not be removed.
    #[error("remove layer entry {path}")]
    Remove {
        /// The entry's name as the archive has it.
        path: Name,
        /// What was in the way.
        source: io::Error,
    },
    /// The layer is larger than [`super::Limits`] allows.
    #[error("the layer has more than {limit} {of}")]
    Limit {
        /// The limit that was reached.
        limit: u64,
        /// What it counts.
        of: &'static str,
    },
}

impl UnpackError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Read { source, .. } | Self::Remove { source, .. } => Kind::of_io(source),
            Self::System { source, .. } => Kind::of_errno(source.raw_os_error()),
            Self::Truncated { .. } | Self::Header { .. } | Self::Refused { .. } => Kind::Damaged,
            Self::Limit { .. } => Kind::Unsupported,
        }
    }
}

/// A name from an archive. Shown with everything but printable ASCII escaped, so that it can move no cursor.
#[derive(Clone, PartialEq, Eq)]
pub struct Name(pub Vec<u8>);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 512;
        write!(f, "{}", self.0.get(..SHOWN).unwrap_or(&self.0).escape_ascii())?;
        if self.0.len() > SHOWN { f.write_str("…") } else { Ok(()) }
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Turns the kernel's answer about an entry into an error that names the call and the entry.
pub(super) fn system<T>(call: &'static str, path: &[u8], result: Result<T, Errno>) -> Result<T, UnpackError> {
    result.map_err(|source| UnpackError::System { call, path: Name(path.to_vec()), source })
}

/// An entry no layer may hold.
pub(super) fn refused(path: &[u8], why: &'static str) -> UnpackError {
    UnpackError::Refused { path: Name(path.to_vec()), why }
}

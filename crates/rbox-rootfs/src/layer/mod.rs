//! One layer's tar stream to one overlay lower directory.
//!
//! # What is made
//! Every entry as GNU tar makes it with `-p --numeric-owner --xattrs --xattrs-include=*`: type, permissions with
//! setuid, setgid and sticky, owner, times to the nanosecond (directories' when all is in them), hard links,
//! holes, devices, attributes. A later entry of a name replaces an earlier one; two directories of one name merge.
//! Directories the archive implies are root's, 0755.
//!
//! # Whiteouts
//! As the OCI image layer specification has them: they hide what lower layers have, never what this layer has,
//! wherever in the archive they stand. So they are kept until all entries are made, then put in overlayfs's terms:
//! - `.wh.x` and no `x` in the layer: a character device 0:0 named `x`;
//! - `.wh.x` and a directory `x`: `x` is opaque, for the lower `x` is gone and this one begins anew;
//! - `.wh.x` and any other `x`: nothing, for `x` covers what is below;
//! - `.wh..wh..opq`: its directory gets `trusted.overlay.opaque=y`.
//!
//! # What is refused
//! The archive is hostile (SECURITY rows 12 to 15). Names are resolved by the kernel below `into`
//! ([`place`]), sizes that two readers of tar would read differently are refused ([`entry`]), what would speak to
//! overlayfs or to the host's LSM is left out or refused, and every count has a [`Limits`] field.

mod entry;
mod error;
mod header;
mod members;
mod pax;
mod place;
mod sparse;
mod stream;
mod write;

use std::io::Read;
use std::os::fd::BorrowedFd;

pub use error::{Name, UnpackError};
pub use members::{CopyError, Member, MemberKind, Members};

/// What one layer may hold at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the uncompressed tar stream.
    pub stream_bytes: u64,
    /// Tar headers, and separately inodes made.
    pub entries: u64,
    /// Apparent bytes of one file. A sparse file costs no disk, and no more than this can be promised.
    pub file_bytes: u64,
    /// Bytes of one name.
    pub name_bytes: usize,
    /// Bytes of one extended header: all PAX records of an entry, its attributes' values among them.
    pub extended_header_bytes: u64,
    /// Bytes kept in memory until the end: names and attributes of directories, names of whiteouts.
    pub held_bytes: usize,
}

impl Default for Limits {
    /// Larger than any layer in use, small enough that a hostile one is an error and not a full disk.
    fn default() -> Self {
        Self {
            stream_bytes: 64 << 30,
            entries: 4_000_000,
            file_bytes: 1 << 40,
            name_bytes: 4095,
            extended_header_bytes: 1 << 20,
            held_bytes: 64 << 20,
        }
    }
}

/// What was unpacked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Entries of the archive that made something.
    pub entries: u64,
    /// Bytes of file data written.
    pub data_bytes: u64,
    /// Bytes of the stream, to its end.
    pub stream_bytes: u64,
    /// Whiteouts made as character devices 0:0.
    pub whiteouts: u64,
    /// Directories made opaque.
    pub opaque: u64,
    /// The layer hides everything below it. overlayfs does not look for this on a layer's root:
    /// whoever mounts must leave out the layers below.
    pub root_opaque: bool,
    /// Attributes left out: overlayfs's own, `trusted.*`, LSM labels.
    pub xattrs_left_out: u64,
    /// Attributes the file system cannot hold.
    pub xattrs_unsupported: u64,
}

/// Unpacks one layer's uncompressed tar stream into the empty directory `into`.
///
/// The stream is read to its end, past the archive's, so that a digest taken on the way is the layer's diff ID.
/// Nothing is synced: the caller syncs once (`syncfs`). On an error `into` holds a part, to be removed.
/// Source: OCI image-spec v1.1, "Image Layer Filesystem Changeset"; kernel documentation, overlayfs.
pub fn unpack(tar: impl Read, into: BorrowedFd<'_>, limits: &Limits) -> Result<Summary, UnpackError> {
    write::Unpacker::new(tar, into, limits)?.run()
}

#[cfg(test)]
mod tests;

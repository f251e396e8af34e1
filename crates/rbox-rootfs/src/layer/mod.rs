//! One layer's tar stream to one overlay lower directory; a tree to a tar stream ([`pack()`]).
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

pub(crate) mod entry;
mod error;
mod header;
mod limits;
mod members;
mod pack;
mod pax;
pub(crate) mod place;
mod sparse;
pub(crate) mod stream;
pub(crate) mod write;

use std::io::Read;
use std::os::fd::BorrowedFd;

pub use error::{Name, UnpackError};
pub use limits::{Limits, Summary};
pub use members::{CopyError, Member, MemberKind, Members};
pub use pack::{PackError, PackOptions, Packed, TreeKind, pack};

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

//! A tar archive into a tree that is there and in use: what `cp` does. [`super::layer::unpack`] is for new layers.
//!
//! # What is made
//! Each entry with its type, mode, modification time, `user.*` attributes and file capabilities; owners as [`Owners`] says. Directories
//! merge, files and links replace what has their name, and nothing becomes a directory that is none, nor the other way round. A name
//! has no further meaning: `.wh.x` is a file of that name.
//!
//! # What is refused
//! `..` in a name, hard links to what is not below the directory, and symbolic links that lead out of it by `..`, as with Docker; and
//! before it is made, what belongs to a user that the container has not.
//!
//! # What is guaranteed
//! Nothing outside of the root is made, changed or removed, whoever else changes the tree meanwhile. The directory of each entry is
//! found from the root's descriptor ([`Place`]), the entry itself is one name in it that is not followed, made as a new thing, and
//! its owner, mode, attributes and times are set by a descriptor of that very thing.

mod error;
mod place;
mod write;

use std::io::Read;

pub use error::PutError;
pub use place::{Inside, Owners, Place, Put};

/// Puts all that is in the uncompressed archive `tar` to `place`.
///
/// # Errors
/// The archive is damaged or refused, or the kernel refuses. What was put before that stays.
pub fn put(tar: impl Read, place: Place<'_>, owners: Owners<'_>) -> Result<Put, PutError> {
    let limits = write::limits();
    write::Putter::new(tar, place, owners, &limits).run()
}

/// The same, and the directory itself becomes what the archive says of it (`./`): its owner, mode and attributes.
///
/// # Errors
/// Those of [`put`].
pub fn put_with_top(tar: impl Read, place: Place<'_>, owners: Owners<'_>) -> Result<Put, PutError> {
    let limits = write::limits();
    write::Putter::new(tar, place, owners, &limits).with_top().run()
}

#[cfg(test)]
mod tests;

//! A tree to one tar stream: the counterpart of [`super::unpack`].
//!
//! # What is in the stream
//! Each thing of the tree as [`super::unpack`] and GNU tar with `-p --numeric-owner --xattrs` make it again: type, permissions with
//! setuid, setgid and sticky, owners as numbers, modification time (to the nanosecond where it has a fraction), devices, FIFOs,
//! symbolic links, hard links (the first name in order is the file, later ones are links to it), `user.*` attributes and
//! `security.capability`. The format is ustar, with PAX records for what ustar cannot say: nothing of it depends on anything but the
//! tree, for the names of a directory come in the order of their bytes. A name is the bytes that it has.
//!
//! # What is not
//! Sockets; attributes that are the host's or overlayfs's (`trusted.*`, labels) and POSIX ACLs, as with Docker; access times. A name of
//! more than 4095 bytes, which no program could open, is left out with all below it and counted ([`Packed::left_out`]).
//!
//! # What is guaranteed
//! Whoever else changes the tree meanwhile, such as the container that it is the root of:
//! - nothing outside of it is read. A thing is found by one name below an open directory, following no link, and without being opened
//!   (`O_PATH`); a regular file is then opened by that descriptor, so what is read is what was looked at. In a tree that nobody else
//!   can change ([`PackOptions::is_settled`]) it is opened at once;
//! - nothing is opened that does something when it is opened: no device, no FIFO, no socket;
//! - the archive is well formed. A file that shrinks while it is read is filled up with zeros, one that grows is cut at the size it had.
//!   What is gone when its turn comes is left out;
//! - sixteen descriptors are open at most, and nothing is on the stack, however deep the tree is. In memory are the names of the
//!   directories on the way down, and one name for each file of which not all names were met.

mod member;
mod options;
mod output;
mod walk;

use std::io::Write;
use std::os::fd::BorrowedFd;

pub use options::{PackError, PackOptions, Packed, TreeKind};

/// Writes `thing` and, if it is a directory, all that is in it as a tar archive. The descriptor may be an `O_PATH` one. What is no directory
/// is the archive's one entry, and needs [`PackOptions::root`] for its name.
///
/// Mounts below it are part of the tree: whoever wants it without them gives a copy of the mount
/// (`rbox_sys::mount::clone_tree`).
///
/// # Errors
/// When the writer fails, or something that is there cannot be read. What was written is no whole archive then.
pub fn pack(thing: BorrowedFd<'_>, into: impl Write, options: &PackOptions<'_>) -> Result<Packed, PackError> {
    walk::Packer::new(into, options).run(thing)
}

//! Where an archive goes, and what comes of it.

use std::os::fd::BorrowedFd;
use std::path::Path;

use rbox_spec::userns::IdMaps;

/// Where the entries go.
#[derive(Debug, Clone, Copy)]
pub enum Place<'a> {
    /// The directory `path` inside this root. Links on the way to it and below it are followed as inside the root.
    InRoot {
        /// The root.
        root: BorrowedFd<'a>,
        /// An absolute path inside.
        path: &'a Path,
    },
    /// This directory. No link below it is followed.
    Beneath {
        /// The directory.
        directory: BorrowedFd<'a>,
        /// What it is called in messages.
        path: &'a Path,
    },
}

impl Place<'_> {
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::InRoot { path, .. } | Self::Beneath { path, .. } => path,
        }
    }
}

/// Whose the files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owners<'a> {
    /// As the archive has it.
    Archive,
    /// All of one user and group.
    All(u32, u32),
    /// As the archive has it, or all of one user and group; who that is inside of a container with these ids. The thread that puts must
    /// make files that have an owner there.
    Inside(&'a IdMaps, Option<(u32, u32)>),
    /// Whoever makes them. Then no device is made either: one in the hands of a user of the host would be a way to its hardware.
    Own,
}

/// What was put.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Put {
    /// Devices that were not made.
    pub devices: u64,
    /// Bytes of the stream, to its end.
    pub stream_bytes: u64,
}

//! Where an archive goes, and what comes of it.

use std::os::fd::BorrowedFd;
use std::path::Path;

use rbox_spec::userns::IdMaps;

use crate::file_capability;

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
    /// Users of a container.
    Inside(Inside<'a>),
    /// Whoever makes them. Then no device is made either: one in the hands of a user of the host would be a way to its hardware.
    Own,
}

/// Owners that are users of a container with a user namespace. What belongs to others is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inside<'a> {
    /// Its ids.
    pub maps: &'a IdMaps,
    /// All is of this user and group; else it is as the archive has it.
    pub all: Option<(u32, u32)>,
    /// The tree is seen as the container's own: owners are those that its users are on the host, and the thread that puts must make files
    /// that have an owner there. Else they are as on disk, where they are as inside.
    pub is_mapped: bool,
}

impl Inside<'_> {
    /// Whom a thing of this owner is given to. The error says why to nobody.
    pub fn owner(&self, owner: (u32, u32)) -> Result<(u32, u32), String> {
        let owner = self.all.unwrap_or(owner);
        let on_host = self.maps.find(owner).map_err(|error| self.which_has(&error.to_string()))?;
        Ok(if self.is_mapped { on_host } else { owner })
    }

    /// The `security.capability` of a file that has this one. The error says why it can have none.
    pub fn capability(&self, value: &[u8]) -> Result<Vec<u8>, String> {
        let on_host = file_capability::on_host(value, self.maps).map_err(|root| {
            self.which_has(&format!(
                "its capabilities are for a root ({root}) that is none of the container's"
            ))
        })?;
        Ok(if self.is_mapped { on_host } else { value.to_vec() })
    }

    fn which_has(&self, why: &str) -> String {
        let maps: String = self.maps.to_string().chars().take(200).collect();
        format!("{why}, which has {maps}")
    }
}

/// What was put.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Put {
    /// Devices that were not made.
    pub devices: u64,
    /// Entries that there were.
    pub entries: u64,
    /// Bytes of the stream, to its end.
    pub stream_bytes: u64,
}

//! Files that the caller gives as a copy: in memory of the container, and read-only for it.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::Mount;
use rbox_sys::file::{open_beneath, set_mode, set_owner, write_all};
use rbox_sys::mount::{Attr, Param, attach, clone_tree, new_mount, set_attributes};
use rbox_sys::own;
use rustix::fs::OFlags;
use rustix::mount::MountPropagationFlags;

use crate::credentials::StepError;
use crate::error::RuntimeError;

/// A kind of mount that the OCI specification does not have: a copy of the source, a regular file, with the `uid=`, `gid=` and
/// `mode=` (octal) of its options.
pub const COPY: &str = "copy";

/// Bytes that are copied.
const MOST: u64 = 64 << 20;

/// What is put in such a file.
pub struct FileCopy {
    content: Vec<u8>,
    uid: u32,
    gid: u32,
    mode: u32,
}

/// Without its content, which may be a secret.
impl std::fmt::Debug for FileCopy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes of {}:{} {:o}", self.content.len(), self.uid, self.gid, self.mode)
    }
}

impl FileCopy {
    /// Reads the source of a mount.
    pub(crate) fn of(mount: &Mount) -> Result<Self, RuntimeError> {
        let path: PathBuf = mount.source().clone().unwrap_or_default();
        let refused =
            |why: String| RuntimeError::Config(format!("file for {}: {why}", mount.destination().display()));
        let content = own::read(&path, MOST)
            .map_err(|error| refused(format!("read {}: {}", path.display(), rbox_sys::plain(error))))?;
        let mut copy = Self { content, uid: 0, gid: 0, mode: 0o444 };
        for option in mount.options().iter().flatten() {
            let bad = || refused(format!("{option} is no option of a copy"));
            let (key, value) = option.split_once('=').ok_or_else(bad)?;
            match key {
                "uid" => copy.uid = value.parse().map_err(|_| bad())?,
                "gid" => copy.gid = value.parse().map_err(|_| bad())?,
                "mode" => copy.mode = u32::from_str_radix(value, 8).map_err(|_| bad())? & 0o7777,
                _ => return Err(bad()),
            }
        }
        Ok(copy)
    }
}

/// The memory that copies are made in. It is attached out of the container's sight, so each copy is seen at its target only.
pub(crate) struct Copies {
    memory: OwnedFd,
    made: u32,
}

impl Copies {
    /// `place`: a directory that goes with `pivot root`.
    pub(crate) fn out_of_sight(place: BorrowedFd<'_>) -> Result<Self, StepError> {
        let memory = new_mount("tmpfs", &[Param::Text("mode", "700")], sealed())?;
        attach(&memory, place)?;
        Ok(Self { memory, made: 0 })
    }

    /// A mount of one copy, detached.
    pub(crate) fn make(&mut self, copy: &FileCopy) -> Result<OwnedFd, StepError> {
        let name = self.made.to_string();
        self.made += 1;
        let file = open_beneath(
            &self.memory,
            Path::new(&name),
            OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY,
            0o600,
        )?;
        write_all(&file, &copy.content)?;
        set_owner(&file, copy.uid, copy.gid)?;
        set_mode(&file, copy.mode)?;
        let mount = clone_tree(&file, Path::new(""), false)?;
        let attributes = sealed() | Attr::MOUNT_ATTR_RDONLY;
        set_attributes(&mount, attributes, Attr::empty(), MountPropagationFlags::PRIVATE, false)?;
        Ok(mount)
    }
}

fn sealed() -> Attr {
    Attr::MOUNT_ATTR_NOSUID | Attr::MOUNT_ATTR_NODEV | Attr::MOUNT_ATTR_NOEXEC
}

//! Parts of /proc and /sys that a container does not get to see or change.
//!
//! They are found below the descriptor of the mount they are in, without following a link: what is not there needs no cover,
//! but what a link leads to could be somewhere else than what is seen, so that is an error.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use rbox_sys::SysError;
use rbox_sys::file::open_beneath;
use rbox_sys::mount::{Attr, Param, attach, clone_tree, new_mount, set_attributes};
use rustix::fs::{FileType, OFlags};
use rustix::mount::MountPropagationFlags;

use crate::tree::TreeError;

/// A path to cover: `below` the descriptor of a mount, and as the container names it.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The mount, by its root.
    pub base: BorrowedFd<'a>,
    /// The path below that.
    pub below: &'a Path,
    /// The path inside the container.
    pub shown: &'a Path,
}

/// Masks a file or directory: a file by /dev/null, a directory by an empty read-only tmpfs.
/// What is not there needs no mask. `null` is checked to be the null device by the caller.
pub fn mask(place: Place<'_>, null: BorrowedFd<'_>) -> Result<(), TreeError> {
    let Some((target, is_dir)) = existing(place)? else { return Ok(()) };
    let cover = if is_dir {
        let attr = Attr::MOUNT_ATTR_RDONLY
            | Attr::MOUNT_ATTR_NOSUID
            | Attr::MOUNT_ATTR_NODEV
            | Attr::MOUNT_ATTR_NOEXEC;
        new_mount(
            "tmpfs",
            &[Param::Text("size", "0"), Param::Text("nr_inodes", "1"), Param::Text("mode", "755")],
            attr,
        )?
    } else {
        clone_tree(null, Path::new(""), false)?
    };
    Ok(attach(cover, target)?)
}

/// Makes what is at and below a place read-only. What is not there stays so.
pub fn make_read_only(place: Place<'_>) -> Result<(), TreeError> {
    let Some((target, _)) = existing(place)? else { return Ok(()) };
    let copy = clone_tree(&target, Path::new(""), true)?;
    set_attributes(&copy, Attr::MOUNT_ATTR_RDONLY, Attr::empty(), MountPropagationFlags::empty(), true)?;
    Ok(attach(copy, target)?)
}

fn existing(place: Place<'_>) -> Result<Option<(OwnedFd, bool)>, TreeError> {
    let target = match open_beneath(place.base, place.below, OFlags::PATH, 0) {
        Err(error) => match error.errno {
            Errno::ENOENT | Errno::ENOTDIR => return Ok(None),
            Errno::ELOOP => {
                return Err(TreeError::Led { path: place.shown.to_owned(), what: "a mask" });
            }
            _ => return Err(error.into()),
        },
        Ok(target) => target,
    };
    let stat = rustix::fs::fstat(&target)
        .map_err(|e| SysError::new("fstat", place.shown.display().to_string(), e))?;
    Ok(Some((target, FileType::from_raw_mode(stat.st_mode).is_dir())))
}

//! Parts of /proc and /sys that a container does not get to see or change.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use rbox_sys::SysError;
use rbox_sys::file::open_in_root;
use rbox_sys::mount::{Attr, Param, attach, clone_tree, new_mount, set_attributes};
use rustix::fs::{FileType, OFlags};
use rustix::mount::MountPropagationFlags;

/// Masks the file or directory `path`: a file by /dev/null, a directory by an empty read-only tmpfs.
/// What is not there needs no mask. `null` is checked to be the null device by the caller.
pub fn mask(root: BorrowedFd<'_>, null: BorrowedFd<'_>, path: &Path) -> Result<(), SysError> {
    let Some((target, is_dir)) = existing(root, path)? else { return Ok(()) };
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
    attach(cover, target)
}

/// Makes what is below `path` read-only. What is not there stays so.
pub fn make_read_only(root: BorrowedFd<'_>, path: &Path) -> Result<(), SysError> {
    let Some((target, _)) = existing(root, path)? else { return Ok(()) };
    let copy = clone_tree(&target, Path::new(""), true)?;
    set_attributes(&copy, Attr::MOUNT_ATTR_RDONLY, Attr::empty(), MountPropagationFlags::empty(), true)?;
    attach(copy, target)
}

fn existing(root: BorrowedFd<'_>, path: &Path) -> Result<Option<(OwnedFd, bool)>, SysError> {
    let target = match open_in_root(root.as_fd(), path, OFlags::PATH, 0) {
        Err(error) if matches!(error.errno, Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
        other => other?,
    };
    let stat =
        rustix::fs::fstat(&target).map_err(|e| SysError::new("fstat", path.display().to_string(), e))?;
    Ok(Some((target, FileType::from_raw_mode(stat.st_mode).is_dir())))
}

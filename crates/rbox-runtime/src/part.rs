//! A part of a tree that is attached nowhere. A copy can be made only of what is attached somewhere: for a moment it is, in the mount
//! namespace of a child, and nowhere on the host.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rbox_sys::file::open_in_root;
use rbox_sys::mount::{attach, clone_tree, make_all_slave};
use rbox_sys::process::CloneFlags;
use rbox_sys::{SysError, trace};
use rustix::fs::{CWD, Mode, OFlags};

use crate::child::mount_by_child;
use crate::credentials::StepError;
use crate::error::RuntimeError;

/// A copy of what is at `below` in the tree, which may be a file; links on the way are followed as in a root. `stage`: a directory to
/// attach the tree on. The caller must be single-threaded.
///
/// # Errors
/// Nothing is there, or the kernel refuses.
pub fn part_of(whole: BorrowedFd<'_>, below: &Path, stage: &Path) -> Result<OwnedFd, RuntimeError> {
    let copy = || copy(whole, below, stage);
    mount_by_child(CloneFlags::CLONE_NEWNS, "layers", "take a part of a tree", copy)
}

fn copy(whole: BorrowedFd<'_>, below: &Path, stage: &Path) -> Result<OwnedFd, StepError> {
    let open = || {
        rustix::fs::openat(CWD, stage, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| SysError::new("open", trace::quoted(stage), errno))
    };
    make_all_slave()?;
    attach(whole, open()?)?;
    let place = open_in_root(open()?, below, OFlags::PATH, 0)?;
    Ok(clone_tree(&place, Path::new(""), false)?)
}

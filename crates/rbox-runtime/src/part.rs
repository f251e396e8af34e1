//! A part of a tree that is attached nowhere. A copy can be made only of what is attached somewhere: for a moment it is, in the mount
//! namespace of a child, and nowhere on the host.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rbox_namespace::handshake::{self, Told};
use rbox_sys::file::open_in_root;
use rbox_sys::mount::{attach, clone_tree, make_all_slave};
use rbox_sys::process::{self, CloneFlags, Side};
use rbox_sys::{SysError, trace, waiting};
use rustix::fs::{CWD, Mode, OFlags};

use crate::credentials::{StepError, fail};
use crate::error::RuntimeError;

/// A copy of what is at `below` in the tree, which may be a file; links on the way are followed as in a root. `stage`: a directory to
/// attach the tree on. The caller must be single-threaded.
///
/// # Errors
/// Nothing is there, or the kernel refuses.
pub fn part_of(whole: BorrowedFd<'_>, below: &Path, stage: &Path) -> Result<OwnedFd, RuntimeError> {
    const STEP: &str = "take a part of a tree";
    let (mut parent, channel) = handshake::pair()?;
    let child = match process::clone3(CloneFlags::CLONE_NEWNS, None)? {
        Side::Child => {
            drop(parent);
            let told = copy(whole, below, stage).and_then(|part| {
                channel.tree(part.as_fd()).map_err(|error| StepError::new(error.to_string()))
            });
            match told {
                Ok(()) => process::exit_now(0),
                Err(error) => fail(&channel, STEP, &error),
            }
        }
        Side::Parent(child) => child,
    };
    drop(channel);
    let heard = parent.hear(child.pidfd.as_fd());
    let _ = waiting::reap(child.pidfd.as_fd(), waiting::GONE);
    match heard? {
        Told::Tree(part) => Ok(part),
        Told::Failed(failure) => Err(RuntimeError::Init(failure)),
        _ => Err(RuntimeError::Killed),
    }
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

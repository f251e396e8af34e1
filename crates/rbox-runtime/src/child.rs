//! What only a process in other namespaces can do, done by a child that lives for that alone. Whatever it has mounted for itself goes with
//! it.

use std::os::fd::{AsFd as _, OwnedFd};

use rbox_namespace::handshake::{self, ChildEnd, Told};
use rbox_sys::process::{self, CloneFlags, Side};
use rbox_sys::{trace, waiting};

use crate::credentials::{StepError, fail};
use crate::error::RuntimeError;

/// Does the work in a child with new namespaces of `flags`, and comes back with what that says through its end of the channel. `actor`: what
/// the child is called in the trace. The caller must be single-threaded.
pub(crate) fn in_child(
    flags: CloneFlags,
    actor: &'static str,
    step: &'static str,
    work: impl FnOnce(&ChildEnd) -> Result<(), StepError>,
) -> Result<Told, RuntimeError> {
    let (mut parent, channel) = handshake::pair()?;
    let child = match process::clone3(flags, None)? {
        Side::Child => {
            drop(parent);
            trace::set_actor(actor);
            match work(&channel) {
                Ok(()) => process::exit_now(0),
                Err(error) => fail(&channel, step, &error),
            }
        }
        Side::Parent(child) => child,
    };
    drop(channel);
    let heard = parent.hear(child.pidfd.as_fd());
    if heard.is_err() {
        // It stands still: what it is at is nobody's any more.
        let _ = process::pidfd_send_signal(&child.pidfd, nix::libc::SIGKILL);
    }
    let _ = waiting::reap(child.pidfd.as_fd(), waiting::GONE);
    match heard? {
        Told::Failed(failure) => Err(RuntimeError::Init(failure)),
        Told::Closed => Err(RuntimeError::Killed),
        told => Ok(told),
    }
}

/// A mount that a child makes, attached nowhere.
pub(crate) fn mount_by_child(
    flags: CloneFlags,
    actor: &'static str,
    step: &'static str,
    make: impl FnOnce() -> Result<OwnedFd, StepError>,
) -> Result<OwnedFd, RuntimeError> {
    let told = in_child(flags, actor, step, |channel| Ok(channel.tree(make()?.as_fd())?))?;
    match told {
        Told::Tree(mount) => Ok(mount),
        _ => Err(RuntimeError::Killed),
    }
}

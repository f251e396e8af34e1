//! A user namespace that nobody is in: a map of ids, for mounts (`mount_setattr(2)`, `MOUNT_ATTR_IDMAP`).

use std::os::fd::{AsFd, OwnedFd};

use rbox_spec::idmap::{IdRange, as_map};
use rbox_sys::process::{self, CloneFlags, Side};
use rbox_sys::{SysError, channel, told, trace, waiting};
use rustix::fs::{Mode, OFlags};

/// Makes a user namespace with these maps: what is `disk` in a range is inside, what is `seen` is outside. It stays as long as its
/// descriptor. The caller must be single-threaded.
pub fn user_namespace(uids: &[IdRange], gids: &[IdRange]) -> Result<OwnedFd, SysError> {
    let (ours, theirs) = channel::pair()?;
    let child = match process::clone3(CloneFlags::CLONE_NEWUSER, None)? {
        Side::Child => {
            drop(ours);
            // The end of the other side, or of this process, ends the wait.
            let _ = channel::receive(&theirs, &mut [0; 1]);
            process::exit_now(0)
        }
        Side::Parent(child) => child,
    };
    drop(theirs);
    let made = fill(child.pid, uids, gids);
    drop(ours);
    let _ = process::pidfd_send_signal(&child.pidfd, nix::libc::SIGKILL);
    let _ = waiting::reap(child.pidfd.as_fd(), waiting::GONE);
    made
}

fn fill(pid: i32, uids: &[IdRange], gids: &[IdRange]) -> Result<OwnedFd, SysError> {
    for (name, ranges) in [("uid_map", uids), ("gid_map", gids)] {
        let path = format!("/proc/{pid}/{name}");
        let lines = as_map(ranges);
        told(
            "write",
            || format!("{}, {} ranges of ids", trace::quoted(&path), ranges.len()),
            || {
                let file = rustix::fs::open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
                // The kernel takes a map in one write.
                rustix::io::write(&file, lines.as_bytes()).map(drop)
            },
        )?;
    }
    let path = format!("/proc/{pid}/ns/user");
    told(
        "open",
        || trace::quoted(&path),
        || rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()),
    )
}

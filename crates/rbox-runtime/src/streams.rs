//! The program's standard streams: pipes, null devices, or a terminal. Shared by init, exec and hooks.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use oci_spec::runtime::Process;
use rbox_rootfs::dev;
use rbox_sys::file::{make_device, open_beneath, open_in_root};
use rbox_sys::mount::{Attr, new_mount};
use rbox_sys::told;
use rustix::fs::OFlags;

use crate::credentials::StepError;

/// A new pair in the devpts instance `pts`: master and slave.
pub(crate) fn open_pty(
    pts: BorrowedFd<'_>,
    size: Option<(u16, u16)>,
) -> Result<(OwnedFd, OwnedFd), StepError> {
    let master = open_beneath(pts, Path::new("ptmx"), OFlags::RDWR | OFlags::NOCTTY, 0)?;
    told("ioctl", || format!("{}, TIOCSPTLCK, 0", master.as_raw_fd()), || rustix::pty::unlockpt(&master))?;
    let slave = told(
        "ioctl",
        || format!("{}, TIOCGPTPEER", master.as_raw_fd()),
        || {
            rustix::pty::ioctl_tiocgptpeer(
                &master,
                rustix::pty::OpenptFlags::RDWR
                    | rustix::pty::OpenptFlags::NOCTTY
                    | rustix::pty::OpenptFlags::CLOEXEC,
            )
        },
    )?;
    if let Some((rows, columns)) = size {
        let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let _ = rustix::termios::tcsetwinsize(&master, size);
    }
    Ok((master, slave))
}

/// Starts a session, of the terminal that this process has as its streams if there is one.
pub(crate) fn begin_session(on_terminal: bool) -> Result<(), StepError> {
    told("setsid", String::new, || rustix::process::setsid().map(|id| id.as_raw_nonzero().get()))?;
    if on_terminal {
        told("ioctl", || "0, TIOCSCTTY, 0".into(), || rustix::process::ioctl_tiocsctty(std::io::stdin()))?;
    }
    Ok(())
}

/// Takes these streams, given to the user of `owner` if there is one. In place of the host's null device
/// goes the container's own, which `null` opens: through a descriptor the program could change the mode of the host's. Without one there
/// is no start.
pub(crate) fn take_streams(
    fds: &[OwnedFd; 3],
    owner: Option<&Process>,
    null: impl FnOnce() -> Result<OwnedFd, StepError>,
) -> Result<(), StepError> {
    let is_hosts_null = fds.each_ref().map(|fd| dev::is_null(fd.as_fd()));
    let null = is_hosts_null.contains(&true).then(null).transpose()?;
    for (fd, _) in fds.iter().zip(is_hosts_null).filter(|(_, is_null)| !is_null) {
        give_to_user(fd.as_fd(), owner);
    }
    let chosen = |at: usize| match &null {
        Some(null) if is_hosts_null[at] => null.as_fd(),
        _ => fds[at].as_fd(),
    };
    connect([chosen(0), chosen(1), chosen(2)])
}

/// Opens the null device that a container has at `path` below `dir`; if it has something else there, `other` opens one that it shares with
/// nobody.
pub(crate) fn open_null(
    dir: BorrowedFd<'_>,
    path: &Path,
    other: impl FnOnce() -> Result<OwnedFd, StepError>,
) -> Result<OwnedFd, StepError> {
    fn open(dir: BorrowedFd<'_>, path: &Path, how: OFlags) -> Option<OwnedFd> {
        open_in_root(dir, path, how, 0).ok().filter(|fd| dev::is_null(fd.as_fd()))
    }
    let how = OFlags::RDWR | OFlags::NOCTTY;
    // Looked at before it is opened, which does something to other devices, and again after.
    open(dir, path, OFlags::PATH).and_then(|_| open(dir, path, how)).map_or_else(other, Ok)
}

/// A null device on a file system of its own. In a user namespace nobody can make one.
pub(crate) fn own_null() -> Result<OwnedFd, StepError> {
    let alone = new_mount("tmpfs", &[], Attr::empty())?;
    make_device(&alone, "null", 0o666, false, 1, 3)?;
    null_of(&alone)
}

/// Opens the null device of a file system that was made with one.
pub(crate) fn null_of(mount: &OwnedFd) -> Result<OwnedFd, StepError> {
    Ok(open_beneath(mount.as_fd(), Path::new("null"), OFlags::RDWR | OFlags::NOCTTY, 0)?)
}

/// Makes these descriptors 0, 1 and 2. They may be among 0 to 2 themselves, so all are moved up first.
pub(crate) fn connect(fds: [BorrowedFd<'_>; 3]) -> Result<(), StepError> {
    let mut high = Vec::with_capacity(3);
    for fd in fds {
        high.push(told(
            "fcntl",
            || format!("{}, F_DUPFD_CLOEXEC, 3", fd.as_raw_fd()),
            || rustix::io::fcntl_dupfd_cloexec(fd, 3),
        )?);
    }
    told(
        "dup2",
        || format!("{}, 0", high[0].as_raw_fd()),
        || rustix::stdio::dup2_stdin(&high[0]).map(|()| 0),
    )?;
    told(
        "dup2",
        || format!("{}, 1", high[1].as_raw_fd()),
        || rustix::stdio::dup2_stdout(&high[1]).map(|()| 1),
    )?;
    told(
        "dup2",
        || format!("{}, 2", high[2].as_raw_fd()),
        || rustix::stdio::dup2_stderr(&high[2]).map(|()| 2),
    )?;
    Ok(())
}

/// Lets the program's user reopen its own streams by /dev/stdout. Where it may not, it simply cannot.
pub(crate) fn give_to_user(fd: BorrowedFd<'_>, process: Option<&Process>) {
    let uid = process.map_or(0, |p| p.user().uid());
    if uid != 0 {
        let _ = rustix::fs::fchown(fd, Some(rustix::fs::Uid::from_raw(uid)), None);
    }
}

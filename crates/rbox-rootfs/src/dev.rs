//! /dev of a container: nodes and links, made on a tmpfs of ours before anything can be reached by name.

use std::os::fd::{AsFd, BorrowedFd};

use rbox_sys::SysError;
use rbox_sys::file::{make_device, make_link};
use rustix::fs::FileType;

/// The nodes every container has: name, major, minor (Documentation/admin-guide/devices.txt).
pub const NODES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

const LINKS: [(&str, &str); 6] = [
    ("ptmx", "pts/ptmx"),
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
];

/// Makes nodes and links below `dev`, the root of a fresh tmpfs. The umask must be 0.
pub fn populate(dev: BorrowedFd<'_>) -> Result<(), SysError> {
    for (name, major, minor) in NODES {
        make_device(dev.as_fd(), name, 0o666, false, major, minor)?;
    }
    for (name, to) in LINKS {
        make_link(dev.as_fd(), name, to)?;
    }
    Ok(())
}

/// Whether this is a null device, by its type and numbers.
pub fn is_null(fd: BorrowedFd<'_>) -> bool {
    rustix::fs::fstat(fd).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
            && stat.st_rdev == rustix::fs::makedev(1, 3)
    })
}

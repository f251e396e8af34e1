//! Descriptors of the caller that a program in a container gets, because the caller asked for that: 3 and those after it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use rustix::io::{FdFlags, fcntl_setfd};

use crate::error::{SysError, told};
use crate::process;

/// So many descriptors can be passed on. More is a slip; and all of them are looked at.
pub const MOST: u32 = 1000;

/// Descriptors 3, 4, … of the caller, without a gap: they have these numbers here and in children, so nothing has to be moved for the
/// program to find them.
#[derive(Debug, Default)]
pub struct Passed(Vec<OwnedFd>);

impl Passed {
    /// Takes `count` of those that [`close_inherited`](process::close_inherited) kept. The number of the first that the caller does not
    /// have is the error; then none is taken.
    pub fn take(count: u32) -> Result<Self, u32> {
        process::take_kept(count.min(MOST)).map(Self)
    }

    /// They themselves.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.iter().map(AsFd::as_fd)
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(MOST)
    }

    /// Keeps these alone open over execve(2), with the standard streams (`close_range(2)`).
    pub fn go_on_exec(&self) -> Result<(), SysError> {
        for fd in &self.0 {
            told(
                "fcntl",
                || format!("{}, F_SETFD, 0", crate::trace::fd(fd)),
                || fcntl_setfd(fd, FdFlags::empty()).map_err(|errno| Errno::from_raw(errno.raw_os_error())),
            )?;
        }
        process::close_from_on_exec(3 + self.count())
    }
}

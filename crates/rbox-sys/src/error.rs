//! A system call that failed, printed the way `strace` would print it.

use std::fmt;

use nix::errno::Errno;

/// A failed call: its name, its arguments and why.
#[derive(Debug, Clone)]
pub struct SysError {
    /// The call's name: `move_mount`.
    pub call: &'static str,
    /// Its arguments, an fd with the path it stands for.
    pub args: String,
    /// Why.
    pub errno: Errno,
}

impl SysError {
    /// The error for `call(args)` from whatever crate's errno.
    pub fn new(call: &'static str, args: String, errno: impl Into<RawErrno>) -> Self {
        Self { call, args, errno: Errno::from_raw(errno.into().0) }
    }
}

/// An errno of any of the crates that carry one.
#[derive(Debug, Clone, Copy)]
pub struct RawErrno(pub i32);

impl From<rustix::io::Errno> for RawErrno {
    fn from(errno: rustix::io::Errno) -> Self {
        Self(errno.raw_os_error())
    }
}
impl From<Errno> for RawErrno {
    fn from(errno: Errno) -> Self {
        Self(errno as i32)
    }
}
impl From<std::io::Error> for RawErrno {
    fn from(error: std::io::Error) -> Self {
        Self(error.raw_os_error().unwrap_or(libc::EIO))
    }
}

impl fmt::Display for SysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({}): {:?}: {}", self.call, self.args, self.errno, self.errno.desc())
    }
}

impl std::error::Error for SysError {}

/// Runs one system call through [`crate::trace::call`]; a failure carries the call as it was made.
pub fn told<T, E>(
    call: &'static str,
    args: impl Fn() -> String,
    run: impl FnOnce() -> Result<T, E>,
) -> Result<T, SysError>
where
    T: crate::trace::Returned,
    E: Into<RawErrno> + fmt::Display,
{
    crate::trace::call(call, &args, run).map_err(|errno| SysError::new(call, args(), errno))
}

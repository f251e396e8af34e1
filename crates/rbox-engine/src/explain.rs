//! `--explain`: the sink of the trace, for a command line.

use std::io;
use std::os::fd::AsFd;

pub use rbox_sys::trace::Format;

/// Tells every step and call from here on, of this process and of those it makes, on what standard error is now.
pub fn to_stderr(format: Format) -> io::Result<()> {
    rbox_sys::trace::enable(io::stderr().as_fd().try_clone_to_owned()?, format);
    Ok(())
}

/// Whether this process may make containers.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The first thing a command does: gives up every descriptor but the three standard streams. One left open by a
/// caller's accident (a shell's lock file, a CI runner's pipe) would stay open in the monitor for the container's life.
pub fn begin() {
    rbox_sys::process::close_inherited();
}

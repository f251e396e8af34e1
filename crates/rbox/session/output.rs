//! What a program writes, on its way to this command's standard output and error.
//!
//! Whoever reads those may not read for a while. Waiting for them here would keep signals and the terminal's size waiting
//! too, so only what is taken at once is written, and the rest when poll(2) says so.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rbox_engine::session::{PollFd, PollFlags, Stream, is_file, poll, write_fd};

use crate::command::error::Coded;
use crate::output::table;

/// A pipe that poll(2) calls ready takes this many bytes without waiting (`PIPE_BUF`).
const AT_ONCE: usize = 4096;

/// Which of a program's streams this command shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
}

impl Shown {
    pub(crate) const ALL: Self = Self { stdout: true, stderr: true };
    pub(crate) const NONE: Self = Self { stdout: false, stderr: false };
}

/// Where output goes.
pub(crate) struct Output {
    shown: Shown,
    stdout: io::Stdout,
    stderr: io::Stderr,
    /// What was not taken yet.
    rest: Vec<u8>,
    of: Stream,
}

impl Output {
    pub(crate) fn new(shown: Shown) -> Self {
        Self { shown, stdout: io::stdout(), stderr: io::stderr(), rest: Vec::new(), of: Stream::Stdout }
    }

    /// Whether nothing more can be written now.
    pub(crate) fn is_blocked(&self) -> bool {
        !self.rest.is_empty()
    }

    /// What to wait for when it is.
    pub(crate) fn poll_fd(&self) -> PollFd<'_> {
        PollFd::from_borrowed_fd(self.fd(), PollFlags::OUT)
    }

    fn fd(&self) -> BorrowedFd<'_> {
        if self.of == Stream::Stdout { self.stdout.as_fd() } else { self.stderr.as_fd() }
    }

    /// Writes output of a program. To be called only when it is not blocked.
    pub(crate) fn write(&mut self, of: Stream, bytes: &[u8]) -> anyhow::Result<()> {
        let shown = if of == Stream::Stdout { self.shown.stdout } else { self.shown.stderr };
        if !shown {
            return Ok(());
        }
        self.of = of;
        let taken = self.try_write(bytes)?;
        self.rest.extend_from_slice(&bytes[taken..]);
        Ok(())
    }

    /// Writes on with what was not taken.
    pub(crate) fn go_on(&mut self) -> anyhow::Result<()> {
        let rest = std::mem::take(&mut self.rest);
        let taken = self.try_write(&rest)?;
        self.rest.extend_from_slice(&rest[taken..]);
        Ok(())
    }

    /// Writes what is taken at once: how much that was. A reader that went away ends this command as SIGPIPE ends others.
    fn try_write(&self, bytes: &[u8]) -> anyhow::Result<usize> {
        let step = if is_file(self.fd()) { bytes.len().max(1) } else { AT_ONCE };
        let mut taken = 0;
        while taken < bytes.len() {
            let mut ready = [self.poll_fd()];
            poll(&mut ready, Some(Duration::ZERO));
            if ready[0].revents().is_empty() {
                break;
            }
            match write_fd(self.fd(), &bytes[taken..bytes.len().min(taken + step)]) {
                Ok(length) => taken += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    return Err(Coded { message: String::new(), code: 141 }.into());
                }
                Err(error) => {
                    let name = if self.of == Stream::Stdout { table::STDOUT } else { table::STDERR };
                    return Err(table::unwritten(name, &error).into());
                }
            }
        }
        Ok(taken)
    }
}

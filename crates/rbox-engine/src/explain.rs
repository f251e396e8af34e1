//! `--explain`: the sink of the trace, for a command line.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};

use rbox_sys::process::{self, Side};
use rbox_sys::{channel, trace, waiting};

use crate::error::EngineError;

/// How long it is waited for a reader that does not read.
const SLOWEST: Duration = Duration::from_secs(5);
/// The longest event that a reader takes, in bytes.
const LONGEST: usize = 128 << 10;
/// Says that nothing more is told: a message that is no event.
const END: &[u8] = b"end";

/// Tells every step and call from here on, of this process and of those it makes, on what standard error is now.
///
/// # Errors
/// Standard error is closed.
pub fn to_stderr() -> io::Result<()> {
    trace::enable(trace::Sink::Stream(io::stderr().as_fd().try_clone_to_owned()?));
    Ok(())
}

/// The same into a file.
pub fn to_file(file: OwnedFd) {
    trace::enable(trace::Sink::Stream(file));
}

/// A process that shows what is told.
#[derive(Debug)]
pub struct Reader {
    socket: OwnedFd,
    pidfd: OwnedFd,
}

/// Tells every step and call from here on, of this process and of those it makes, to a child, which `show`s them. Each is what `--explain=json` has in
/// a line. `out` is the child's standard error, in place of ours.
///
/// # Errors
/// The child cannot be made.
pub fn to_reader(
    out: Option<&OwnedFd>,
    show: impl FnOnce(&mut dyn Iterator<Item = Vec<u8>>),
) -> Result<Reader, EngineError> {
    let (ours, theirs) = channel::pair()?;
    match process::fork()? {
        Side::Child => {
            drop(ours);
            // It ends with what it reads from, so that all is shown that was done; and it keeps nothing open but what it prints on.
            process::block_signals();
            if let Some(out) = out {
                let _ = rustix::stdio::dup2_stderr(out);
            }
            process::close_all_but(&[theirs.as_fd()]);
            if let Ok(null) = std::fs::File::options().read(true).write(true).open("/dev/null") {
                let _ = rustix::stdio::dup2_stdin(&null);
                let _ = rustix::stdio::dup2_stdout(&null);
            }
            let mut buffer = vec![0; LONGEST];
            show(&mut std::iter::from_fn(|| {
                let (length, _) = channel::receive(&theirs, &mut buffer).ok()?;
                buffer.get(..length).filter(|told| !told.is_empty() && *told != END).map(<[u8]>::to_vec)
            }));
            process::exit_now(0)
        }
        Side::Parent(pid) => {
            let pidfd = process::pidfd_open(pid)?;
            // One that stands still, such as a terminal that was stopped, ends the telling after a while.
            set_socket_timeout(&ours, Timeout::Send, Some(SLOWEST))
                .map_err(|errno| EngineError::file("set up", "the reader's socket")(errno.into()))?;
            let told = ours.try_clone().map_err(EngineError::file("open", "the reader's socket"))?;
            trace::enable(trace::Sink::Messages(told));
            Ok(Reader { socket: ours, pidfd })
        }
    }
}

/// Nothing more is told on standard error.
pub fn end() {
    trace::disable();
}

impl Reader {
    /// Nothing more is told; comes back when all is shown, or when that takes too long.
    pub fn end(self) {
        trace::disable();
        let _ = channel::send(&self.socket, END, None);
        drop(self.socket);
        let _ = waiting::reap(self.pidfd.as_fd(), waiting::GONE);
    }
}

/// Whether this process may make containers.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The first thing a command does: gives up every descriptor but the three standard streams. One left open by a
/// caller's accident (a shell's lock file, a CI runner's pipe) would stay open in the monitor for the container's life.
/// Those that the command line or one of rbox's variables names, as a shell does for `--env-file <(…)`, and those of `--preserve-fds` stay until
/// [`close_kept`](rbox_sys::process::close_kept).
pub fn begin() {
    use std::os::unix::ffi::OsStrExt as _;
    let mut named = Vec::new();
    let mut words = std::env::args_os().peekable();
    while let Some(word) = words.next() {
        descriptors_in(word.as_bytes(), &mut named);
        let count = match word.as_bytes().strip_prefix(b"--preserve-fds") {
            Some(b"") => words.peek().and_then(|word| word.to_str()?.parse::<u32>().ok()),
            Some(value) => {
                value.strip_prefix(b"=").and_then(|text| std::str::from_utf8(text).ok()?.parse().ok())
            }
            None => None,
        };
        named.extend(count.into_iter().flat_map(|count| 3..3 + count.min(rbox_sys::passed::MOST)));
    }
    rbox_sys::process::each_variable(|variable| {
        if variable.starts_with(b"RBOX_") {
            descriptors_in(variable, &mut named);
        }
    });
    rbox_sys::process::close_inherited(named);
}

/// The numbers behind `/fd/` in a word: /dev/fd/63, /proc/self/fd/63.
fn descriptors_in(word: &[u8], found: &mut Vec<u32>) {
    let mut rest = word;
    while let Some(at) = rest.windows(4).position(|part| part == b"/fd/") {
        rest = &rest[at + 4..];
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let number = std::str::from_utf8(&rest[..digits]).ok().and_then(|text| text.parse::<i32>().ok());
        found.extend(number.and_then(|number| u32::try_from(number).ok()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_found_wherever_they_are_named() {
        let mut found = Vec::new();
        for word in [
            &b"--env-file=/dev/fd/63"[..],
            b"/proc/self/fd/4:/dev/fd/5,x",
            b"/fd/",
            b"/fd/x",
            b"/dev/fd/99999999999",
        ] {
            descriptors_in(word, &mut found);
        }
        assert_eq!(found, [63, 4, 5]);
    }
}

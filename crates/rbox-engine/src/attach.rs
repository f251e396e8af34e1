//! What a command needs to sit between a terminal and a container: messages, terminals, signals.
//!
//! Thin names over system calls, so that the command line needs no crate of its own for them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd as NixSignalFd};
use rbox_sys::channel;
use rustix::termios::{OptionalActions, Winsize};

pub use crate::logs::Stream;
pub use crate::protocol::{FromMonitor, ToMonitor};
pub use rustix::event::{PollFd, PollFlags};
pub use rustix::termios::Termios;

/// Sends one packet.
pub fn send_message(socket: impl AsFd, packet: &[u8]) -> io::Result<()> {
    channel::send(socket, packet, None).map_err(|e| io::Error::from_raw_os_error(e.errno as i32))
}

/// Receives one packet; 0 is the end.
pub fn receive_message(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    channel::receive(socket, buffer)
        .map(|(length, _)| length)
        .map_err(|e| io::Error::from_raw_os_error(e.errno as i32))
}

/// Reads some bytes.
pub fn read_fd(fd: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    Ok(rustix::io::read(fd, buffer)?)
}

/// Writes some bytes.
pub fn write_fd(fd: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    Ok(rustix::io::write(fd, bytes)?)
}

/// Waits until one of these is ready. Interruptions are as good as readiness.
pub fn poll(fds: &mut [PollFd<'_>]) {
    let _ = rustix::event::poll(fds, None);
}

/// Makes reads and writes return at once.
pub fn unblock(fd: impl AsFd) -> io::Result<()> {
    Ok(rustix::io::ioctl_fionbio(fd, true)?)
}

/// Rows and columns of a terminal; none for anything else.
pub fn terminal_size(fd: impl AsFd) -> Option<(u16, u16)> {
    rustix::termios::tcgetwinsize(fd)
        .ok()
        .map(|size| (size.ws_row, size.ws_col))
        .filter(|size| *size != (0, 0))
}

/// Gives a terminal this size.
pub fn set_terminal_size(fd: impl AsFd, rows: u16, columns: u16) {
    let _ = rustix::termios::tcsetwinsize(
        fd,
        Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 },
    );
}

/// Puts a terminal into raw mode: what is typed goes through as it is. Gives the settings before; none for
/// anything that is no terminal.
pub fn terminal_raw(fd: impl AsFd) -> Option<Termios> {
    let before = rustix::termios::tcgetattr(&fd).ok()?;
    let mut raw = before.clone();
    raw.make_raw();
    rustix::termios::tcsetattr(&fd, OptionalActions::Drain, &raw).ok()?;
    Some(before)
}

/// Puts a terminal's settings back.
pub fn set_terminal(fd: impl AsFd, settings: &Termios) {
    let _ = rustix::termios::tcsetattr(fd, OptionalActions::Drain, settings);
}

/// Signals of this process as something to poll.
#[derive(Debug)]
pub struct SignalFd(NixSignalFd);

impl SignalFd {
    /// Takes SIGWINCH, and with `all` every signal that may be passed on, from now on. None when the kernel refuses.
    pub fn new(all: bool) -> Option<Self> {
        let mut set = if all { SigSet::all() } else { SigSet::empty() };
        set.add(Signal::SIGWINCH);
        for keep in [
            Signal::SIGCHLD,
            Signal::SIGPIPE,
            Signal::SIGSEGV,
            Signal::SIGBUS,
            Signal::SIGILL,
            Signal::SIGFPE,
            Signal::SIGABRT,
            Signal::SIGTRAP,
            Signal::SIGSYS,
            Signal::SIGTSTP,
            Signal::SIGTTIN,
            Signal::SIGTTOU,
            Signal::SIGURG,
        ] {
            set.remove(keep);
        }
        set.thread_block().ok()?;
        NixSignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).ok().map(Self)
    }

    /// The next signal that came, by its number.
    pub fn next(&self) -> Option<i32> {
        self.0.read_signal().ok().flatten().map(|info| info.ssi_signo as i32)
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The three standard streams of this process, for a program that is to have them.
pub fn own_streams(with_input: bool) -> io::Result<[OwnedFd; 3]> {
    let input: OwnedFd = if with_input {
        io::stdin().as_fd().try_clone_to_owned()?
    } else {
        std::fs::File::open("/dev/null")?.into()
    };
    Ok([input, io::stdout().as_fd().try_clone_to_owned()?, io::stderr().as_fd().try_clone_to_owned()?])
}

/// Streams that lead nowhere, for a program that runs by itself.
pub fn null_streams() -> io::Result<[OwnedFd; 3]> {
    let null: OwnedFd = std::fs::File::options().read(true).write(true).open("/dev/null")?.into();
    Ok([null.try_clone()?, null.try_clone()?, null])
}

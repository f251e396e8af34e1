//! What a command needs to sit between a terminal and a container: messages, terminals, signals.
//!
//! Thin names over system calls, so that the command line needs no crate of its own for them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd as NixSignalFd};
use rbox_sys::channel;
use rustix::event::Timespec;
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Winsize};

use crate::monitor::reaper::FAULTS;

pub use crate::logs::Stream;
pub use crate::monitor::protocol::{CHUNK, FromMonitor, ToMonitor};
pub use crate::monitor::reaper::{Reaper, wait_any};
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

/// Sends a signal to a process.
///
/// # Errors
/// Of kill(2).
pub fn send_signal(pid: i32, signal: i32) -> io::Result<()> {
    let signal = Signal::try_from(signal).map_err(|errno| io::Error::from_raw_os_error(errno as i32))?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal)
        .map_err(|errno| io::Error::from_raw_os_error(errno as i32))
}

/// The sockets that listen in this process's network namespace: `80/tcp on 0.0.0.0`.
pub fn listening() -> Vec<String> {
    let all = crate::networks::sockets::sockets("self");
    all.iter().map(|one| format!("{}/{} on {}", one.port, one.protocol, one.address)).collect()
}

/// Reads some bytes.
pub fn read_fd(fd: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    Ok(rustix::io::read(fd, buffer)?)
}

/// Writes some bytes.
pub fn write_fd(fd: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    Ok(rustix::io::write(fd, bytes)?)
}

/// Waits until one of these is ready, or the time is over. Interruptions are as good as readiness.
pub fn poll(fds: &mut [PollFd<'_>], limit: Option<Duration>) {
    let limit = limit
        .map(|limit| Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: i64::from(limit.subsec_nanos()) });
    let _ = rustix::event::poll(fds, limit.as_ref());
}

/// Whether this is a file, which takes whatever is written at once.
pub fn is_file(fd: impl AsFd) -> bool {
    rustix::fs::fstat(fd).is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file())
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

/// Lets a terminal show nothing of what is typed, but the end of the line. Gives the settings before; none for anything that is no
/// terminal.
pub fn terminal_without_echo(fd: impl AsFd) -> Option<Termios> {
    let before = rustix::termios::tcgetattr(&fd).ok()?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    rustix::termios::tcsetattr(&fd, OptionalActions::Drain, &silent).ok()?;
    Some(before)
}

/// Lets a terminal give each key at once, and show nothing of it; those that send signals do so. Gives the settings before; none for
/// anything that is no terminal.
pub fn terminal_by_key(fd: impl AsFd) -> Option<Termios> {
    let before = rustix::termios::tcgetattr(&fd).ok()?;
    let mut by_key = before.clone();
    by_key.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON);
    by_key.special_codes[SpecialCodeIndex::VMIN] = 1;
    by_key.special_codes[SpecialCodeIndex::VTIME] = 0;
    rustix::termios::tcsetattr(&fd, OptionalActions::Drain, &by_key).ok()?;
    Some(before)
}

/// Whether this process is one that a terminal listens to: another one is stopped when it changes the terminal's settings.
pub fn is_in_foreground(fd: impl AsFd) -> bool {
    rustix::termios::tcgetpgrp(fd).is_ok_and(|group| group == rustix::process::getpgrp())
}

/// The standard input, which is open as long as this process.
pub fn stdin_fd() -> BorrowedFd<'static> {
    rustix::stdio::stdin()
}

/// Puts a terminal's settings back.
pub fn set_terminal(fd: impl AsFd, settings: &Termios) {
    let _ = rustix::termios::tcsetattr(fd, OptionalActions::Drain, settings);
}

/// Signals of this process as something to poll.
#[derive(Debug)]
pub struct SignalFd(NixSignalFd);

/// Which signals a [`SignalFd`] takes, beside SIGWINCH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Every signal that may be passed on.
    All,
    /// Those that ask this process to end. Not those that it was started to ignore, as nohup(1) does.
    Ending,
}

impl SignalFd {
    /// Takes these signals from now on. None when the kernel refuses.
    pub fn new(taken: Taken) -> Option<Self> {
        let mut set = if taken == Taken::All { SigSet::all() } else { SigSet::empty() };
        set.add(Signal::SIGWINCH);
        if taken == Taken::Ending {
            let ignored = ignored_signals();
            for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT] {
                if ignored & (1 << (signal as i32 - 1)) == 0 {
                    set.add(signal);
                }
            }
        }
        let not_passed_on = [
            Signal::SIGCHLD,
            Signal::SIGPIPE,
            Signal::SIGTSTP,
            Signal::SIGTTIN,
            Signal::SIGTTOU,
            Signal::SIGURG,
        ];
        for signal in not_passed_on.into_iter().chain(FAULTS) {
            set.remove(signal);
        }
        set.thread_block().ok()?;
        NixSignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).ok().map(Self)
    }

    /// Gives the signals back to what they do without this.
    pub fn let_go(self) {
        let _ = SigSet::empty().thread_set_mask();
    }

    /// Whether a signal came that asks this process to end: one that says no more than that the terminal has another size does not.
    pub fn asks_to_end(&self) -> bool {
        while let Some(signal) = self.next() {
            if signal != Signal::SIGWINCH as i32 {
                return true;
            }
        }
        false
    }

    /// The next signal that came, by its number.
    pub fn next(&self) -> Option<i32> {
        self.0.read_signal().ok().flatten().map(|info| info.ssi_signo as i32)
    }
}

/// Lets this process, which is in the background of its terminal, write to it also where that stops others (`stty tostop`).
pub fn write_from_background() {
    let mut set = SigSet::empty();
    set.add(Signal::SIGTTOU);
    // Without it what such a terminal shows waits until this process is in its foreground.
    let _ = set.thread_block();
}

/// A bit for each signal that this process ignores: a blocked one would come all the same.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let set = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(0)
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

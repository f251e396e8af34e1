//! The terminal's side of an attached container: input to it, output from it, sizes and signals.
//!
//! One thread around one poll(2). Nothing here blocks, so a program that reads slowly and writes much cannot bring both
//! sides to wait for each other, and signals are heard while nobody reads the output.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

use rbox_engine::session::{
    PollFd, PollFlags, SignalFd, Taken, Termios, ToMonitor, poll, read_fd, set_terminal, terminal_raw,
    terminal_size,
};

use crate::command::error::{BadInput, Coded};
use crate::session::output::{Output, Shown};
use crate::session::peers::{Ended, Peer};

/// What is attached to what.
pub(crate) struct Attachment<'a> {
    /// Standard input is sent.
    pub(crate) input: bool,
    /// What is shown of its output.
    pub(crate) shown: Shown,
    /// The program has a terminal.
    pub(crate) tty: bool,
    /// The keys that detach.
    pub(crate) detach_keys: &'a [u8],
    /// Passes a signal on to the program; with none, one that asks for an end ends this command only.
    pub(crate) proxy: Option<&'a dyn Fn(i32)>,
}

/// Ctrl-P Ctrl-Q.
pub(crate) const DEFAULT_DETACH_KEYS: &str = "ctrl-p,ctrl-q";

/// Reads `--detach-keys`: letters and `ctrl-X`, separated by commas.
pub(crate) fn parse_detach_keys(text: &str) -> anyhow::Result<Vec<u8>> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    text.split(',')
        .map(|key| {
            let bad = || BadInput(format!("invalid detach keys ({text}): Unknown character: '{key}'"));
            match key.strip_prefix("ctrl-").map(str::as_bytes) {
                None => match key.as_bytes() {
                    [byte] if byte.is_ascii() => Ok(*byte),
                    _ => Err(bad().into()),
                },
                Some([letter @ b'a'..=b'z']) => Ok(letter - b'a' + 1),
                Some([symbol @ (b'@' | b'[' | b'\\' | b']' | b'^' | b'_')]) => Ok(symbol & 0x1f),
                Some(_) => Err(bad().into()),
            }
        })
        .collect()
}

/// The size of the terminal on standard output or input: rows, columns.
pub(crate) fn size() -> Option<(u16, u16)> {
    terminal_size(io::stdout()).or_else(|| terminal_size(io::stdin()))
}

/// Whether somebody looks at it.
pub(crate) fn has_terminal() -> bool {
    io::stdout().is_terminal() || io::stdin().is_terminal()
}

/// Docker's refusal of `-it` where there is no terminal.
pub(crate) fn require_terminal(input: bool, tty: bool) -> anyhow::Result<()> {
    if input && tty && !io::stdin().is_terminal() {
        let message = "the input device is not a TTY: run without -t, or from a terminal".to_owned();
        return Err(Coded { message, code: 1 }.into());
    }
    Ok(())
}

/// Puts the terminal back when dropped.
struct RawMode(Option<Termios>);

impl RawMode {
    fn enter() -> Self {
        Self(terminal_raw(io::stdin()))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            set_terminal(io::stdin(), before);
        }
    }
}

/// Finds the detach keys in what is typed, across reads.
struct DetachKeys<'a> {
    keys: &'a [u8],
    matched: usize,
}

impl DetachKeys<'_> {
    /// The bytes to pass on, and whether the keys were completed.
    fn filter(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        if self.keys.is_empty() {
            return (typed.to_vec(), false);
        }
        let mut pass = Vec::with_capacity(typed.len());
        for byte in typed {
            if *byte == self.keys[self.matched] {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    return (pass, true);
                }
                continue;
            }
            // What looked like the keys was input after all.
            pass.extend_from_slice(&self.keys[..self.matched]);
            self.matched = 0;
            if *byte == self.keys[0] {
                self.matched = 1;
            } else {
                pass.push(*byte);
            }
        }
        (pass, false)
    }
}

struct Session<'a, P> {
    attachment: Attachment<'a>,
    peer: &'a mut P,
    keys: DetachKeys<'a>,
    signals: Option<SignalFd>,
    output: Output,
    input_open: bool,
    interrupts: u32,
    /// The program was told that its user's terminal is gone.
    hung_up: bool,
}

const SIGHUP: i32 = 1;
const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;
const SIGWINCH: i32 = 28;

/// Carries input, output, sizes and signals until the program ends, the user detaches, or the other side is gone.
pub(crate) fn run<P: Peer>(peer: &mut P, attachment: Attachment<'_>) -> anyhow::Result<Ended> {
    // Before the terminal is changed: from here on no signal ends this command without putting it back.
    let taken = if attachment.proxy.is_some() { Taken::All } else { Taken::Ending };
    let signals = SignalFd::new(taken);
    let _raw = (attachment.tty && attachment.input).then(RawMode::enter);
    let mut session = Session {
        peer,
        keys: DetachKeys { keys: if attachment.tty { attachment.detach_keys } else { &[] }, matched: 0 },
        signals,
        output: Output::new(attachment.shown),
        input_open: attachment.input,
        interrupts: 0,
        hung_up: false,
        attachment,
    };
    loop {
        if let Some(ended) = session.turn()? {
            return Ok(ended);
        }
    }
}

impl<P: Peer> Session<'_, P> {
    fn turn(&mut self) -> anyhow::Result<Option<Ended>> {
        let stdin = io::stdin();
        let blocked = self.output.is_blocked();
        let wants_input = self.input_open && !self.peer.has_unsent();
        let mut fds = Vec::with_capacity(8);
        self.peer.poll_fds(!blocked, &mut fds);
        let of_peer = fds.len();
        if let Some(signals) = &self.signals {
            fds.push(PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN));
        }
        let of_signals = fds.len();
        if wants_input {
            fds.push(PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN));
        }
        let of_input = fds.len();
        if blocked {
            fds.push(self.output.poll_fd());
        }
        poll(&mut fds, if blocked { None } else { self.peer.timeout() });
        let ready: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
        drop(fds);
        if ready[of_peer..of_signals].iter().any(|ready| !ready.is_empty()) {
            self.take_signals()?;
        }
        if ready[of_input..].iter().any(|ready| !ready.is_empty()) {
            self.output.go_on()?;
        }
        if let Some(ended) = self.peer.turn(&ready[..of_peer], &mut self.output)? {
            return Ok(Some(ended));
        }
        if ready[of_signals..of_input].iter().any(|ready| !ready.is_empty()) && self.take_input() {
            return Ok(Some(Ended::Detached));
        }
        Ok(None)
    }

    /// Reads what is typed. True when that completed the detach keys.
    fn take_input(&mut self) -> bool {
        let mut typed = [0_u8; 16 * 1024];
        let length = match read_fd(io::stdin(), &mut typed) {
            Ok(length) => length,
            Err(error)
                if error.kind() == io::ErrorKind::WouldBlock
                    || error.kind() == io::ErrorKind::Interrupted =>
            {
                return false;
            }
            Err(_) => 0,
        };
        if length == 0 {
            self.input_open = false;
            self.peer.send(&ToMonitor::EndOfInput);
            if self.attachment.tty {
                // In raw mode no key ends the input: the terminal is gone.
                self.hang_up();
            }
            return false;
        }
        let (pass, detach) = self.keys.filter(&typed[..length]);
        if !pass.is_empty() {
            self.peer.send(&ToMonitor::Input(&pass));
        }
        detach
    }

    /// Tells the program that its user's terminal is gone, once.
    fn hang_up(&mut self) {
        if let (Some(proxy), false) = (self.attachment.proxy, self.hung_up) {
            self.hung_up = true;
            proxy(SIGHUP);
        }
    }

    fn take_signals(&mut self) -> anyhow::Result<()> {
        while let Some(signal) = self.signals.as_ref().and_then(SignalFd::next) {
            if signal == SIGWINCH {
                if let (true, Some((rows, columns))) = (self.attachment.tty, size()) {
                    self.peer.send(&ToMonitor::Resize(rows, columns));
                }
                continue;
            }
            let Some(proxy) = self.attachment.proxy else {
                let code = u8::try_from(128 + signal).unwrap_or(255);
                return Err(Coded { message: String::new(), code }.into());
            };
            if signal == SIGHUP {
                self.hang_up();
            } else {
                proxy(signal);
            }
            if signal == SIGINT || signal == SIGTERM {
                self.interrupts += 1;
                if self.interrupts >= 3 {
                    let message = "got 3 SIGTERM/SIGINTs, forcefully exiting; the container goes on (rbox stop ends it)".to_owned();
                    return Err(Coded { message, code: 1 }.into());
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_across_reads_and_given_back_when_broken_off() {
        let keys = parse_detach_keys(DEFAULT_DETACH_KEYS).unwrap();
        assert_eq!(keys, [16, 17]);
        let mut detach = DetachKeys { keys: &keys, matched: 0 };
        assert_eq!(detach.filter(b"ab\x10"), (b"ab".to_vec(), false));
        assert_eq!(detach.filter(b"c"), (b"\x10c".to_vec(), false));
        assert_eq!(detach.filter(b"\x10\x10"), (b"\x10".to_vec(), false));
        assert_eq!(detach.filter(b"\x11rest"), (Vec::new(), true));
    }

    #[test]
    fn bad_keys_are_refused() {
        for bad in ["ctrl-", "ctrl-1", "ab", "ctrl-p,", "é"] {
            assert!(parse_detach_keys(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_detach_keys("a,ctrl-[").unwrap(), [b'a', 27]);
    }
}

//! The terminal's side of an attached container: input to it, output from it, sizes and signals.
//!
//! One thread around one poll(2). Nothing here blocks but the writing of output, so a program that reads slowly
//! and writes much cannot bring both sides to wait for each other.

use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::Context;
use rbox_engine::attach::{FromMonitor, Stream, ToMonitor, receive_message, send_message};
use rbox_engine::attach::{
    PollFd, PollFlags, SignalFd, Termios, poll, read_fd, set_terminal, terminal_raw, terminal_size,
};

use crate::cli::{BadInput, Coded};

/// How an attachment ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The program ended with this code.
    Exit(i32),
    /// The user typed the detach keys.
    Detached,
    /// The other side is gone without telling an exit.
    Lost,
}

/// What is attached to what.
pub(crate) struct Attachment<'a> {
    /// The monitor's socket, or the master side of exec's terminal.
    pub(crate) peer: Peer,
    /// Standard input is sent.
    pub(crate) input: bool,
    /// The program has a terminal.
    pub(crate) tty: bool,
    /// The keys that detach.
    pub(crate) detach_keys: &'a [u8],
    /// Passes a signal on to the program; none to keep signals here.
    pub(crate) proxy: Option<&'a dyn Fn(i32)>,
}

/// The other side.
pub(crate) enum Peer {
    /// A container's monitor.
    Monitor(OwnedFd),
    /// A terminal's master side.
    Master(OwnedFd),
}

impl Peer {
    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Monitor(fd) | Self::Master(fd) => fd.as_fd(),
        }
    }
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

struct Session<'a> {
    attachment: Attachment<'a>,
    keys: DetachKeys<'a>,
    signals: Option<SignalFd>,
    /// A packet the other side has not taken yet.
    pending: Option<Vec<u8>>,
    input_open: bool,
    interrupts: u32,
    buffer: Vec<u8>,
}

/// Carries input, output, sizes and signals until the program ends, the user detaches, or the other side is gone.
pub(crate) fn run(attachment: Attachment<'_>) -> anyhow::Result<Ended> {
    let _raw = (attachment.tty && attachment.input).then(RawMode::enter);
    rbox_engine::attach::unblock(attachment.peer.fd()).context("attach")?;
    let mut session = Session {
        keys: DetachKeys { keys: if attachment.tty { attachment.detach_keys } else { &[] }, matched: 0 },
        signals: SignalFd::new(attachment.proxy.is_some()),
        pending: None,
        input_open: attachment.input,
        interrupts: 0,
        buffer: vec![0; rbox_engine::protocol::CHUNK + 1],
        attachment,
    };
    loop {
        if let Some(ended) = session.turn()? {
            return Ok(ended);
        }
    }
}

impl Session<'_> {
    fn turn(&mut self) -> anyhow::Result<Option<Ended>> {
        let stdin = io::stdin();
        let wants_input = self.input_open && self.pending.is_none();
        let peer_events = if self.pending.is_some() { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        let (peer, input, signal) = {
            let mut fds = vec![PollFd::from_borrowed_fd(self.attachment.peer.fd(), peer_events)];
            if let Some(signals) = &self.signals {
                fds.push(PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN));
            }
            if wants_input {
                fds.push(PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN));
            }
            poll(&mut fds);
            let ready =
                |at: usize| fds.get(at).map_or(PollFlags::empty(), rbox_engine::attach::PollFd::revents);
            let signal_at = 1;
            let input_at = signal_at + usize::from(self.signals.is_some());
            (
                ready(0),
                wants_input && !ready(input_at).is_empty(),
                self.signals.is_some() && !ready(signal_at).is_empty(),
            )
        };
        if signal {
            self.take_signals()?;
        }
        if peer.contains(PollFlags::OUT) {
            self.flush();
        }
        if peer.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR)
            && let Some(ended) = self.take_output()?
        {
            return Ok(Some(ended));
        }
        if input && self.take_input() {
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
            self.send(&ToMonitor::EndOfInput);
            return false;
        }
        let (pass, detach) = self.keys.filter(&typed[..length]);
        if !pass.is_empty() {
            self.send(&ToMonitor::Input(&pass));
        }
        detach
    }

    fn send(&mut self, message: &ToMonitor<'_>) {
        let packet = match (&self.attachment.peer, message) {
            (Peer::Monitor(_), message) => message.encode(),
            (Peer::Master(_), ToMonitor::Input(bytes)) => bytes.to_vec(),
            (Peer::Master(master), ToMonitor::Resize(rows, columns)) => {
                rbox_engine::attach::set_terminal_size(master, *rows, *columns);
                return;
            }
            // A terminal's end of input is a character, which was typed or not; the rest is for monitors.
            (Peer::Master(_), _) => return,
        };
        match &mut self.pending {
            // A size or an end behind waiting input: for the monitor each is a packet of its own, so only one waits.
            Some(_) => {
                self.wait_writable();
                self.flush();
                self.pending = Some(packet);
            }
            None => self.pending = Some(packet),
        }
        self.flush();
    }

    fn wait_writable(&self) {
        poll(&mut [PollFd::from_borrowed_fd(self.attachment.peer.fd(), PollFlags::OUT)]);
    }

    fn flush(&mut self) {
        let Some(packet) = self.pending.take() else { return };
        match &self.attachment.peer {
            Peer::Monitor(socket) => match send_message(socket, &packet) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.pending = Some(packet),
                // A monitor that is gone shows as the end of its socket.
                _ => {}
            },
            Peer::Master(master) => match rbox_engine::attach::write_fd(master, &packet) {
                Ok(length) if length < packet.len() => self.pending = Some(packet[length..].to_vec()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.pending = Some(packet),
                _ => {}
            },
        }
    }

    fn take_output(&mut self) -> anyhow::Result<Option<Ended>> {
        match &self.attachment.peer {
            Peer::Monitor(socket) => {
                let length = match receive_message(socket, &mut self.buffer) {
                    Ok(0) => return Ok(Some(Ended::Lost)),
                    Ok(length) => length,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                    Err(_) => return Ok(Some(Ended::Lost)),
                };
                match FromMonitor::decode(&self.buffer[..length]) {
                    Some(FromMonitor::Output(Stream::Stdout, bytes)) => write_out(io::stdout(), bytes)?,
                    Some(FromMonitor::Output(Stream::Stderr, bytes)) => write_out(io::stderr(), bytes)?,
                    Some(FromMonitor::Exited(code)) => return Ok(Some(Ended::Exit(code))),
                    Some(FromMonitor::Failed(code, message)) => {
                        return Err(Coded { message, code: u8::try_from(code).unwrap_or(125) }.into());
                    }
                    Some(FromMonitor::Started) | None => {}
                }
                Ok(None)
            }
            Peer::Master(master) => match read_fd(master, &mut self.buffer) {
                Ok(length) if length > 0 => {
                    write_out(io::stdout(), &self.buffer[..length])?;
                    Ok(None)
                }
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) =>
                {
                    Ok(None)
                }
                // EIO: the last program closed the terminal.
                _ => Ok(Some(Ended::Lost)),
            },
        }
    }

    fn take_signals(&mut self) -> anyhow::Result<()> {
        const SIGINT: i32 = 2;
        const SIGTERM: i32 = 15;
        const SIGWINCH: i32 = 28;
        while let Some(signal) = self.signals.as_ref().and_then(SignalFd::next) {
            if signal == SIGWINCH {
                if let (true, Some((rows, columns))) = (self.attachment.tty, size()) {
                    self.send(&ToMonitor::Resize(rows, columns));
                }
                continue;
            }
            if let Some(proxy) = self.attachment.proxy {
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

/// Writes and flushes output. A reader that went away ends this command as SIGPIPE ends others.
fn write_out(mut to: impl Write, bytes: &[u8]) -> anyhow::Result<()> {
    match to.write_all(bytes).and_then(|()| to.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            Err(Coded { message: String::new(), code: 141 }.into())
        }
        other => other.context("write output"),
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

//! The other side of a session: a container's monitor, or a process of exec.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rbox_engine::engine::ExecProcess;
use rbox_engine::session::{
    FromMonitor, PollFd, PollFlags, ToMonitor, read_fd, receive_message, send_message, set_terminal_size,
    write_fd,
};

use crate::command::error::Coded;
use crate::session::output::Output;

/// Who a session is with.
pub(crate) trait Peer {
    /// Appends what to wait for, of its output only with `wants_output`.
    fn poll_fds<'a>(&'a self, wants_output: bool, fds: &mut Vec<PollFd<'a>>);
    /// How long to wait at most.
    fn timeout(&self) -> Option<Duration>;
    /// Does what is to be done for the descriptors that were appended last.
    fn turn(&mut self, ready: &[PollFlags], output: &mut Output) -> anyhow::Result<Option<Ended>>;
    /// Sends a message, as soon as it is taken.
    fn send(&mut self, message: &ToMonitor<'_>);
    /// Whether something was not taken yet: then no more input is to be read.
    fn has_unsent(&self) -> bool;
}

fn is_nothing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// A container's monitor.
pub(crate) struct MonitorPeer {
    socket: OwnedFd,
    unsent: VecDeque<Vec<u8>>,
    buffer: Vec<u8>,
}

impl MonitorPeer {
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        rbox_engine::session::unblock(&socket)?;
        Ok(Self { socket, unsent: VecDeque::new(), buffer: vec![0; rbox_engine::session::CHUNK + 1] })
    }

    fn flush(&mut self) {
        while let Some(packet) = self.unsent.front() {
            match send_message(&self.socket, packet) {
                Err(error) if is_nothing(&error) => return,
                Ok(()) => drop(self.unsent.pop_front()),
                // It is gone. What it said last is still to be received, and ends with its exit.
                Err(_) => self.unsent.clear(),
            }
        }
    }
}

impl Peer for MonitorPeer {
    fn poll_fds<'a>(&'a self, wants_output: bool, fds: &mut Vec<PollFd<'a>>) {
        let mut events = if wants_output { PollFlags::IN } else { PollFlags::empty() };
        if self.has_unsent() {
            events |= PollFlags::OUT;
        }
        if !events.is_empty() {
            fds.push(PollFd::new(&self.socket, events));
        }
    }

    fn timeout(&self) -> Option<Duration> {
        None
    }

    fn turn(&mut self, ready: &[PollFlags], output: &mut Output) -> anyhow::Result<Option<Ended>> {
        let ready = ready.first().copied().unwrap_or(PollFlags::empty());
        if ready.contains(PollFlags::OUT) {
            self.flush();
        }
        if output.is_blocked() || !ready.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            // With nobody at the other end, who could take it?
            if ready.intersects(PollFlags::HUP | PollFlags::ERR) {
                self.unsent.clear();
            }
            return Ok(None);
        }
        let length = match receive_message(&self.socket, &mut self.buffer) {
            Ok(0) => return Ok(Some(Ended::Lost)),
            Ok(length) => length,
            Err(error) if is_nothing(&error) => return Ok(None),
            Err(_) => return Ok(Some(Ended::Lost)),
        };
        match FromMonitor::decode(&self.buffer[..length]) {
            Some(FromMonitor::Output(stream, bytes)) => output.write(stream, bytes)?,
            Some(FromMonitor::Exited(code)) => return Ok(Some(Ended::Exit(code))),
            Some(FromMonitor::Failed(code, _, message)) => {
                return Err(Coded { message, code: u8::try_from(code).unwrap_or(125) }.into());
            }
            Some(FromMonitor::CutOff) => return Ok(Some(Ended::CutOff)),
            Some(FromMonitor::Started) | None => {}
        }
        Ok(None)
    }

    fn send(&mut self, message: &ToMonitor<'_>) {
        self.unsent.push_back(message.encode());
        self.flush();
    }

    fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }
}

/// How long output is shown that others write after the process has ended: Docker's time.
const GRACE: Duration = Duration::from_secs(2);

/// A process of exec, with our ends of its streams.
pub(crate) struct ProcessPeer {
    pub(crate) process: ExecProcess,
    tty: bool,
    unsent: VecDeque<u8>,
    no_more_input: bool,
    /// Since it ended: its exit code, and the time until which others may write.
    ended: Option<(i32, Instant)>,
    buffer: Vec<u8>,
}

impl ProcessPeer {
    pub(crate) fn new(process: ExecProcess, tty: bool) -> Self {
        process.hold_up_no_end();
        let buffer = vec![0; rbox_engine::session::CHUNK];
        Self { process, tty, unsent: VecDeque::new(), no_more_input: false, ended: None, buffer }
    }

    /// How it ended, if it has.
    pub(crate) fn exit_code(&self) -> Option<i32> {
        self.ended.map(|(code, _)| code)
    }

    fn flush(&mut self) {
        while let Some(input) = &self.process.ends.input
            && !self.unsent.is_empty()
        {
            match write_fd(input, self.unsent.as_slices().0) {
                Ok(length) => drop(self.unsent.drain(..length)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // It closed its input.
                Err(_) => self.process.ends.input = None,
            }
        }
        self.unsent.clear();
        if self.no_more_input {
            self.process.ends.input = None;
        }
    }

    /// Reads from one of its outputs. False when there was nothing.
    fn read(&mut self, index: usize, output: &mut Output) -> anyhow::Result<bool> {
        let Some((stream, fd)) = self.process.ends.outputs.get(index) else { return Ok(false) };
        match read_fd(fd, &mut self.buffer) {
            Ok(length) if length > 0 => {
                output.write(*stream, &self.buffer[..length])?;
                Ok(true)
            }
            Err(error) if is_nothing(&error) => Ok(false),
            // The end of a pipe; EIO is the end of a terminal.
            _ => {
                self.process.ends.outputs.remove(index);
                Ok(false)
            }
        }
    }
}

impl Peer for ProcessPeer {
    fn poll_fds<'a>(&'a self, wants_output: bool, fds: &mut Vec<PollFd<'a>>) {
        // Once it has ended its descriptor is ready for ever.
        if self.ended.is_none() {
            fds.push(PollFd::from_borrowed_fd(self.process.pidfd(), PollFlags::IN));
        }
        if wants_output {
            fds.extend(self.process.ends.outputs.iter().map(|(_, fd)| PollFd::new(fd, PollFlags::IN)));
        }
        if let Some(input) = self.process.ends.input.as_ref().filter(|_| self.has_unsent()) {
            fds.push(PollFd::new(input, PollFlags::OUT));
        }
    }

    fn timeout(&self) -> Option<Duration> {
        self.ended.map(|(_, until)| until.saturating_duration_since(Instant::now()))
    }

    fn turn(&mut self, ready: &[PollFlags], output: &mut Output) -> anyhow::Result<Option<Ended>> {
        if self.ended.is_none() && ready.first().is_some_and(|ready| !ready.is_empty()) {
            // It is waited for at once, whoever reads its output when: until then the container could not end.
            self.ended = Some((self.process.wait(), Instant::now() + GRACE));
        }
        self.flush();
        if output.is_blocked() {
            // The time runs only while there is somebody to show it to.
            self.ended = self.ended.map(|(code, _)| (code, Instant::now() + GRACE));
            return Ok(None);
        }
        let mut any = false;
        for index in (0..self.process.ends.outputs.len()).rev() {
            if !output.is_blocked() {
                any |= self.read(index, output)?;
            }
        }
        let Some((code, until)) = self.ended else { return Ok(None) };
        // The terminal of a process that led its session is hung up when that ends: nobody writes there any more.
        let over = self.process.ends.outputs.is_empty() || (self.tty && !any) || Instant::now() >= until;
        Ok((over && !output.is_blocked()).then_some(Ended::Exit(code)))
    }

    fn send(&mut self, message: &ToMonitor<'_>) {
        match message {
            ToMonitor::Input(bytes) => self.unsent.extend(*bytes),
            ToMonitor::EndOfInput if !self.tty => self.no_more_input = true,
            ToMonitor::Resize(rows, columns) => {
                if let (true, Some((_, master))) = (self.tty, self.process.ends.outputs.first()) {
                    set_terminal_size(master, *rows, *columns);
                }
            }
            // A terminal's end of input is a character, which was typed or not; the rest is for monitors.
            _ => {}
        }
        self.flush();
    }

    fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }
}

/// How an attachment ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The program ended with this code.
    Exit(i32),
    /// The user typed the detach keys.
    Detached,
    /// The other side is gone without telling an exit.
    Lost,
    /// We did not take output for too long.
    CutOff,
}

//! What all ways to show a build have in common.

use std::collections::VecDeque;
use std::io::IsTerminal as _;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rbox_build::{BuildProgress, Seat};

use crate::command::error::message;
use crate::session::client::{self, Attachment};
use crate::session::peers::MonitorPeer;

/// A way to show a build.
pub(crate) trait Show: BuildProgress {
    /// The build is over: what was held back is shown.
    fn finish(&mut self) {}

    /// The step that failed first. It is told once.
    fn failed(&mut self) -> Option<Failed> {
        None
    }
}

/// A step that failed.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) name: String,
    /// Its last lines.
    pub(crate) tail: Vec<String>,
}

/// A line that is longer is shown as several.
const LONGEST: usize = 64 << 10;
/// How many of its last lines are shown again when a step fails.
const TAIL: usize = 10;

/// What a step's program writes, as lines with the time of each.
#[derive(Debug)]
pub(crate) struct Lines {
    begun: Instant,
    /// The beginning of a line.
    line: Vec<u8>,
    /// The last lines.
    tail: VecDeque<String>,
}

impl Lines {
    pub(crate) fn new() -> Self {
        Self { begun: Instant::now(), line: Vec::new(), tail: VecDeque::new() }
    }

    /// Takes what was written. The lines that are whole by now.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Vec<String> {
        self.line.extend_from_slice(bytes);
        let end = self.line.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        let rest = self.line.split_off(end);
        let whole = std::mem::replace(&mut self.line, rest);
        let mut lines: Vec<String> =
            whole.split_inclusive(|byte| *byte == b'\n').map(|line| self.timed(line)).collect();
        if self.line.len() > LONGEST {
            lines.extend(self.rest());
        }
        lines
    }

    /// What was written without an end of line.
    pub(crate) fn rest(&mut self) -> Option<String> {
        let line = std::mem::take(&mut self.line);
        (!line.is_empty()).then(|| self.timed(&line))
    }

    /// The last lines, with their times.
    pub(crate) fn tail(&self) -> impl Iterator<Item = &str> {
        self.tail.iter().map(String::as_str)
    }

    fn timed(&mut self, line: &[u8]) -> String {
        let text = format!("{:.3} {}", self.begun.elapsed().as_secs_f64(), text_of(line));
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(text.clone());
        text
    }
}

/// A line without its end; of one that was written over with carriage returns, the last.
fn text_of(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end_matches(['\n', '\r']);
    text.rsplit('\r').next().unwrap_or(text).to_owned()
}

/// Where a shell would be used from: this terminal.
pub(crate) fn seat() -> Seat {
    let is_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    Seat { is_terminal, size: client::size().filter(|_| is_terminal) }
}

/// Stays with a shell until its end.
pub(crate) fn attach(socket: OwnedFd, seat: Seat) -> Result<(), String> {
    let attachment = Attachment {
        input: true,
        shown: crate::session::output::Shown::ALL,
        tty: seat.is_terminal,
        detach_keys: &[],
        proxy: None,
    };
    let mut peer = MonitorPeer::new(socket).map_err(|error| error.to_string())?;
    client::run(&mut peer, attachment).map(drop).map_err(|error| message(&error))
}

//! The learner's lines: typed at a terminal, or read from a file or a pipe.

use std::os::fd::AsFd as _;

use rbox_engine::session::{self, PollFd, PollFlags, SignalFd, Taken};

/// Longer lines are nobody's.
const MOST: usize = 64 << 10;
const SIGWINCH: i32 = 28;

/// What came.
pub(crate) enum Input {
    /// A line, without its end.
    Line(String),
    /// There are no more.
    End,
    /// A signal that asks the tour to end.
    Signal(i32),
}

/// Standard input by lines. What is behind a line is left for the command that it is.
#[derive(Default)]
pub(crate) struct Lines {
    read: Vec<u8>,
    ended: bool,
}

impl Lines {
    /// The next line.
    pub(crate) fn next(&mut self) -> Input {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let rest = self.read.split_off(end + 1);
                let line = std::mem::replace(&mut self.read, rest);
                return Input::Line(text(&line));
            }
            if self.ended || self.read.len() > MOST {
                let line = std::mem::take(&mut self.read);
                return if line.is_empty() { Input::End } else { Input::Line(text(&line)) };
            }
            if let Some(signal) = self.fill() {
                return Input::Signal(signal);
            }
        }
    }

    /// Reads more; the signal when one came first.
    fn fill(&mut self) -> Option<i32> {
        // For as long as the question stands: what is started later must not have these signals blocked.
        let signals = SignalFd::new(Taken::Ending);
        let stdin = session::stdin_fd();
        let mut fds = vec![PollFd::from_borrowed_fd(stdin, PollFlags::IN)];
        fds.extend(signals.as_ref().map(|signals| PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)));
        session::poll(&mut fds, None);
        let is_there = !fds[0].revents().is_empty();
        drop(fds);
        let signal = signals.as_ref().and_then(SignalFd::next).filter(|signal| *signal != SIGWINCH);
        if signal.is_none() && is_there {
            let mut bytes = [0; 4096];
            match session::read_fd(stdin, &mut bytes) {
                Ok(length @ 1..) => self.read.extend_from_slice(&bytes[..length]),
                _ => self.ended = true,
            }
        }
        if let Some(signals) = signals {
            signals.let_go();
        }
        signal
    }
}

fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line).trim().to_owned()
}

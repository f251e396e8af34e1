//! Why a file is not a Dockerfile, in BuildKit's words, and the lines that it is about.

use std::fmt::{self, Write as _};

use rbox_spec::Kind;

use super::source::Lines;

/// Why a file is not a Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct DockerfileError {
    /// BuildKit's words, with the line where it has one in them.
    pub message: String,
    /// The lines it is about.
    pub lines: Option<Lines>,
}

impl DockerfileError {
    pub(crate) fn at(lines: Lines, message: impl Into<String>) -> Self {
        Self { message: message.into(), lines: Some(lines) }
    }

    pub(crate) fn of_all(message: impl Into<String>) -> Self {
        Self { message: message.into(), lines: None }
    }

    /// What it means to the caller.
    pub const fn kind(&self) -> Kind {
        Kind::Invalid
    }

    /// The lines it is about with some around them, if there are any. `name` is what the file is called, `text` all of it.
    pub fn excerpt<'a>(&self, name: &'a str, text: &'a str) -> Option<Excerpt<'a>> {
        Excerpt::of(name, text, self.lines?)
    }
}

/// The most characters of a line that an [`Excerpt`] shows.
const WIDEST: usize = 500;

/// Lines of a file with their numbers and some lines around them, those that are meant marked, as BuildKit shows them.
///
/// ```text
/// Dockerfile:2
/// --------------------
///    1 |     FROM busybox
///    2 | >>> FORM scratch
///    3 |     RUN true
/// --------------------
/// ```
#[derive(Clone, Debug)]
pub struct Excerpt<'a> {
    name: &'a str,
    text: &'a str,
    shown: Lines,
    meant: Lines,
}

impl<'a> Excerpt<'a> {
    /// The lines `meant` of `text`, which is the file called `name`. None if the file does not have them.
    pub fn of(name: &'a str, text: &'a str, meant: Lines) -> Option<Self> {
        let count = text.split('\n').count();
        if meant.start == 0 || meant.start > count {
            return None;
        }
        let mut shown = Lines { start: meant.start, end: meant.end.clamp(meant.start, count) };
        // Two more lines around several, four around one; each round takes one at each side, and counts itself.
        let wanted = if shown.start == shown.end { 4 } else { 2 };
        let mut added = 0;
        while added < wanted {
            if shown.start > 1 {
                shown.start -= 1;
                added += 1;
            }
            if shown.end != count {
                shown.end += 1;
                added += 1;
            }
            added += 1;
        }
        Some(Self { name, text, shown, meant })
    }
}

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rule = "-".repeat(20);
        writeln!(f, "{}:{}\n{rule}", self.name, self.meant.start)?;
        let lines = self.text.split('\n').enumerate().skip(self.shown.start - 1);
        for (at, line) in lines.take(self.shown.end - self.shown.start + 1) {
            let meant = (self.meant.start..=self.meant.end.max(self.meant.start)).contains(&(at + 1));
            write!(f, " {:3} | {} ", at + 1, if meant { ">>>" } else { "   " })?;
            // The file is somebody else's: nothing in it may steer a terminal.
            for character in line.trim_end_matches('\r').chars().take(WIDEST) {
                f.write_char(if character.is_control() && character != '\t' {
                    '\u{fffd}'
                } else {
                    character
                })?;
            }
            if line.chars().nth(WIDEST).is_some() {
                f.write_char('…')?;
            }
            f.write_char('\n')?;
        }
        writeln!(f, "{rule}")
    }
}

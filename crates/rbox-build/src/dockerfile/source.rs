//! Places in a file, and words as they were written.

use std::fmt;

/// A range of lines, both ends within it; the first line of a file is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lines {
    /// The first line.
    pub start: usize,
    /// The last line.
    pub end: usize,
}

impl Lines {
    /// One line.
    pub const fn one(line: usize) -> Self {
        Self { start: line, end: line }
    }
}

/// A text with the quotes, escapes and variables that it was written with. What it stands for is known once there is an environment:
/// [`Lexer::word`](crate::expand::Lexer::word).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Word(pub String);

impl Word {
    /// As it was written.
    pub fn as_written(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

//! What a station of the tour is: what is said, what is asked for, and how it is seen that it was done.

use crate::tour::scene::Scene;

/// What was seen: a line that says it, or what is still missing.
pub(crate) type Seen = Result<String, String>;

/// A station.
pub(crate) struct Station {
    /// One word, to begin at it.
    pub(crate) name: &'static str,
    /// Its title.
    pub(crate) title: &'static str,
    /// What it is about.
    pub(crate) intro: &'static str,
    /// Commands that the tour types itself before it begins.
    pub(crate) setup: &'static [&'static str],
    /// A program of the host without which it is left out.
    pub(crate) needs: Option<&'static str>,
    /// What is to be done, in this order.
    pub(crate) tasks: &'static [Task],
    /// Manual pages to read next.
    pub(crate) read: &'static str,
}

/// One thing to do or to find out.
pub(crate) struct Task {
    /// What is wanted.
    pub(crate) wanted: &'static str,
    /// How it is seen.
    pub(crate) kind: Kind,
    /// What it shows, said when it was done.
    pub(crate) then: &'static str,
}

/// What a task wants.
pub(crate) enum Kind {
    /// A command with this effect; this line is one.
    Do {
        /// The line.
        line: &'static str,
        /// Looks whether it had the effect.
        check: fn(&Scene<'_>) -> Seen,
    },
    /// An answer, which is looked up when it is given.
    Ask {
        /// A command that shows it.
        line: &'static str,
        /// The answer.
        answer: fn(&Scene<'_>) -> Seen,
    },
}

impl Kind {
    /// The line that does it, or shows it.
    pub(crate) const fn line(&self) -> &'static str {
        match self {
            Self::Do { line, .. } | Self::Ask { line, .. } => line,
        }
    }
}

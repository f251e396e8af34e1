//! What a build does, for those who show it.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rbox_engine::engine::Stream;

/// A step's number in the order in which steps begin, from 1.
pub type Number = usize;

/// What happens in a build.
#[derive(Debug)]
pub enum BuildEvent<'a> {
    /// A step begins.
    Begun {
        /// Its number.
        number: Number,
        /// What it is: `[build 2/4] RUN make`.
        name: &'a str,
    },
    /// Something about the step, in a line.
    Told {
        /// Its number.
        number: Number,
        /// The line.
        line: &'a str,
    },
    /// Why the step is carried out, although there is a cache.
    NotCached {
        /// Its number.
        number: Number,
        /// The first reason.
        why: &'a str,
    },
    /// Its program wrote something.
    Output {
        /// Its number.
        number: Number,
        /// Where to.
        stream: Stream,
        /// What.
        bytes: &'a [u8],
    },
    /// What it makes was there already.
    Cached {
        /// Its number.
        number: Number,
    },
    /// The step is done.
    Done {
        /// Its number.
        number: Number,
        /// How long it took.
        took: Duration,
    },
    /// The step failed.
    Failed {
        /// Its number.
        number: Number,
        /// Why.
        why: &'a str,
    },
    /// The step was ended because another one failed.
    Canceled {
        /// Its number.
        number: Number,
    },
    /// Something that may be wrong.
    Warning(&'a str),
    /// Nothing but that some time is over, while steps are carried out side by side or a program is silent.
    Tick,
}

impl BuildEvent<'_> {
    /// The same of a step that has another number.
    pub(crate) fn renumbered(self, number_of: impl Fn(Number) -> Number) -> Self {
        match self {
            Self::Begun { number, name } => Self::Begun { number: number_of(number), name },
            Self::Told { number, line } => Self::Told { number: number_of(number), line },
            Self::NotCached { number, why } => Self::NotCached { number: number_of(number), why },
            Self::Output { number, stream, bytes } => {
                Self::Output { number: number_of(number), stream, bytes }
            }
            Self::Cached { number } => Self::Cached { number: number_of(number) },
            Self::Done { number, took } => Self::Done { number: number_of(number), took },
            Self::Failed { number, why } => Self::Failed { number: number_of(number), why },
            Self::Canceled { number } => Self::Canceled { number: number_of(number) },
            other @ (Self::Warning(_) | Self::Tick) => other,
        }
    }

    /// The step that it is the end of.
    pub(crate) const fn ends(&self) -> Option<Number> {
        match self {
            Self::Cached { number }
            | Self::Done { number, .. }
            | Self::Failed { number, .. }
            | Self::Canceled { number } => Some(*number),
            _ => None,
        }
    }
}

/// Where a shell of the user's is used from.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seat {
    /// It is a terminal.
    pub is_terminal: bool,
    /// Its rows and columns.
    pub size: Option<(u16, u16)>,
}

/// Shows a build.
pub trait BuildProgress {
    /// Takes one event.
    fn event(&mut self, event: BuildEvent<'_>);

    /// Where a shell would be used from; none where nobody can use one.
    fn seat(&self) -> Option<Seat> {
        None
    }

    /// Stays with a shell until its end: the socket of its monitor ([`rbox_engine::session`]).
    ///
    /// # Errors
    /// What keeps the user from it, in words.
    fn attach(&mut self, socket: OwnedFd, seat: Seat) -> Result<(), String> {
        let _ = (socket, seat);
        Err("nobody is there to use it".to_owned())
    }
}

//! What a build does, for those who show it.

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
    /// Something that may be wrong.
    Warning(&'a str),
}

/// Shows a build.
pub trait BuildProgress {
    /// Takes one event.
    fn event(&mut self, event: BuildEvent<'_>);
}

//! How many descriptors a process of rbox may have: each published port takes one.

use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

static INHERITED: OnceLock<Rlimit> = OnceLock::new();

/// Lets this process have as many descriptors as it may give itself. What it starts gets the limit of the caller all the
/// same ([`inherited`]).
pub(crate) fn allow_many() {
    INHERITED.get_or_init(|| {
        let before = getrlimit(Resource::Nofile);
        // Refused, there are as many as there were; who wants more is told.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: before.maximum, ..before });
        before
    });
}

/// The limit that the caller had, where this process has raised its own.
pub(crate) fn inherited() -> Option<Rlimit> {
    INHERITED.get().copied()
}

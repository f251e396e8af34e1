//! Layers that are unpacked and are to be put in their places: as many as possible after one sync.
//!
//! A sync writes back all that the filesystem holds dirty, what other layers are just unpacking included, and stops them
//! meanwhile. So finished layers wait for one another, but never for long and never while someone wants them:
//! - A layer keeps its locks until it is in its place. Whoever is about to wait for a lock puts first what this pull has
//!   finished in place, and while one waits, what others finish goes there at once. So no two pulls wait for each other.
//! - What has waited for [`PATIENCE`] goes at the next chunk that any layer receives.
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::error::PullError;
use crate::store::{Finished, Transaction};

/// How long a finished layer waits for others. A pull that is killed unpacks again what was not in its place.
const PATIENCE: Duration = Duration::from_secs(2);

/// The layers of one pull that are finished and not yet in place.
pub(super) struct Batch<'t> {
    pub(super) transaction: &'t Transaction<'t>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Threads of this pull that wait for another's lock.
    waiting: usize,
    finished: Vec<Finished>,
    /// When the first of them was finished.
    since: Option<Instant>,
}

impl State {
    fn take(&mut self) -> Vec<Finished> {
        self.since = None;
        std::mem::take(&mut self.finished)
    }

    fn is_due(&self) -> bool {
        self.since.is_some_and(|since| self.waiting > 0 || since.elapsed() > PATIENCE)
    }
}

impl<'t> Batch<'t> {
    pub(super) fn new(transaction: &'t Transaction<'t>) -> Self {
        Self { transaction, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a finished layer.
    pub(super) fn add(&self, finished: Finished) -> Result<(), PullError> {
        {
            let mut state = self.state();
            state.finished.push(finished);
            state.since.get_or_insert_with(Instant::now);
        }
        self.settle_due()
    }

    /// Puts in place what has waited long enough, or is wanted.
    pub(super) fn settle_due(&self) -> Result<(), PullError> {
        let mut state = self.state();
        let due = if state.is_due() { state.take() } else { Vec::new() };
        drop(state);
        Ok(self.transaction.publish(due)?)
    }

    /// Puts everything in place.
    pub(super) fn settle(&self) -> Result<(), PullError> {
        let finished = self.state().take();
        Ok(self.transaction.publish(finished)?)
    }

    /// Waits for a lock that another layer or another pull has.
    pub(super) fn wait(&self, lock: impl FnOnce() -> Result<(), PullError>) -> Result<(), PullError> {
        self.state().waiting += 1;
        let result = self.settle().and_then(|()| lock());
        self.state().waiting -= 1;
        result
    }
}

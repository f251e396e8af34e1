//! What the steps of one push share: from where it comes, who hears of it, and how often to try.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use rbox_spec::Digest;

use super::error::PushError;
use super::options::PushOptions;
use super::progress::{PushEvent, PushProgress, PushState};
use crate::store::ImageStore;
use crate::transfer::{Transfer, TransferError};

/// All that the steps of one push share.
pub(super) struct Job<'a> {
    pub(super) store: &'a ImageStore,
    pub(super) options: &'a PushOptions,
    pub(super) progress: &'a dyn PushProgress,
    pub(super) abandoned: AtomicBool,
}

impl<'a> Job<'a> {
    pub(super) fn new(
        store: &'a ImageStore,
        options: &'a PushOptions,
        progress: &'a dyn PushProgress,
    ) -> Self {
        Self { store, options, progress, abandoned: AtomicBool::new(false) }
    }

    pub(super) fn tell(&self, diff_id: &Digest, state: PushState<'_>) {
        self.progress.event(PushEvent::Layer { diff_id, state });
    }
}

impl Transfer for Job<'_> {
    type Error = PushError;

    fn attempts(&self) -> u32 {
        self.options.attempts
    }

    fn backoff(&self) -> Duration {
        self.options.backoff
    }

    fn abandoned(&self) -> &AtomicBool {
        &self.abandoned
    }

    fn say(&self, line: &str) {
        self.progress.event(PushEvent::Message(line));
    }
}

impl TransferError for PushError {
    fn abandoned() -> Self {
        Self::Abandoned
    }

    fn is_abandoned(&self) -> bool {
        matches!(self, Self::Abandoned)
    }
}

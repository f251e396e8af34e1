//! What the steps of one pull share: what is pulled, to where, who hears of it, and how often to try.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use rbox_spec::{Digest, Platform, Reference};

use super::error::PullError;
use super::options::PullOptions;
use super::progress::{LayerState, PullEvent, PullProgress};
use crate::media::Descriptor;
use crate::signature::VerifyKeys;
use crate::store::ImageStore;
use crate::transfer::{Transfer, TransferError};

/// All that the steps of one pull share.
pub(super) struct Job<'a> {
    pub(super) store: &'a ImageStore,
    pub(super) reference: &'a Reference,
    pub(super) options: &'a PullOptions,
    pub(super) progress: &'a dyn PullProgress,
    /// What has to have signed the image.
    pub(super) keys: Option<&'a VerifyKeys>,
    pub(super) abandoned: AtomicBool,
}

impl Job<'_> {
    pub(super) fn name(&self) -> String {
        match self.reference.digest() {
            Some(digest) => digest.to_string(),
            None => self.reference.tag().unwrap_or("latest").to_owned(),
        }
    }

    pub(super) fn tell(&self, digest: &Digest, state: LayerState) {
        self.progress.event(PullEvent::Layer { digest, state });
    }

    pub(super) fn platform(&self) -> Platform {
        self.options.platform.clone().unwrap_or_else(Platform::host)
    }

    pub(super) fn check_size(
        &self,
        what: &'static str,
        descriptor: &Descriptor,
        found: u64,
    ) -> Result<(), PullError> {
        if descriptor.size == found { Ok(()) } else { Err(self.size(what, descriptor, found.to_string())) }
    }

    #[allow(clippy::unused_self)] // Beside check_size, which is called the same way.
    pub(super) fn size(&self, what: &'static str, descriptor: &Descriptor, found: String) -> PullError {
        PullError::Size { what, digest: descriptor.digest, want: descriptor.size, found }
    }
}

impl Transfer for Job<'_> {
    type Error = PullError;

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
        self.progress.event(PullEvent::Message(line));
    }
}

impl TransferError for PullError {
    fn abandoned() -> Self {
        Self::Abandoned
    }

    fn is_abandoned(&self) -> bool {
        matches!(self, Self::Abandoned)
    }
}

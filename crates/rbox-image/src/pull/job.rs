//! What the steps of one pull share: what is pulled, to where, who hears of it, and how often to try.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rbox_spec::{Digest, Platform, Reference};

use super::error::{self, PullError};
use super::options::PullOptions;
use super::progress::{LayerState, PullEvent, PullProgress};
use crate::media::Descriptor;
use crate::registry::RegistryError;
use crate::store::ImageStore;

/// All that the steps of one pull share.
pub(super) struct Job<'a> {
    pub(super) store: &'a ImageStore,
    pub(super) reference: &'a Reference,
    pub(super) options: &'a PullOptions,
    pub(super) progress: &'a dyn PullProgress,
    pub(super) abandoned: AtomicBool,
}

impl Job<'_> {
    pub(super) fn name(&self) -> String {
        match self.reference.digest() {
            Some(digest) => digest.to_string(),
            None => self.reference.tag().unwrap_or("latest").to_owned(),
        }
    }

    pub(super) fn say(&self, line: &str) {
        self.progress.event(PullEvent::Message(line));
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

    /// Does something again while that may help.
    pub(super) fn retry<T>(
        &self,
        what: &str,
        mut request: impl FnMut() -> Result<T, RegistryError>,
    ) -> Result<T, PullError> {
        let mut attempt = 1;
        loop {
            match request() {
                Ok(value) => return Ok(value),
                Err(error) if error.is_transient() && attempt < self.options.attempts => {
                    self.pause(what, &error, attempt)?;
                    attempt += 1;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits before the next attempt: as long as the registry asks, or twice as long each time.
    pub(super) fn pause(&self, what: &str, error: &RegistryError, attempt: u32) -> Result<(), PullError> {
        let wait =
            error.retry_after().unwrap_or_else(|| self.options.backoff * 2_u32.pow((attempt - 1).min(6)));
        self.say(&format!("{what}: {}; trying again in {:.1} s", error::one_line(error), wait.as_secs_f64()));
        let mut left = wait;
        while !left.is_zero() {
            if self.abandoned.load(Ordering::Relaxed) {
                return Err(PullError::Abandoned);
            }
            let nap = left.min(Duration::from_millis(100));
            std::thread::sleep(nap);
            left -= nap;
        }
        Ok(())
    }
}

//! What the steps of one push share: what is pushed, from where, who hears of it, and how often to try.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rbox_spec::Digest;

use super::error::PushError;
use super::options::PushOptions;
use super::progress::{PushEvent, PushProgress, PushState};
use crate::registry::RegistryError;
use crate::store::{Image, ImageStore};

/// All that the steps of one push share.
pub(super) struct Job<'a> {
    pub(super) store: &'a ImageStore,
    pub(super) image: &'a Image,
    pub(super) options: &'a PushOptions,
    pub(super) progress: &'a dyn PushProgress,
    pub(super) abandoned: AtomicBool,
}

impl Job<'_> {
    pub(super) fn tell(&self, diff_id: &Digest, state: PushState<'_>) {
        self.progress.event(PushEvent::Layer { diff_id, state });
    }

    /// Does something again while that may help.
    pub(super) fn retry<T>(
        &self,
        what: &str,
        mut request: impl FnMut() -> Result<T, RegistryError>,
    ) -> Result<T, PushError> {
        let mut attempt = 1;
        loop {
            match request() {
                Err(error) if error.is_transient() && attempt < self.options.attempts => {
                    self.pause(what, &error, attempt)?;
                    attempt += 1;
                }
                other => return Ok(other?),
            }
        }
    }

    /// Waits before the next attempt: as long as the registry asks, or twice as long each time.
    pub(super) fn pause(&self, what: &str, error: &RegistryError, attempt: u32) -> Result<(), PushError> {
        let doubled = self.options.backoff * 2_u32.pow(attempt.saturating_sub(1).min(6));
        let wait = error.retry_after().unwrap_or(doubled);
        let why = rbox_rootfs::plain(error);
        let line = format!("{what}: {why}; trying again in {:.1} s", wait.as_secs_f64());
        self.progress.event(PushEvent::Message(&line));
        let mut left = wait;
        while !left.is_zero() {
            if self.abandoned.load(Ordering::Relaxed) {
                return Err(PushError::Abandoned);
            }
            let nap = left.min(Duration::from_millis(100));
            std::thread::sleep(nap);
            left -= nap;
        }
        Ok(())
    }
}

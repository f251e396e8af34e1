//! What pulling and pushing have in common: trying again, and several layers at once.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::registry::RegistryError;

/// How a transfer fails.
pub(crate) trait TransferError: From<RegistryError> + Send {
    /// Another part of it had failed, so this one was given up.
    fn abandoned() -> Self;

    /// Whether it is that.
    fn is_abandoned(&self) -> bool;
}

/// A pull or a push under way.
pub(crate) trait Transfer: Sync {
    /// How it fails.
    type Error: TransferError;

    /// How often each request is tried.
    fn attempts(&self) -> u32;

    /// The wait before the second attempt.
    fn backoff(&self) -> Duration;

    /// Whether a part of it has failed: the others need not go on.
    fn abandoned(&self) -> &AtomicBool;

    /// Tells a line to who watches.
    fn say(&self, line: &str);

    /// Does something again while that may help.
    fn retry<T>(
        &self,
        what: &str,
        mut request: impl FnMut() -> Result<T, RegistryError>,
    ) -> Result<T, Self::Error> {
        let mut attempt = 1;
        loop {
            match request() {
                Err(error) if error.is_transient() && attempt < self.attempts() => {
                    self.pause(what, &error, attempt)?;
                    attempt += 1;
                }
                other => return Ok(other?),
            }
        }
    }

    /// Waits before the attempt after this one: as long as the registry asks, or twice as long each time.
    fn pause(&self, what: &str, error: &RegistryError, attempt: u32) -> Result<(), Self::Error> {
        let doubled = || self.backoff() * 2_u32.pow(attempt.saturating_sub(1).min(6));
        let wait = error.retry_after().unwrap_or_else(doubled);
        self.say(&format!("{what}: {}; trying again in {:.1} s", one_line(error), wait.as_secs_f64()));
        let mut left = wait;
        while !left.is_zero() {
            self.check_abandoned()?;
            let nap = left.min(Duration::from_millis(100));
            std::thread::sleep(nap);
            left -= nap;
        }
        Ok(())
    }

    /// Ends this part when another has failed.
    fn check_abandoned(&self) -> Result<(), Self::Error> {
        if self.abandoned().load(Ordering::Relaxed) { Err(Self::Error::abandoned()) } else { Ok(()) }
    }

    /// Does `work` for each of `queue`, `parallel` at once, on threads that have ended when this returns. The first failure ends all.
    fn several<T: Sync>(
        &self,
        queue: &[T],
        parallel: usize,
        work: impl Fn(&T) -> Result<(), Self::Error> + Sync,
    ) -> Result<(), Self::Error> {
        let next = AtomicUsize::new(0);
        let failure: Mutex<Option<Self::Error>> = Mutex::new(None);
        let one_after_another = || {
            while let Some(part) = queue.get(next.fetch_add(1, Ordering::Relaxed)) {
                let Err(error) = work(part) else { continue };
                self.abandoned().store(true, Ordering::Relaxed);
                let mut first = failure.lock().unwrap_or_else(PoisonError::into_inner);
                if first.as_ref().is_none_or(TransferError::is_abandoned) {
                    *first = Some(error);
                }
                return;
            }
        };
        std::thread::scope(|scope| {
            for number in 1..parallel.clamp(1, 16).min(queue.len()) {
                let thread = std::thread::Builder::new().name(format!("layer-{number}"));
                // Fewer threads do the same work, only later.
                let _ = thread.spawn_scoped(scope, one_after_another);
            }
            one_after_another();
        });
        failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }
}

/// Attempts at a request that nobody watches, and the wait before the second one, which doubles.
pub(crate) const QUIET_ATTEMPTS: u32 = 5;
const QUIET_PAUSE: Duration = Duration::from_millis(500);

/// An error that may be a registry's.
pub(crate) trait Fault: std::error::Error {
    /// What the registry said, if it was one.
    fn of_registry(&self) -> Option<&RegistryError>;
}

impl Fault for RegistryError {
    fn of_registry(&self) -> Option<&RegistryError> {
        Some(self)
    }
}

/// Does something again while that may help, and says nothing of it.
pub(crate) fn patiently<T, E: Fault>(request: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    patiently_telling(&|_| {}, request)
}

/// Does something again while that may help, and says why it waits.
pub(crate) fn patiently_telling<T, E: Fault>(
    say: &dyn Fn(&str),
    mut request: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    let mut attempt = 1;
    loop {
        let error = match request() {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let Some(passing) =
            error.of_registry().filter(|fault| fault.is_transient() && attempt < QUIET_ATTEMPTS)
        else {
            return Err(error);
        };
        pause_telling(say, passing, attempt);
        attempt += 1;
    }
}

/// Waits before the attempt after this one, and says why.
pub(crate) fn pause_telling(say: &dyn Fn(&str), error: &RegistryError, attempt: u32) {
    let doubled = || QUIET_PAUSE * 2_u32.pow(attempt.saturating_sub(1).min(6));
    let wait = error.retry_after().unwrap_or_else(doubled);
    say(&format!("{}; trying again in {:.1} s", one_line(error), wait.as_secs_f64()));
    std::thread::sleep(wait);
}

/// An error and its causes on one line.
pub(crate) fn one_line(error: &dyn std::error::Error) -> String {
    let mut text = rbox_rootfs::plain(error);
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = rbox_rootfs::plain(cause);
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

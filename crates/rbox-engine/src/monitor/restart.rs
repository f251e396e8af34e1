//! Starting a container again when it ends: whether, and after which pause.
//!
//! Its monitor does it. A command that wants the container to end says so first, in a file of the live directory, and
//! wakes the monitor through its socket; the monitor looks for that file after each end and at the end of each pause.

use std::time::Duration;

use rustix::event::Timespec;

use crate::containers::stop_mark::asked_to_end;
use crate::record::container::ContainerRecord;
use crate::record::file::read_json;
use crate::record::lock::Editing;
use crate::record::paths::Paths;

/// Whether a container that ended with `exit_code` is started again, by the policy it has now.
pub(crate) fn is_due(paths: &Paths, record: &ContainerRecord, exit_code: i32, restarts: u32) -> bool {
    if record.host.auto_remove || asked_to_end(paths, &record.id).is_some() {
        return false;
    }
    current(paths, record).host.restart.restarts(exit_code, restarts)
}

/// The record as it is now: `update` and `rename` may have changed it since the monitor began.
pub(crate) fn current(paths: &Paths, record: &ContainerRecord) -> ContainerRecord {
    let path = paths.config(&record.id);
    read_json(&path).ok().flatten().unwrap_or_else(|| record.clone())
}

/// The same, with the right to change it held, so that no update falls between reading and starting.
pub(crate) fn current_held(paths: &Paths, record: &ContainerRecord) -> (ContainerRecord, Option<Editing>) {
    let editing = Editing::begin(paths, &record.id).ok().flatten();
    (current(paths, record), editing)
}

/// A time that the monitor waits, as poll(2) takes it.
pub(crate) fn timespec(time: Duration) -> Timespec {
    Timespec { tv_sec: time.as_secs() as i64, tv_nsec: i64::from(time.subsec_nanos()) }
}

/// The pauses before restarts: Docker's, 100 ms doubling to a minute, from the beginning again after ten seconds of
/// running.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    last: Duration,
}

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_mins(1);
const ENOUGH: Duration = Duration::from_secs(10);

impl Backoff {
    /// The pause after a life of `ran`.
    pub(crate) fn next(&mut self, ran: Duration) -> Duration {
        self.last = if ran >= ENOUGH || self.last.is_zero() { FIRST } else { (self.last * 2).min(LONGEST) };
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_a_minute_and_begin_again() {
        let mut backoff = Backoff::default();
        let short = Duration::from_secs(1);
        let pauses: Vec<u128> = (0..12).map(|_| backoff.next(short).as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000, 60_000]);
        assert_eq!(backoff.next(ENOUGH), FIRST);
        assert_eq!(backoff.next(short), FIRST * 2);
    }
}

//! What happened, and what happens.

use std::io;

use jiff::{SignedDuration, Timestamp};
use rbox_sys::process::process_start;

use crate::engine::{Engine, Event};
use crate::error::EngineError;
use crate::journal::{Entry, EventFilter, EventQuery, Message, read};

impl Engine {
    /// Gives the events of all kinds of things to `sink`, oldest first, until `query.until`, without it as long as the sink takes
    /// them. Without either time they begin with what happens after this process was started. The sink ends it with
    /// an error, which comes back.
    ///
    /// # Errors
    /// The journal cannot be read or watched.
    pub fn events(
        &self,
        query: &EventQuery,
        sink: &mut dyn FnMut(&Message) -> io::Result<()>,
    ) -> Result<(), EngineError> {
        let path = self.paths.journal();
        let since = query.since.or_else(|| query.until.is_none().then(own_start).flatten());
        let query = EventQuery { since, ..query.clone() };
        let mut sink = |entry: Entry<'_>| match entry {
            Entry::Event(message) => sink(message),
            Entry::Damaged(bytes) => {
                self.event(Event::JournalDamaged(bytes));
                Ok(())
            }
            Entry::Lost(files) => {
                self.event(Event::EventsLost(files));
                Ok(())
            }
        };
        read(&path, &query, &mut sink).map_err(EngineError::file("read", path))
    }

    /// When an image was pulled last, by its familiar name, as far as the journal goes back.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn last_pull(&self, name: &str) -> Result<Option<Timestamp>, EngineError> {
        let filter = EventFilter::parse(&["type=image", "event=pull"]);
        let filter = filter.map_err(|error| EngineError::Invalid(error.to_string()))?;
        let now = Timestamp::now();
        let query = EventQuery { since: Some(Timestamp::UNIX_EPOCH), until: Some(now), filter };
        let mut last = None;
        self.events(&query, &mut |message| {
            if message.id == name {
                last = Some(message.timestamp());
            }
            Ok(())
        })?;
        Ok(last)
    }
}

/// When this process was started, at most ten milliseconds too early: what was started together with it comes after that, however
/// long this one took to get here.
fn own_start() -> Option<Timestamp> {
    /// The kernel's unit in /proc: `USER_HZ`, 100 a second on every architecture.
    const TICK: i64 = 10_000_000;
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    let (ticks, _) = process_start(pid)?;
    let up = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let started = SignedDuration::from_nanos(i64::try_from(ticks).ok()?.checked_mul(TICK)?);
    let age = SignedDuration::new(up.tv_sec, i32::try_from(up.tv_nsec).ok()?) - started;
    Timestamp::now().checked_sub(age).ok()
}

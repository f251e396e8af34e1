//! The logs of several containers as one.

use std::io::{self, ErrorKind, Write as _};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use rbox_engine::engine::{Container, Engine, LogEntry, LogGap, LogQuery, LogSink};
use rbox_engine::error::EngineError;

/// Entries of one container that are read ahead of the others.
const AHEAD: usize = 64;

/// Says that something is missing in a container's log.
pub(crate) fn tell(name: &str, gap: LogGap) {
    // Nobody reads it: no reason to end.
    let _ = writeln!(io::stderr(), "rbox: {name}: {gap}");
}

/// What a reader of one container's log gives.
enum Read {
    Entry(LogEntry<'static>),
    /// What was there when it began has been given.
    CaughtUp,
    Gap(LogGap),
}

/// Passes entries on to who merges them.
struct Sender(SyncSender<Read>);

impl Sender {
    fn give(&self, read: Read) -> io::Result<()> {
        // Who merges them has ended with an error of its own.
        self.0.send(read).map_err(|_| ErrorKind::BrokenPipe.into())
    }
}

impl LogSink for Sender {
    fn entry(&mut self, entry: &LogEntry<'_>) -> io::Result<()> {
        self.give(Read::Entry(entry.to_static()))
    }

    fn caught_up(&mut self) -> io::Result<()> {
        self.give(Read::CaughtUp)
    }

    fn gap(&mut self, gap: LogGap) -> io::Result<()> {
        self.give(Read::Gap(gap))
    }
}

/// Gives the entries of all containers to `print`, each with the number of its container: what is there by time, and with `follow`
/// what comes as it comes.
///
/// # Errors
/// A log cannot be read, or `print` failed.
pub(crate) fn merged(
    engine: &Engine,
    containers: &[Container],
    query: &LogQuery,
    follow: bool,
    print: &mut dyn FnMut(usize, &LogEntry<'_>) -> io::Result<()>,
) -> Result<(), EngineError> {
    thread::scope(|scope| {
        let mut readers = Vec::new();
        let mut logs = Vec::new();
        for container in containers {
            let (sender, log) = sync_channel(AHEAD);
            readers.push(scope.spawn(move || engine.logs(container, query, follow, &mut Sender(sender))));
            logs.push(log);
        }
        let names = containers.iter().map(|one| one.record.name.as_str());
        let logs: Vec<_> = names.zip(logs).collect();
        let printed = by_time(&logs, print).and_then(|()| as_they_come(logs, print));
        let read = readers.into_iter().map(|reader| reader.join().unwrap_or(Ok(())));
        // A reader that was cut short because printing failed has nothing to tell.
        let read: Result<Vec<()>, EngineError> = read.collect();
        printed.map_err(EngineError::file("write", "standard output")).and(read.map(drop))
    })
}

/// Merges what was there when the readers began. A log that ends meanwhile has nothing more.
fn by_time(
    logs: &[(&str, Receiver<Read>)],
    print: &mut dyn FnMut(usize, &LogEntry<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let next = |(name, log): &(&str, Receiver<Read>)| loop {
        match log.recv() {
            Ok(Read::Entry(entry)) => return Some(entry),
            Ok(Read::Gap(gap)) => tell(name, gap),
            Ok(Read::CaughtUp) | Err(_) => return None,
        }
    };
    let mut heads: Vec<Option<LogEntry<'static>>> = logs.iter().map(next).collect();
    loop {
        let waiting = heads.iter().enumerate().filter_map(|(at, head)| Some((head.as_ref()?.time, at)));
        let Some((_, at)) = waiting.min() else { return Ok(()) };
        let (Some(head), Some(log)) = (heads.get_mut(at), logs.get(at)) else { return Ok(()) };
        if let Some(entry) = head.take() {
            print(at, &entry)?;
        }
        *head = next(log);
    }
}

/// Gives what comes, until all have ended.
fn as_they_come(
    logs: Vec<(&str, Receiver<Read>)>,
    print: &mut dyn FnMut(usize, &LogEntry<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let (sender, all) = sync_channel(AHEAD);
    thread::scope(|scope| {
        for (number, (name, log)) in logs.into_iter().enumerate() {
            let sender = sender.clone();
            scope.spawn(move || {
                for read in log {
                    match read {
                        Read::Entry(entry) => {
                            if sender.send((number, entry)).is_err() {
                                return;
                            }
                        }
                        Read::Gap(gap) => tell(name, gap),
                        Read::CaughtUp => {}
                    }
                }
            });
        }
        drop(sender);
        // It is dropped on the first failure, and the senders end.
        all.into_iter().try_for_each(|(number, entry)| print(number, &entry))
    })
}

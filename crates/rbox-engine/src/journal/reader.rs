//! Reading the journal: what is in it, and what comes.
//!
//! Both files are read as one, and a listener goes along when the current one is put aside. It sets its watch and opens the files before
//! it gives the first event, so nothing falls between what it has read and what it is woken for.
//!
//! The file's order is the order of events. A writer may be held up between its look at the clock and its write; such a time is
//! read as that of the event before it, so that times never go back within a file, unless the clock itself was set back.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;

use crate::journal::filter::EventFilter;
use crate::journal::message::{MOST_LINE, Message};
use crate::journal::writer::numbered;
use crate::watch::Watch;

/// Which events are asked for.
#[derive(Debug, Clone, Default)]
pub struct EventQuery {
    /// Those at or after this, of the past too.
    pub since: Option<Timestamp>,
    /// Those before or at this, and then it ends. Without it they are given as they come, without end.
    pub until: Option<Timestamp>,
    /// Only those.
    pub filter: EventFilter,
}

/// What the journal gives.
#[derive(Debug)]
pub(crate) enum Entry<'a> {
    /// An event.
    Event(&'a Message),
    /// So many bytes that are no event: cut off by a kill or a power cut.
    Damaged(usize),
    /// Events are lost: so many full files were deleted before they could be read.
    Lost(u64),
}

/// Gives what `query` asks for of the journal at `path`, in order. The sink ends it with an error.
pub(crate) fn read(
    path: &Path,
    query: &EventQuery,
    sink: &mut dyn FnMut(Entry<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let is_past = || query.until.is_some_and(|until| Timestamp::now() > until);
    let watch = if is_past() { None } else { Some(Watch::beside(path)?) };
    let mut reader = Reader { path, query, since: query.since, sink, at: None };
    reader.drain()?;
    // What comes from here on is new, whatever the clock says.
    reader.since = None;
    if let Some(watch) = watch {
        while !is_past() {
            // An event at the very moment of `until` is to be in it.
            let left = query.until.map(|until| {
                let left = Duration::try_from(until.duration_since(Timestamp::now())).unwrap_or_default();
                left + Duration::from_millis(1)
            });
            watch.wait(None, left)?;
            reader.drain()?;
        }
    }
    reader.finish_current()
}

/// Gives all that is in the journal, for those who look whether something is in it.
pub(super) fn read_past(path: &Path, each: &mut dyn FnMut(&Message)) -> io::Result<()> {
    read_whole(path, &mut |entry| {
        if let Entry::Event(message) = entry {
            each(message);
        }
    })
}

/// The same, with what is damaged or lost.
pub(super) fn read_whole(path: &Path, each: &mut dyn FnMut(Entry<'_>)) -> io::Result<()> {
    let query = EventQuery::default();
    let mut sink = |entry: Entry<'_>| {
        each(entry);
        Ok(())
    };
    Reader { path, query: &query, since: None, sink: &mut sink, at: None }.drain()
}

/// Where a listener is in the journal.
struct Reader<'a> {
    path: &'a Path,
    query: &'a EventQuery,
    /// Of the past, what is older is not wanted.
    since: Option<Timestamp>,
    sink: &'a mut dyn FnMut(Entry<'_>) -> io::Result<()>,
    /// The file it is in. None before there was any.
    at: Option<Cursor>,
}

/// How far one file is read.
struct Cursor {
    file: File,
    /// Its number: that of the name it gets when it is full.
    number: u64,
    /// The beginning of a line whose end is not written yet.
    line: Vec<u8>,
    /// The time of the last event.
    last: i64,
}

impl Reader<'_> {
    /// Gives all that is there by now.
    fn drain(&mut self) -> io::Result<()> {
        loop {
            let is_current = match &self.at {
                Some(cursor) => cursor.is_at(self.path),
                None => false,
            };
            // Whoever wrote to it before it was renamed has done so by now.
            self.read_on()?;
            if is_current {
                return Ok(());
            }
            let done = self.at.as_ref().map_or(0, |cursor| cursor.number);
            let mut newer = snapshot(self.path)?;
            newer.retain(|cursor| cursor.number > done);
            let Some(first) = newer.first() else { return Ok(()) };
            if done > 0 && first.number > done + 1 {
                (self.sink)(Entry::Lost(first.number - done - 1))?;
            }
            // All of them are open: however long the sink takes, none is lost.
            for cursor in newer {
                self.finish()?;
                self.at = Some(cursor);
                self.read_on()?;
            }
        }
    }

    /// Gives what the file has by now beyond where it was read to.
    fn read_on(&mut self) -> io::Result<()> {
        let Some(cursor) = &mut self.at else { return Ok(()) };
        let mut block = vec![0; BLOCK];
        loop {
            let length = match cursor.file.read(&mut block) {
                Ok(0) => return Ok(()),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            for part in block[..length].split_inclusive(|byte| *byte == b'\n') {
                // What is longer than a line can be is no line, whatever is in it.
                if cursor.line.len() <= MOST_LINE {
                    cursor.line.extend_from_slice(part);
                }
                if part.ends_with(b"\n") {
                    let line = std::mem::take(&mut cursor.line);
                    cursor.last = give(self.query, self.since, self.sink, line.trim_ascii(), cursor.last)?;
                }
            }
        }
    }

    /// The end of what is asked for: a line without an end was cut off, if nobody is just writing it.
    fn finish_current(&mut self) -> io::Result<()> {
        if self.at.as_ref().is_some_and(|cursor| !cursor.line.is_empty()) {
            std::thread::sleep(Duration::from_millis(20));
            self.drain()?;
        }
        self.finish()
    }

    /// Nothing more comes in the file it is in: a line without an end was cut off.
    fn finish(&mut self) -> io::Result<()> {
        match &mut self.at {
            Some(cursor) if !cursor.line.is_empty() => {
                (self.sink)(Entry::Damaged(std::mem::take(&mut cursor.line).len()))
            }
            _ => Ok(()),
        }
    }
}

/// Bytes read at a time.
const BLOCK: usize = 64 * 1024;
/// A time that lies further back than this was not held up: the clock was set back.
const HELD_UP: i64 = 10_000_000_000;

/// Gives a line's event if it is wanted. The time of the last event, which this one's may be.
fn give(
    query: &EventQuery,
    since: Option<Timestamp>,
    sink: &mut dyn FnMut(Entry<'_>) -> io::Result<()>,
    line: &[u8],
    last: i64,
) -> io::Result<i64> {
    if line.is_empty() {
        return Ok(last);
    }
    let Some(mut message) = Message::parse(line) else {
        sink(Entry::Damaged(line.len()))?;
        return Ok(last);
    };
    if message.time < last && message.time > last.saturating_sub(HELD_UP) {
        message.time = last;
    }
    let time = message.timestamp();
    let in_time = since.is_none_or(|since| time >= since) && query.until.is_none_or(|until| time <= until);
    if in_time && query.filter.accepts(&message) {
        sink(Entry::Event(&message))?;
    }
    Ok(message.time)
}

impl Cursor {
    fn open(path: &Path, number: u64) -> io::Result<Option<Self>> {
        match rbox_sys::own::open_to_read(path) {
            Ok(file) => Ok(Some(Self { file, number, line: Vec::new(), last: i64::MIN })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether the file at `path` is this one.
    fn is_at(&self, path: &Path) -> bool {
        match (self.file.metadata(), std::fs::symlink_metadata(path)) {
            (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
            _ => false,
        }
    }
}

/// All files there are, oldest first, each at its beginning.
fn snapshot(path: &Path) -> io::Result<Vec<Cursor>> {
    loop {
        let before = numbered(path)?;
        let mut all = Vec::new();
        for (number, full) in &before {
            all.extend(Cursor::open(full, *number)?);
        }
        let current = before.last().map_or(0, |(number, _)| *number) + 1;
        all.extend(Cursor::open(path, current)?);
        // When nothing was renamed meanwhile, what was opened is what there is.
        if numbered(path)? == before {
            return Ok(all);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write as _;
    use std::path::PathBuf;

    use super::*;
    use crate::journal::message::tests::message;
    use crate::journal::writer::append_up_to;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        (dir, path)
    }

    /// What a query gives, each entry in a word.
    fn given(path: &Path, query: EventQuery) -> Vec<String> {
        let mut all = Vec::new();
        let query = EventQuery { until: query.until.or(Some(Timestamp::UNIX_EPOCH)), ..query };
        let until = (query.until != Some(Timestamp::UNIX_EPOCH)).then_some(query.until).flatten();
        // A journal of the past, whatever its times.
        let shown = EventQuery { until, ..query };
        let mut sink = |entry: Entry<'_>| {
            all.push(match entry {
                Entry::Event(message) => message.action.clone(),
                Entry::Damaged(bytes) => format!("damaged {bytes}"),
                Entry::Lost(files) => format!("lost {files}"),
            });
            Ok(())
        };
        let mut reader = Reader { path, query: &shown, since: shown.since, sink: &mut sink, at: None };
        reader.drain().unwrap();
        reader.finish_current().unwrap();
        all
    }

    fn line(action: &str, time: i64) -> Vec<u8> {
        message(action, time).line()
    }

    #[test]
    fn both_files_are_read_as_one() {
        let (_dir, path) = place();
        assert_eq!(given(&path, EventQuery::default()), Vec::<String>::new());
        for n in 0..12 {
            append_up_to(&path, vec![message(&format!("n{n}"), 0)], 900).unwrap();
        }
        let all = given(&path, EventQuery::default());
        assert!(all.len() > 5 && all.last().unwrap() == "n11", "{all:?}");
        let first: usize = all[0][1..].parse().unwrap();
        assert_eq!(all, (first..12).map(|n| format!("n{n}")).collect::<Vec<_>>());
    }

    #[test]
    fn times_choose_and_never_go_back() {
        let (_dir, path) = place();
        let second = 1_000_000_000;
        // The second one was held up; before the last the clock was set back by a minute.
        let times = [100 * second, 99 * second, 101 * second, 41 * second];
        let lines: Vec<u8> = times.iter().zip(["a", "b", "c", "d"]).flat_map(|(t, a)| line(a, *t)).collect();
        std::fs::write(&path, lines).unwrap();
        let at = |second| Some(Timestamp::from_second(second).unwrap());
        let chosen = |since, until| given(&path, EventQuery { since, until, ..EventQuery::default() });
        assert_eq!(chosen(None, None), ["a", "b", "c", "d"]);
        assert_eq!(chosen(at(100), None), ["a", "b", "c"]);
        assert_eq!(chosen(at(101), None), ["c"]);
        assert_eq!(chosen(None, at(100)), ["a", "b", "d"]);
    }

    #[test]
    fn what_was_cut_off_spoils_no_other_line() {
        let (_dir, path) = place();
        let torn = &line("torn", 1)[..20];
        let nothing = [0; 30];
        let text = [&line("a", 1)[..], torn, &line("b", 2), &nothing, &line("c", 3), torn].concat();
        std::fs::write(&path, text).unwrap();
        let wanted = ["a", "damaged 19", "b", "damaged 30", "c", "damaged 19"];
        assert_eq!(given(&path, EventQuery::default()), wanted);
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(&b"x".repeat(3 * MOST_LINE)).unwrap();
        file.write_all(&line("d", 4)).unwrap();
        let all = given(&path, EventQuery::default());
        assert!(all[5].starts_with("damaged ") && all[6] == "d", "{all:?}");
    }

    #[test]
    fn a_listener_that_is_too_slow_is_told() {
        let (_dir, path) = place();
        let add = |n: u32| append_up_to(&path, vec![message(&format!("n{n}"), 0)], 1).unwrap();
        let all = std::cell::RefCell::new(Vec::new());
        let query = EventQuery::default();
        let mut sink = |entry: Entry<'_>| {
            all.borrow_mut().push(match entry {
                Entry::Event(message) => message.action.clone(),
                other => format!("{other:?}"),
            });
            Ok(())
        };
        let mut reader = Reader { path: &path, query: &query, since: None, sink: &mut sink, at: None };
        add(1);
        reader.drain().unwrap();
        add(2);
        reader.drain().unwrap();
        // Each is a file of its own, and one is kept.
        (3..6).for_each(add);
        reader.drain().unwrap();
        assert_eq!(*all.borrow(), ["n1", "n2", "Lost(2)", "n5"]);
    }

    /// Writers and a listener at the same time, while files are put aside.
    #[test]
    fn a_listener_goes_along() {
        const EACH: usize = 3000;
        let (_dir, path) = place();
        let mut seen: Vec<Vec<usize>> = vec![Vec::new(); 4];
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let path = &path;
                scope.spawn(move || {
                    for n in 0..EACH {
                        append_up_to(path, vec![message(&format!("{writer} {n}"), 0)], 256 * 1024).unwrap();
                        // As fast as commands are, if not slower.
                        if n % 50 == 0 {
                            std::thread::sleep(Duration::from_millis(1));
                        }
                    }
                });
            }
            let mut left = 4 * EACH;
            let query = EventQuery {
                until: Some(Timestamp::now() + Duration::from_mins(1)),
                ..EventQuery::default()
            };
            let ended = read(&path, &query, &mut |entry| {
                let Entry::Event(message) = entry else { panic!("{entry:?}") };
                let (writer, n) = message.action.split_once(' ').unwrap();
                seen[writer.parse::<usize>().unwrap()].push(n.parse().unwrap());
                left -= 1;
                if left == 0 { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
            });
            assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        });
        assert!(numbered(&path).unwrap()[0].0 > 3);
        for of_one in seen {
            assert!(of_one.iter().copied().eq(0..EACH));
        }
    }
}

//! The side of the log that `rbox logs` and `attach --logs` read: from the end, since a time, and as it grows.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rbox_sys::lock::{self, How};

use crate::logs::file::{end_of_last, numbered};
use crate::logs::{LogEntry, Stream, number};
use crate::watch::Watch;

/// No entry is longer: [`super::MAX_ENTRY`] bytes of text, each at most six in JSON, and its attributes, of which options allow no more
/// than a few MiB.
const MAX_LINE: usize = 16 << 20;
/// Bytes read at a time from the end when looking for the last lines.
const BLOCK: usize = 64 * 1024;

/// What is asked of the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// Only that many entries from the end; none for all.
    pub tail: Option<u64>,
    /// Only entries at or after this.
    pub since: Option<Timestamp>,
    /// Only entries before or at this.
    pub until: Option<Timestamp>,
    /// Only entries of this stream.
    pub stream: Option<Stream>,
}

impl LogQuery {
    fn wants(&self, entry: &LogEntry<'_>) -> bool {
        self.since.is_none_or(|since| entry.time >= since)
            && self.stream.is_none_or(|stream| entry.stream == stream)
    }
}

/// What a reader of a log did not get to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogGap {
    /// So many files were gone before they were read: more was written meanwhile than is kept for one who is behind.
    Files(u64),
    /// So many bytes are no entry: somebody was killed while writing, or has damaged the file.
    Bytes(u64),
    /// The container runs on without its monitor.
    Unkept,
}

impl std::fmt::Display for LogGap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Files(1) => f.write_str("a log file was rotated away before it was read"),
            Self::Files(count) => write!(f, "{count} log files were rotated away before they were read"),
            Self::Bytes(count) => write!(f, "{count} bytes of the log that are no entry were skipped"),
            Self::Unkept => f.write_str(
                "it runs, and nobody keeps what it writes since its monitor was killed: rbox restart begins again",
            ),
        }
    }
}

/// Takes what is read from a log.
pub trait LogSink {
    /// One entry. An error ends the reading.
    ///
    /// # Errors
    /// Those of where it writes to.
    fn entry(&mut self, entry: &LogEntry<'_>) -> io::Result<()>;

    /// All that was there has been given; what comes from now on is written after this.
    ///
    /// # Errors
    /// Those of where it writes to.
    fn caught_up(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Something is missing before what is given next.
    ///
    /// # Errors
    /// Those of where it writes to.
    fn gap(&mut self, _gap: LogGap) -> io::Result<()> {
        Ok(())
    }
}

impl<F: FnMut(&LogEntry<'_>) -> io::Result<()>> LogSink for F {
    fn entry(&mut self, entry: &LogEntry<'_>) -> io::Result<()> {
        self(entry)
    }
}

/// How a follower learns that no more will be written.
pub(crate) struct Ended<'a> {
    /// Becomes readable at the end (a pidfd of the monitor), so that the end is seen at once.
    pub fd: Option<BorrowedFd<'a>>,
    /// Whether it has ended; asked at each wake-up and at least twice a second.
    pub check: &'a dyn Fn() -> bool,
}

/// Reads a container's log files as one.
#[derive(Debug)]
pub(crate) struct LogReader {
    path: PathBuf,
    /// Bytes and files that were passed over and not told of yet.
    skipped: Cell<u64>,
    missed: Cell<u64>,
}

impl LogReader {
    /// For the log whose current file is at `path`. It may not exist yet: that is an empty log.
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), skipped: Cell::new(0), missed: Cell::new(0) }
    }

    /// Gives what `query` asks for to `sink`, oldest first. The sink ends the reading with an error. `is_over`: nobody writes to it, so
    /// half an entry at its end stays one.
    pub(crate) fn read(&self, query: &LogQuery, is_over: bool, sink: &mut dyn LogSink) -> io::Result<()> {
        let tail = self.read_files(query, &mut |entry| sink.entry(entry))?;
        if let Some(cursor) = tail.filter(|_| is_over && query.until.is_none()) {
            let length = cursor.file.metadata()?.len();
            self.skipped.set(self.skipped.get() + length.saturating_sub(cursor.at));
        }
        self.tell(sink)?;
        sink.caught_up()
    }

    fn tell(&self, sink: &mut dyn LogSink) -> io::Result<()> {
        for (count, gap) in
            [(self.skipped.take(), LogGap::Bytes as fn(u64) -> LogGap), (self.missed.take(), LogGap::Files)]
        {
            if count > 0 {
                sink.gap(gap(count))?;
            }
        }
        Ok(())
    }

    /// Gives the entries from `cursor` on, as [`Cursor::entries`].
    fn give(
        &self,
        cursor: &mut Cursor,
        query: &LogQuery,
        sink: &mut dyn FnMut(&LogEntry<'_>) -> io::Result<()>,
    ) -> io::Result<bool> {
        let past = cursor.entries(query, sink);
        self.skipped.set(self.skipped.get() + std::mem::take(&mut cursor.skipped));
        past
    }

    /// [`read`](Self::read), and then what is written later, until it has `ended`. Goes along with rotation.
    pub(crate) fn follow(
        &self,
        query: &LogQuery,
        ended: &Ended<'_>,
        sink: &mut dyn LogSink,
    ) -> io::Result<()> {
        // The watch is set before the first read: what is written in between wakes the first wait.
        let watch = Watch::beside(&self.path)?;
        let mut tail = self.read_files(query, &mut |entry| sink.entry(entry))?;
        self.tell(sink)?;
        sink.caught_up()?;
        loop {
            let over = (ended.check)();
            // It had ended before this drain: nothing comes after it.
            let past = self.drain(&mut tail, query, &mut |entry| sink.entry(entry))?;
            self.tell(sink)?;
            if over || past || query.until.is_some_and(|until| Timestamp::now() > until) {
                return Ok(());
            }
            watch.wait(ended.fd, None)?;
        }
    }

    fn read_files(
        &self,
        query: &LogQuery,
        sink: &mut dyn FnMut(&LogEntry<'_>) -> io::Result<()>,
    ) -> io::Result<Option<Cursor>> {
        let mut files = self.open_all()?;
        // The last ones before `until` or of a stream are found by looking at each, the last of all by their line feeds.
        let mut skipped = match (query.tail, query.until.is_some() || query.stream.is_some()) {
            (Some(wanted), true) => matching(&mut files, query)?.saturating_sub(wanted),
            (Some(wanted), false) => {
                seek_tail(&mut files, wanted)?;
                0
            }
            (None, _) => 0,
        };
        let mut sink = |entry: &LogEntry<'_>| {
            if skipped > 0 {
                skipped -= 1;
                return Ok(());
            }
            sink(entry)
        };
        let sink: &mut dyn FnMut(&LogEntry<'_>) -> io::Result<()> = &mut sink;
        let last = files.pop();
        for file in files {
            let mut cursor = Cursor::new(file);
            if self.give(&mut cursor, query, sink)? {
                return Ok(Some(cursor));
            }
        }
        last.map(|file| {
            let mut cursor = Cursor::new(file);
            self.give(&mut cursor, query, sink)?;
            Ok(cursor)
        })
        .transpose()
    }

    /// All files, oldest first.
    fn open_all(&self) -> io::Result<Vec<File>> {
        self.scan_until(number::are_whole)
    }

    /// Opens the files until what was found is whole: a rotation renames them one after the other, so that one may be missed.
    fn scan_until(&self, is_whole: impl Fn(&[Option<u64>]) -> bool) -> io::Result<Vec<File>> {
        const ATTEMPTS: usize = 50;
        let mut attempt = 0;
        loop {
            let files = self.scan()?;
            let numbers: Vec<Option<u64>> = files.iter().map(number::of).collect();
            attempt += 1;
            if is_whole(&numbers) || attempt == ATTEMPTS {
                return Ok(files);
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// The files there are, oldest first. The lock on them keeps those that were not read yet from being deleted: see
    /// [`super::writer`].
    fn scan(&self) -> io::Result<Vec<File>> {
        let mut files: Vec<File> = Vec::new();
        let mut seen = Vec::new();
        let mut absent = 0;
        for n in 0.. {
            let path = if n == 0 { self.path.clone() } else { numbered(&self.path, n) };
            let file = match rbox_sys::own::open_to_read(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    // While the files are renamed one name is free.
                    absent += 1;
                    if absent == 2 {
                        break;
                    }
                    continue;
                }
                Err(error) => return Err(error),
            };
            absent = 0;
            // Without it a slow reader may miss lines, and nothing else.
            let _ = lock::try_take(&file, How::Shared);
            let inode = file.metadata()?.ino();
            if !seen.contains(&inode) {
                seen.push(inode);
                files.push(file);
            }
        }
        files.reverse();
        if files.iter().all(|file| number::of(file).is_some()) {
            files.sort_by_key(number::of);
        }
        Ok(files)
    }

    /// Gives what was added; moves on to newer files when the one being read was rotated away.
    fn drain(
        &self,
        tail: &mut Option<Cursor>,
        query: &LogQuery,
        sink: &mut dyn FnMut(&LogEntry<'_>) -> io::Result<()>,
    ) -> io::Result<bool> {
        loop {
            // The newer files are looked for before the drain: what the old one got until its rotation is read.
            let newer = match tail {
                Some(cursor) => self.newer_than(cursor)?,
                None => self.open_all()?,
            };
            if let Some(cursor) = tail
                && self.give(cursor, query, sink)?
            {
                return Ok(true);
            }
            if newer.is_empty() {
                return Ok(false);
            }
            // All of them are open: none is lost, however long the sink takes.
            for file in newer {
                let mut cursor = Cursor::new(file);
                let past = self.give(&mut cursor, query, sink)?;
                *tail = Some(cursor);
                if past {
                    return Ok(true);
                }
            }
        }
    }

    /// The files written after the one at `cursor`, oldest first; none while it is the current one.
    fn newer_than(&self, cursor: &Cursor) -> io::Result<Vec<File>> {
        let ours = cursor.file.metadata()?;
        let is_current = std::fs::metadata(&self.path).is_ok_and(|current| current.ino() == ours.ino());
        if is_current {
            return Ok(Vec::new());
        }
        let our_number = number::of(&cursor.file);
        let is_newer = |number: &Option<u64>| *number > our_number;
        let mut files = self.scan_until(|numbers| {
            let first = numbers.iter().position(is_newer).unwrap_or(numbers.len());
            let newer = numbers.get(first..).unwrap_or_default();
            let follows = [our_number].into_iter().chain(newer.first().copied()).collect::<Vec<_>>();
            our_number.is_none()
                || (!newer.is_empty() && number::are_whole(&follows) && number::are_whole(newer))
        })?;
        if our_number.is_some() && files.iter().all(|file| number::of(file).is_some()) {
            files.retain(|file| is_newer(&number::of(file)));
            let first = files.first().map(|file| (number::of(file), number::life(file)));
            // Those that are not there because the log was emptied are not missed.
            if let (Some((Some(first), 0)), Some(ours)) = (first, our_number) {
                self.missed.set(self.missed.get() + first.saturating_sub(ours + 1));
            }
            return Ok(files);
        }
        let at = files.iter().position(|file| file.metadata().is_ok_and(|other| other.ino() == ours.ino()));
        // Not found: it was the oldest and is gone, so all that are left are newer.
        Ok(files.split_off(at.map_or(0, |at| at + 1)))
    }
}

/// A place in one file.
#[derive(Debug)]
struct Cursor {
    file: File,
    /// Where the next entry begins.
    at: u64,
    /// Which life the file was in.
    life: u64,
    /// What comes is the rest of a line that is too long to be an entry.
    is_inside: bool,
    /// Bytes that are no entry.
    skipped: u64,
}

impl Cursor {
    fn new(mut file: File) -> Self {
        let at = file.stream_position().unwrap_or(0);
        Self { life: number::life(&file), file, at, is_inside: false, skipped: 0 }
    }

    /// Gives all whole entries up to the file's end. True when one was past `until`: no later one can be wanted.
    ///
    /// An entry that is not whole is read again next time: its writer may have taken it back.
    fn entries(
        &mut self,
        query: &LogQuery,
        sink: &mut dyn FnMut(&LogEntry<'_>) -> io::Result<()>,
    ) -> io::Result<bool> {
        // What stands in the file from `at` on.
        let mut bytes: Vec<u8> = Vec::new();
        loop {
            let before = bytes.len();
            bytes.resize(before + BLOCK, 0);
            let got = self.file.read_at(&mut bytes[before..], self.at + before as u64)?;
            bytes.truncate(before + got);
            // Asked after the reading: then all of it is of the life that it was taken for.
            if self.begins_again()? {
                bytes.clear();
                continue;
            }
            if got == 0 {
                return Ok(false);
            }
            let whole = end_of_last(&bytes[before..]);
            if whole == 0 {
                if bytes.len() > MAX_LINE {
                    self.at += bytes.len() as u64;
                    self.skipped += bytes.len() as u64;
                    self.is_inside = true;
                    bytes.clear();
                }
                continue;
            }
            for line in bytes[..before + whole].split_inclusive(|byte| *byte == b'\n') {
                self.at += line.len() as u64;
                let entry = if self.is_inside { None } else { LogEntry::parse(line) };
                self.is_inside = false;
                let Some(entry) = entry else {
                    self.skipped += line.len() as u64;
                    continue;
                };
                if query.until.is_some_and(|until| entry.time > until) {
                    return Ok(true);
                }
                if query.wants(&entry) {
                    sink(&entry)?;
                }
            }
            bytes.drain(..before + whole);
        }
    }

    /// Whether the file is not the one any more that was read so far: it was emptied, and is read from its beginning.
    fn begins_again(&mut self) -> io::Result<bool> {
        const PATIENCE: Duration = Duration::from_secs(1);
        let mut life = number::life(&self.file);
        if life == self.life {
            let length = self.file.metadata()?.len();
            if length >= self.at {
                return Ok(false);
            }
            // Without lives that is what emptying shows by; with them the writer took back its last entries.
            self.at = if number::of(&self.file).is_some() { length } else { 0 };
            return Ok(true);
        }
        // Whoever empties it is killed in between once in a blue moon.
        let begin = Instant::now();
        while life % 2 == 1 && begin.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_micros(200));
            life = number::life(&self.file);
        }
        (self.life, self.at, self.is_inside) = (life, 0, false);
        Ok(true)
    }
}

/// How many entries the files have that the query's times let through. The files are at their beginning again after it.
fn matching(files: &mut [File], query: &LogQuery) -> io::Result<u64> {
    let mut count = 0;
    for file in files.iter() {
        let mut cursor = Cursor::new(file.try_clone()?);
        let past = cursor.entries(query, &mut |_| {
            count += 1;
            Ok(())
        })?;
        if past {
            break;
        }
    }
    for file in files {
        file.rewind()?;
    }
    Ok(count)
}

/// Drops the files, and sets the position in the first that is left, so that `wanted` lines remain.
fn seek_tail(files: &mut Vec<File>, wanted: u64) -> io::Result<()> {
    let mut missing = wanted;
    for at in (0..files.len()).rev() {
        let mut file = &files[at];
        if missing == 0 {
            if at + 1 == files.len() {
                file.seek(SeekFrom::End(0))?;
                files.drain(..at);
            } else {
                files.drain(..=at);
            }
            return Ok(());
        }
        if let Some(offset) = tail_offset(file, &mut missing)? {
            file.seek(SeekFrom::Start(offset))?;
            files.drain(..at);
            return Ok(());
        }
    }
    Ok(())
}

/// Where the last `missing` lines of `file` begin. When it has fewer: none, and `missing` is less by those.
fn tail_offset(file: &File, missing: &mut u64) -> io::Result<Option<u64>> {
    let total = file.metadata()?.len();
    if total == 0 {
        return Ok(None);
    }
    let mut end = total;
    let mut block = vec![0; BLOCK];
    let mut lines = 0;
    while end > 0 {
        let length = end.min(BLOCK as u64) as usize;
        let start = end - length as u64;
        file.read_exact_at(&mut block[..length], start)?;
        for (at, _) in block[..length].iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            let begins = start + at as u64 + 1;
            // The line feed that ends the file begins no line.
            lines += u64::from(begins < total);
            if lines == *missing {
                return Ok(Some(begins));
            }
        }
        end = start;
    }
    // The first line begins without a line feed.
    *missing -= lines + 1;
    Ok((*missing == 0).then_some(0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::logs::entry::Form;
    use crate::logs::{LogOptions, LogWriter, MAX_ATTRIBUTES, Stream};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// Lines `0` to `count - 1`, each a second after the one before, in files of about ten lines.
    fn written(path: &Path, count: i64, max_files: u32) -> LogWriter {
        let mut log =
            LogWriter::open(path, &LogOptions { max_size: Some(600), max_files, ..LogOptions::default() })
                .unwrap();
        for n in 0..count {
            let stream = if n % 2 == 0 { Stream::Stdout } else { Stream::Stderr };
            log.write(stream, format!("{n}\n").as_bytes(), at(n));
        }
        log
    }

    fn read(path: &Path, query: &LogQuery) -> Vec<i64> {
        let mut lines = Vec::new();
        LogReader::new(path)
            .read(query, true, &mut |entry: &LogEntry<'_>| {
                assert_eq!(entry.stream == Stream::Stderr, lines_parity(entry));
                lines.push(number_of(entry));
                Ok(())
            })
            .unwrap();
        lines
    }

    fn number_of(entry: &LogEntry<'_>) -> i64 {
        std::str::from_utf8(&entry.text).unwrap().trim().parse().unwrap()
    }

    fn lines_parity(entry: &LogEntry<'_>) -> bool {
        number_of(entry) % 2 == 1
    }

    #[test]
    fn rotated_files_read_as_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        assert_eq!(read(&path, &LogQuery::default()), Vec::<i64>::new());
        drop(written(&path, 40, 10));
        assert!(numbered(&path, 3).exists(), "the test means to have several files");
        assert_eq!(read(&path, &LogQuery::default()), (0..40).collect::<Vec<_>>());
        for tail in 0..45 {
            let query = LogQuery { tail: Some(tail), ..LogQuery::default() };
            let first = 40 - (tail as i64).min(40);
            assert_eq!(read(&path, &query), (first..40).collect::<Vec<_>>(), "tail {tail}");
        }
        let query = LogQuery { since: Some(at(5)), until: Some(at(20)), ..LogQuery::default() };
        assert_eq!(read(&path, &query), (5..=20).collect::<Vec<_>>());
        let query = LogQuery { since: Some(at(35)), tail: Some(10), ..LogQuery::default() };
        assert_eq!(read(&path, &query), (35..40).collect::<Vec<_>>());
    }

    #[test]
    fn torn_and_overlong_lines_are_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let good = r#"{"log":"1\n","stream":"stderr","time":"2026-01-02T03:04:05Z"}"#;
        let long = "x".repeat(3 * MAX_LINE / 2);
        std::fs::write(&path, format!("{good}\n{{\"log\n\n{long}\n{good}\n{good}")).unwrap();
        assert_eq!(read(&path, &LogQuery::default()), [1, 1]);
    }

    /// Counts entries, and keeps what is missing.
    #[derive(Default)]
    struct Gaps(u64, Vec<LogGap>);

    impl LogSink for Gaps {
        fn entry(&mut self, _: &LogEntry<'_>) -> io::Result<()> {
            self.0 += 1;
            Ok(())
        }

        fn gap(&mut self, gap: LogGap) -> io::Result<()> {
            self.1.push(gap);
            Ok(())
        }
    }

    #[test]
    fn what_is_no_entry_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let good = "2026-01-02T03:04:05Z stdout F x";
        std::fs::write(&path, format!("{good}\n{{\"log\n{good}\n2026-01")).unwrap();
        for (is_over, bytes) in [(false, 6), (true, 13)] {
            let mut gaps = Gaps::default();
            LogReader::new(&path).read(&LogQuery::default(), is_over, &mut gaps).unwrap();
            assert_eq!((gaps.0, gaps.1), (2, vec![LogGap::Bytes(bytes)]));
        }
    }

    /// A follower reads the first file while the next ones go.
    #[test]
    fn files_that_are_gone_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = written(&path, 1, 3);
        let reader = LogReader::new(&path);
        let mut tail = reader.read_files(&LogQuery::default(), &mut |_| Ok(())).unwrap();
        rustix::fs::flock(&tail.as_ref().unwrap().file, rustix::fs::FlockOperation::Unlock).unwrap();
        for n in 1..100 {
            log.write(Stream::Stdout, format!("{n}\n").as_bytes(), at(n));
        }
        let mut lines = 0;
        let mut count = |_: &LogEntry<'_>| {
            lines += 1;
            Ok(())
        };
        reader.drain(&mut tail, &LogQuery::default(), &mut count).unwrap();
        assert!(lines < 60 && reader.missed.get() > 3, "{lines} lines, {reader:?}");
        let mut gaps = Gaps::default();
        reader.tell(&mut gaps).unwrap();
        assert!(matches!(gaps.1[..], [LogGap::Files(_)]), "{:?}", gaps.1);
    }

    #[test]
    fn entries_of_any_length_and_both_forms() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let attributes = [("big".to_owned(), "L".repeat(MAX_ATTRIBUTES - 20))].into();
        let options = LogOptions { attributes, ..LogOptions::default() };
        let mut log = LogWriter::open(&path, &options).unwrap();
        log.write(Stream::Stderr, b"1\n", at(1));
        drop(log);
        let options = LogOptions { form: Form::Plain, ..LogOptions::default() };
        let mut log = LogWriter::open(&path, &options).unwrap();
        log.write(Stream::Stderr, b"3\n", at(2));
        assert_eq!(read(&path, &LogQuery::default()), [1, 3]);
        assert_eq!(read(&path, &LogQuery { tail: Some(1), ..LogQuery::default() }), [3]);
    }

    /// It has read some lines; then the log is emptied, and grows beyond where it was.
    #[test]
    fn a_slow_follower_of_a_log_that_is_emptied() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = LogWriter::open(&path, &LogOptions::default()).unwrap();
        let mut write = |from: i64, to: i64| {
            (from..to).for_each(|n| log.write(Stream::Stdout, format!("{n}\n").as_bytes(), at(n)));
        };
        write(0, 20);
        let done = AtomicBool::new(false);
        let mut lines: Vec<i64> = Vec::new();
        let mut sink = |entry: &LogEntry<'_>| {
            lines.push(number_of(entry));
            if number_of(entry) == 19 {
                crate::logs::clear(&path).unwrap();
                write(20, 2000);
                done.store(true, Ordering::SeqCst);
            }
            Ok(())
        };
        let check = || done.load(Ordering::SeqCst);
        let ended = Ended { fd: None, check: &check };
        LogReader::new(&path).follow(&LogQuery::default(), &ended, &mut sink).unwrap();
        assert_eq!(lines, (0..2000).collect::<Vec<_>>());
    }

    #[test]
    fn following_goes_across_rotations_and_ends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let ended = AtomicBool::new(false);
        let mut lines: Vec<i64> = Vec::new();
        let begin = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut log = written(&path, 5, 100);
                for n in 5..200 {
                    log.write(Stream::Stdout, format!("{n}\n").as_bytes(), at(n));
                    if n % 20 == 0 {
                        std::thread::sleep(Duration::from_millis(3));
                    }
                }
                ended.store(true, Ordering::SeqCst);
            });
            let check = || ended.load(Ordering::SeqCst);
            let mut sink = |entry: &LogEntry<'_>| {
                lines.push(number_of(entry));
                Ok(())
            };
            let ended = Ended { fd: None, check: &check };
            LogReader::new(&path).follow(&LogQuery::default(), &ended, &mut sink).unwrap();
        });
        assert_eq!(lines, (0..200).collect::<Vec<_>>());
        assert!(begin.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_slow_follower_misses_nothing() {
        for max_files in [1, 2, 5] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("log");
            let mut log = written(&path, 1, max_files);
            let done = AtomicBool::new(false);
            let mut lines: Vec<i64> = Vec::new();
            let mut sink = |entry: &LogEntry<'_>| {
                // All is written while it looks at the first line: some hundred rotations.
                if lines.is_empty() {
                    for n in 1..1500 {
                        log.write(Stream::Stdout, format!("{n}\n").as_bytes(), at(n));
                    }
                    done.store(true, Ordering::SeqCst);
                }
                lines.push(number_of(entry));
                Ok(())
            };
            let check = || done.load(Ordering::SeqCst);
            let ended = Ended { fd: None, check: &check };
            LogReader::new(&path).follow(&LogQuery::default(), &ended, &mut sink).unwrap();
            assert_eq!(lines, (0..1500).collect::<Vec<_>>(), "of {max_files} files");
            // Nobody reads any more: the next rotations leave what was asked for.
            for n in 0..20 {
                log.write(Stream::Stdout, b"more\n", at(n));
            }
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), max_files as usize);
        }
    }

    #[test]
    fn the_last_ones_before_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        written(&path, 40, 100);
        let query = |tail, since, until| LogQuery {
            tail: Some(tail),
            since: Option::map(since, at),
            until: Some(at(until)),
            stream: None,
        };
        assert_eq!(read(&path, &query(1, None, 20)), [20]);
        assert_eq!(read(&path, &query(3, Some(19), 20)), [19, 20]);
        assert_eq!(read(&path, &query(100, None, 2)), [0, 1, 2]);
        assert_eq!(read(&path, &query(0, None, 20)), [0_i64; 0]);
    }

    #[test]
    fn the_last_ones_of_a_stream() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        drop(written(&path, 40, 100));
        let query = |stream, tail| LogQuery { stream: Some(stream), tail, ..LogQuery::default() };
        assert_eq!(read(&path, &query(Stream::Stderr, Some(3))), [35, 37, 39]);
        assert_eq!(read(&path, &query(Stream::Stdout, None)).len(), 20);
    }

    #[test]
    fn following_a_file_that_starts_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = LogWriter::open(
            &path,
            &LogOptions { max_size: Some(300), max_files: 1, ..LogOptions::default() },
        )
        .unwrap();
        log.write(Stream::Stdout, b"0\n1\n2\n3\n", at(0));
        let query = LogQuery { tail: Some(0), ..LogQuery::default() };
        let mut lines: Vec<String> = Vec::new();
        let calls = std::cell::Cell::new(0);
        let log = std::cell::RefCell::new(log);
        let check = || {
            calls.set(calls.get() + 1);
            log.borrow_mut().write(Stream::Stdout, format!("{}\n", calls.get()).as_bytes(), at(1));
            calls.get() >= 6
        };
        let mut sink = |entry: &LogEntry<'_>| {
            lines.push(String::from_utf8_lossy(&entry.text).trim().to_owned());
            Ok(())
        };
        LogReader::new(&path).follow(&query, &Ended { fd: None, check: &check }, &mut sink).unwrap();
        assert_eq!(lines.last().map(String::as_str), Some("6"), "{lines:?}");
    }
}

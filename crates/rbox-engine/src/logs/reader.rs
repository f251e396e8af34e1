//! The side of the log that `rbox logs` and `attach --logs` read: from the end, since a time, and as it grows.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rbox_sys::lock::{self, How};

use crate::logs::writer::numbered;
use crate::logs::{LogEntry, Stream, number};
use crate::watch::Watch;

/// A line of the file cannot be longer: [`super::MAX_ENTRY`] bytes of text, each at most six in JSON, and the rest.
const MAX_LINE: usize = 6 * crate::logs::MAX_ENTRY + 512;
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
}

impl LogReader {
    /// For the log whose current file is at `path`. It may not exist yet: that is an empty log.
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Gives what `query` asks for to `sink`, oldest first. The sink ends the reading with an error.
    pub(crate) fn read(&self, query: &LogQuery, sink: &mut dyn LogSink) -> io::Result<()> {
        self.read_files(query, &mut |entry| sink.entry(entry))?;
        sink.caught_up()
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
        sink.caught_up()?;
        loop {
            let over = (ended.check)();
            // It had ended before this drain: nothing comes after it.
            let past = self.drain(&mut tail, query, &mut |entry| sink.entry(entry))?;
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
            if cursor.entries(query, sink)? {
                return Ok(Some(cursor));
            }
        }
        last.map(|file| {
            let mut cursor = Cursor::new(file);
            cursor.entries(query, sink)?;
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
                && cursor.entries(query, sink)?
            {
                return Ok(true);
            }
            if newer.is_empty() {
                return Ok(false);
            }
            // All of them are open: none is lost, however long the sink takes.
            for file in newer {
                let mut cursor = Cursor::new(file);
                let past = cursor.entries(query, sink)?;
                *tail = Some(cursor);
                if past {
                    return Ok(true);
                }
            }
        }
    }

    /// The files written after the one at `cursor`, oldest first; none while it is the current one.
    fn newer_than(&self, cursor: &Cursor) -> io::Result<Vec<File>> {
        let ours = cursor.reader.get_ref().metadata()?;
        let is_current = std::fs::metadata(&self.path).is_ok_and(|current| current.ino() == ours.ino());
        if is_current {
            return Ok(Vec::new());
        }
        let our_number = number::of(cursor.reader.get_ref());
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
    reader: BufReader<File>,
    /// The beginning of a line whose end is not written yet.
    line: Vec<u8>,
    read: u64,
}

impl Cursor {
    fn new(mut file: File) -> Self {
        let read = file.stream_position().unwrap_or(0);
        Self { reader: BufReader::with_capacity(BLOCK, file), line: Vec::new(), read }
    }

    /// Gives all whole entries up to the file's end. True when one was past `until`: no later one can be wanted.
    fn entries(
        &mut self,
        query: &LogQuery,
        sink: &mut dyn FnMut(&LogEntry<'_>) -> io::Result<()>,
    ) -> io::Result<bool> {
        // A log of one file is cut to nothing when it is full.
        if self.reader.get_ref().metadata()?.len() < self.read {
            self.reader.seek(SeekFrom::Start(0))?;
            self.line.clear();
            self.read = 0;
        }
        loop {
            let room = (MAX_LINE + 1).saturating_sub(self.line.len()) as u64;
            let got = self.reader.by_ref().take(room).read_until(b'\n', &mut self.line)?;
            self.read += got as u64;
            if !self.line.ends_with(b"\n") && self.line.len() <= MAX_LINE {
                return Ok(false);
            }
            if let Some(entry) = LogEntry::parse(&self.line) {
                if query.until.is_some_and(|until| entry.time > until) {
                    return Ok(true);
                }
                if query.wants(&entry) {
                    sink(&entry)?;
                }
            }
            self.line.clear();
        }
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
    use std::time::Instant;

    use super::*;
    use crate::logs::{LogOptions, LogWriter, Stream};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// Lines `0` to `count - 1`, each a second after the one before, in files of about ten lines.
    fn written(path: &Path, count: i64, max_files: u32) -> LogWriter {
        let mut log =
            LogWriter::open(path, LogOptions { max_size: Some(600), max_files, ..LogOptions::default() })
                .unwrap();
        for n in 0..count {
            let stream = if n % 2 == 0 { Stream::Stdout } else { Stream::Stderr };
            log.write(stream, format!("{n}\n").as_bytes(), at(n)).unwrap();
        }
        log
    }

    fn read(path: &Path, query: &LogQuery) -> Vec<i64> {
        let mut lines = Vec::new();
        LogReader::new(path)
            .read(query, &mut |entry: &LogEntry<'_>| {
                assert_eq!(entry.stream == Stream::Stderr, lines_parity(entry));
                lines.push(entry.text.trim().parse().unwrap());
                Ok(())
            })
            .unwrap();
        lines
    }

    fn lines_parity(entry: &LogEntry<'_>) -> bool {
        entry.text.trim().parse::<i64>().unwrap() % 2 == 1
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
        let long = "x".repeat(3 * MAX_LINE);
        std::fs::write(&path, format!("{good}\n{{\"log\n\n{long}\n{good}\n{good}")).unwrap();
        assert_eq!(read(&path, &LogQuery::default()), [1, 1]);
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
                    log.write(Stream::Stdout, format!("{n}\n").as_bytes(), at(n)).unwrap();
                    if n % 20 == 0 {
                        std::thread::sleep(Duration::from_millis(3));
                    }
                }
                ended.store(true, Ordering::SeqCst);
            });
            let check = || ended.load(Ordering::SeqCst);
            let mut sink = |entry: &LogEntry<'_>| {
                lines.push(entry.text.trim().parse().unwrap());
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
                        log.write(Stream::Stdout, format!("{n}\n").as_bytes(), at(n)).unwrap();
                    }
                    done.store(true, Ordering::SeqCst);
                }
                lines.push(entry.text.trim().parse().unwrap());
                Ok(())
            };
            let check = || done.load(Ordering::SeqCst);
            let ended = Ended { fd: None, check: &check };
            LogReader::new(&path).follow(&LogQuery::default(), &ended, &mut sink).unwrap();
            assert_eq!(lines, (0..1500).collect::<Vec<_>>(), "of {max_files} files");
            // Nobody reads any more: the next rotations leave what was asked for.
            for n in 0..20 {
                log.write(Stream::Stdout, b"more\n", at(n)).unwrap();
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
        let mut log =
            LogWriter::open(&path, LogOptions { max_size: Some(300), max_files: 1, ..LogOptions::default() })
                .unwrap();
        log.write(Stream::Stdout, b"0\n1\n2\n3\n", at(0)).unwrap();
        let query = LogQuery { tail: Some(0), ..LogQuery::default() };
        let mut lines: Vec<String> = Vec::new();
        let calls = std::cell::Cell::new(0);
        let log = std::cell::RefCell::new(log);
        let check = || {
            calls.set(calls.get() + 1);
            log.borrow_mut().write(Stream::Stdout, format!("{}\n", calls.get()).as_bytes(), at(1)).unwrap();
            calls.get() >= 6
        };
        let mut sink = |entry: &LogEntry<'_>| {
            lines.push(entry.text.trim().to_owned());
            Ok(())
        };
        LogReader::new(&path).follow(&query, &Ended { fd: None, check: &check }, &mut sink).unwrap();
        assert_eq!(lines.last().map(String::as_str), Some("6"), "{lines:?}");
    }
}

//! The side of the log that the monitor holds for a container's life: few bytes of memory, one `write` a batch.
//!
//! A follower has a lock on the file it reads. At a rotation that file and the newer ones stay, up to [`BEHIND`] bytes of
//! them, so that one that is slower than the container misses nothing; without a lock the oldest go.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rbox_sys::lock::{self, How};

use crate::logs::{LogOptions, MAX_ENTRY, Stream, number};

/// A batch is written out when it reaches this; a chatty container costs no more memory than this.
const BATCH: usize = 32 * 1024;

/// What is kept at most for a follower that is behind, beyond what the options say.
const BEHIND: u64 = 64 << 20;
/// And in so many files.
const BEHIND_FILES: u64 = 256;

/// Appends a container's output to its log file and rotates it.
#[derive(Debug)]
pub(crate) struct LogWriter {
    path: PathBuf,
    options: LogOptions,
    file: File,
    /// Which one `file` is.
    number: u64,
    /// Bytes in `file`.
    size: u64,
    /// Encoded entries that are not written yet; empty between calls.
    batch: Vec<u8>,
    /// The beginning of a line whose end has not come, for each stream.
    partial: [Vec<u8>; 2],
    /// What stands in each entry between its stream and its time.
    attributes: Vec<u8>,
}

impl LogWriter {
    /// Opens or makes the file at `path`, readable by root only.
    pub(crate) fn open(path: &Path, options: LogOptions) -> io::Result<Self> {
        let mut file = open_file(path)?;
        let size = file.metadata()?.len();
        let number = number::of(&file).unwrap_or_else(|| {
            let before =
                rbox_sys::own::open_to_read(&numbered(path, 1)).ok().and_then(|file| number::of(&file));
            let next = before.map_or(1, |number| number + 1);
            number::give(&file, next);
            next
        });
        let mut writer = Self {
            path: path.to_owned(),
            attributes: encode_attributes(&options.attributes)?,
            options,
            number,
            size,
            batch: Vec::new(),
            partial: [Vec::new(), Vec::new()],
            file: file.try_clone()?,
        };
        if size > 0 {
            // A writer that was killed may have left half an entry; the next one begins on its own line.
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                writer.batch.push(b'\n');
                writer.flush()?;
            }
        }
        Ok(writer)
    }

    /// Takes output as it was read. Whole lines are on disk when this returns; the beginning of a line waits for
    /// its end, for [`MAX_ENTRY`] bytes, or for [`finish`](Self::finish).
    ///
    /// After an error (a full disk) the lines of this call are lost and the next call tries again.
    pub(crate) fn write(&mut self, stream: Stream, data: &[u8], now: Timestamp) -> io::Result<()> {
        for piece in data.split_inclusive(|byte| *byte == b'\n') {
            self.piece(stream, piece, now)?;
        }
        self.flush()
    }

    /// Writes what waits for its line's end. For a stream that was closed.
    pub(crate) fn finish(&mut self, now: Timestamp) -> io::Result<()> {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let rest = std::mem::take(&mut self.partial[stream as usize]);
            if !rest.is_empty() {
                self.entry(stream, &rest, now)?;
            }
        }
        self.flush()
    }

    fn piece(&mut self, stream: Stream, mut piece: &[u8], now: Timestamp) -> io::Result<()> {
        let ends = piece.ends_with(b"\n");
        if ends && self.partial[stream as usize].is_empty() && piece.len() <= MAX_ENTRY {
            return self.entry(stream, piece, now);
        }
        while !piece.is_empty() {
            let mut line = std::mem::take(&mut self.partial[stream as usize]);
            let room = MAX_ENTRY - line.len().min(MAX_ENTRY);
            let (now_taken, later) = piece.split_at(room.min(piece.len()));
            line.extend_from_slice(now_taken);
            piece = later;
            if line.ends_with(b"\n") {
                self.entry(stream, &line, now)?;
                // A long line's buffer is given back: it may be the only one in this container's life.
                line.clear();
                line.shrink_to(256);
            } else if line.len() >= MAX_ENTRY {
                let whole = line.len() - cut_character(&line);
                self.entry(stream, &line[..whole], now)?;
                line.drain(..whole);
            }
            self.partial[stream as usize] = line;
        }
        Ok(())
    }

    fn entry(&mut self, stream: Stream, text: &[u8], now: Timestamp) -> io::Result<()> {
        if self.is_full() {
            self.flush()?;
            // It may have been cleared meanwhile.
            self.size = self.file.metadata()?.len();
            if self.is_full() {
                self.rotate()?;
            }
        }
        encode(&mut self.batch, stream, text, &self.attributes, now);
        if self.batch.len() >= BATCH { self.flush() } else { Ok(()) }
    }

    fn is_full(&self) -> bool {
        self.options.max_size.is_some_and(|max| self.size + self.batch.len() as u64 >= max)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let out = self.file.write_all(&self.batch);
        self.size += self.batch.len() as u64;
        self.batch.clear();
        // An entry can be six times its text; such a buffer is not kept.
        self.batch.shrink_to(BATCH);
        out
    }

    /// Moves each file up by one and begins a new one. What cannot be moved is given up rather than grown.
    fn rotate(&mut self) -> io::Result<()> {
        let numbered = |n: u32| numbered(&self.path, n);
        // Made under another name: one that is there has its number.
        let mut new = self.path.as_os_str().to_owned();
        new.push(".new");
        let file = open_file(Path::new(&new))?;
        file.set_len(0)?;
        number::give(&file, self.number + 1);
        let mut free = 1;
        while numbered(free).exists() {
            free += 1;
        }
        for n in (1..free).rev() {
            ignore_missing(std::fs::rename(numbered(n), numbered(n + 1)))?;
        }
        ignore_missing(std::fs::rename(&self.path, numbered(1)))?;
        std::fs::rename(&new, &self.path)?;
        self.file = file;
        self.number += 1;
        self.size = 0;
        let most = self.options.max_files.max(1);
        let behind = (BEHIND / self.options.max_size.unwrap_or(BEHIND).max(1)).clamp(1, BEHIND_FILES) as u32;
        for n in (most..=free).rev() {
            if n < most + behind && is_read(&numbered(n)) {
                break;
            }
            ignore_missing(std::fs::remove_file(numbered(n)))?;
        }
        Ok(())
    }
}

/// The file that `n` rotations ago was the current one.
pub(super) fn numbered(path: &Path, n: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    let _ = write!(name, ".{n}");
    name.into()
}

/// Whether a follower is at this file.
fn is_read(path: &Path) -> bool {
    rbox_sys::own::open_to_read(path).is_ok_and(|file| lock::try_take(&file, How::Exclusive) == Ok(false))
}

fn open_file(path: &Path) -> io::Result<File> {
    rbox_sys::own::open(path, OpenOptions::new().read(true).append(true).create(true).mode(0o640))
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// How many bytes at the end begin a UTF-8 character without ending it.
fn cut_character(bytes: &[u8]) -> usize {
    for back in 1..=bytes.len().min(3) {
        let byte = bytes[bytes.len() - back];
        let length = match byte {
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            0x80..=0xbf => continue,
            _ => return 0,
        };
        return if length > back { back } else { 0 };
    }
    0
}

/// Appends one entry as JSON. Bytes that are no UTF-8 become U+FFFD, as Docker writes them.
fn encode(out: &mut Vec<u8>, stream: Stream, text: &[u8], attributes: &[u8], time: Timestamp) {
    out.extend_from_slice(b"{\"log\":\"");
    for chunk in text.utf8_chunks() {
        encode_text(out, chunk.valid());
        if !chunk.invalid().is_empty() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
    out.extend_from_slice(b"\",\"stream\":\"");
    out.extend_from_slice(stream.as_str().as_bytes());
    out.push(b'"');
    out.extend_from_slice(attributes);
    // Writing to memory does not fail.
    let _ = writeln!(out, ",\"time\":\"{time}\"}}");
}

/// The member of an entry that holds its attributes; nothing when there are none.
fn encode_attributes(attributes: &BTreeMap<String, String>) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    if !attributes.is_empty() {
        out.extend_from_slice(b",\"attrs\":");
        serde_json::to_writer(&mut out, attributes)?;
    }
    Ok(out)
}

fn encode_text(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    let mut plain_from = 0;
    for (at, byte) in bytes.iter().enumerate() {
        let short: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            // Docker's encoder escapes these for HTML's sake; the same bytes come out here.
            0..=0x1f | b'<' | b'>' | b'&' => b"",
            _ => continue,
        };
        out.extend_from_slice(&bytes[plain_from..at]);
        if short.is_empty() {
            let _ = write!(out, "\\u{byte:04x}");
        } else {
            out.extend_from_slice(short);
        }
        plain_from = at + 1;
    }
    out.extend_from_slice(&bytes[plain_from..]);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::logs::LogEntry;

    fn entries(path: &Path) -> Vec<(String, &'static str)> {
        let text = std::fs::read(path).unwrap_or_default();
        let lines = text.split(|b| *b == b'\n').filter(|l| !l.is_empty());
        lines.filter_map(LogEntry::parse).map(|e| (e.text.into_owned(), e.stream.as_str())).collect()
    }

    fn now() -> Timestamp {
        "2026-01-02T03:04:05.1Z".parse().unwrap()
    }

    #[test]
    fn bytes_are_dockers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x-json.log");
        let mut log = LogWriter::open(&path, LogOptions::default()).unwrap();
        log.write(Stream::Stdout, b"a \"b\" \\ <c> \x1b\xff\t\xc3\xa9\r\n", now()).unwrap();
        let expected = r#"{"log":"a \"b\" \\ \u003cc\u003e \u001b\ufffd\té\r\n","stream":"stdout","time":"2026-01-02T03:04:05.1Z"}"#;
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{expected}\n"));
    }

    #[test]
    fn attributes_stand_in_each_entry() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let attributes = [("tag".to_owned(), "a\"b".to_owned())].into();
        let mut log = LogWriter::open(&path, LogOptions { attributes, ..LogOptions::default() }).unwrap();
        log.write(Stream::Stderr, b"x\n", now()).unwrap();
        let expected =
            r#"{"log":"x\n","stream":"stderr","attrs":{"tag":"a\"b"},"time":"2026-01-02T03:04:05.1Z"}"#;
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{expected}\n"));
    }

    #[test]
    fn lines_are_joined_and_long_ones_parted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = LogWriter::open(&path, LogOptions::default()).unwrap();
        log.write(Stream::Stdout, b"one\ntw", now()).unwrap();
        log.write(Stream::Stderr, b"err\n", now()).unwrap();
        log.write(Stream::Stdout, b"o\n", now()).unwrap();
        let expected = [("one\n", "stdout"), ("err\n", "stderr"), ("two\n", "stdout")];
        assert_eq!(entries(&path), expected.map(|(t, s)| (t.to_owned(), s)));

        // é straddles the limit: it must not be torn in two.
        let text = format!("{}é{}\n", "x".repeat(MAX_ENTRY - 1), "y".repeat(MAX_ENTRY));
        log.write(Stream::Stdout, text.as_bytes(), now()).unwrap();
        log.write(Stream::Stdout, b"last", now()).unwrap();
        log.finish(now()).unwrap();
        let all = entries(&path);
        let parts: Vec<&str> = all[3..].iter().map(|(t, _)| t.as_str()).collect();
        assert_eq!(parts.len(), 4, "{:?}", parts.iter().map(|p| p.len()).collect::<Vec<_>>());
        assert_eq!(parts[..3].concat(), text);
        assert_eq!(parts[0].len(), MAX_ENTRY - 1);
        assert_eq!(parts[3], "last");
        assert!(log.partial.iter().all(Vec::is_empty) && log.batch.capacity() <= BATCH);
    }

    #[test]
    fn files_rotate_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let options = LogOptions { max_size: Some(1000), max_files: 3, ..LogOptions::default() };
        let mut log = LogWriter::open(&path, options).unwrap();
        for n in 0..100 {
            log.write(Stream::Stdout, format!("line {n}\n").as_bytes(), now()).unwrap();
        }
        let mut names: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["log", "log.1", "log.2"]);
        let all: Vec<_> =
            [numbered(&path, 2), numbered(&path, 1), path.clone()].iter().flat_map(|p| entries(p)).collect();
        assert_eq!(all.last().unwrap().0, "line 99\n");
        let first: usize = all[0].0.trim().trim_start_matches("line ").parse().unwrap();
        assert_eq!(all.len(), 100 - first, "no line lost between files");
        for file in [numbered(&path, 2), numbered(&path, 1)] {
            let size = file.metadata().unwrap().len();
            assert!((1000..1200).contains(&size), "{size}");
        }
    }

    #[test]
    fn a_single_file_starts_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log =
            LogWriter::open(&path, LogOptions { max_size: Some(300), max_files: 1, ..LogOptions::default() })
                .unwrap();
        for n in 0..50 {
            log.write(Stream::Stdout, format!("line {n}\n").as_bytes(), now()).unwrap();
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(path.metadata().unwrap().len() < 500);
        assert_eq!(entries(&path).last().unwrap().0, "line 49\n");
    }

    #[test]
    fn a_torn_entry_is_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, b"{\"log\":\"torn").unwrap();
        let mut log = LogWriter::open(&path, LogOptions::default()).unwrap();
        log.write(Stream::Stdout, b"next\n", now()).unwrap();
        assert_eq!(entries(&path), [("next\n".to_owned(), "stdout")]);
    }
}

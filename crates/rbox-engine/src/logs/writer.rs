//! The side of the log that the monitor holds for a container's life: from output as it is read to entries.

use std::io;
use std::path::Path;

use jiff::Timestamp;
use rustix::event::PollFd;

use crate::logs::aside::Aside;
use crate::logs::entry::Encoder;
use crate::logs::file::LogFile;
use crate::logs::{LogOptions, MAX_ENTRY, Stream};

/// Takes a container's output.
#[derive(Debug)]
pub(crate) struct LogWriter {
    encoder: Encoder,
    to: To,
    /// The beginning of a line whose end has not come, for each stream.
    partial: [Vec<u8>; 2],
}

/// Who writes entries.
#[derive(Debug)]
enum To {
    /// This process.
    File(LogFile),
    /// Another one, and a buffer for one entry.
    Aside(Aside, Vec<u8>),
}

impl LogWriter {
    /// For the log at `path`. A file that cannot be opened is no error: entries that are lost for that are counted like others.
    pub(crate) fn open(path: &Path, options: &LogOptions) -> io::Result<Self> {
        let encoder = Encoder::new(options.form, &options.attributes)?;
        // Where no process can be made, this one writes: the program may have to wait, and loses nothing.
        let start = |most| Aside::start(path, options.clone(), encoder.clone(), most).ok();
        let to = match options.buffer.and_then(start) {
            Some(aside) => To::Aside(aside, Vec::new()),
            None => To::File(LogFile::open(path, options, encoder.clone())),
        };
        Ok(Self { encoder, to, partial: [Vec::new(), Vec::new()] })
    }

    /// Takes output as it was read. Whole lines are on disk when this returns, unless another process writes them; the beginning of a
    /// line waits for its end, for [`MAX_ENTRY`] bytes, or for [`finish`](Self::finish).
    pub(crate) fn write(&mut self, stream: Stream, data: &[u8], now: Timestamp) {
        for piece in data.split_inclusive(|byte| *byte == b'\n') {
            self.piece(stream, piece, now);
        }
        match &mut self.to {
            To::File(file) => file.flush(),
            To::Aside(aside, _) => aside.turn(),
        }
    }

    /// Ready when [`turn`](Self::turn) has something to do.
    pub(crate) fn poll_fd(&self) -> Option<PollFd<'_>> {
        match &self.to {
            To::File(_) => None,
            To::Aside(aside, _) => aside.poll_fd(),
        }
    }

    /// Passes on what waits, as far as that goes at once.
    pub(crate) fn turn(&mut self) {
        if let To::Aside(aside, _) = &mut self.to {
            aside.turn();
        }
    }

    /// Writes all that waits, also what waits for its line's end: nothing comes any more.
    pub(crate) fn finish(&mut self, now: Timestamp) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let rest = std::mem::take(&mut self.partial[stream as usize]);
            if !rest.is_empty() {
                self.entry(stream, &rest, now);
            }
        }
        match &mut self.to {
            To::File(file) => file.close(),
            To::Aside(aside, _) => aside.finish(),
        }
    }

    fn piece(&mut self, stream: Stream, mut piece: &[u8], now: Timestamp) {
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
                self.entry(stream, &line, now);
                // A long line's buffer is given back: it may be the only one in this container's life.
                line.clear();
                line.shrink_to(256);
            } else if line.len() >= MAX_ENTRY {
                let whole = line.len() - cut_character(&line);
                self.entry(stream, &line[..whole], now);
                line.drain(..whole);
            }
            self.partial[stream as usize] = line;
        }
    }

    fn entry(&mut self, stream: Stream, text: &[u8], now: Timestamp) {
        match &mut self.to {
            To::File(file) => {
                if file.makes_room() {
                    self.encoder.encode(&mut file.batch, stream, text, now);
                    file.added();
                }
            }
            To::Aside(aside, entry) => {
                self.encoder.encode(entry, stream, text, now);
                aside.entry(entry, now);
                entry.clear();
            }
        }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::logs::LogEntry;
    use crate::logs::file::numbered;

    fn entries(path: &Path) -> Vec<(String, &'static str)> {
        let text = std::fs::read(path).unwrap_or_default();
        let lines = text.split(|b| *b == b'\n').filter(|l| !l.is_empty());
        lines
            .filter_map(LogEntry::parse)
            .map(|e| (String::from_utf8_lossy(&e.text).into_owned(), e.stream.as_str()))
            .collect()
    }

    fn now() -> Timestamp {
        "2026-01-02T03:04:05.1Z".parse().unwrap()
    }

    #[test]
    fn attributes_stand_in_each_entry() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let attributes = [("tag".to_owned(), "a\"b".to_owned())].into();
        let mut log = LogWriter::open(&path, &LogOptions { attributes, ..LogOptions::default() }).unwrap();
        log.write(Stream::Stderr, b"x\n", now());
        let expected =
            r#"{"log":"x\n","stream":"stderr","attrs":{"tag":"a\"b"},"time":"2026-01-02T03:04:05.1Z"}"#;
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{expected}\n"));
    }

    #[test]
    fn lines_are_joined_and_long_ones_parted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = LogWriter::open(&path, &LogOptions::default()).unwrap();
        log.write(Stream::Stdout, b"one\ntw", now());
        log.write(Stream::Stderr, b"err\n", now());
        log.write(Stream::Stdout, b"o\n", now());
        let expected = [("one\n", "stdout"), ("err\n", "stderr"), ("two\n", "stdout")];
        assert_eq!(entries(&path), expected.map(|(t, s)| (t.to_owned(), s)));

        // é straddles the limit: it must not be torn in two.
        let text = format!("{}é{}\n", "x".repeat(MAX_ENTRY - 1), "y".repeat(MAX_ENTRY));
        log.write(Stream::Stdout, text.as_bytes(), now());
        log.write(Stream::Stdout, b"last", now());
        log.finish(now());
        let all = entries(&path);
        let parts: Vec<&str> = all[3..].iter().map(|(t, _)| t.as_str()).collect();
        assert_eq!(parts.len(), 4, "{:?}", parts.iter().map(|p| p.len()).collect::<Vec<_>>());
        assert_eq!(parts[..3].concat(), text);
        assert_eq!(parts[0].len(), MAX_ENTRY - 1);
        assert_eq!(parts[3], "last");
        assert!(log.partial.iter().all(Vec::is_empty));
    }

    #[test]
    fn files_rotate_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let options = LogOptions { max_size: Some(1000), max_files: 3, ..LogOptions::default() };
        let mut log = LogWriter::open(&path, &options).unwrap();
        for n in 0..100 {
            log.write(Stream::Stdout, format!("line {n}\n").as_bytes(), now());
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
        let mut log = LogWriter::open(
            &path,
            &LogOptions { max_size: Some(300), max_files: 1, ..LogOptions::default() },
        )
        .unwrap();
        for n in 0..50 {
            log.write(Stream::Stdout, format!("line {n}\n").as_bytes(), now());
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(path.metadata().unwrap().len() < 500);
        assert_eq!(entries(&path).last().unwrap().0, "line 49\n");
    }
}

//! The files of one log: written, rotated, and what could not be written counted.
//!
//! A follower has a lock on the file it reads. At a rotation that file and the newer ones stay, up to [`BEHIND`] bytes of
//! them, so that one that is slower than the container misses nothing; without a lock the oldest go.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rbox_sys::lock::{self, How};

use crate::logs::entry::Encoder;
use crate::logs::{LogOptions, Stream, number};

/// A batch is written out when it reaches this; a chatty container costs no more memory than this.
pub(super) const BATCH: usize = 32 * 1024;

/// What is kept at most for a follower that is behind, beyond what the options say.
const BEHIND: u64 = 64 << 20;
/// And in so many files.
const BEHIND_FILES: u64 = 256;

/// Appends entries. An error costs entries and never the container: they are counted, and an entry of its own tells how many there
/// were, and why, as soon as one can be written again.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    max_size: Option<u64>,
    max_files: u32,
    /// Of what is said about losses.
    encoder: Encoder,
    /// None where it could not be opened; the next entry tries again.
    file: Option<File>,
    /// Which one `file` is.
    number: u64,
    /// Bytes in `file`.
    size: u64,
    /// Entries that are not written yet; empty between calls.
    pub(super) batch: Vec<u8>,
    lost: u64,
    /// When the last of those was, and why.
    lost_at: Timestamp,
    why: String,
}

impl LogFile {
    /// Opens or makes the file at `path`, readable by root only.
    pub(super) fn open(path: &Path, options: &LogOptions, encoder: Encoder) -> Self {
        let mut file = Self {
            path: path.to_owned(),
            max_size: options.max_size,
            max_files: options.max_files,
            encoder,
            file: None,
            number: 0,
            size: 0,
            batch: Vec::new(),
            lost: 0,
            lost_at: Timestamp::UNIX_EPOCH,
            why: String::new(),
        };
        // Nothing is lost yet.
        let _ = file.current();
        file
    }

    /// The file that is written to.
    fn current(&mut self) -> io::Result<&File> {
        if self.file.is_none() {
            let file = open_file(&self.path)?;
            // A writer that was killed may have left half an entry.
            let length = file.metadata()?.len();
            let whole = whole(&file, length)?;
            if whole < length {
                cut(&file, whole)?;
                self.loses(1, "it was cut short".into());
            }
            self.size = whole;
            self.number = number::of(&file).unwrap_or_else(|| {
                let before = rbox_sys::own::open_to_read(&numbered(&self.path, 1));
                let next = before.ok().and_then(|file| number::of(&file)).map_or(1, |number| number + 1);
                number::give(&file, next);
                next
            });
            self.file = Some(file);
        }
        self.file.as_ref().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Takes an entry that is encoded.
    pub(super) fn entry(&mut self, entry: &[u8]) {
        if self.makes_room() {
            self.batch.extend_from_slice(entry);
            self.added();
        }
    }

    /// Makes room in `batch` for one more entry, which begins another file when this one is full. False when that is lost.
    pub(super) fn makes_room(&mut self) -> bool {
        if self.is_full() {
            self.flush();
            // It may have been cleared meanwhile.
            self.size =
                self.file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |found| found.len());
            if self.is_full()
                && let Err(error) = self.rotate()
            {
                self.loses(1, rbox_sys::plain(error));
                return false;
            }
        }
        true
    }

    /// An entry was added to `batch`.
    pub(super) fn added(&mut self) {
        if self.batch.len() >= BATCH {
            self.flush();
        }
    }

    fn is_full(&self) -> bool {
        self.max_size.is_some_and(|max| self.size + self.batch.len() as u64 >= max)
    }

    /// Writes out what waits.
    pub(super) fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let mut batch = std::mem::take(&mut self.batch);
        let before = self.lost;
        if before > 0 {
            batch.splice(0..0, self.told());
        }
        let (written, error) = self.append(&batch);
        if before > 0 && written > 0 {
            self.lost = 0;
        }
        if let Some(error) = error {
            // That some were lost is no line of the container's.
            let own = u64::from(before > 0 && written == 0);
            self.loses(entries(&batch[written..]) - own, rbox_sys::plain(error));
        }
        batch.clear();
        // An entry can be six times its text; such a buffer is not kept.
        batch.shrink_to(BATCH);
        self.batch = batch;
    }

    /// Writes out what waits, and tells what was lost: nothing comes any more.
    pub(super) fn close(&mut self) {
        self.flush();
        if self.lost > 0 && self.append(&self.told()).0 == 0 {
            // Nothing can be done about it if that does not go either.
            let _ = self.tell_in_place();
        }
        self.lost = 0;
    }

    fn loses(&mut self, lines: u64, why: String) {
        self.lost += lines;
        (self.lost_at, self.why) = (Timestamp::now(), why);
    }

    /// What tells of those that were lost.
    fn told(&self) -> Vec<u8> {
        let lines = if self.lost == 1 { "line was" } else { "lines were" };
        let text = format!("rbox: {} {lines} lost here: {}\n", self.lost, self.why);
        let mut out = Vec::new();
        self.encoder.encode(&mut out, Stream::Stderr, text.as_bytes(), self.lost_at);
        out
    }

    /// Writes entries: the length of those that are whole in the file, and why the others are not.
    fn append(&mut self, bytes: &[u8]) -> (usize, Option<io::Error>) {
        let mut file = match self.current() {
            Ok(file) => file,
            Err(error) => return (0, Some(error)),
        };
        let mut done = 0;
        let error = loop {
            match file.write(&bytes[done..]) {
                Ok(0) => break Some(io::ErrorKind::WriteZero.into()),
                Ok(length) => done += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Some(error),
            }
            if done == bytes.len() {
                break None;
            }
        };
        let whole = end_of_last(&bytes[..done]);
        let torn = (done - whole) as u64;
        let cut = torn == 0 || file.metadata().and_then(|found| cut(file, found.len() - torn)).is_ok();
        self.size += whole as u64;
        if !cut {
            // Opening it again sees to it.
            self.file = None;
        }
        (whole, error)
    }

    /// Tells of what was lost in the place of the last entries, where a full disk gives no more room: its last block has some.
    fn tell_in_place(&mut self) -> io::Result<()> {
        const LOOKED_AT: u64 = 256 * 1024;
        // The number may have more digits by the time it is written.
        let room = self.told().len() as u64 + 20;
        let file = self.current()?;
        let found = file.metadata()?;
        let (length, block) = (found.len(), found.blksize().max(1));
        let from = length.saturating_sub(LOOKED_AT);
        let mut bytes = vec![0; (length - from) as usize];
        file.read_exact_at(&mut bytes, from)?;
        let ends = bytes.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
        let mut ends = ends.map(|(at, _)| at + 1);
        let fits = ends.find(|end| {
            let used = (from + *end as u64) % block;
            used > 0 && block - used >= room
        });
        let Some(end) = fits else { return Ok(()) };
        cut(file, from + end as u64)?;
        let why = std::mem::take(&mut self.why);
        self.loses(entries(&bytes[end..]), why);
        self.append(&self.told());
        Ok(())
    }

    /// Moves each file up by one and begins a new one. What cannot be moved is given up rather than grown.
    fn rotate(&mut self) -> io::Result<()> {
        let numbered = |n: u32| numbered(&self.path, n);
        let most = self.max_files.max(1);
        // Made under another name: one that is there has its number.
        let mut new: OsString = self.path.as_os_str().to_owned();
        new.push(".new");
        let file = open_file(Path::new(&new)).or_else(|error| {
            // On a full disk the oldest goes first.
            if most == 1 || is_read(&numbered(most - 1)) {
                return Err(error);
            }
            std::fs::remove_file(numbered(most - 1)).and_then(|()| open_file(Path::new(&new)))
        })?;
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
        self.file = Some(file);
        self.number += 1;
        self.size = 0;
        let behind = (BEHIND / self.max_size.unwrap_or(BEHIND).max(1)).clamp(1, BEHIND_FILES) as u32;
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
    name.push(format!(".{n}"));
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

fn entries(bytes: &[u8]) -> u64 {
    bytes.split_inclusive(|byte| *byte == b'\n').count() as u64
}

/// Where the last entry that is whole ends.
pub(super) fn end_of_last(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1)
}

/// How long the part of the file is that ends with a whole entry.
fn whole(file: &File, length: u64) -> io::Result<u64> {
    let mut end = length;
    let mut block = vec![0; BATCH];
    // The last byte alone says it nearly always.
    let mut step = 1;
    while end > 0 {
        let start = end.saturating_sub(step);
        let bytes = &mut block[..(end - start) as usize];
        file.read_exact_at(bytes, start)?;
        let last = end_of_last(bytes);
        if last > 0 {
            return Ok(start + last as u64);
        }
        (end, step) = (start, BATCH as u64);
    }
    Ok(0)
}

/// Cuts the file to its first `length` bytes.
fn cut(file: &File, length: u64) -> io::Result<()> {
    let life = number::life(file);
    if file.metadata()?.len() > length {
        file.set_len(length)?;
        if number::life(file) != life {
            // It was emptied just then, and must not have become longer by this.
            file.set_len(0)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::logs::LogEntry;
    use crate::logs::entry::Form;

    fn texts(path: &Path) -> Vec<String> {
        let bytes = std::fs::read(path).unwrap();
        let lines = bytes.split_inclusive(|byte| *byte == b'\n');
        lines
            .map(|line| String::from_utf8(LogEntry::parse(line).unwrap().text.into_owned()).unwrap())
            .collect()
    }

    fn opened(path: &Path, form: Form) -> (LogFile, impl Fn(&str) -> Vec<u8> + use<>) {
        let encoder = Encoder::new(form, &std::collections::BTreeMap::new()).unwrap();
        let file = LogFile::open(path, &LogOptions::default(), encoder.clone());
        let encode = move |text: &str| {
            let mut out = Vec::new();
            encoder.encode(&mut out, Stream::Stdout, text.as_bytes(), Timestamp::UNIX_EPOCH);
            out
        };
        (file, encode)
    }

    #[test]
    fn a_torn_entry_is_cut_away() {
        for (form, torn) in
            [(Form::Json, &b"{\"log\":\"torn"[..]), (Form::Plain, b"1970-01-01T00:00:00Z stdout F to")]
        {
            for before in [0, 1, 3000] {
                let dir = tempfile::tempdir().unwrap();
                let path = dir.path().join("log");
                let (_, encode) = opened(&path, form);
                let mut bytes = encode("before\n").repeat(before);
                bytes.extend_from_slice(torn);
                std::fs::write(&path, bytes).unwrap();
                let (mut file, _) = opened(&path, form);
                file.entry(&encode("next\n"));
                file.flush();
                let texts = texts(&path);
                assert_eq!(texts.len(), before + 2);
                let told = "rbox: 1 line was lost here: it was cut short\n";
                assert_eq!(texts[before..], [told, "next\n"]);
            }
        }
    }

    /// /dev/full is no regular file, so what is full is a limit of the file's size, for which a process of its own is needed: `suite` has
    /// that. Here the file cannot be opened for a while.
    #[test]
    fn what_was_lost_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::create_dir(&path).unwrap();
        let (mut file, encode) = opened(&path, Form::Plain);
        for n in 0..3 {
            file.entry(&encode(&format!("{n}\n")));
            file.flush();
        }
        std::fs::remove_dir(&path).unwrap();
        file.entry(&encode("3\n"));
        file.flush();
        file.close();
        let texts = texts(&path);
        assert_eq!(texts.len(), 2, "{texts:?}");
        assert!(texts[0].starts_with("rbox: 3 lines were lost here: "), "{texts:?}");
        assert_eq!(texts[1], "3\n");
    }

    #[test]
    fn it_is_told_in_the_place_of_the_last_entries() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let (mut file, encode) = opened(&path, Form::Plain);
        let line = encode(&format!("{}\n", "x".repeat(100)));
        let most = 2 * path.metadata().unwrap().blksize();
        while file.size + file.batch.len() as u64 + (line.len() as u64) < most {
            file.entry(&line);
        }
        file.flush();
        let before = texts(&path).len();
        file.loses(1000, "the test".into());
        file.tell_in_place().unwrap();
        let texts = texts(&path);
        assert!(path.metadata().unwrap().len() <= most);
        assert!(texts.len() < before + 1, "{} of {before}", texts.len());
        let told = format!("rbox: {} lines were lost here: the test\n", 1000 + before - (texts.len() - 1));
        assert_eq!(texts.last().unwrap(), &told);
    }
}

//! Emptying a log, also one that is being written and followed.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind};
use std::path::Path;

use crate::logs::file::numbered;
use crate::logs::number;

/// Empties the log whose current file is at `path`. The writer goes on at the file's new end, and a follower with what comes. What
/// is rotated away while this works is emptied too: it looks again until no rotation came between.
pub(crate) fn clear(path: &Path) -> io::Result<()> {
    const ROTATIONS: usize = 50;
    for _ in 0..ROTATIONS {
        let file = match rbox_sys::own::open(path, OpenOptions::new().write(true)) {
            // Nothing was written yet, or the writer is about to put a new file here.
            Err(error) if error.kind() == ErrorKind::NotFound && !numbered(path, 1).exists() => return Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            file => file?,
        };
        let life = number::empties(&file);
        let done = file.set_len(0);
        number::emptied(&file, life);
        done?;
        for n in 1.. {
            match std::fs::remove_file(numbered(path, n)) {
                Err(error) if error.kind() == ErrorKind::NotFound => break,
                other => other?,
            }
        }
        let current = rbox_sys::own::open_to_read(path);
        if current.is_ok_and(|current| number::of(&current) == number::of(&file))
            && !numbered(path, 1).exists()
        {
            return Ok(());
        }
    }
    Err(io::Error::new(ErrorKind::ResourceBusy, "the container writes faster than its log can be emptied"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::logs::{LogOptions, LogQuery, LogReader, LogWriter, Stream};

    fn lines(path: &Path) -> Vec<String> {
        let mut lines = Vec::new();
        let mut sink = |entry: &crate::logs::LogEntry<'_>| {
            lines.push(String::from_utf8_lossy(&entry.text).trim().to_owned());
            Ok(())
        };
        LogReader::new(path).read(&LogQuery::default(), true, &mut sink).unwrap();
        lines
    }

    #[test]
    fn the_writer_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        clear(&path).unwrap();
        let options = LogOptions { max_size: Some(300), max_files: 4, ..LogOptions::default() };
        let mut log = LogWriter::open(&path, &options).unwrap();
        let mut write = |text: &str| log.write(Stream::Stdout, text.as_bytes(), jiff::Timestamp::UNIX_EPOCH);
        (0..20).for_each(|n| write(&format!("{n}\n")));
        assert!(numbered(&path, 2).exists(), "the test means to have several files");
        clear(&path).unwrap();
        assert_eq!(lines(&path), Vec::<String>::new());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        write("after\n");
        assert_eq!(lines(&path), ["after"]);
        // It counts from the file's new end.
        write("more\n");
        assert!(!numbered(&path, 1).exists());
    }
}

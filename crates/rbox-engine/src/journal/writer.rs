//! Appending to the journal, and putting a full one aside.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rbox_sys::lock::{self, How, Patience};

use crate::journal::message::Message;

/// A file of more bytes is full. With the one before it: some forty thousand events.
const FULL: u64 = 8 << 20;

/// A rename takes microseconds. Somebody who is stopped just then is not waited for.
const PATIENCE: Patience = Patience::of(Duration::from_millis(50));

/// Appends these events, which happen now, as one write.
pub(super) fn append(path: &Path, messages: Vec<Message>) -> io::Result<()> {
    append_up_to(path, messages, FULL)
}

/// With a limit of its own, for tests.
pub(super) fn append_up_to(path: &Path, mut messages: Vec<Message>, full: u64) -> io::Result<()> {
    let (mut file, size) = open_current(path)?;
    // As late as can be: the order of times is to be that of lines.
    let now = i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or_default();
    let mut text = Vec::with_capacity(1024);
    for (later, message) in (0..).zip(&mut messages) {
        message.time = now.saturating_add(later);
        text.extend(message.line());
    }
    let written = file.write(&text)?;
    if size + written as u64 >= full {
        rotate(path, &file)?;
    }
    Ok(())
}

/// The file that is to be written to, with the lock that keeps it from being renamed, and its size. Closing it gives up the lock.
fn open_current(path: &Path) -> io::Result<(File, u64)> {
    let mut options = File::options();
    options.append(true).create(true).mode(0o600);
    loop {
        let file = rbox_sys::own::open(path, &mut options)?;
        // Without it the line may land in a file that is being renamed, where who reads along looks once more.
        let held = lock::take(&file, How::Shared, PATIENCE).is_ok();
        let ours = file.metadata()?;
        match std::fs::symlink_metadata(path) {
            Ok(there) if (there.dev(), there.ino()) == (ours.dev(), ours.ino()) => {
                return Ok((file, ours.len()));
            }
            // It was renamed between the two.
            Ok(_) if held => {}
            Err(error) if held && error.kind() == io::ErrorKind::NotFound => {}
            _ => return Ok((file, ours.len())),
        }
    }
}

/// Puts the full file aside and deletes the one before it, unless others are writing to it just now: then one of them does it.
fn rotate(path: &Path, file: &File) -> io::Result<()> {
    if !lock::try_take(file, How::Exclusive)? {
        return Ok(());
    }
    // Another may have been faster while the lock changed from shared to exclusive.
    let ours = file.metadata()?;
    let is_current = std::fs::symlink_metadata(path).is_ok_and(|there| there.ino() == ours.ino());
    if !is_current {
        return Ok(());
    }
    let former = numbered(path)?;
    let next = former.last().map_or(0, |(number, _)| *number) + 1;
    std::fs::rename(path, with_number(path, next))?;
    for (_, path) in former {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

/// What the `number`th full file is called.
fn with_number(path: &Path, number: u64) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

/// The full files that are there, by number: one, or two after a kill between a rename and a removal.
pub(super) fn numbered(path: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return Ok(Vec::new()) };
    let listing = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let prefix = format!("{}.", name.to_string_lossy());
    let number = |entry: &std::fs::DirEntry| -> Option<u64> {
        entry.file_name().to_str()?.strip_prefix(&prefix)?.parse().ok()
    };
    let mut all: Vec<_> =
        listing.flatten().filter_map(|entry| Some((number(&entry)?, entry.path()))).collect();
    all.sort_unstable();
    Ok(all)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::journal::message::tests::message;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        (dir, path)
    }

    #[test]
    fn two_files_are_kept() {
        let (_dir, path) = place();
        for n in 0..100 {
            append_up_to(&path, vec![message(&format!("n{n}"), 0)], 1000).unwrap();
        }
        let files = numbered(&path).unwrap();
        assert_eq!(files.len(), 1);
        assert!(files[0].0 > 5, "{files:?}");
        for file in [&path, &files[0].1] {
            assert!(std::fs::metadata(file).map_or(0, |meta| meta.len()) < 1500);
        }
        // A kill left the one before it: the next rotation takes both.
        std::fs::write(with_number(&path, 1), "").unwrap();
        for n in 0..10 {
            append_up_to(&path, vec![message(&format!("n{n}"), 0)], 1000).unwrap();
        }
        assert_eq!(numbered(&path).unwrap().len(), 1);
    }

    #[test]
    fn nobody_waits_long_for_one_who_renames() {
        let (_dir, path) = place();
        append(&path, vec![message("first", 0)]).unwrap();
        let holder = File::open(&path).unwrap();
        assert!(lock::try_take(&holder, How::Exclusive).unwrap());
        let begin = std::time::Instant::now();
        append(&path, vec![message("second", 0)]).unwrap();
        assert!(begin.elapsed() < Duration::from_secs(5));
        assert!(std::fs::read_to_string(&path).unwrap().contains("second"));
    }

    #[test]
    fn events_that_happen_together_have_times_in_order() {
        let (_dir, path) = place();
        append(&path, vec![message("one", 0), message("two", 0)]).unwrap();
        let text = std::fs::read(&path).unwrap();
        let times: Vec<i64> = text
            .split(|byte| *byte == b'\n')
            .filter_map(Message::parse)
            .map(|message| message.time)
            .collect();
        assert!(times.len() == 2 && times[0] + 1 == times[1], "{times:?}");
    }
}

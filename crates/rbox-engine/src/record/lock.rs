//! One lock a container, held by descriptor: whoever dies releases it (flock(2), law 7).
//!
//! The monitor holds it while its container runs and until everything of it is cleaned up. So a lock that can
//! be had means that nobody looks after the container any more, and its holder may tidy.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rbox_spec::id::ContainerId;
use rbox_sys::lock::{self, How, Patience};
use rbox_sys::own;

use crate::record::file::RecordError;
use crate::record::paths::{LOCK, Paths};

/// The longest pause between two attempts: what is waited for is mostly a monitor that cleans up, which takes a few milliseconds.
const LONGEST: Duration = Duration::from_millis(4);

/// The exclusive right to change a container's live state.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock of the live directory `dir`, which is made when missing. None when somebody holds it.
    pub(crate) fn try_take(dir: &Path) -> Result<Option<Self>, RecordError> {
        let path = dir.join(LOCK);
        loop {
            let file =
                match own::open(&path, File::options().create(true).truncate(false).write(true).read(true)) {
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {
                        rbox_sys::own::make_private(dir).map_err(RecordError::io("make directory", dir))?;
                        continue;
                    }
                    other => other.map_err(RecordError::io("open", &path))?,
                };
            match lock::try_take(&file, How::Exclusive) {
                Ok(true) if is_at(&file, &path) => return Ok(Some(Self { file })),
                // The holder removed the directory between our open and our lock: this is another file.
                Ok(true) => {}
                Ok(false) => return Ok(None),
                Err(e) => return Err(RecordError::Io { action: "lock", path, source: e.into() }),
            }
        }
    }

    /// Takes the lock, waiting at most `patience`. None when it was held all that time.
    pub(crate) fn take_within(dir: &Path, patience: Duration) -> Result<Option<Self>, RecordError> {
        let begin = Instant::now();
        let mut pause = Duration::from_micros(200);
        loop {
            if let Some(lock) = Self::try_take(dir)? {
                return Ok(Some(lock));
            }
            if begin.elapsed() >= patience {
                return Ok(None);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST);
        }
    }

    /// How long ago the lock of `dir` came to be: with the life of the container that it is of.
    pub(crate) fn age(dir: &Path) -> Option<Duration> {
        std::fs::metadata(dir.join(LOCK)).ok()?.modified().ok()?.elapsed().ok()
    }

    /// Whether somebody holds the lock of `dir`; a directory that is not there is held by nobody.
    pub(crate) fn is_held(dir: &Path) -> bool {
        let Ok(file) = own::open_to_read(&dir.join(LOCK)) else { return false };
        lock::try_take(&file, How::Shared) == Ok(false)
    }

    /// What holds it.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Keeps the lock without a value to hold it: until this process ends.
    pub(crate) fn keep_until_exit(self) {
        std::mem::forget(self.file);
    }
}

/// Whether `path` leads to the open `file`.
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(ours), Ok(there)) => (ours.ino(), ours.dev()) == (there.ino(), there.dev()),
        _ => false,
    }
}

/// The right to change a container's `config.json`: one command at a time reads, changes and writes it.
#[derive(Debug)]
pub(crate) struct Editing {
    /// Closing it gives the right back.
    _dir: std::fs::File,
}

impl Editing {
    /// Waits for the right, but not without an end. None when the record is gone.
    pub(crate) fn begin(paths: &Paths, id: &ContainerId) -> Result<Option<Self>, RecordError> {
        Self::open(paths, id, |dir| lock::take(dir, How::Exclusive, Patience::MOMENT).map(|()| true))
    }

    /// The same, waiting no longer than `patience`. None, too, when it was not available.
    pub(crate) fn begin_within(
        paths: &Paths,
        id: &ContainerId,
        patience: Duration,
    ) -> Result<Option<Self>, RecordError> {
        let begin = Instant::now();
        Self::open(paths, id, |dir| {
            loop {
                if lock::try_take(dir, How::Exclusive)? {
                    return Ok(true);
                }
                if begin.elapsed() >= patience {
                    return Ok(false);
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        })
    }

    fn open(
        paths: &Paths,
        id: &ContainerId,
        lock: impl FnOnce(&std::fs::File) -> io::Result<bool>,
    ) -> Result<Option<Self>, RecordError> {
        let path = paths.container(id);
        let io_error = |action| {
            let path = path.clone();
            move |source: io::Error| RecordError::Io { action, path, source }
        };
        let flags = rustix::fs::OFlags::DIRECTORY.bits() as i32;
        let opened =
            std::os::unix::fs::OpenOptionsExt::custom_flags(std::fs::File::options().read(true), flags)
                .open(&path);
        let dir = match opened {
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            other => other.map_err(io_error("open"))?,
        };
        let locked = lock(&dir).map_err(io_error("lock"))?;
        Ok(locked.then_some(Self { _dir: dir }))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_and_none_of_a_removed_directory() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("lock");
        let first = Lock::try_take(&dir).unwrap().unwrap();
        assert!(Lock::try_take(&dir).unwrap().is_none());
        assert!(Lock::is_held(&dir));
        std::fs::remove_dir_all(&dir).unwrap();
        let second = Lock::try_take(&dir).unwrap().unwrap();
        drop(first);
        assert!(Lock::is_held(&dir));
        drop(second);
        assert!(!Lock::is_held(&dir));
    }
}

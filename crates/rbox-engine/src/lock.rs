//! One lock a container, held by descriptor: whoever dies releases it (flock(2), law 7).
//!
//! The monitor holds it while its container lives and until everything of it is cleaned up. So a lock that can
//! be had means that nobody looks after the container any more, and its holder may tidy.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rbox_sys::lock::{self, How};

use crate::error::EngineError;

/// The exclusive right to change a container's live state.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock of the live directory `dir`, which is made when missing. None when somebody holds it.
    pub fn try_take(dir: &Path) -> Result<Option<Self>, EngineError> {
        let path = dir.join("lock");
        loop {
            let file = match File::options().create(true).truncate(false).write(true).read(true).open(&path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    crate::paths::make_private(dir).map_err(EngineError::file("make directory", dir))?;
                    continue;
                }
                other => other.map_err(EngineError::file("open", &path))?,
            };
            match lock::try_take(&file, How::Exclusive) {
                Ok(true) if is_at(&file, &path) => return Ok(Some(Self { file })),
                // The holder removed the directory between our open and our lock: this is another file.
                Ok(true) => {}
                Ok(false) => return Ok(None),
                Err(e) => return Err(EngineError::File { action: "lock", path, source: e.into() }),
            }
        }
    }

    /// Takes the lock, waiting at most `patience`. None when it was held all that time.
    pub fn take_within(dir: &Path, patience: Duration) -> Result<Option<Self>, EngineError> {
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
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    /// Whether somebody holds the lock of `dir`; a directory that is not there is held by nobody.
    pub fn is_held(dir: &Path) -> bool {
        let Ok(file) = File::options().read(true).open(dir.join("lock")) else { return false };
        lock::try_take(&file, How::Shared) == Ok(false)
    }

    /// Keeps the lock without a value to hold it: until this process ends.
    pub fn keep_until_exit(self) {
        std::mem::forget(self.file);
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(ours), Ok(there)) => (ours.ino(), ours.dev()) == (there.ino(), there.dev()),
        _ => false,
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

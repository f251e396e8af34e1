//! The directory that a build works in.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rbox_sys::lock::{self, How, Patience};
use rbox_sys::own;

use super::dir::open_dir;
use super::error::{ContextError, io_error};

/// The directory of one build, which goes with it; or with the next build, should this one be killed.
#[derive(Debug)]
pub(crate) struct Work {
    dir: PathBuf,
    /// None: it is within that of a build, which holds the lock.
    _lock: Option<File>,
    next: AtomicU32,
}

impl Work {
    pub(crate) fn begin(build_dir: &Path) -> Result<Self, ContextError> {
        let all = build_dir.join("work");
        own::make_private(&all).map_err(io_error("make directory", &all))?;
        // A directory that is just being made has no lock yet.
        let turn = open_dir(&all)?;
        lock::take(&turn, How::Exclusive, Patience::WORK).map_err(io_error("lock", &all))?;
        sweep(&all);
        let name = format!("{}-{}", std::process::id(), jiff::Timestamp::now().as_nanosecond());
        let dir = all.join(name);
        own::make_private(&dir).map_err(io_error("make directory", &dir))?;
        let lock = File::from(open_dir(&dir)?);
        lock::try_take(&lock, How::Exclusive).map_err(|error| io_error("lock", &dir)(error.into()))?;
        Ok(Self { dir, _lock: Some(lock), next: AtomicU32::new(0) })
    }

    /// A directory within that of a build, which is there.
    pub(crate) fn below(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), _lock: None, next: AtomicU32::new(0) }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// A directory that is not there yet.
    pub(crate) fn fresh(&self) -> PathBuf {
        self.dir.join(self.next.fetch_add(1, Ordering::Relaxed).to_string())
    }

    /// An empty directory.
    pub(crate) fn empty(&self) -> Result<PathBuf, ContextError> {
        let dir = self.dir.join("empty");
        own::make_private(&dir).map_err(io_error("make directory", &dir))?;
        Ok(dir)
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let _ = rbox_sys::removal::remove_tree(&self.dir);
    }
}

/// Removes what builds left that were killed.
fn sweep(all: &Path) {
    for entry in std::fs::read_dir(all).into_iter().flatten().flatten() {
        let Ok(dir) = open_dir(&entry.path()) else { continue };
        if lock::try_take(&dir, How::Exclusive).unwrap_or(false) {
            let _ = rbox_sys::removal::remove_tree(&entry.path());
        }
    }
}

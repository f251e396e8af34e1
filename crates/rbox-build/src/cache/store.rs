//! Results of steps by their keys.

use std::fs::File;
use std::path::{Path, PathBuf};

use rbox_image::ImageStore;
use rbox_image::store::StoredLayer;
use rbox_spec::Digest;
use rbox_spec::record::{Record, Step, decode, encode};
use rbox_sys::lock::{How, Patience};
use rbox_sys::own;
use serde::{Deserialize, Serialize};

use super::key::Key;
use super::locked::{STEP, lock_at};
use crate::context::Work;
use crate::error::{BuildError, io_error};

/// What a step came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StepResult {
    /// Digest of the layer's uncompressed tar.
    pub(crate) diff_id: Digest,
    /// Digest of the layer's blob.
    pub(crate) digest: Digest,
    /// Bytes of that.
    pub(crate) blob_size: u64,
    pub(crate) media_type: String,
    /// Bytes of its files.
    pub(crate) size: u64,
    /// When it was carried out, RFC 3339.
    pub(crate) created: String,
    /// The step, for those who list the cache.
    pub(crate) what: String,
}

impl StepResult {
    /// A layer that was made now. `what`: the step.
    pub(crate) fn of_layer(layer: StoredLayer, what: String) -> Self {
        Self {
            diff_id: layer.diff_id,
            digest: layer.descriptor.digest,
            blob_size: layer.descriptor.size,
            media_type: layer.descriptor.media_type,
            size: layer.size,
            created: jiff::Timestamp::now().to_string(),
            what,
        }
    }
}

impl Record for StepResult {
    const STEPS: &'static [Step] = &[];
}

/// The results there are.
#[derive(Debug, Clone)]
pub(crate) struct StepCache {
    dir: PathBuf,
    images: ImageStore,
}

/// The right to carry out a step.
#[derive(Debug)]
pub(crate) struct Turn {
    _lock: File,
    path: PathBuf,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl StepCache {
    pub(crate) fn open(build_dir: &Path, images: ImageStore) -> Result<Self, BuildError> {
        let dir = build_dir.join("steps");
        own::make_private(&dir).map_err(io_error("make directory", &dir))?;
        Ok(Self { dir, images })
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.dir.join(format!("{key}.json"))
    }

    /// The result of a step, if it is there with its layer. It counts as used now.
    pub(crate) fn get(&self, key: &Key) -> Option<StepResult> {
        let path = self.path(key);
        let bytes = own::read(&path, 1 << 20).ok()?;
        let result: StepResult = decode(&bytes).ok()?;
        if !self.images.has_whole_layer(&result.diff_id, &result.digest, result.blob_size) {
            return None;
        }
        // Best effort: it says when it was used last.
        let _ = File::options()
            .write(true)
            .open(&path)
            .and_then(|file| file.set_modified(std::time::SystemTime::now()));
        Some(result)
    }

    /// Keeps the result of a step, and its layer in the store. Lost with the power, the step is carried out again.
    pub(crate) fn put(&self, key: &Key, result: &StepResult, work: &Work) -> Result<(), BuildError> {
        self.images.keep_layer(&result.diff_id, &result.digest)?;
        let path = self.path(key);
        let temporary = work.fresh();
        let bytes = encode(result).map_err(|error| BuildError::Internal(error.to_string()))?;
        own::write(&temporary, bytes)
            .and_then(|()| std::fs::rename(&temporary, &path))
            .map_err(io_error("write", &path))
    }

    /// The right to carry out a step. None: somebody else carries it out, and there is no `patience` for that.
    pub(crate) fn turn(&self, key: &Key, patience: Option<Patience>) -> Result<Option<Turn>, BuildError> {
        turn_at(self.dir.join(format!("{key}.lock")), patience)
    }

    /// The right to take a layer that needs much of the room there is. It is waited for.
    pub(crate) fn turn_for_room(&self) -> Result<Turn, BuildError> {
        let turn = turn_at(self.dir.join("room.lock"), Some(STEP))?;
        turn.ok_or_else(|| BuildError::Internal("a lock that was waited for was not taken".to_owned()))
    }
}

fn turn_at(path: PathBuf, patience: Option<Patience>) -> Result<Option<Turn>, BuildError> {
    let open = || {
        let mut options = File::options();
        own::open(&path, options.create(true).truncate(false).write(true)).map_err(io_error("open", &path))
    };
    // Whoever had it before has removed it.
    let lock = lock_at(&path, &open, How::Exclusive, patience)?;
    Ok(lock.map(|lock| Turn { _lock: lock, path }))
}

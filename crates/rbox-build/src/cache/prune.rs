//! What the cache holds, and emptying it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rbox_image::ImageStore;
use rbox_spec::record::decode;
use rbox_sys::lock::{self, How};
use rbox_sys::own;

use super::locked::lock_at;
use super::store::StepResult;
use crate::context::open_dir;
use crate::error::{BuildError, io_error};

/// Something that the cache keeps.
#[derive(Debug, Clone)]
pub struct CacheEntry {
    /// What it is found by: a step's key, or a mount's.
    pub id: String,
    /// `regular` for a step, `exec.cachemount` for a cache of `RUN --mount=type=cache`.
    pub kind: &'static str,
    /// The step, or the id of the mount.
    pub description: String,
    /// Bytes of its files.
    pub size: u64,
    /// When it was used last.
    pub used: SystemTime,
    /// A build uses it now.
    pub is_in_use: bool,
    path: PathBuf,
    layer: Option<rbox_spec::Digest>,
}

impl CacheEntry {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// What was taken away.
#[derive(Debug, Clone, Default)]
pub struct PrunedCache {
    /// The entries.
    pub removed: Vec<CacheEntry>,
    /// Bytes of disk given back.
    pub freed: u64,
}

/// All that the cache keeps, that which was used last first.
///
/// # Errors
/// The directories cannot be read.
pub fn cache_entries(build_dir: &Path) -> Result<Vec<CacheEntry>, BuildError> {
    let mut all = Vec::new();
    let steps = build_dir.join("steps");
    for path in entries(&steps)? {
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let Some(result) = own::read(&path, 1 << 20).ok().and_then(|bytes| decode::<StepResult>(&bytes).ok())
        else {
            continue;
        };
        all.push(CacheEntry {
            id: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            kind: "regular",
            description: result.what,
            size: result.size,
            used: used(&path),
            is_in_use: false,
            path,
            layer: Some(result.diff_id),
        });
    }
    for path in entries(&build_dir.join("mounts"))? {
        let Ok(dir) = open_dir(&path) else { continue };
        all.push(CacheEntry {
            id: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            kind: "exec.cachemount",
            description: own::read_text(&path.join("id")).unwrap_or_default(),
            size: rbox_sys::usage::disk_usage(&path.join("data")),
            used: used(&path.join("data")),
            is_in_use: !lock::try_take(&dir, How::Exclusive).unwrap_or(false),
            path,
            layer: None,
        });
    }
    all.sort_by(|a, b| b.used.cmp(&a.used).then_with(|| a.id.cmp(&b.id)));
    Ok(all)
}

/// Takes away what `wanted` agrees to and no build uses. The layers of images stay with those.
///
/// # Errors
/// The store cannot be read, or a file cannot be removed.
pub fn prune_cache(
    build_dir: &Path,
    images: &ImageStore,
    wanted: &mut dyn FnMut(&CacheEntry) -> bool,
) -> Result<PrunedCache, BuildError> {
    let mut pruned = PrunedCache::default();
    let all = cache_entries(build_dir)?;
    let mut kept: Vec<rbox_spec::Digest> = Vec::new();
    let mut gone = Vec::new();
    for entry in all {
        if entry.is_in_use || !wanted(&entry) {
            kept.extend(entry.layer);
            continue;
        }
        if entry.layer.is_some() {
            match std::fs::remove_file(&entry.path) {
                // Another prune was faster.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                removed => removed.map_err(io_error("remove", &entry.path))?,
            }
        } else {
            // Held until it is gone: a build that begins now makes another one.
            let open = || Ok(File::from(open_dir(&entry.path)?));
            let Ok(Some(_lock)) = lock_at(&entry.path, &open, How::Exclusive, None) else { continue };
            pruned.freed += entry.size;
            rbox_sys::removal::remove_tree(&entry.path).map_err(io_error("remove", &entry.path))?;
        }
        gone.extend(entry.layer);
        pruned.removed.push(entry);
    }
    // Two steps may have made the same layer.
    for layer in gone.iter().filter(|layer| !kept.contains(layer)) {
        images.let_go(layer)?;
    }
    if kept.is_empty() {
        forget(build_dir);
    }
    remove_locks(build_dir);
    if !gone.is_empty() {
        pruned.freed += images.sweep(std::time::Duration::ZERO)?;
    }
    Ok(pruned)
}

/// Takes away what is of use only with results of steps: what contexts and builds were like. Best effort: a build that goes on writes it
/// again.
fn forget(build_dir: &Path) {
    for path in ["last", "files"].iter().flat_map(|name| entries(&build_dir.join(name)).unwrap_or_default()) {
        let _ = std::fs::remove_file(path);
    }
}

/// Takes away locks of steps that were killed. Best effort: they are in nobody's way.
pub(crate) fn remove_locks(build_dir: &Path) {
    let all = entries(&build_dir.join("steps")).unwrap_or_default();
    for path in all.iter().filter(|path| path.extension().is_some_and(|extension| extension == "lock")) {
        let open = || own::open_to_read(path).map_err(io_error("open", path));
        // Held until it is gone: who waits for it looks again then.
        if let Ok(Some(_lock)) = lock_at(path, &open, How::Exclusive, None) {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, BuildError> {
    match std::fs::read_dir(dir) {
        Ok(listing) => Ok(listing.flatten().map(|entry| entry.path()).collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(io_error("list", dir)(error)),
    }
}

fn used(path: &Path) -> SystemTime {
    std::fs::metadata(path).and_then(|meta| meta.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
}

//! Deleting what nothing names: the files of an image that was removed, and what those that died left.
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rbox_rootfs::lock::{self, How};
use rbox_rootfs::own;
use rbox_rootfs::removal::remove_tree;
use rbox_spec::Digest;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_OMIT, utimensat};

use super::index::drop_nameless_indexes;
use super::remove::Doomed;
use super::users::layer_name;
use super::{Image, ImageStore, IndexLock, KEPT, RemoveOptions, Removed, StoreError, io_error};
use crate::media::MAX_DOCUMENT;

/// How long what no image names stays for the next pull to use.
const KEEP: Duration = Duration::from_hours(24);
/// The time of modification of what was given up: in November 1970. Tools that write layouts and hide when write 0, 1 or 1980.
const GIVEN_UP: i64 = 27_182_818;
/// How the names of what is to be deleted begin.
const DEAD: &str = "dead";

/// What `image prune` did.
#[derive(Debug, Clone, Default)]
pub struct Pruned {
    /// In Docker's order.
    pub removed: Vec<Removed>,
    /// Bytes of disk given back.
    pub freed: u64,
}

/// What must not be deleted.
#[derive(Default)]
struct Live {
    blobs: BTreeSet<Digest>,
    /// The names of their directories.
    layers: BTreeSet<String>,
    /// It is not known which other blobs and layers.
    unknown: bool,
}

impl ImageStore {
    /// Deletes the files of an image that is no longer registered, except those that other images have, and the layers
    /// that containers stand on.
    ///
    /// While someone is adding, they may be counting on them, and who is just deleting has looked already: then they are given up for the
    /// next [`tidy`](Self::tidy), and only the image is reported as deleted.
    pub(super) fn free(&self, image: &Doomed, removed: &mut Vec<Removed>) -> Result<(), StoreError> {
        let Some(_alone) = self.try_alone()? else {
            let layers = image.layers.iter().map(|diff_id| self.layer_path(diff_id));
            for path in layers.chain(image.blobs.iter().map(|digest| self.blob_path(digest))) {
                give_up(&path);
            }
            return Ok(());
        };
        let live = self.live()?;
        for (diff_id, chain) in image.layers.iter().zip(image.chain_ids()).rev() {
            if !live.unknown && !live.layers.contains(&diff_id.hex()) && self.has_layer(diff_id) {
                self.discard(&self.layer_path(diff_id))?;
                removed.push(Removed::Deleted(chain));
            }
        }
        for digest in image.blobs.iter().filter(|digest| !live.blobs.contains(digest)) {
            self.remove_any(&self.blob_path(digest))?;
        }
        Ok(())
    }

    /// Deletes the layers of a container that is gone, if neither an image nor another container has them. It may have
    /// outlived its image.
    pub fn release(&self, image: Option<Digest>, layers: &[PathBuf]) -> Result<(), StoreError> {
        let index = self.read_index()?;
        if image.is_some_and(|image| index.entries.iter().any(|entry| self.id_of(entry) == Some(image))) {
            return Ok(());
        }
        let names = layers.iter().filter_map(|path| layer_name(path));
        // It becomes a path: only what could be a layer's name.
        let names = names.filter(|name| name.bytes().all(|b| b.is_ascii_hexdigit()));
        let Some(_alone) = self.try_alone()? else {
            for name in names {
                give_up(&self.layers_dir().join(name));
            }
            return Ok(());
        };
        let live = self.live()?;
        if live.unknown {
            return Ok(());
        }
        for name in names {
            if !live.layers.contains(&name) {
                self.discard(&self.layers_dir().join(name))?;
            }
        }
        Ok(())
    }

    fn layers_dir(&self) -> PathBuf {
        self.dir().join("layers")
    }

    /// The lock that excludes everyone who adds; `None` if someone does.
    pub(super) fn try_alone(&self) -> Result<Option<File>, StoreError> {
        let (file, path) = self.open_lock("store.lock")?;
        let taken = lock::try_take(&file, How::Exclusive).map_err(io_error("lock", &path))?;
        Ok(taken.then_some(file))
    }

    /// The lock of index.json; `None` if somebody has it.
    fn try_lock_index(&self) -> Result<Option<IndexLock>, StoreError> {
        let (file, path) = self.open_lock("index.lock")?;
        let taken = lock::try_take(&file, How::Exclusive).map_err(io_error("lock", &path))?;
        Ok(taken.then_some(IndexLock { _file: file }))
    }

    /// Everything that index.json names, directly or not, and what containers stand on.
    fn live(&self) -> Result<Live, StoreError> {
        let index = self.read_index()?;
        let users = self.users()?;
        let mut live = Live { layers: users.layers(), unknown: users.incomplete, ..Live::default() };
        for (layer, blob) in self.kept()? {
            live.layers.insert(layer);
            live.blobs.extend(blob);
        }
        for entry in &index.entries {
            let parts = self.doomed(&index, entry);
            live.blobs.extend(parts.blobs);
            live.layers.extend(parts.layers.iter().map(Digest::hex));
            // What another tool put in (an index, an artifact) is left alone, but what it names cannot be known; nor what
            // belongs to an image that is damaged.
            live.unknown |= !parts.whole;
        }
        Ok(live)
    }

    /// Keeps a layer that no image may name, with its blob: somebody may want to go on from it. [`ImageStore::let_go`] ends that.
    ///
    /// # Errors
    /// The layer is not there, or the disk is full.
    pub fn keep_layer(&self, diff_id: &Digest, blob: &Digest) -> Result<(), StoreError> {
        let path = self.kept_mark(diff_id);
        own::write(&path, blob.to_string()).map_err(io_error("write", &path))
    }

    /// Keeps a layer no longer than the images and containers that use it.
    ///
    /// # Errors
    /// The disk.
    pub fn let_go(&self, diff_id: &Digest) -> Result<(), StoreError> {
        self.remove_any(&self.kept_mark(diff_id))
    }

    fn kept_mark(&self, diff_id: &Digest) -> PathBuf {
        self.layer_path(diff_id).join(KEPT)
    }

    /// The layers that are kept, by the names of their directories, with their blobs.
    fn kept(&self) -> Result<Vec<(String, Option<Digest>)>, StoreError> {
        let mut kept = Vec::new();
        for (path, _) in entries(&self.layers_dir())? {
            let Ok(blob) = own::read_text(&path.join(KEPT)) else { continue };
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            kept.extend(name.map(|name| (name, blob.trim().parse().ok())));
        }
        Ok(kept)
    }

    /// Removes a file, or a directory, which may be where a file belongs.
    fn remove_any(&self, path: &Path) -> Result<(), StoreError> {
        match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => self.discard(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(io_error("remove", path)),
        }
    }

    /// Moves a directory out of sight in one step, then deletes it.
    pub(super) fn discard(&self, path: &Path) -> Result<(), StoreError> {
        self.bury(path)?.map_or(Ok(()), |grave| empty_grave(&grave))
    }

    /// Moves something out of sight. Where to; `None` if it is gone.
    fn bury(&self, path: &Path) -> Result<Option<PathBuf>, StoreError> {
        let grave = self.fresh(DEAD);
        match fs::rename(path, &grave) {
            Ok(()) => Ok(Some(grave)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StoreError::Io { action: "rename", path: path.to_owned(), source }),
        }
    }

    /// Deletes what dead processes left: see the module's documentation. Pulls and removals run it; its failures are not
    /// theirs, so there is nothing to return.
    pub fn tidy(&self) {
        let _ = self.sweep(KEEP);
    }

    /// Deletes everything under the store that index.json does not name and that is older than `keep`. Returns the bytes
    /// freed; 0 while someone is adding.
    pub fn sweep(&self, keep: Duration) -> Result<u64, StoreError> {
        let Some(_alone) = self.try_alone()? else { return Ok(0) };
        let mut freed = self.sweep_unfinished(keep)?;
        for (path, meta) in self.nameless()? {
            if younger(&meta, keep) {
                continue;
            }
            freed += disk_use(&path, &meta);
            self.remove_any(&path)?;
        }
        Ok(freed)
    }

    /// Deletes what dead processes left half done in the store of this directory, if there is any: the part of [`tidy`](Self::tidy)
    /// that any command can afford, as it reads one directory, which is mostly empty.
    ///
    /// # Errors
    /// The disk.
    pub fn tidy_unfinished(dir: &Path) -> Result<(), StoreError> {
        let store = Self { dir: dir.to_owned(), users: None, notices: None };
        if entries(&store.tmp())?.iter().all(|(path, _)| is_partial(path)) {
            return Ok(());
        }
        // Whoever has this may be removing an image, and would leave its files for a day if it found the other lock taken: so it is
        // taken first, neither is waited for, and nothing is deleted under them.
        let Some(index_lock) = store.try_lock_index()? else { return Ok(()) };
        // They may be of somebody who adds.
        let Some(alone) = store.try_alone()? else { return Ok(()) };
        let (graves, _) = store.bury_unfinished(&index_lock, KEEP)?;
        drop((alone, index_lock));
        graves.iter().try_for_each(|grave| empty_grave(grave))
    }

    /// The same of what is under `tmp/`. The caller has excluded those who add.
    fn sweep_unfinished(&self, keep: Duration) -> Result<u64, StoreError> {
        let index_lock = self.lock_index()?;
        let (graves, freed) = self.bury_unfinished(&index_lock, keep)?;
        drop(index_lock);
        graves.iter().try_for_each(|grave| empty_grave(grave))?;
        Ok(freed)
    }

    /// Moves it out of sight. Where it is now, and its bytes. The caller has excluded those who add, and those who change index.json: they
    /// add nothing and hold only its lock, but the new one is under tmp/ until it is renamed.
    fn bury_unfinished(&self, _: &IndexLock, keep: Duration) -> Result<(Vec<PathBuf>, u64), StoreError> {
        let (mut graves, mut freed) = (Vec::new(), 0);
        for (path, meta) in entries(&self.tmp())? {
            if is_partial(&path) && younger(&meta, keep) {
                continue;
            }
            freed += disk_use(&path, &meta);
            graves.extend(if is_grave(&path) { Some(path) } else { self.bury(&path)? });
        }
        Ok((graves, freed))
    }

    /// The layers and blobs that nothing names. The caller has excluded those who add.
    fn nameless(&self) -> Result<Vec<(PathBuf, fs::Metadata)>, StoreError> {
        let mut all = entries(&self.layers_dir())?;
        for (directory, meta) in entries(&self.dir().join("blobs"))? {
            if meta.is_dir() {
                all.extend(entries(&directory)?);
            }
        }
        let live = self.live()?;
        if live.unknown {
            return Ok(Vec::new());
        }
        let named: BTreeSet<PathBuf> = live
            .layers
            .iter()
            .map(|name| self.layers_dir().join(name))
            .chain(live.blobs.iter().map(|digest| self.blob_path(digest)))
            .collect();
        all.retain(|(path, _)| !named.contains(path));
        Ok(all)
    }

    /// The same for those who only look, with the bytes each takes.
    pub(super) fn nameless_files(&self) -> Result<Vec<(PathBuf, u64)>, StoreError> {
        let Some(_alone) = self.try_alone()? else { return Ok(Vec::new()) };
        let all = self.nameless()?;
        Ok(all
            .into_iter()
            .map(|(path, meta)| {
                let bytes = disk_use(&path, &meta);
                (path, bytes)
            })
            .collect())
    }

    /// Deletes those of `found` that nothing names. The caller has excluded those who add.
    pub(super) fn remove_nameless(&self, found: &[PathBuf]) -> Result<(), StoreError> {
        if self.live()?.unknown {
            let why = "an image or a container cannot be read, which may have them: see to that first";
            return Err(StoreError::Conflict(why.to_owned()));
        }
        for (path, _) in self.nameless()?.iter().filter(|(path, _)| found.contains(path)) {
            self.remove_any(path)?;
        }
        Ok(())
    }

    /// Removes the images without a tag (or, with `all`, every one) that no container uses and `wanted` agrees to; and all
    /// that dead pulls left.
    pub fn prune(&self, all: bool, wanted: impl Fn(&Image) -> bool) -> Result<Pruned, StoreError> {
        let mut pruned = Pruned::default();
        let users = self.users()?;
        for image in self.list()? {
            let used = users.of(image.id).next().is_some();
            if used || (!all && !image.references.is_empty()) || !wanted(&image) {
                continue;
            }
            let before = self.disk_use_of(&image);
            match self
                .remove(&image.id.to_string(), RemoveOptions { force: true, ..RemoveOptions::default() })
            {
                Ok(removed) => {
                    pruned.removed.extend(removed);
                    pruned.freed += before.saturating_sub(self.disk_use_of(&image));
                }
                // Taken or gone meanwhile: not ours to prune.
                Err(StoreError::Conflict(_) | StoreError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        // An index that has no name goes too, where its images stay under other names.
        self.change_index(|index, _| {
            drop_nameless_indexes(index, |index, entry| {
                self.load(index, entry).is_ok_and(|image| wanted(&image))
            });
            Ok(())
        })?;
        pruned.freed += self.sweep(Duration::ZERO)?;
        Ok(pruned)
    }

    fn disk_use_of(&self, image: &Image) -> u64 {
        let blobs = image.layers.iter().map(|layer| layer.digest).chain([image.manifest_digest, image.id]);
        let blobs: u64 =
            blobs.map(|d| fs::metadata(self.blob_path(&d)).map_or(0, |meta| meta.blocks() * 512)).sum();
        blobs + image.layers.iter().map(|layer| self.layer_size(layer)).sum::<u64>()
    }
}

/// Whether it is a download that can be gone on with.
fn is_partial(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "partial")
}

/// Whether it was moved out of sight to be deleted.
fn is_grave(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(DEAD.as_bytes()))
}

/// Deletes what was moved out of sight, if nobody else is just doing that: two would be in each other's way.
fn empty_grave(grave: &Path) -> Result<(), StoreError> {
    let is_dir = fs::symlink_metadata(grave).is_ok_and(|meta| meta.is_dir());
    // One that cannot be opened is told by the removal.
    let dir = if is_dir { File::open(grave).ok() } else { None };
    if let Some(dir) = &dir
        && !lock::try_take(dir, How::Exclusive).map_err(io_error("lock", grave))?
    {
        return Ok(());
    }
    remove_tree(grave).map_err(io_error("remove", grave))
}

fn entries(dir: &Path) -> Result<Vec<(PathBuf, fs::Metadata)>, StoreError> {
    let mut found = Vec::new();
    let list = match fs::read_dir(dir) {
        Ok(list) => list,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(source) => return Err(StoreError::Io { action: "read", path: dir.to_owned(), source }),
    };
    for entry in list {
        let entry = entry.map_err(io_error("read", dir))?;
        match entry.metadata() {
            Ok(meta) => found.push((entry.path(), meta)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(StoreError::Io { action: "stat", path: entry.path(), source }),
        }
    }
    Ok(found)
}

/// Lets the next sweep delete it, however young it is, unless something names it then. Best effort: without that it stays for a day.
///
/// What says so is its time of modification. A layer's is that of the directory around its files, which is no part of any image.
pub(super) fn give_up(path: &Path) {
    let mark = Timespec { tv_sec: GIVEN_UP, tv_nsec: 0 };
    let as_it_is = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    let times = Timestamps { last_access: as_it_is, last_modification: mark };
    let _ = utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW);
}

/// Whether it changed less than `keep` ago, and nobody has given it up. The change time, because the other one is what somebody says.
fn younger(meta: &fs::Metadata, keep: Duration) -> bool {
    if (meta.mtime(), meta.mtime_nsec()) == (GIVEN_UP, 0) {
        return false;
    }
    let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(meta.ctime()).unwrap_or(0));
    !keep.is_zero() && SystemTime::now().duration_since(changed).is_ok_and(|age| age < keep)
}

/// Bytes of disk; for an unpacked layer what its record says.
fn disk_use(path: &Path, meta: &fs::Metadata) -> u64 {
    if !meta.is_dir() {
        return meta.blocks() * 512;
    }
    let record = own::read(&path.join("layer.json"), MAX_DOCUMENT).ok();
    let record = record.and_then(|bytes| rbox_spec::record::decode::<super::find::LayerRecord>(&bytes).ok());
    record.map_or(0, |record| record.size)
}

//! The content store: a directory that is a valid OCI image layout, with the unpacked layers beside it.
//!
//! # On disk
//! ```text
//! oci-layout               {"imageLayoutVersion":"1.0.0"}
//! index.json               every image reference: one descriptor each, pointing at an image manifest
//! blobs/<algorithm>/<hex>  manifests, configurations and layers exactly as they came
//! layers/<hex>/fs/         one unpacked layer, an overlay lower directory; <hex> is its diff ID
//! layers/<hex>/layer.json  {"diff_id":…, "size":…}, size being the bytes of its files; "opaque":true if its root hides
//!                          all layers below it; "packs_to":… if it was made here and has no blob: the bytes of its tar
//! layers/<hex>/kept        a build may go on from the layer, so that it stays without an image; holds its blob's digest
//! tmp/<algorithm>-<hex>.partial   a download under way, or cut off: the next pull goes on from its end
//! tmp/layer-<hex>/         a layer being unpacked
//! tmp/new-…, tmp/dead-…    blobs and layers on their way in, or out
//! index.lock, store.lock   only ever locked, never read
//! index.json.damaged       an index.json that could not be read, and was made again
//! reserve                  64 KiB of nothing, given up when index.json must be written on a full disk
//! ```
//! Annotations of a descriptor in index.json: `io.containerd.image.name` is the full reference, with a tag or (for an
//! image pulled by digest, or one that lost its tag) with a digest; `org.opencontainers.image.ref.name` is the
//! tag. An image that was never named has neither. Ours: `io.rbox.image.id` (the configuration's digest),
//! `io.rbox.image.size` (bytes of all files), `io.rbox.image.hidden-layers` (how many of the lowest layers an opaque root
//! hides; not there for none), `io.rbox.source.digest` (what the registry calls the reference:
//! the digest of the index, if the image came out of one) and `io.rbox.image.index` (the index of several platforms that it is one of, which
//! is kept among the blobs; its own manifest's digest if it stands for itself). All are caches or facts that are not needed to
//! read the image: another tool may write to the layout, and its images are found too.
//!
//! # Several platforms
//! A name has one descriptor for each platform of its image that is here: they have the name and the index in common, and differ in `platform`.
//! Asked for by name, this machine's is meant, or the one that `--platform` says. A name that is pointed at another index, or at one image,
//! loses those of the index before, but for manifests that the new index names too. Before there was a note of the index, a source that
//! is not the manifest's own digest meant one; a store of that time is read so, and what is pulled beside it becomes its sibling.
//!
//! # An image is absent or entirely present
//! Blobs and layers are written under `tmp/`, verified, synced (`syncfs`, once for all layers that are finished at a time, its error checked)
//! and renamed; then their parents are synced; then index.json is replaced by rename. Whatever a kill or a power cut leaves is either
//! named by index.json, and complete, or not named, and of use only to the next pull. [`ImageStore::tidy`], which pulls
//! and removals run by themselves, deletes what a dead process left: half-unpacked layers at once, unnamed blobs, layers
//! and partial downloads when they are a day old.
//!
//! # Locks
//! All are `flock`s, so death releases them. What is waited for is waited for an hour at most, as layers may be fetched, unpacked
//! or deleted under any of them, and ten seconds when its holder is stopped ([`rbox_rootfs::lock`]).
//! - Readers (`find`, `list`) take none: index.json is replaced as a whole.
//! - `index.lock`, exclusive: around one change of index.json.
//! - `store.lock`, shared: by whoever adds blobs or layers, from before the first until they are registered ([`Transaction`]);
//!   and while layers without an image go from one container to another ([`ImageStore::pin_layers`]).
//!   Exclusive and never waited for: by whoever deletes what index.json does not name. If someone is adding or deleting,
//!   files stay for the next `tidy`; what a removal has left so is marked, and goes then however young it is. `tmp/` is cleared with `index.lock` held as well, because a new index.json is there for a moment.
//! - a partial download and a layer being unpacked: exclusive, so that two pulls of one image share the work. The lock
//!   is on the file itself; who gets it checks that the path still leads to it, else the other one finished.
//! - a configuration blob, shared: a container is being made of the image ([`ImageStore::pin`]). Removal needs it
//!   exclusively, and says that the image is in use if it cannot have it.
mod add;
mod check;
mod error;
mod find;
mod index;
mod made;
mod remove;
mod repair;
mod sweep;
#[cfg(test)]
mod tests;
mod together;
#[cfg(test)]
mod together_tests;
mod users;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rbox_rootfs::lock::{self, How, Patience};
use rbox_rootfs::own;
use rbox_spec::Digest;

pub use add::{Expected, StoredLayer, Transaction};
pub use check::LayerDamage;
pub use error::StoreError;
pub use find::{Broken, Image, IndexDocument, Layer, Listing, Pin};
pub use index::{NAME_ANNOTATION, TAG_ANNOTATION};
pub use made::CopyError;
pub use remove::{RemoveOptions, Removed, checked_name};
pub use repair::{IndexMadeAgain, Notices};
pub use sweep::Pruned;
pub use users::{ImageUser, ListUsers, Users};

pub(crate) use add::{Finished, OfIndex, Staging};
pub(crate) use error::io_error;
use index::IndexFile;
pub(crate) use made::nameless;
pub(crate) use together::MAX_STATEMENT;

/// An index of ten thousand images has some 10 MB.
const MOST_INDEX_BYTES: u64 = 256 << 20;
const LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;
/// In the directory of a layer that is kept without an image.
const KEPT: &str = "kept";
const RESERVE: u64 = 64 << 10;

/// What a store has besides its files, and itself.
const DIRECTORIES: [&str; 5] = ["", "blobs", "blobs/sha256", "layers", "tmp"];

/// A store on disk. Cheap to open and to clone; holds no lock and no open file.
#[derive(Debug, Clone)]
pub struct ImageStore {
    dir: PathBuf,
    users: Option<Arc<dyn ListUsers>>,
    notices: Option<Arc<dyn Notices>>,
}

impl ImageStore {
    /// Opens the store at `dir`, making it (mode 0700) if it is not there.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let store = Self { dir: dir.to_owned(), users: None, notices: None };
        let layout = store.dir.join("oci-layout");
        // Written last, so its presence means that all else is there.
        match own::read_text(&layout) {
            Ok(text) if text.contains("\"1.0.") => return Ok(store),
            Ok(found) if found.contains("imageLayoutVersion") => {
                return Err(StoreError::Version { path: layout, found });
            }
            // It says the same in every store: a damaged one is written again.
            Ok(_) => store.remove_damaged(&layout)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(StoreError::Io { action: "read", path: layout, source }),
        }
        for sub in DIRECTORIES {
            let path = store.dir.join(sub);
            let mut builder = DirBuilder::new();
            builder.mode(0o700).recursive(true).create(&path).map_err(io_error("mkdir", &path))?;
        }
        let lock = store.lock_index()?;
        // Another process may have made it all while this one waited, and be sweeping tmp/ already.
        if layout.exists() {
            return Ok(store);
        }
        if !store.index_path().exists() {
            store.write_index(&lock, &IndexFile::default())?;
        }
        store.replace(&layout, LAYOUT.as_bytes())?;
        Ok(store)
    }

    /// Refuses a store that has something else where its directories are: an image in it would seem to be missing, and pulling it
    /// again would not help.
    ///
    /// # Errors
    /// [`StoreError::NoDirectory`] names it.
    pub fn check_directories(&self) -> Result<(), StoreError> {
        for sub in DIRECTORIES {
            let path = self.dir.join(sub);
            if !fs::metadata(&path).is_ok_and(|meta| meta.is_dir()) {
                return Err(StoreError::NoDirectory(path));
            }
        }
        Ok(())
    }

    /// Takes a damaged `oci-layout` away, under the index's lock so that no whole one goes.
    fn remove_damaged(&self, layout: &Path) -> Result<(), StoreError> {
        let _lock = self.lock_index()?;
        match own::read_text(layout) {
            Ok(text) if text.contains("imageLayoutVersion") => Ok(()),
            _ => fs::remove_file(layout).map_err(io_error("remove", layout)),
        }
    }

    /// The same store, which asks `users` before it deletes anything.
    #[must_use]
    pub fn with_users(self, users: Arc<dyn ListUsers>) -> Self {
        Self { users: Some(users), ..self }
    }

    /// The same store, which tells `notices` what it does unasked.
    #[must_use]
    pub fn with_notices(self, notices: Arc<dyn Notices>) -> Self {
        Self { notices: Some(notices), ..self }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where a blob is, or would be.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.dir.join("blobs").join(digest.algorithm().name()).join(digest.hex())
    }

    /// Where an unpacked layer is, or would be; its overlay lower directory is `fs` within.
    pub fn layer_path(&self, diff_id: &Digest) -> PathBuf {
        self.dir.join("layers").join(diff_id.hex())
    }

    pub(crate) fn tmp(&self) -> PathBuf {
        self.dir.join("tmp")
    }

    fn index_path(&self) -> PathBuf {
        self.dir.join("index.json")
    }

    /// A name under `tmp/` that no other process and no other thread uses.
    pub(crate) fn fresh(&self, kind: &str) -> PathBuf {
        use std::sync::atomic::{AtomicU64, Ordering};
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let nanos = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.subsec_nanos());
        let serial = NEXT.fetch_add(1, Ordering::Relaxed);
        self.tmp().join(format!("{kind}-{}-{nanos:08x}-{serial}", std::process::id()))
    }

    /// Opens one of the lock files (making it) and waits for its lock.
    fn lock_file(&self, name: &str, how: How) -> Result<File, StoreError> {
        let (file, path) = self.open_lock(name)?;
        lock::take(&file, how, Patience::WORK).map_err(io_error("lock", &path))?;
        Ok(file)
    }

    /// One of the lock files, with its path.
    fn open_lock(&self, name: &str) -> Result<(File, PathBuf), StoreError> {
        let path = self.dir.join(name);
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true).mode(0o600);
        let file = own::open(&path, &mut options).map_err(io_error("open", &path))?;
        Ok((file, path))
    }

    pub(crate) fn lock_index(&self) -> Result<IndexLock, StoreError> {
        self.lock_file("index.lock", How::Exclusive).map(|file| IndexLock { _file: file })
    }

    /// Replaces a small file as a whole: temporary file, fsync, rename, fsync of the parent.
    pub(crate) fn replace(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let temporary = self.fresh("new");
        let written = write_synced(&temporary, bytes)
            .map_err(io_error("write", path))
            .and_then(|()| self.put_in_place(&temporary, path));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written.and_then(|()| sync_parent(path))
    }

    /// Moves a finished file to its place, whatever is there: also a directory, of which the store has none with such a name.
    pub(crate) fn put_in_place(&self, temporary: &Path, path: &Path) -> Result<(), StoreError> {
        let moved = match fs::rename(temporary, path) {
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                self.discard(path)?;
                fs::rename(temporary, path)
            }
            moved => moved,
        };
        moved.map_err(io_error("write", path))
    }

    /// Reads index.json, and makes a damaged one again.
    fn read_index(&self) -> Result<IndexFile, StoreError> {
        match self.parse_index() {
            Err(error) if error.is_damage_of_a_file() => self.mend_index(&self.lock_index()?),
            other => other,
        }
    }

    /// Reads index.json, which is there once the store is made.
    fn parse_index(&self) -> Result<IndexFile, StoreError> {
        let path = self.index_path();
        let bytes = own::read(&path, MOST_INDEX_BYTES).map_err(io_error("read", &path))?;
        rbox_spec::json::from_slice(&bytes).map_err(|source| StoreError::Json { path, source })
    }

    /// Changes index.json under its lock. Nothing is written if `change` fails.
    fn change_index<T>(
        &self,
        change: impl FnOnce(&mut IndexFile, &IndexLock) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let lock = self.lock_index()?;
        let mut index = match self.parse_index() {
            Err(error) if error.is_damage_of_a_file() => self.mend_index(&lock)?,
            other => other?,
        };
        let before = index.entries.clone();
        let value = change(&mut index, &lock)?;
        if index.entries != before {
            self.write_index(&lock, &index)?;
            self.give_up_indexes(&before, &index.entries);
        }
        Ok(value)
    }

    fn write_index(&self, _lock: &IndexLock, index: &IndexFile) -> Result<(), StoreError> {
        let path = self.index_path();
        let bytes = index.to_bytes(&path)?;
        let reserve = self.dir.join("reserve");
        match self.replace(&path, &bytes) {
            Err(error) if error.is_disk_full() && fs::remove_file(&reserve).is_ok() => {
                self.replace(&path, &bytes)?;
            }
            other => other?,
        }
        // Best effort: on a full disk there is none, and the next change makes it again.
        if !reserve.exists() {
            let made = File::create(&reserve).and_then(|file| {
                Ok(rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, RESERVE)?)
            });
            if made.is_err() {
                let _ = fs::remove_file(&reserve);
            }
        }
        Ok(())
    }
}

/// Holds index.lock.
pub(crate) struct IndexLock {
    _file: File,
}

/// Whether `path` still leads to the open `file`.
pub(crate) fn same_file(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(a), Ok(b)) => a.dev() == b.dev() && a.ino() == b.ino(),
        _ => false,
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Makes a rename in the parent of `path` durable.
pub(crate) fn sync_parent(path: &Path) -> Result<(), StoreError> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(io_error("fsync", parent))
}

//! Layers that were made here: their directory is moved in, and their blob is packed again whenever somebody wants it.
//!
//! A step of a build has written such a layer through an overlay. Its directory is of the form that all layers of the store have, so
//! nothing is copied; it is read once, for its digest. Packing says the same bytes whenever it packs the same tree, so that
//! a blob need not be kept for the day on which the image is pushed or saved. What is packed is compared with its
//! digest then, as a file is.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _, Seek as _, Write};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use rbox_rootfs::layer::{PackError, PackOptions, Packed, TreeKind, pack};
use rbox_rootfs::own;
use rbox_spec::digest::Algorithm;
use rbox_spec::{Digest, Kind};

use super::add::{Expected, Staging};
use super::find::{Layer, LayerRecord};
use super::{ImageStore, StoreError, StoredLayer, Transaction, io_error};
use crate::hash::Hasher;
use crate::media::{Compression, Descriptor};

/// How a layer of the store is packed.
const AS_LAYER: PackOptions<'static> =
    PackOptions { tree: TreeKind::Upper, root: None, leave_out: &[], ids: None, is_settled: true };

/// Why a layer's blob could not be copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// Whoever was to get it.
    #[error("write the layer")]
    Write(#[source] io::Error),
    /// It cannot be read, or is not what its digest promises.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl CopyError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Write(error) => Kind::of_io(error),
            Self::Store(error) => error.kind(),
        }
    }
}

impl Transaction<'_> {
    /// Moves a directory in as a layer: the upper directory of an overlay, on the file system of the store, to which nobody writes
    /// any more. It may have become part of the store, or not, if this fails.
    ///
    /// # Errors
    /// It has what no layer can have, or cannot be read; the disk is full.
    pub fn adopt_layer(&self, dir: &Path) -> Result<StoredLayer, StoreError> {
        let tree = File::open(dir).map_err(io_error("open", dir))?;
        let (packed, diff_id) = read_and_sync(&tree, dir)?;
        let store = self.store();
        let size = packed.data_bytes;
        let descriptor = Descriptor::new(Compression::None.layer_type(), diff_id, packed.stream_bytes);
        let layer = StoredLayer { descriptor, diff_id, size };
        if store.has_whole_layer(&diff_id, &diff_id, packed.stream_bytes) {
            return Ok(layer);
        }
        // What packing leaves out would make the layer another one than whoever pulls it gets.
        if packed.left_out > 0 || store.has_layer(&diff_id) {
            let path = store.fresh("new");
            let blob = nameless(&path)?;
            pack(tree.as_fd(), &blob, &AS_LAYER).map_err(unpackable(dir))?;
            (&blob).rewind().map_err(io_error("read", &path))?;
            return self.add_layer(&blob, &Expected { diff_id: Some(diff_id), ..Expected::default() });
        }
        let staging = self.move_in(dir)?;
        staging.write_layer_record(&LayerRecord::of_made(diff_id, &packed))?;
        staging.sync()?;
        staging.publish(store, &diff_id)?;
        Ok(layer)
    }

    fn move_in(&self, dir: &Path) -> Result<Staging, StoreError> {
        let path = self.store().fresh("new");
        DirBuilder::new().mode(0o700).create(&path).map_err(io_error("mkdir", &path))?;
        let inside = path.join("fs");
        if let Err(error) = fs::rename(dir, &inside) {
            let _ = fs::remove_dir(&path);
            return Err(io_error("rename", dir)(error));
        }
        Staging::of(path)
    }
}

/// Packs a new tree for its digest. Meanwhile one of some size goes to the disk, so that little is left to be waited for in the end.
fn read_and_sync(tree: &File, dir: &Path) -> Result<(Packed, Digest), StoreError> {
    /// Of a stream with more than this, syncing takes a while.
    const MUCH: u64 = 1 << 20;
    std::thread::scope(|scope| {
        let mut syncing = None;
        let mut sink = Hashing::new(io::sink(), Algorithm::Sha256);
        let noticing = Noticing {
            to: &mut sink,
            left: MUCH,
            then: || {
                let sync = || rustix::fs::syncfs(tree);
                // Without a thread it is synced in the end only.
                syncing = std::thread::Builder::new().name("sync".to_owned()).spawn_scoped(scope, sync).ok();
            },
        };
        let packed = pack(tree.as_fd(), noticing, &AS_LAYER).map_err(unpackable(dir))?;
        // An error is told once, to whoever syncs first.
        if let Some(Ok(Err(errno))) = syncing.map(std::thread::ScopedJoinHandle::join) {
            return Err(io_error("syncfs", dir)(errno));
        }
        Ok((packed, sink.hasher.finish()))
    })
}

/// Does something once after so many bytes.
struct Noticing<W, F> {
    to: W,
    left: u64,
    then: F,
}

impl<W: Write, F: FnMut()> Write for Noticing<W, F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        if self.left > 0 {
            self.left = self.left.saturating_sub(written as u64);
            if self.left == 0 {
                (self.then)();
            }
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// A digest of all that a tree has.
pub(super) fn fingerprint(dir: &Path) -> Result<Digest, StoreError> {
    let tree = File::open(dir).map_err(io_error("open", dir))?;
    let mut sink = Hashing::new(io::sink(), Algorithm::Sha256);
    pack(tree.as_fd(), &mut sink, &AS_LAYER).map_err(unpackable(dir))?;
    Ok(sink.hasher.finish())
}

impl ImageStore {
    /// Whether a layer's bytes can be had: its blob is here in its length, or can be packed again.
    pub(crate) fn has_bytes_of(&self, diff_id: &Digest, digest: &Digest, size: u64) -> bool {
        self.has_blob_of(digest, size) || (digest == diff_id && self.packs_to(diff_id) == Some(size))
    }

    /// The bytes of a layer's stream, if it was made here and can be packed again.
    fn packs_to(&self, diff_id: &Digest) -> Option<u64> {
        self.layer_record(diff_id).and_then(|record| record.packs_to)
    }

    /// Copies a layer's blob, bytes whose digest is found to be right in the end.
    ///
    /// # Errors
    /// They are not what the digest promises, and what was written is worth nothing; or `to` takes no more.
    pub fn copy_layer(&self, layer: &Layer, to: &mut dyn Write) -> Result<(), CopyError> {
        let path = self.blob_path(&layer.digest);
        match own::open_to_read(&path) {
            Ok(file) => self.copy_blob(layer, &file, to),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.pack_again(layer, to),
            Err(error) => Err(io_error("open", &path)(error).into()),
        }
    }

    fn copy_blob(&self, layer: &Layer, file: &File, to: &mut dyn Write) -> Result<(), CopyError> {
        let path = self.blob_path(&layer.digest);
        let length = file.metadata().map_err(io_error("stat", &path))?.len();
        if length != layer.blob_size {
            return Err(damaged(layer, &format!("it is {length} bytes long, not {}", layer.blob_size)).into());
        }
        let mut to = Hashing::new(to, layer.digest.algorithm());
        let (mut from, mut chunk) = (file.take(layer.blob_size), vec![0; 256 << 10]);
        loop {
            let got = crate::layer::fill(&mut from, &mut chunk).map_err(io_error("read", &path))?;
            if got == 0 {
                break;
            }
            to.write_all(chunk.get(..got).unwrap_or_default()).map_err(CopyError::Write)?;
        }
        let found = to.hasher.finish();
        if found == layer.digest && to.count == layer.blob_size {
            return Ok(());
        }
        // The next pull fetches it again.
        self.discard_blob(&layer.digest, file)?;
        Err(damaged(layer, &format!("its content has digest {found}; pull the image again")).into())
    }

    fn pack_again(&self, layer: &Layer, to: &mut dyn Write) -> Result<(), CopyError> {
        if !self.has_bytes_of(&layer.diff_id, &layer.digest, layer.blob_size) {
            return Err(StoreError::MissingLayer(layer.digest).into());
        }
        let tree = File::open(&layer.dir).map_err(io_error("open", &layer.dir))?;
        let mut to = Hashing::new(to, layer.digest.algorithm());
        match pack(tree.as_fd(), &mut to, &AS_LAYER) {
            Ok(_) => {}
            Err(PackError::Write(error)) => return Err(CopyError::Write(error)),
            Err(error) => return Err(unpackable(&layer.dir)(error).into()),
        }
        let found = to.hasher.finish();
        if found == layer.digest {
            return Ok(());
        }
        let found = format!("its files have changed: they are packed to {found}; build the image again");
        Err(damaged(layer, &found).into())
    }
}

/// A file of the store that has no name, so that nothing of it outlives this process. `path` was its name.
pub(crate) fn nameless(path: &Path) -> Result<File, StoreError> {
    let mut options = File::options();
    let opened = options.read(true).write(true).create_new(true).mode(0o600).open(path);
    let file = opened.map_err(io_error("create", path))?;
    match fs::remove_file(path) {
        // Whoever tidies took it for what a dead process left.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(file),
        removed => removed.map(|()| file).map_err(io_error("remove", path)),
    }
}

fn damaged(layer: &Layer, found: &str) -> StoreError {
    StoreError::Damaged { what: "layer", digest: layer.digest, found: found.to_owned() }
}

fn unpackable(dir: &Path) -> impl FnOnce(PackError) -> StoreError {
    move |source| StoreError::Pack { path: dir.to_owned(), source }
}

impl LayerRecord {
    fn of_made(diff_id: Digest, packed: &Packed) -> Self {
        // An overlay's root is never opaque.
        Self { diff_id, size: packed.data_bytes, opaque: false, packs_to: Some(packed.stream_bytes) }
    }
}

/// Counts and hashes what it hands on.
struct Hashing<W> {
    to: W,
    hasher: Hasher,
    count: u64,
}

impl<W> Hashing<W> {
    fn new(to: W, algorithm: Algorithm) -> Self {
        Self { to, hasher: Hasher::new(algorithm), count: 0 }
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.hasher.update(bytes.get(..written).unwrap_or_default());
        self.count += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::hash::sha256;
    use crate::testing::tar_of;

    fn fresh() -> (tempfile::TempDir, ImageStore, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let store = ImageStore::open(&dir.path().join("images")).unwrap();
        let upper = dir.path().join("upper");
        fs::create_dir_all(upper.join("etc")).unwrap();
        fs::write(upper.join("etc/name"), "made here").unwrap();
        (dir, store, upper)
    }

    /// Whoever tidies may take it for what a dead process left, before it has lost its name.
    #[test]
    fn a_file_that_is_tidied_away_is_as_good() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    let _ = fs::remove_file(&path);
                }
            });
            let made = (0..5000).map(|_| nameless(&path)).find_map(Result::err);
            over.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(made.is_none(), "{made:?}");
        });
    }

    fn layer_of(store: &ImageStore, stored: &StoredLayer) -> Layer {
        Layer {
            diff_id: stored.diff_id,
            digest: stored.descriptor.digest,
            blob_size: stored.descriptor.size,
            media_type: stored.descriptor.media_type.clone(),
            dir: store.layer_path(&stored.diff_id).join("fs"),
        }
    }

    #[test]
    fn a_directory_moves_in_and_its_blob_is_packed_when_it_is_wanted() {
        let (_dir, store, upper) = fresh();
        let stored = store.transaction().unwrap().adopt_layer(&upper).unwrap();
        let layer = layer_of(&store, &stored);
        assert!(!upper.exists() && layer.dir.join("etc/name").is_file());
        assert!(!store.has_blob(&layer.digest) && stored.size == 9);
        assert!(store.has_whole_layer(&layer.diff_id, &layer.digest, layer.blob_size));
        assert!(!store.has_whole_layer(&layer.diff_id, &layer.digest, layer.blob_size + 512));
        let mut blob = Vec::new();
        store.copy_layer(&layer, &mut blob).unwrap();
        assert_eq!((sha256(&blob), blob.len() as u64), (layer.digest, layer.blob_size));
    }

    #[test]
    fn what_was_changed_in_the_store_is_not_handed_on() {
        let (_dir, store, upper) = fresh();
        let stored = store.transaction().unwrap().adopt_layer(&upper).unwrap();
        let layer = layer_of(&store, &stored);
        fs::write(layer.dir.join("etc/name"), "made elsewhere").unwrap();
        let said = store.copy_layer(&layer, &mut io::sink()).unwrap_err().to_string();
        assert!(said.contains("is damaged: its files have changed"), "{said}");
    }

    #[test]
    fn a_layer_that_was_pulled_is_never_packed() {
        let (_dir, store, _) = fresh();
        let tar = tar_of(&[("a", b"1")]);
        let stored = store.transaction().unwrap().add_layer(&*tar, &Expected::default()).unwrap();
        let layer = layer_of(&store, &stored);
        fs::remove_file(store.blob_path(&layer.digest)).unwrap();
        assert!(!store.has_whole_layer(&layer.diff_id, &layer.digest, layer.blob_size));
        let said = store.copy_layer(&layer, &mut io::sink()).unwrap_err().to_string();
        assert!(said.contains("is not in the store"), "{said}");
    }

    #[test]
    fn the_same_tree_twice_is_one_layer_and_a_pulled_one_gets_a_blob() {
        let (dir, store, upper) = fresh();
        let again = dir.path().join("again");
        let copied = std::process::Command::new("cp").arg("-a").arg(&upper).arg(&again).status().unwrap();
        assert!(copied.success());
        let transaction = store.transaction().unwrap();
        let first = transaction.adopt_layer(&upper).unwrap();
        let second = transaction.adopt_layer(&again).unwrap();
        assert_eq!(first.diff_id, second.diff_id);
        // As if a registry had given it, compressed: then it has no record of being made here.
        let mark = store.layer_path(&first.diff_id).join("layer.json");
        let text = fs::read_to_string(&mark).unwrap();
        let (before, after) = text.split_once(",\"packs_to\":").unwrap();
        let after = after.trim_start_matches(|c: char| c.is_ascii_digit());
        fs::write(&mark, format!("{before}{after}")).unwrap();
        assert!(!store.has_whole_layer(&first.diff_id, &first.diff_id, first.descriptor.size));
        let third = transaction.adopt_layer(&again).unwrap();
        assert!(store.has_blob(&third.descriptor.digest) && third.diff_id == first.diff_id);
    }
}

//! What is wrong with layers and blobs, seen by reading them, and how they are made whole again.
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rbox_rootfs::lock::{self, How, Patience};
use rbox_rootfs::own;
use rustix::fs::{AtFlags, Timespec, Timestamps};

use super::add::{Staging, Transaction};
use super::find::Layer;
use super::made::fingerprint;
use super::{ImageStore, StoreError, io_error};
use crate::hash::HashingReader;
use crate::layer::unpack_stream;

/// What is wrong with a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerDamage {
    /// It is not unpacked.
    NotUnpacked,
    /// Its blob is not there, nor can it be made again.
    NoBlob,
    /// Its blob is not what its digest promises.
    Blob,
    /// Its unpacked files are not what its blob has.
    Files,
}

/// How long those who add, or make a container of an image, are waited for.
const WHILE_ADDING: Duration = Duration::from_secs(5);
/// So deep are trees looked into; what is below is compared all the same, with its times.
const DEEPEST: usize = 128;

impl ImageStore {
    /// What is wrong with a layer. Without `contents` only whether all of it is there is looked at; else its blob is read and unpacked
    /// beside, and the files are compared.
    ///
    /// # Errors
    /// The disk.
    pub fn layer_damage(&self, layer: &Layer, contents: bool) -> Result<Option<LayerDamage>, StoreError> {
        if !self.has_bytes_of(&layer.diff_id, &layer.digest, layer.blob_size) {
            let there = self.has_blob(&layer.digest);
            return Ok(Some(if there { LayerDamage::Blob } else { LayerDamage::NoBlob }));
        }
        let is_unpacked = self.has_layer(&layer.diff_id) && layer.dir.is_dir();
        if !contents {
            return Ok((!is_unpacked).then_some(LayerDamage::NotUnpacked));
        }
        let Some(blob) = self.open_blob(layer)? else {
            // Made here: its files are all there is, and their digest is known.
            let whole = self.copy_layer(layer, &mut io::sink()).is_ok();
            return Ok((!whole).then_some(LayerDamage::Files));
        };
        let transaction = self.transaction()?;
        let Some(fresh) = unpack_beside(&transaction, layer, &blob)? else {
            return Ok(Some(LayerDamage::Blob));
        };
        if !is_unpacked {
            return Ok(Some(LayerDamage::NotUnpacked));
        }
        // A directory that no entry of the archive is for has the time at which it was made.
        same_times(&layer.dir, fresh.files(), 0);
        let equal = fingerprint(&layer.dir)? == fingerprint(fresh.files())?;
        Ok((!equal).then_some(LayerDamage::Files))
    }

    fn open_blob(&self, layer: &Layer) -> Result<Option<File>, StoreError> {
        let path = self.blob_path(&layer.digest);
        match own::open_to_read(&path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StoreError::Io { action: "open", path, source }),
        }
    }

    /// Unpacks a layer's blob again, and puts that in the place of what is there. False when there is no blob that can be used.
    /// Whoever has the layer mounted goes on with the former one, so nobody should: by the time `hold` is called nobody can add an
    /// image, or make a container of one that has the layer, and what it returns is kept until the new one is in its place.
    ///
    /// # Errors
    /// The disk, somebody who is at it, or what `hold` says.
    pub fn unpack_again<G>(
        &self,
        layer: &Layer,
        hold: impl FnOnce() -> Result<G, StoreError>,
    ) -> Result<bool, StoreError> {
        let Some(blob) = self.open_blob(layer)? else { return Ok(false) };
        let transaction = self.transaction()?;
        let Some(fresh) = unpack_beside(&transaction, layer, &blob)? else { return Ok(false) };
        // Those who add, builds among them, may have the layer mounted. Should one of them take the new one away in between, the
        // exchange below fails, and the former stays.
        drop(transaction);
        let _alone = self.alone()?;
        let _claims = self.claims(layer)?;
        let _held = hold()?;
        let former = fresh.replace(self, &layer.diff_id)?;
        if let Some(former) = former {
            rbox_rootfs::removal::remove_tree(&former).map_err(io_error("remove", &former))?;
        }
        Ok(true)
    }

    /// The lock that excludes everyone who adds, who is waited for a moment.
    fn alone(&self) -> Result<File, StoreError> {
        let begin = Instant::now();
        loop {
            if let Some(alone) = self.try_alone()? {
                return Ok(alone);
            }
            if begin.elapsed() > WHILE_ADDING {
                let why = "images are being added or built by another command: try again when it is done";
                return Err(StoreError::Conflict(why.to_owned()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The locks that say that no container is just being made of an image with this layer.
    fn claims(&self, layer: &Layer) -> Result<Vec<File>, StoreError> {
        let mut claims = Vec::new();
        for image in
            self.list()?.iter().filter(|image| image.layers.iter().any(|l| l.diff_id == layer.diff_id))
        {
            let path = self.blob_path(&image.id);
            let file = own::open_to_read(&path).map_err(io_error("open", &path))?;
            let short = Patience::of(WHILE_ADDING);
            lock::take(&file, How::Exclusive, short).map_err(io_error("lock", &path))?;
            claims.push(file);
        }
        Ok(claims)
    }

    /// Deletes these of what [`unnamed`](Self::unnamed) found, unless they have a name by now.
    ///
    /// # Errors
    /// The disk, or somebody who is adding.
    pub fn remove_unnamed(&self, found: &[PathBuf]) -> Result<(), StoreError> {
        let _alone = self.alone()?;
        self.remove_nameless(found)
    }

    /// Deletes a layer's blob, which was found to be damaged.
    ///
    /// # Errors
    /// The disk.
    pub fn drop_blob(&self, layer: &Layer) -> Result<(), StoreError> {
        let Some(blob) = self.open_blob(layer)? else { return Ok(()) };
        self.discard_blob(&layer.digest, &blob)
    }

    /// The layers and blobs that neither an image, a container nor a build names, with the bytes each takes. Nothing while somebody is
    /// adding, or when not all can be known.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn unnamed(&self) -> Result<Vec<(PathBuf, u64)>, StoreError> {
        self.nameless_files()
    }
}

/// Unpacks a layer from its blob into a directory of its own; none when the blob is damaged.
fn unpack_beside(
    transaction: &Transaction<'_>,
    layer: &Layer,
    blob: &File,
) -> Result<Option<Staging>, StoreError> {
    let staging = transaction.stage()?;
    let mut reader =
        HashingReader::new(io::BufReader::with_capacity(64 << 10, blob), layer.digest.algorithm());
    let unpacked = match unpack_stream(&mut reader, layer.diff_id.algorithm(), Some(staging.root())) {
        Ok(unpacked) => unpacked,
        Err(error) if error.is_disk_full() => return Err(error.into()),
        Err(_) => return Ok(None),
    };
    io::copy(&mut reader.by_ref(), &mut io::sink())
        .map_err(io_error("read", &transaction.store().blob_path(&layer.digest)))?;
    if reader.finish().0 != layer.digest || unpacked.diff_id != layer.diff_id {
        return Ok(None);
    }
    staging.seal(&unpacked)?;
    Ok(Some(staging))
}

/// Gives the directories below `to` the times that those below `from` have. Nobody but root reaches either, so nothing changes meanwhile.
fn same_times(from: &Path, to: &Path, depth: usize) {
    let Ok(entries) = fs::read_dir(to) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        let (there, here) = (from.join(entry.file_name()), entry.path());
        let Ok(stat) = rustix::fs::lstat(&there) else { continue };
        if !rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir() {
            continue;
        }
        if depth < DEEPEST {
            same_times(&there, &here, depth + 1);
        }
        let time = Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ };
        let times = Timestamps { last_access: time, last_modification: time };
        let _ = rustix::fs::utimensat(rustix::fs::CWD, &here, &times, AtFlags::SYMLINK_NOFOLLOW);
    }
}

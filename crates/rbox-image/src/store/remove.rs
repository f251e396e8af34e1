//! Tags, removal, and tidying up after those that died.
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rbox_spec::{Digest, Reference};
use rustix::fs::FlockOperation;

use super::index::{IndexFile, clear_source, drop_name, full_name, reference, set_reference, source};
use super::{Image, ImageStore, StoreError, flock, io_error};

/// How long what no image names stays for the next pull to use.
const KEEP: Duration = Duration::from_hours(24);

/// A container that uses an image, as the caller knows it.
#[derive(Debug, Clone)]
pub struct ImageUser {
    /// The image's id.
    pub image: Digest,
    /// The container's id.
    pub container: String,
    /// Whether it is running (or paused).
    pub running: bool,
}

/// How to remove.
#[derive(Debug, Clone, Copy, Default)]
pub struct RemoveOptions {
    /// `-f`: also if stopped containers use it, or if it has several tags.
    pub force: bool,
}

/// One thing that was done. `Display` is Docker's line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// A reference was removed.
    Untagged(Reference),
    /// An image (its id) or a layer (its chain ID) was removed.
    Deleted(Digest),
}

impl std::fmt::Display for Removed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Untagged(reference) => write!(f, "Untagged: {reference}"),
            Self::Deleted(digest) => write!(f, "Deleted: {digest}"),
        }
    }
}

/// What `image prune` did.
#[derive(Debug, Clone, Default)]
pub struct Pruned {
    /// In Docker's order.
    pub removed: Vec<Removed>,
    /// Bytes of disk given back.
    pub freed: u64,
}

impl ImageStore {
    /// Gives an image one more reference. What the reference named before stays, without it.
    pub fn tag(&self, image: &Image, target: &Reference) -> Result<(), StoreError> {
        if target.digest().is_some() {
            return Err(StoreError::TagWithDigest);
        }
        // `sha256:…` is read as an id everywhere else.
        if matches!(target.familiar_name().as_str(), "sha256" | "sha512") {
            return Err(StoreError::TagLikeDigest);
        }
        let target = target.clone().with_default_tag();
        self.change_index(|index, _| {
            let same = |entry: &&crate::media::Descriptor| entry.digest == image.manifest_digest;
            let mut entries = index.entries.iter().filter(same);
            let from_same =
                entries.clone().find(|e| reference(e).is_some_and(|r| r.same_repository(&target)));
            let Some(model) = from_same.or_else(|| entries.next()) else {
                return Err(StoreError::NotFound(image.id.to_string()));
            };
            let mut entry = model.clone();
            // Where it came from stays with the repository it came from.
            if from_same.is_none() {
                clear_source(&mut entry);
            }
            set_reference(&mut entry, Some(&target));
            super::index::put(index, entry);
            Ok(())
        })
    }

    /// Removes a reference, or an image by its id, as `docker rmi NAME` does: an image goes with its last reference, and with
    /// it the layers that no other image has.
    pub fn remove(
        &self,
        name: &str,
        options: RemoveOptions,
        users: &[ImageUser],
    ) -> Result<Vec<Removed>, StoreError> {
        let (removed, image) = self.change_index(|index, _| {
            let entry = self.lookup(index, name)?.ok_or_else(|| not_found(name))?;
            let named = Reference::parse(name)
                .ok()
                .map(Reference::with_default_tag)
                .filter(|wanted| reference(entry).is_some_and(|found| found.same_repository(wanted)));
            let image = self.load(index, entry)?;
            let mut removed = Vec::new();
            if let Some(wanted) = &named {
                if self.names_elsewhere(index, &image, wanted) {
                    untag(index, self, &image, wanted, &mut removed);
                    return Ok((removed, None));
                }
                check_reference_use(&image, wanted, options, users)?;
            } else {
                check_id_use(&image, options, users)?;
            }
            let pin = self.claim(&image)?;
            let positions = |index: &IndexFile| {
                index.entries.iter().position(|entry| self.id_of(entry) == Some(image.id))
            };
            let mut untagged = BTreeSet::new();
            while let Some(position) = positions(index) {
                let gone = index.entries.remove(position);
                untagged.extend(reference(&gone).filter(|r| r.tag().is_some()));
            }
            removed.extend(untagged.into_iter().map(Removed::Untagged));
            removed.extend(image.repo_digests.iter().cloned().map(Removed::Untagged));
            Ok((removed, Some((image, pin))))
        })?;
        let mut removed = removed;
        if let Some((image, pin)) = image {
            removed.push(Removed::Deleted(image.id));
            self.free(&image, &mut removed)?;
            drop(pin);
            self.tidy();
        }
        Ok(removed)
    }

    /// Whether the image has a reference that removing `wanted` leaves.
    fn names_elsewhere(&self, index: &IndexFile, image: &Image, wanted: &Reference) -> bool {
        index.entries.iter().filter(|entry| self.id_of(entry) == Some(image.id)).any(|entry| {
            match (reference(entry), wanted.digest()) {
                (Some(other), None) => other.tag().is_some() && other != *wanted,
                (Some(other), Some(_)) => other.tag().is_some() || !other.same_repository(wanted),
                (None, _) => false,
            }
        })
    }

    /// Takes the lock that says that no container is just being made of the image.
    fn claim(&self, image: &Image) -> Result<File, StoreError> {
        let path = self.blob_path(&image.id);
        let file = File::open(&path).map_err(io_error("open", &path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(file),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(StoreError::Conflict(format!(
                "unable to delete {} (cannot be forced) - a container is being created from it",
                image.id.short()
            ))),
            Err(source) => Err(StoreError::Io { action: "lock", path, source }),
        }
    }

    /// Deletes the files of an image that is no longer registered, except those other images have.
    ///
    /// While someone is adding, they may be counting on them: then they stay for a later [`tidy`](Self::tidy), and only
    /// the image is reported as deleted.
    fn free(&self, image: &Image, removed: &mut Vec<Removed>) -> Result<u64, StoreError> {
        let Some(_alone) = self.try_alone()? else { return Ok(0) };
        let live = self.live()?;
        let mut freed = 0;
        for (layer, chain) in image.layers.iter().zip(image.chain_ids()).rev() {
            if !live.layers.contains(&layer.diff_id) && self.has_layer(&layer.diff_id) {
                freed += self.layer_size(layer);
                self.discard(&self.layer_path(&layer.diff_id))?;
                removed.push(Removed::Deleted(chain));
            }
        }
        let blobs = image.layers.iter().map(|layer| layer.digest).chain([image.manifest_digest, image.id]);
        for digest in blobs.filter(|digest| !live.blobs.contains(digest)) {
            let path = self.blob_path(&digest);
            freed += fs::metadata(&path).map_or(0, |meta| meta.blocks() * 512);
            remove_file(&path)?;
        }
        Ok(freed)
    }

    /// The lock that excludes everyone who adds; `None` if someone does.
    fn try_alone(&self) -> Result<Option<File>, StoreError> {
        match self.lock_file("store.lock", FlockOperation::NonBlockingLockExclusive) {
            Ok(file) => Ok(Some(file)),
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Everything that index.json names, directly or not.
    fn live(&self) -> Result<Live, StoreError> {
        let index = self.read_index()?;
        let mut live = Live::default();
        for entry in &index.entries {
            live.blobs.insert(entry.digest);
            // What another tool put in (an index, an artifact) is left alone, but what it names cannot be known.
            let Ok(image) = self.load(&index, entry) else {
                live.opaque = true;
                continue;
            };
            live.blobs.insert(image.id);
            for layer in &image.layers {
                live.blobs.insert(layer.digest);
                live.layers.insert(layer.diff_id);
            }
        }
        Ok(live)
    }

    /// Moves a directory out of sight in one step, then deletes it.
    fn discard(&self, path: &Path) -> Result<(), StoreError> {
        let grave = self.fresh("dead");
        match fs::rename(path, &grave) {
            Ok(()) => fs::remove_dir_all(&grave).map_err(io_error("remove", &grave)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
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
        let mut freed = 0;
        // Whoever changes index.json adds nothing and holds only its lock; the new one is under tmp/ until it is renamed.
        let index_lock = self.lock_index()?;
        for (path, meta) in entries(&self.tmp())? {
            let partial = path.extension().is_some_and(|extension| extension == "partial");
            if partial && younger(&meta, keep) {
                continue;
            }
            freed += disk_use(&path, &meta);
            if meta.is_dir() { self.discard(&path)? } else { remove_file(&path)? }
        }
        drop(index_lock);
        // Only worth reading every manifest for if something may be unnamed.
        let layers = entries(&self.dir.join("layers"))?;
        let mut blobs = Vec::new();
        for (directory, meta) in entries(&self.dir.join("blobs"))? {
            if meta.is_dir() {
                blobs.extend(entries(&directory)?);
            }
        }
        let live = self.live()?;
        let named: BTreeSet<PathBuf> = live
            .layers
            .iter()
            .map(|diff_id| self.layer_path(diff_id))
            .chain(live.blobs.iter().map(|digest| self.blob_path(digest)))
            .collect();
        if live.opaque {
            return Ok(freed);
        }
        for (path, meta) in layers.into_iter().chain(blobs) {
            if named.contains(&path) || younger(&meta, keep) {
                continue;
            }
            freed += disk_use(&path, &meta);
            if meta.is_dir() { self.discard(&path)? } else { remove_file(&path)? }
        }
        Ok(freed)
    }

    /// Removes the images without a tag (or, with `all`, every one) that no container uses and `wanted` agrees to; and all
    /// that dead pulls left.
    pub fn prune(
        &self,
        all: bool,
        users: &[ImageUser],
        wanted: impl Fn(&Image) -> bool,
    ) -> Result<Pruned, StoreError> {
        let mut pruned = Pruned::default();
        for image in self.list()? {
            let used = users.iter().any(|user| user.image == image.id);
            if used || (!all && !image.references.is_empty()) || !wanted(&image) {
                continue;
            }
            let before = self.disk_use_of(&image);
            match self.remove(&image.id.to_string(), RemoveOptions { force: true }, users) {
                Ok(removed) => {
                    pruned.removed.extend(removed);
                    pruned.freed += before.saturating_sub(self.disk_use_of(&image));
                }
                // Taken or gone meanwhile: not ours to prune.
                Err(StoreError::Conflict(_) | StoreError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
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

#[derive(Default)]
struct Live {
    blobs: BTreeSet<Digest>,
    layers: BTreeSet<Digest>,
    opaque: bool,
}

/// Removes one reference of an image that has others.
fn untag(
    index: &mut IndexFile,
    store: &ImageStore,
    image: &Image,
    wanted: &Reference,
    removed: &mut Vec<Removed>,
) {
    if let Some(digest) = wanted.digest() {
        for entry in index.entries.iter_mut().filter(|entry| store.id_of(entry) == Some(image.id)) {
            if reference(entry).is_some_and(|r| r.same_repository(wanted)) {
                clear_source(entry);
            }
        }
        index.entries.retain(|entry| {
            !(store.id_of(entry) == Some(image.id)
                && reference(entry).is_some_and(|r| r.same_repository(wanted) && r.digest() == Some(digest)))
        });
        removed.push(Removed::Untagged(wanted.with_digest(*digest)));
        return;
    }
    let full = wanted.full();
    let Some(position) = index.entries.iter().position(|entry| full_name(entry) == Some(&full)) else {
        return;
    };
    let from = index.entries.get(position).and_then(source);
    drop_name(index, position, false);
    removed.push(Removed::Untagged(wanted.clone()));
    // With a repository's last tag goes what is known of its digests.
    let other_tag = |entry: &crate::media::Descriptor| {
        store.id_of(entry) == Some(image.id)
            && reference(entry).is_some_and(|r| r.tag().is_some() && r.same_repository(wanted))
    };
    if index.entries.iter().any(other_tag) {
        return;
    }
    index.entries.retain(|entry| {
        !(store.id_of(entry) == Some(image.id) && reference(entry).is_some_and(|r| r.same_repository(wanted)))
    });
    removed.extend(from.map(|digest| Removed::Untagged(wanted.with_digest(digest))));
}

/// Docker's refusals when the last reference would go.
fn check_reference_use(
    image: &Image,
    wanted: &Reference,
    options: RemoveOptions,
    users: &[ImageUser],
) -> Result<(), StoreError> {
    let mut using = users.iter().filter(|user| user.image == image.id);
    if options.force {
        return match using.find(|user| user.running) {
            Some(user) => Err(running(image, user)),
            None => Ok(()),
        };
    }
    match using.next() {
        Some(user) => Err(StoreError::Conflict(format!(
            "unable to remove repository reference {:?} (must force) - container {} is using its referenced image {}",
            wanted.familiar(),
            short(&user.container),
            image.id.short()
        ))),
        None => Ok(()),
    }
}

/// Docker's refusals when an image is removed by its id.
fn check_id_use(image: &Image, options: RemoveOptions, users: &[ImageUser]) -> Result<(), StoreError> {
    let using: Vec<_> = users.iter().filter(|user| user.image == image.id).collect();
    if let Some(user) = using.iter().find(|user| user.running) {
        return Err(running(image, user));
    }
    if options.force {
        return Ok(());
    }
    if image.references.len() > 1 {
        return Err(StoreError::Conflict(format!(
            "unable to delete {} (must be forced) - image is referenced in multiple repositories",
            image.id.short()
        )));
    }
    match using.first() {
        Some(user) => Err(StoreError::Conflict(format!(
            "unable to delete {} (must be forced) - image is being used by stopped container {}",
            image.id.short(),
            short(&user.container)
        ))),
        None => Ok(()),
    }
}

fn running(image: &Image, user: &ImageUser) -> StoreError {
    StoreError::Conflict(format!(
        "unable to delete {} (cannot be forced) - image is being used by running container {}",
        image.id.short(),
        short(&user.container)
    ))
}

fn short(container: &str) -> &str {
    container.get(..12).unwrap_or(container)
}

fn not_found(name: &str) -> StoreError {
    let shown = Reference::parse(name).map_or_else(|_| name.to_owned(), |r| r.with_default_tag().familiar());
    StoreError::NotFound(shown)
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

/// Whether it changed less than `keep` ago. The change time, because a layer's own time is its image's.
fn younger(meta: &fs::Metadata, keep: Duration) -> bool {
    let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(meta.ctime()).unwrap_or(0));
    !keep.is_zero() && SystemTime::now().duration_since(changed).is_ok_and(|age| age < keep)
}

/// Bytes of disk; for an unpacked layer what its record says.
fn disk_use(path: &Path, meta: &fs::Metadata) -> u64 {
    if !meta.is_dir() {
        return meta.blocks() * 512;
    }
    let record = fs::read(path.join("layer.json")).ok();
    let record = record.and_then(|bytes| serde_json::from_slice::<super::find::LayerRecord>(&bytes).ok());
    record.map_or(0, |record| record.size)
}

fn remove_file(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(StoreError::Io { action: "remove", path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

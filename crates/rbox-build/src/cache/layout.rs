//! Results of steps in a directory of the caller's: `--cache-to` and `--cache-from type=local`.
//!
//! The directory is an OCI image layout, so that whatever carries images can carry it. A tag names a manifest whose configuration says which
//! step made which layer; its entry in the index is marked as one of rbox's. What BuildKit writes there has other keys, and is refused.
//!
//! What is read there may be anybody's: nothing is believed but what a digest vouches for, and of a step only its key, the layer's digest
//! and the time are taken over. Blobs are removed only if an entry that is replaced has named them, and no other entry does.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rbox_image::ImageStore;
use rbox_image::archive::uncompressed;
use rbox_image::compress::write_layer;
use rbox_image::hash::{HashingReader, sha256};
use rbox_image::media::{Compression, Descriptor, Index, MAX_DOCUMENT, Manifest, OCI_INDEX, OCI_MANIFEST};
use rbox_image::store::{CopyError, Expected, Layer, Transaction};
use rbox_spec::Digest;
use rbox_spec::digest::Algorithm;
use serde::{Deserialize, Serialize};

use super::key::Key;
use super::place::{New, Place};
use super::store::StepResult;
use crate::error::{BuildError, io_error};
use crate::request::{CacheSource, CacheTarget, Which};

/// The type of the configuration.
const STEPS_TYPE: &str = "application/vnd.rbox.buildcache.v1+json";
/// Where an index says what a manifest is called.
const TAG: &str = "org.opencontainers.image.ref.name";
/// What marks an entry of an index.
const MARK: &str = "io.rbox.buildcache";
const INDEX: &str = "index.json";
const LAYOUT: &str = "oci-layout";
/// Where blobs are: all that is written has a SHA-256 digest.
const BLOBS: &str = "blobs/sha256";
/// No list of steps is larger.
const MOST_STEPS: u64 = 64 << 20;
/// Nor are all that are read of one directory.
const MOST_READ: u64 = 256 << 20;
/// A file of zeros that takes less of the disk than this part of its length is not read: it would fill the disk.
const MOST_SPARSE: u64 = 16;
/// Shorter ones may be as they like.
const SHORT: u64 = 16 << 20;

/// What is there of one step.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Carried {
    key: Key,
    /// The layer's blob.
    blob: Digest,
    /// The digest of its uncompressed tar.
    diff_id: Digest,
    /// The length of that.
    size: u64,
    /// When the step was carried out.
    created: String,
    /// The step, for those who look.
    what: String,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Steps {
    steps: Vec<Carried>,
}

/// Results of steps that are elsewhere.
#[derive(Debug)]
pub(crate) struct Elsewhere {
    place: Place,
    /// With the lengths of their blobs. More is not kept: it may be as long as somebody likes, and one blob is that of many steps.
    steps: HashMap<Key, (u64, Carried)>,
}

impl Elsewhere {
    /// Reads which steps a directory has.
    pub(crate) fn read(source: &CacheSource) -> Result<Self, BuildError> {
        let missing = || {
            let what = match &source.which {
                Which::Tag(tag) => tag.clone(),
                Which::Digest(digest) => digest.to_string(),
            };
            BuildError::NotFound(format!("no cache {what} in {}", source.dir.display()))
        };
        let place = Place::open(&source.dir)?;
        let index = read_index(&place)?.ok_or_else(missing)?;
        let wanted = |one: &&Descriptor| match &source.which {
            Which::Tag(tag) => tag_of(one) == Some(tag),
            Which::Digest(digest) => one.digest == *digest,
        };
        let found = index.manifests.iter().find(wanted).ok_or_else(missing)?;
        let (manifest, steps) = read_steps(&place, found, &mut { MOST_READ })?;
        let blobs: HashMap<Digest, u64> =
            manifest.layers.into_iter().map(|layer| (layer.digest, layer.size)).collect();
        let known = steps.steps.into_iter().filter_map(|mut one| {
            // It goes into the image: as a time, whatever it was written like.
            one.created = one.created.parse::<jiff::Timestamp>().ok()?.to_string();
            Some((one.key.clone(), (*blobs.get(&one.blob)?, one)))
        });
        let steps = known.collect();
        Ok(Self { place, steps })
    }

    pub(crate) fn dir(&self) -> &Path {
        self.place.path()
    }

    pub(crate) fn has(&self, key: &Key) -> bool {
        self.steps.contains_key(key)
    }

    /// Takes the layer of a step into the store, if there is one. `what`: the step.
    pub(crate) fn fetch(
        &self,
        key: &Key,
        what: &str,
        transaction: &Transaction<'_>,
    ) -> Result<Option<StepResult>, BuildError> {
        let Some((blob_size, step)) = self.steps.get(key) else { return Ok(None) };
        let store = transaction.store();
        let media_type = Compression::None.layer_type();
        let layer = layer_of(store, step.diff_id, step.size);
        let size = if store.has_whole_layer(&layer.diff_id, &layer.digest, layer.blob_size) {
            store.layer_size(&layer)
        } else {
            let path = blob_name(&step.blob);
            let named = || self.place.path().join(&path);
            let (file, length) = self.place.file(&path).map_err(|error| io_error("open", &named())(error))?;
            check_length(&file, length, *blob_size, step, store)
                .map_err(|error| io_error("read", &named())(error))?;
            let tar =
                uncompressed(file.take(*blob_size)).map_err(|error| io_error("read", &named())(error))?;
            let (digest, diff_id) = (Some(step.diff_id), Some(step.diff_id));
            transaction.add_layer(tar, &Expected { digest, size: Some(step.size), diff_id })?.size
        };
        Ok(Some(StepResult {
            diff_id: step.diff_id,
            digest: step.diff_id,
            blob_size: step.size,
            media_type: media_type.to_owned(),
            size,
            created: step.created.clone(),
            what: what.to_owned(),
        }))
    }
}

/// Refuses a blob that is not as long as was said, and what it would not be wise to write: its digest is known only at its end.
fn check_length(
    file: &File,
    length: u64,
    blob_size: u64,
    step: &Carried,
    store: &ImageStore,
) -> io::Result<()> {
    if length != blob_size {
        return Err(io::Error::other(format!("it is {length} bytes long, not {blob_size}")));
    }
    if length > most_packed(step.size) {
        return Err(io::Error::other(format!("it is {length} bytes long, for a layer of {}", step.size)));
    }
    let on_disk = file.metadata()?.blocks().saturating_mul(512);
    if length > SHORT && on_disk < length / MOST_SPARSE {
        return Err(io::Error::other(format!("it is a sparse file of {length} bytes, which has {on_disk}")));
    }
    // It is kept as it is and unpacked.
    let free = rustix::fs::statvfs(store.dir())?;
    let free = free.f_bavail.saturating_mul(free.f_frsize);
    if step.size.saturating_mul(2) > free {
        let size = step.size;
        return Err(io::Error::new(
            io::ErrorKind::StorageFull,
            format!("a layer of {size} bytes is more than there is room for ({free} bytes are free)"),
        ));
    }
    Ok(())
}

/// Writes steps and their layers into a directory, in place of what it has of this tag. `tell` hears of each layer.
pub(crate) fn write(
    target: &CacheTarget,
    steps: &[(Key, StepResult)],
    images: &ImageStore,
    tell: &mut dyn FnMut(&str),
) -> Result<(), BuildError> {
    let place = Place::make(&target.dir)?;
    place.lock()?;
    let mut index = read_index(&place)?.unwrap_or_else(|| Index {
        schema_version: 2,
        media_type: Some(OCI_INDEX.to_owned()),
        manifests: Vec::new(),
        annotations: None,
    });
    let is_replaced = |one: &Descriptor| tag_of(one) == Some(&target.tag);
    if let Some(one) = index.manifests.iter().find(|one| is_replaced(one) && !is_marked(one)) {
        return Err(other(&place, &one.media_type));
    }
    place.make_dirs(Path::new(BLOBS))?;
    place.remove_unfinished(Path::new(BLOBS));
    let known = known_layers(&place, &index, target.compression.layer_type());
    let mut layers = Layers { place: &place, known, images, target };
    let (mut blobs, mut all) = (BTreeMap::new(), Steps::default());
    for (key, result) in steps {
        let blob = layers.blob(result, tell)?;
        all.steps.push(Carried {
            key: key.clone(),
            blob: blob.digest,
            diff_id: result.diff_id,
            size: result.blob_size,
            created: result.created.clone(),
            what: result.what.clone(),
        });
        blobs.insert(blob.digest, blob);
    }
    let config = write_document(&place, STEPS_TYPE, &all)?;
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(OCI_MANIFEST.to_owned()),
        config,
        layers: blobs.into_values().collect(),
        annotations: None,
    };
    let mut manifest = write_document(&place, OCI_MANIFEST, &manifest)?;
    tell(&format!("writing cache manifest {} done", manifest.digest));
    let notes = [(TAG, target.tag.as_str()), (MARK, "1")];
    manifest.annotations = Some(notes.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    let (before, mut kept): (Vec<_>, Vec<_>) = index.manifests.into_iter().partition(is_replaced);
    kept.push(manifest);
    index.manifests = kept;
    if place.read(Path::new(LAYOUT), MAX_DOCUMENT)?.is_none() {
        place.create(Path::new(""))?.put_bytes(LAYOUT, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    }
    // What the index names is on the disk before it is named.
    place.sync()?;
    place.create(Path::new(""))?.put_bytes(INDEX, &json(&index)?)?;
    place.sync()?;
    remove_replaced(&place, &before, &index);
    Ok(())
}

/// The layers that a directory has, and those that are written to it.
struct Layers<'l> {
    place: &'l Place,
    /// What it is said to have, by diff IDs.
    known: HashMap<Digest, Descriptor>,
    images: &'l ImageStore,
    target: &'l CacheTarget,
}

impl Layers<'_> {
    /// The blob of a step's layer, which is there then.
    fn blob(&mut self, result: &StepResult, tell: &mut dyn FnMut(&str)) -> Result<Descriptor, BuildError> {
        if let Some(blob) = self.known.get(&result.diff_id)
            && is_whole(self.place, blob, result)
        {
            return Ok(blob.clone());
        }
        let blob = self.write(result)?;
        tell(&format!("writing layer {} done", blob.digest));
        self.known.insert(result.diff_id, blob.clone());
        Ok(blob)
    }

    fn write(&self, result: &StepResult) -> Result<Descriptor, BuildError> {
        let layer = layer_of(self.images, result.diff_id, result.blob_size);
        let new = self.place.create(Path::new(BLOBS))?;
        let written = write_layer(self.images, &layer, self.target.compression, &new);
        let (digest, size) = written.map_err(|error| match error {
            CopyError::Write(source) => io_error("write a layer to", self.place.path())(source),
            CopyError::Store(error) => error.into(),
        })?;
        new.put(&digest.hex())?;
        Ok(Descriptor::new(self.target.compression.layer_type(), digest, size))
    }
}

impl Write for &New {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&self.file).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The layers of this media type that entries of ours name, by their diff IDs.
fn known_layers(place: &Place, index: &Index, media_type: &str) -> HashMap<Digest, Descriptor> {
    let (mut all, mut left, mut seen) = (HashMap::new(), MOST_READ, HashSet::new());
    for one in index.manifests.iter().filter(|one| is_marked(one) && seen.insert(one.digest)) {
        let Ok((manifest, steps)) = read_steps(place, one, &mut left) else { continue };
        let fitting = manifest.layers.into_iter().filter(|layer| layer.media_type == media_type);
        let blobs: HashMap<Digest, u64> = fitting.map(|layer| (layer.digest, layer.size)).collect();
        // Nothing else of a descriptor that somebody wrote is kept, or written again.
        let known = steps.steps.into_iter().filter_map(|one| {
            let size = *blobs.get(&one.blob)?;
            Some((one.diff_id, Descriptor::new(media_type, one.blob, size)))
        });
        all.extend(known);
    }
    all
}

/// Whether a blob is there as its descriptor says, and is that layer. It is read for that: what has the right length may be damaged, or
/// another one.
fn is_whole(place: &Place, blob: &Descriptor, result: &StepResult) -> bool {
    let digest = |from: &mut dyn Read, algorithm| -> io::Result<(Digest, u64)> {
        let mut reader = HashingReader::new(from, algorithm);
        io::copy(&mut reader, &mut io::sink())?;
        Ok(reader.finish())
    };
    let open = || place.file(&blob_name(&blob.digest));
    let read = || -> io::Result<bool> {
        let (file, length) = open()?;
        if length != blob.size || length > most_packed(result.blob_size) {
            return Ok(false);
        }
        if digest(&mut file.take(length), blob.digest.algorithm())?.0 != blob.digest {
            return Ok(false);
        }
        let tar = uncompressed(open()?.0.take(length))?;
        let found = digest(&mut tar.take(result.blob_size.saturating_add(1)), result.diff_id.algorithm())?;
        Ok(found == (result.diff_id, result.blob_size))
    };
    read().unwrap_or(false)
}

/// Removes the blobs that only replaced entries have named, or the directory would grow with each build. Best effort, and nothing where an
/// entry cannot be read or is not one of ours: what that one needs is not known.
fn remove_replaced(place: &Place, before: &[Descriptor], index: &Index) {
    let mut left = MOST_READ;
    let mut blobs = |one: &Descriptor| -> Option<HashSet<Digest>> {
        let (manifest, _) = read_steps(place, one, &mut left).ok()?;
        let layers = manifest.layers.iter().map(|layer| layer.digest);
        Some(layers.chain([one.digest, manifest.config.digest]).collect())
    };
    let (mut needed, mut seen) = (HashSet::new(), HashSet::new());
    for one in index.manifests.iter().filter(|one| !is_marked(one) || seen.insert(one.digest)) {
        let Some(blobs) = blobs(one) else { return };
        needed.extend(blobs);
    }
    let mut seen = HashSet::new();
    let before = before.iter().filter(|one| seen.insert(one.digest));
    let gone: HashSet<Digest> = before.filter_map(blobs).flatten().collect();
    for digest in gone.difference(&needed).filter(|digest| digest.algorithm() == Algorithm::Sha256) {
        place.remove(Path::new(BLOBS), &digest.hex());
    }
}

/// No blob of a layer of this length is longer, however badly it packs.
const fn most_packed(size: u64) -> u64 {
    size.saturating_add(size / 8).saturating_add(1 << 20)
}

fn layer_of(images: &ImageStore, diff_id: Digest, size: u64) -> Layer {
    Layer {
        diff_id,
        digest: diff_id,
        blob_size: size,
        media_type: Compression::None.layer_type().to_owned(),
        dir: images.layer_path(&diff_id).join("fs"),
    }
}

fn tag_of(manifest: &Descriptor) -> Option<&str> {
    manifest.annotations.as_ref()?.get(TAG).map(String::as_str)
}

fn is_marked(manifest: &Descriptor) -> bool {
    manifest.annotations.as_ref().is_some_and(|notes| notes.contains_key(MARK))
}

fn blob_name(digest: &Digest) -> PathBuf {
    Path::new("blobs").join(digest.algorithm().name()).join(digest.hex())
}

/// None: the directory has none.
fn read_index(place: &Place) -> Result<Option<Index>, BuildError> {
    let Some(bytes) = place.read(Path::new(INDEX), MAX_DOCUMENT)? else { return Ok(None) };
    let no_layout = |error: serde_json::Error| {
        BuildError::Invalid(format!("{} is no OCI layout: {INDEX}: {error}", place.path().display()))
    };
    rbox_spec::json::from_slice(&bytes).map(Some).map_err(no_layout)
}

/// What a manifest says, if it is one of steps. `left`: how many bytes may be read still.
fn read_steps(place: &Place, entry: &Descriptor, left: &mut u64) -> Result<(Manifest, Steps), BuildError> {
    if !is_marked(entry) {
        return Err(other(place, &entry.media_type));
    }
    let damaged = |error: serde_json::Error| {
        BuildError::Invalid(format!("the cache in {} is damaged: {error}", place.path().display()))
    };
    let bytes = read_blob(place, entry, MAX_DOCUMENT, left)?;
    let manifest: Manifest = rbox_spec::json::from_slice(&bytes).map_err(damaged)?;
    if manifest.config.media_type != STEPS_TYPE {
        return Err(other(place, &manifest.config.media_type));
    }
    let bytes = read_blob(place, &manifest.config, MOST_STEPS, left)?;
    Ok((manifest, rbox_spec::json::from_slice(&bytes).map_err(damaged)?))
}

fn other(place: &Place, kind: &str) -> BuildError {
    let dir = place.path().display();
    BuildError::Invalid(format!(
        "{dir} has no cache of rbox under this name but {kind:?}: name another directory, or another tag"
    ))
}

fn read_blob(place: &Place, blob: &Descriptor, most: u64, left: &mut u64) -> Result<Vec<u8>, BuildError> {
    let path = blob_name(&blob.digest);
    let named = || place.path().join(&path);
    let bytes = place.read(&path, most.min(blob.size).min(*left))?;
    let bytes = bytes.ok_or_else(|| BuildError::NotFound(format!("{} is missing", named().display())))?;
    *left = left.saturating_sub(bytes.len() as u64);
    if rbox_image::hash::digest_of(blob.digest.algorithm(), &bytes) == blob.digest {
        return Ok(bytes);
    }
    Err(BuildError::Invalid(format!("{} is damaged: it has another digest", named().display())))
}

fn json(document: &impl Serialize) -> Result<Vec<u8>, BuildError> {
    serde_json::to_vec(document).map_err(|error| BuildError::Internal(error.to_string()))
}

fn write_document(
    place: &Place,
    media_type: &str,
    document: &impl Serialize,
) -> Result<Descriptor, BuildError> {
    let bytes = json(document)?;
    let digest = sha256(&bytes);
    place.create(Path::new(BLOBS))?.put_bytes(&digest.hex(), &bytes)?;
    Ok(Descriptor::new(media_type, digest, bytes.len() as u64))
}

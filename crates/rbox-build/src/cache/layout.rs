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
use rbox_image::archive::uncompressed_up_to;
use rbox_image::compress::write_layer;
use rbox_image::hash::{HashingReader, sha256};
use rbox_image::media::{Compression, Descriptor, Index, MAX_DOCUMENT, Manifest, OCI_INDEX, OCI_MANIFEST};
use rbox_image::store::{CopyError, Expected, Layer, Transaction};
use rbox_spec::Digest;
use rbox_spec::digest::Algorithm;
use serde::{Deserialize, Serialize};

use super::key::Key;
use super::place::{Left, New, Place};
use super::store::{StepResult, Turn};
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

/// A layer that needs no more than this part of the room is taken beside others: no build does more steps at once.
const MOST_TOGETHER: u64 = 32;

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
            one.created = year_of_four_digits(&one.created)?.to_string();
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

    /// Takes the layer of a step into the store, if there is one. `what`: the step. `turn`: waits until no other takes one that needs much
    /// of the room there is.
    pub(crate) fn fetch(
        &self,
        key: &Key,
        what: &str,
        transaction: &Transaction<'_>,
        turn: &dyn Fn() -> Result<Turn, BuildError>,
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
            check_length(&file, length, *blob_size, step)
                .map_err(|error| io_error("read", &named())(error))?;
            let _turn = room_for(step.size, &|| free(store), turn)?;
            let tar = uncompressed_up_to(step.size, file.take(*blob_size))
                .map_err(|error| io_error("read", &named())(error))?;
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

/// A time that RFC 3339 can say: others are in no image that is read again.
fn year_of_four_digits(text: &str) -> Option<jiff::Timestamp> {
    let time: jiff::Timestamp = text.parse().ok()?;
    (0..=9999).contains(&time.to_zoned(jiff::tz::TimeZone::UTC).year()).then_some(time)
}

/// Refuses a blob that is not as long as was said, and what it would not be wise to write: its digest is known only at its end.
fn check_length(file: &File, length: u64, blob_size: u64, step: &Carried) -> io::Result<()> {
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
    Ok(())
}

fn free(store: &ImageStore) -> Result<u64, BuildError> {
    let found = rustix::fs::statvfs(store.dir())
        .map_err(|errno| io_error("ask for the free space of", store.dir())(errno.into()))?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Refuses a layer that there is no room for. The steps of a build are taken side by side, and each would see the same room: those that
/// need much of it are taken in `turn`.
fn room_for<T>(
    size: u64,
    free: &dyn Fn() -> Result<u64, BuildError>,
    turn: &dyn Fn() -> Result<T, BuildError>,
) -> Result<Option<T>, BuildError> {
    // It is kept as it is and unpacked.
    let needed = size.saturating_mul(2);
    if needed <= free()? / MOST_TOGETHER {
        return Ok(None);
    }
    let turn = turn()?;
    let free = free()?;
    if needed > free {
        return Err(BuildError::Invalid(format!(
            "a layer of {size} bytes is more than there is room for ({free} bytes are free)"
        )));
    }
    Ok(Some(turn))
}

/// Writes steps and their layers into a directory, in place of what it has of this tag. `tell` hears of each layer.
///
/// Nothing is in its place before all is written and on the disk: what was killed has left files that the next one knows, and what fails
/// removes what it wrote.
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
    remove_unfinished(&place);
    let known = known_layers(&place, &index, target.compression.layer_type());
    let layers = Layers { place: &place, known, images, target, written: HashSet::new(), files: Vec::new() };
    let result = write_all(layers, steps, tell).and_then(|(files, manifest)| {
        let (before, mut kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut index.manifests).into_iter().partition(is_replaced);
        kept.push(manifest);
        index.manifests = kept;
        put(&place, &files, &index)?;
        remove_replaced(&place, &before, &index);
        Ok(())
    });
    if result.is_err() {
        remove_unfinished(&place);
    }
    result
}

fn remove_unfinished(place: &Place) {
    place.remove_unfinished(Path::new(BLOBS));
    place.remove_unfinished(Path::new(""));
}

/// Writes the layers, the steps and the manifest, none of them in its place yet; the manifest as the index names it.
fn write_all(
    mut layers: Layers<'_>,
    steps: &[(Key, StepResult)],
    tell: &mut dyn FnMut(&str),
) -> Result<(Vec<Left>, Descriptor), BuildError> {
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
    let config = layers.write_document(STEPS_TYPE, &all)?;
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(OCI_MANIFEST.to_owned()),
        config,
        layers: blobs.into_values().collect(),
        annotations: None,
    };
    let mut manifest = layers.write_document(OCI_MANIFEST, &manifest)?;
    tell(&format!("writing cache manifest {} done", manifest.digest));
    let notes = [(TAG, layers.target.tag.as_str()), (MARK, "1")];
    manifest.annotations = Some(notes.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    Ok((layers.files, manifest))
}

/// Puts all that was written in its place, and then the index. What it names is on the disk before.
fn put(place: &Place, files: &[Left], index: &Index) -> Result<(), BuildError> {
    let mut new = Vec::new();
    let mut named = || {
        place.sync()?;
        place.put_all(Path::new(BLOBS), files, &mut new)?;
        if place.read(Path::new(LAYOUT), MAX_DOCUMENT)?.is_none() {
            place.create(Path::new(""))?.put_bytes(LAYOUT, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        }
        place.sync()?;
        place.create(Path::new(""))?.put_bytes(INDEX, &json(index)?)
    };
    if let Err(error) = named() {
        for name in &new {
            place.remove(Path::new(BLOBS), name);
        }
        return Err(error);
    }
    place.sync()
}

/// The layers that a directory has, and those that are written to it.
struct Layers<'l> {
    place: &'l Place,
    /// What it is said to have, by diff IDs.
    known: HashMap<Digest, Descriptor>,
    images: &'l ImageStore,
    target: &'l CacheTarget,
    /// Of these layers, what was written just now.
    written: HashSet<Digest>,
    /// All files that were.
    files: Vec<Left>,
}

impl Layers<'_> {
    /// The blob of a step's layer, which is there then.
    fn blob(&mut self, result: &StepResult, tell: &mut dyn FnMut(&str)) -> Result<Descriptor, BuildError> {
        if let Some(blob) = self.known.get(&result.diff_id)
            && (self.written.contains(&result.diff_id) || is_whole(self.place, blob, result))
        {
            return Ok(blob.clone());
        }
        let blob = self.write(result)?;
        tell(&format!("writing layer {} done", blob.digest));
        self.known.insert(result.diff_id, blob.clone());
        self.written.insert(result.diff_id);
        Ok(blob)
    }

    fn write(&mut self, result: &StepResult) -> Result<Descriptor, BuildError> {
        let layer = layer_of(self.images, result.diff_id, result.blob_size);
        let new = self.place.create(Path::new(BLOBS))?;
        let written = write_layer(self.images, &layer, self.target.compression, &new);
        let (digest, size) = written.map_err(|error| match error {
            CopyError::Write(source) => io_error("write a layer to", self.place.path())(source),
            CopyError::Store(error) => error.into(),
        })?;
        self.files.push(new.leave(&digest.hex()));
        Ok(Descriptor::new(self.target.compression.layer_type(), digest, size))
    }

    fn write_document(
        &mut self,
        media_type: &str,
        document: &impl Serialize,
    ) -> Result<Descriptor, BuildError> {
        let bytes = json(document)?;
        let digest = sha256(&bytes);
        self.files.push(self.place.create(Path::new(BLOBS))?.leave_bytes(&digest.hex(), &bytes)?);
        Ok(Descriptor::new(media_type, digest, bytes.len() as u64))
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
        let mut tar = uncompressed_up_to(result.blob_size, open()?.0.take(length))?;
        let found = digest(&mut tar, result.diff_id.algorithm())?;
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn years_are_those_of_rfc_3339() {
        for (text, is_one) in [
            ("2026-11-30T12:00:00Z", true),
            ("9999-12-30T12:00:00Z", true),
            ("0000-01-02T12:00:00Z", true),
            ("-000001-12-30T12:00:00Z", false),
            ("-009000-01-01T12:00:00Z", false),
            ("yesterday", false),
        ] {
            assert_eq!(year_of_four_digits(text).is_some(), is_one, "{text}");
        }
    }

    #[test]
    fn the_room_is_looked_at_again_when_it_is_ones_turn() {
        let left = std::cell::Cell::new(6400_u64);
        let ask = |size| {
            let turn = || {
                // Who was before has taken most of it.
                left.set(1000);
                Ok(())
            };
            room_for(size, &|| Ok(left.get()), &turn)
        };
        assert!(ask(100).unwrap().is_none(), "many have room for it");
        assert!(ask(101).unwrap().is_some());
        left.set(6400);
        let error = ask(3000).unwrap_err().to_string();
        assert!(error.contains("more than there is room for (1000 bytes are free)"), "{error}");
    }
}

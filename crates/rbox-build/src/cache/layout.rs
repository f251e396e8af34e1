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
use rbox_image::store::CopyError;
use rbox_spec::Digest;
use rbox_spec::digest::Algorithm;
use serde::Serialize;

use super::key::Key;
use super::place::{Left, New, Place};
use super::steps::{Carried, Known, MOST_STEPS, STEPS_TYPE, Steps, json, known, layer_of, most_packed};
use super::store::StepResult;
use crate::error::{BuildError, io_error};
use crate::request::Which;

/// Where an index says what a manifest is called.
const TAG: &str = "org.opencontainers.image.ref.name";
/// What marks an entry of an index.
const MARK: &str = "io.rbox.buildcache";
const INDEX: &str = "index.json";
const LAYOUT: &str = "oci-layout";
/// Where blobs are: all that is written has a SHA-256 digest.
const BLOBS: &str = "blobs/sha256";
/// No lists of steps that are read of one directory are larger.
const MOST_READ: u64 = 256 << 20;
/// A file of zeros that takes less of the disk than this part of its length is not read: it would fill the disk.
const MOST_SPARSE: u64 = 16;
/// Shorter ones may be as they like.
const SHORT: u64 = 16 << 20;

/// Reads which steps a directory has.
pub(super) fn read(dir: &Path, which: &Which) -> Result<(Place, Known), BuildError> {
    let missing = || {
        let what = match which {
            Which::Tag(tag) => tag.clone(),
            Which::Digest(digest) => digest.to_string(),
        };
        BuildError::NotFound(format!("no cache {what} in {}", dir.display()))
    };
    let place = Place::open(dir)?;
    let index = read_index(&place)?.ok_or_else(missing)?;
    let wanted = |one: &&Descriptor| match which {
        Which::Tag(tag) => tag_of(one) == Some(tag),
        Which::Digest(digest) => one.digest == *digest,
    };
    let found = index.manifests.iter().find(wanted).ok_or_else(missing)?;
    let (manifest, steps) = read_steps(&place, found, &mut { MOST_READ })?;
    Ok((place, known(manifest, steps)))
}

/// Opens a step's blob, which is as long as was said.
pub(super) fn open(place: &Place, step: &Carried, blob_size: u64) -> Result<File, BuildError> {
    let path = blob_name(&step.blob);
    let named = || place.path().join(&path);
    let (file, length) = place.file(&path).map_err(|error| io_error("open", &named())(error))?;
    check_length(&file, length, blob_size, step).map_err(|error| io_error("read", &named())(error))?;
    Ok(file)
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

/// Writes steps and their layers into a directory, in place of what it has of this tag. `tell` hears of each layer.
///
/// Nothing is in its place before all is written and on the disk: what was killed has left files that the next one knows, and what fails
/// removes what it wrote.
pub(crate) fn write(
    (dir, tag): (&Path, &str),
    compression: Compression,
    steps: &[(Key, StepResult)],
    images: &ImageStore,
    tell: &mut dyn FnMut(&str),
) -> Result<(), BuildError> {
    let place = Place::make(dir)?;
    place.lock()?;
    let mut index = read_index(&place)?.unwrap_or_else(|| Index {
        schema_version: 2,
        media_type: Some(OCI_INDEX.to_owned()),
        manifests: Vec::new(),
        annotations: None,
    });
    let is_replaced = |one: &Descriptor| tag_of(one) == Some(tag);
    if let Some(one) = index.manifests.iter().find(|one| is_replaced(one) && !is_marked(one)) {
        return Err(other(&place, &one.media_type));
    }
    place.make_dirs(Path::new(BLOBS))?;
    remove_unfinished(&place);
    let known = known_layers(&place, &index, compression.layer_type());
    let (written, files) = (HashSet::new(), Vec::new());
    let layers = Layers { place: &place, known, images, tag, compression, written, files };
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
    for step in steps {
        let blob = layers.blob(&step.1, tell)?;
        all.steps.push(Carried::of(step, blob.digest));
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
    let notes = [(TAG, layers.tag), (MARK, "1")];
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
    tag: &'l str,
    compression: Compression,
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
        let written = write_layer(self.images, &layer, self.compression, &new);
        let (digest, size) = written.map_err(|error| match error {
            CopyError::Write(source) => io_error("write a layer to", self.place.path())(source),
            CopyError::Store(error) => error.into(),
        })?;
        self.files.push(new.leave(&digest.hex()));
        Ok(Descriptor::new(self.compression.layer_type(), digest, size))
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

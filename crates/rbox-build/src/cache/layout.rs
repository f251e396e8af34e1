//! Results of steps in a directory of the caller's: `--cache-to` and `--cache-from type=local`.
//!
//! The directory is an OCI image layout, so that whatever carries images can carry it. A tag names a manifest of an own type: its
//! configuration says which step made which layer. What BuildKit writes there has other keys, and is refused by its type.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use rbox_engine::caller;
use rbox_image::ImageStore;
use rbox_image::archive::uncompressed;
use rbox_image::hash::{Hasher, sha256};
use rbox_image::media::{Compression, Descriptor, Index, MAX_DOCUMENT, Manifest, OCI_INDEX, OCI_MANIFEST};
use rbox_image::store::{Expected, Layer, Transaction};
use rbox_spec::Digest;
use rbox_spec::digest::Algorithm;
use rbox_sys::lock::{How, Patience};
use rbox_sys::own;
use serde::{Deserialize, Serialize};

use super::key::Key;
use super::locked::lock_at;
use super::store::StepResult;
use crate::context::open_dir;
use crate::error::{BuildError, io_error};

/// The type of the configuration.
const STEPS_TYPE: &str = "application/vnd.rbox.buildcache.v1+json";
/// Where an index says what a manifest is called.
const TAG: &str = "org.opencontainers.image.ref.name";
const INDEX: &str = "index.json";
const LAYOUT: &str = "oci-layout";
/// No list of steps is larger.
const MOST_STEPS: u64 = 64 << 20;

/// What is there of one step.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Carried {
    key: Key,
    /// The layer's blob.
    blob: Digest,
    result: StepResult,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Steps {
    steps: Vec<Carried>,
}

/// A manifest of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// By its name.
    Tag(String),
    /// By its digest.
    Digest(Digest),
}

/// Results of steps that are elsewhere.
#[derive(Debug)]
pub(crate) struct Elsewhere {
    dir: PathBuf,
    steps: HashMap<Key, (Descriptor, StepResult)>,
}

impl Elsewhere {
    /// Reads which steps a directory has.
    pub(crate) fn read(dir: &Path, which: &Which) -> Result<Self, BuildError> {
        let missing = || {
            let what = match which {
                Which::Tag(tag) => tag.clone(),
                Which::Digest(digest) => digest.to_string(),
            };
            BuildError::NotFound(format!("no cache {what} in {}", dir.display()))
        };
        let index = read_index(dir)?.ok_or_else(missing)?;
        let wanted = |one: &&Descriptor| match which {
            Which::Tag(tag) => tag_of(one) == Some(tag),
            Which::Digest(digest) => one.digest == *digest,
        };
        let (manifest, steps) = read_steps(dir, index.manifests.iter().find(wanted).ok_or_else(missing)?)?;
        let blobs: HashMap<Digest, Descriptor> =
            manifest.layers.into_iter().map(|layer| (layer.digest, layer)).collect();
        let steps = steps.steps.into_iter().filter_map(|one| {
            // Whoever wrote it says when a step was carried out, and that goes into the image.
            let is_time = one.result.created.parse::<jiff::Timestamp>().is_ok();
            (is_time && one.result.digest == one.result.diff_id).then_some(())?;
            Some((one.key, (blobs.get(&one.blob)?.clone(), one.result)))
        });
        Ok(Self { dir: dir.to_owned(), steps: steps.collect() })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn has(&self, key: &Key) -> bool {
        self.steps.contains_key(key)
    }

    /// Takes the layer of a step into the store, if there is one.
    pub(crate) fn fetch(
        &self,
        key: &Key,
        what: &str,
        transaction: &Transaction<'_>,
    ) -> Result<Option<StepResult>, BuildError> {
        let Some((blob, result)) = self.steps.get(key) else { return Ok(None) };
        let result = StepResult { what: what.to_owned(), ..result.clone() };
        if transaction.store().has_whole_layer(&result.diff_id, &result.digest, result.blob_size) {
            return Ok(Some(result));
        }
        let path = blob_path(&self.dir, &blob.digest);
        let file = own::open_to_read(&path).map_err(io_error("open", &path))?;
        let tar = uncompressed(file).map_err(io_error("read", &path))?;
        let expected = Expected {
            digest: Some(result.digest),
            size: Some(result.blob_size),
            diff_id: Some(result.diff_id),
        };
        let stored = transaction.add_layer(tar, &expected)?;
        Ok(Some(StepResult { media_type: stored.descriptor.media_type, size: stored.size, ..result }))
    }
}

/// Writes steps and their layers into a directory, in place of what it has of this tag. What no tag needs any more is removed, unless
/// somebody else has put something there. `tell` hears of each layer.
pub(crate) fn write(
    dir: &Path,
    tag: &str,
    compression: Compression,
    steps: &[(Key, StepResult)],
    images: &ImageStore,
    tell: &mut dyn FnMut(&str),
) -> Result<(), BuildError> {
    let blobs = dir.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).map_err(io_error("make directory", &blobs))?;
    let open = || Ok(File::from(open_dir(dir)?));
    let _lock = lock_at(dir, &open, How::Exclusive, Some(Patience::WORK))?;
    let mut index = read_index(dir)?.unwrap_or_else(|| Index {
        schema_version: 2,
        media_type: Some(OCI_INDEX.to_owned()),
        manifests: Vec::new(),
        annotations: None,
    });
    let mut there = layers_there(dir, &index, compression);
    let (mut layers, mut all) = (BTreeMap::new(), Steps::default());
    for (key, result) in steps {
        let blob = if let Some(blob) = there.get(&result.diff_id) {
            blob.clone()
        } else {
            let blob = write_layer(dir, result, compression, images)?;
            tell(&format!("writing layer {} done", blob.digest));
            there.insert(result.diff_id, blob.clone());
            blob
        };
        all.steps.push(Carried { key: key.clone(), blob: blob.digest, result: result.clone() });
        layers.insert(blob.digest, blob);
    }
    let config = write_document(dir, STEPS_TYPE, &all)?;
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(OCI_MANIFEST.to_owned()),
        config,
        layers: layers.into_values().collect(),
        annotations: None,
    };
    let mut manifest = write_document(dir, OCI_MANIFEST, &manifest)?;
    tell(&format!("writing cache manifest {} done", manifest.digest));
    manifest.annotations = Some(BTreeMap::from([(TAG.to_owned(), tag.to_owned())]));
    index.manifests.retain(|one| tag_of(one) != Some(tag));
    index.manifests.push(manifest);
    put(&dir.join(LAYOUT), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    put(&dir.join(INDEX), &json(&index)?)?;
    remove_unneeded(dir, &index);
    Ok(())
}

/// The layers that the directory has, by their diff IDs, if they are compressed so.
fn layers_there(dir: &Path, index: &Index, compression: Compression) -> HashMap<Digest, Descriptor> {
    let mut all = HashMap::new();
    for (manifest, steps) in index.manifests.iter().filter_map(|one| read_steps(dir, one).ok()) {
        let is_there = |layer: &Descriptor| {
            let there = blob_path(dir, &layer.digest).symlink_metadata();
            layer.media_type == compression.layer_type()
                && there.is_ok_and(|meta| meta.is_file() && meta.len() == layer.size)
        };
        let blobs: HashMap<Digest, Descriptor> =
            manifest.layers.into_iter().filter(is_there).map(|layer| (layer.digest, layer)).collect();
        let known = steps
            .steps
            .into_iter()
            .filter_map(|one| Some((one.result.diff_id, blobs.get(&one.blob)?.clone())));
        all.extend(known);
    }
    all
}

fn write_layer(
    dir: &Path,
    result: &StepResult,
    compression: Compression,
    images: &ImageStore,
) -> Result<Descriptor, BuildError> {
    let layer = Layer {
        diff_id: result.diff_id,
        digest: result.digest,
        blob_size: result.blob_size,
        media_type: result.media_type.clone(),
        dir: images.layer_path(&result.diff_id).join("fs"),
    };
    let temporary = beside(&dir.join("blobs/sha256/layer"));
    let file = caller::create_new(&temporary).map_err(io_error("create", &temporary))?;
    let out = Hashing { file: BufWriter::new(file), hasher: Hasher::new(Algorithm::Sha256), size: 0 };
    let written = compress(&layer, out, compression, images)
        .map_err(|error| match error {
            rbox_image::store::CopyError::Write(source) => io_error("write", &temporary)(source),
            rbox_image::store::CopyError::Store(error) => error.into(),
        })
        .and_then(|(digest, size)| {
            let path = blob_path(dir, &digest);
            std::fs::rename(&temporary, &path).map_err(io_error("rename to", &path))?;
            Ok(Descriptor::new(compression.layer_type(), digest, size))
        });
    written.inspect_err(|_| drop(std::fs::remove_file(&temporary)))
}

fn compress(
    layer: &Layer,
    mut out: Hashing,
    compression: Compression,
    images: &ImageStore,
) -> Result<(Digest, u64), rbox_image::store::CopyError> {
    use rbox_image::store::CopyError::Write;
    match compression {
        Compression::None => images.copy_layer(layer, &mut out)?,
        Compression::Zstd => {
            let mut encoder = zstd::Encoder::new(out, zstd::DEFAULT_COMPRESSION_LEVEL).map_err(Write)?;
            images.copy_layer(layer, &mut encoder)?;
            out = encoder.finish().map_err(Write)?;
        }
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::default());
            images.copy_layer(layer, &mut encoder)?;
            out = encoder.finish().map_err(Write)?;
        }
    }
    out.flush().map_err(Write)?;
    Ok((out.hasher.finish(), out.size))
}

/// Counts and hashes what is written.
struct Hashing {
    file: BufWriter<File>,
    hasher: Hasher,
    size: u64,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn tag_of(manifest: &Descriptor) -> Option<&str> {
    manifest.annotations.as_ref()?.get(TAG).map(String::as_str)
}

fn blob_path(dir: &Path, digest: &Digest) -> PathBuf {
    dir.join("blobs").join(digest.algorithm().to_string()).join(digest.hex())
}

/// None: the directory has none.
fn read_index(dir: &Path) -> Result<Option<Index>, BuildError> {
    let path = dir.join(INDEX);
    let bytes = match own::read(&path, MAX_DOCUMENT) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("read", &path)(error)),
    };
    let no_layout = |error: serde_json::Error| {
        BuildError::Invalid(format!("{} is no OCI layout: {INDEX}: {error}", dir.display()))
    };
    rbox_spec::json::from_slice(&bytes).map(Some).map_err(no_layout)
}

/// What a manifest says, if it is one of steps.
fn read_steps(dir: &Path, manifest: &Descriptor) -> Result<(Manifest, Steps), BuildError> {
    let damaged = |error: serde_json::Error| {
        BuildError::Invalid(format!("the cache in {} is damaged: {error}", dir.display()))
    };
    let bytes = read_blob(dir, manifest, MAX_DOCUMENT)?;
    let read: Manifest = rbox_spec::json::from_slice(&bytes).map_err(|_| other(dir, &manifest.media_type))?;
    if read.config.media_type != STEPS_TYPE {
        return Err(other(dir, &read.config.media_type));
    }
    let bytes = read_blob(dir, &read.config, MOST_STEPS)?;
    Ok((read, rbox_spec::json::from_slice(&bytes).map_err(damaged)?))
}

fn other(dir: &Path, kind: &str) -> BuildError {
    BuildError::Invalid(format!("{} has no cache of rbox but {kind:?}, whose keys are others", dir.display()))
}

fn read_blob(dir: &Path, blob: &Descriptor, most: u64) -> Result<Vec<u8>, BuildError> {
    let path = blob_path(dir, &blob.digest);
    let bytes = own::read(&path, most).map_err(io_error("read", &path))?;
    if rbox_image::hash::digest_of(blob.digest.algorithm(), &bytes) == blob.digest {
        return Ok(bytes);
    }
    Err(BuildError::Invalid(format!("{} is damaged: it has another digest", path.display())))
}

fn json(document: &impl Serialize) -> Result<Vec<u8>, BuildError> {
    serde_json::to_vec(document).map_err(|error| BuildError::Internal(error.to_string()))
}

fn write_document(dir: &Path, media_type: &str, document: &impl Serialize) -> Result<Descriptor, BuildError> {
    let bytes = json(document)?;
    let digest = sha256(&bytes);
    put(&blob_path(dir, &digest), &bytes)?;
    Ok(Descriptor::new(media_type, digest, bytes.len() as u64))
}

/// A name for a file that is not whole yet.
fn beside(path: &Path) -> PathBuf {
    path.with_extension(format!("{}.partial", std::process::id()))
}

/// Writes a file whole or not at all.
fn put(path: &Path, bytes: &[u8]) -> Result<(), BuildError> {
    let temporary = beside(path);
    let mut file = caller::create_new(&temporary).map_err(io_error("create", &temporary))?;
    let written = file.write_all(bytes).and_then(|()| std::fs::rename(&temporary, path));
    written.map_err(io_error("write", path)).inspect_err(|_| drop(std::fs::remove_file(&temporary)))
}

/// Removes the blobs that no manifest names, or the directory would grow with each build. Best effort, and not where there is anything that
/// is not known.
fn remove_unneeded(dir: &Path, index: &Index) {
    let mut needed = HashSet::new();
    for one in &index.manifests {
        let Ok((manifest, _)) = read_steps(dir, one) else { return };
        needed.extend([one.digest, manifest.config.digest]);
        needed.extend(manifest.layers.iter().map(|layer| layer.digest));
    }
    let needed: HashSet<PathBuf> = needed.iter().map(|digest| blob_path(dir, digest)).collect();
    for entry in std::fs::read_dir(dir.join("blobs/sha256")).into_iter().flatten().flatten() {
        if !needed.contains(&entry.path()) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

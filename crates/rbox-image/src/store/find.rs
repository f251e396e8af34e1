//! Finding images: on the start path of every `run`, so it reads three files and scans no directory.
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::PathBuf;

use jiff::Timestamp;
use rbox_rootfs::lock::{self, How, Patience};
use rbox_rootfs::own;
use rbox_spec::{Digest, Platform, Reference};
use serde::{Deserialize, Serialize};

use super::index::{
    IndexFile, full_name, index_of, names_of, noted_hidden, noted_id, noted_size, reference, source,
};
use super::{ImageStore, StoreError, io_error, same_file};
use crate::config::{History, ImageConfig};
use crate::hash::{HashingReader, digest_of};
use crate::layer::Unpacked;
use crate::media::{
    DOCKER_LIST, Descriptor, Document, DocumentError, Index, MAX_CONFIG, MAX_DOCUMENT, Manifest, OCI_INDEX,
};

/// The document of an index: its bytes, its media type and what it says.
pub type IndexDocument = (Vec<u8>, &'static str, Index);

/// One layer of an image in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Digest of the uncompressed tar.
    pub diff_id: Digest,
    /// Digest of the blob as it came, and so of its file in the store.
    pub digest: Digest,
    /// The blob's length in bytes.
    pub blob_size: u64,
    /// The blob's media type.
    pub media_type: String,
    /// The overlay lower directory.
    pub dir: PathBuf,
}

/// An image in the store.
#[derive(Debug, Clone)]
pub struct Image {
    /// Digest of the configuration.
    pub id: Digest,
    /// Digest of the manifest.
    pub manifest_digest: Digest,
    /// Media type of the manifest.
    pub manifest_type: String,
    /// Its length in bytes.
    pub manifest_size: u64,
    /// The manifest.
    pub manifest: Manifest,
    /// Its tags, sorted. Empty for a dangling image.
    pub references: Vec<Reference>,
    /// `repository@digest` for each repository it was pulled from, sorted.
    pub repo_digests: Vec<Reference>,
    /// The configuration.
    pub config: ImageConfig,
    /// Its layers, bottom first.
    pub layers: Vec<Layer>,
    /// How many of the lowest layers are hidden as a whole by the one above them.
    pub hidden: usize,
    /// Bytes in the files of all layers.
    pub size: u64,
    /// When it was made, if the configuration says so.
    pub created: Option<Timestamp>,
    /// What it runs on.
    pub platform: Platform,
    /// The index that it is one platform of.
    pub index: Option<Digest>,
}

impl Image {
    /// How it came to be, bottom first.
    pub fn history(&self) -> &[History] {
        &self.config.history
    }

    /// The layers that make its root filesystem, bottom first. overlayfs takes no note of a layer's root being opaque, so
    /// what such a root hides must not be mounted at all.
    pub fn overlay_layers(&self) -> &[Layer] {
        self.layers.get(self.hidden..).unwrap_or(&self.layers)
    }

    /// The chain IDs of its layers, bottom first: the digest that names a layer together with all below it.
    ///
    /// Source: OCI image specification, `config.md`, section "Layer `ChainID`".
    pub fn chain_ids(&self) -> Vec<Digest> {
        chain_ids(self.layers.iter().map(|layer| layer.diff_id))
    }
}

/// The chain IDs of layers with these diff IDs, bottom first.
pub(super) fn chain_ids(diff_ids: impl Iterator<Item = Digest>) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::new();
    for diff_id in diff_ids {
        let next = match chain.last() {
            Some(below) => crate::hash::sha256(format!("{below} {diff_id}").as_bytes()),
            None => diff_id,
        };
        chain.push(next);
    }
    chain
}

/// An entry of index.json that leads to no image that can be read.
#[derive(Debug)]
pub struct Broken {
    /// What it is called: a name, or the beginning of its id or its manifest's digest.
    pub name: String,
    /// What is wrong with it.
    pub error: StoreError,
    /// What a registry calls it, by its digest, and the platform that it is for where that is known: it can be fetched as it was.
    pub origin: Option<(Reference, Option<Platform>)>,
}

/// All images.
#[derive(Debug, Default)]
pub struct Listing {
    /// Those that are whole, newest first; each once, with all its references.
    pub images: Vec<Image>,
    /// Those that are not.
    pub broken: Vec<Broken>,
}

/// Keeps an image, or layers that have none, from being removed while a container is made of it.
#[derive(Debug)]
pub struct Pin {
    _locked: File,
}

/// layer.json.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LayerRecord {
    pub(super) diff_id: Digest,
    pub(super) size: u64,
    /// Its root is opaque. Left out of the record where it is not, as in nearly all.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) opaque: bool,
    /// It was made here: whoever wants its blob packs it again, to so many bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) packs_to: Option<u64>,
}

impl rbox_spec::record::Record for LayerRecord {
    /// Version 1 has a number, and no more.
    const STEPS: &'static [rbox_spec::record::Step] = &[|_| {}];
}

impl From<&Unpacked> for LayerRecord {
    fn from(unpacked: &Unpacked) -> Self {
        Self { diff_id: unpacked.diff_id, size: unpacked.size, opaque: unpacked.root_opaque, packs_to: None }
    }
}

impl ImageStore {
    /// Finds an image by what a user may call it: a reference (`:latest` is meant if there is neither tag nor digest),
    /// `name@digest`, an id, or the start of one id.
    pub fn find(&self, text: &str) -> Result<Option<Image>, StoreError> {
        let index = self.read_index()?;
        match self.lookup(&index, text)? {
            Some(entry) => self.load(&index, entry).map(Some),
            None => Ok(None),
        }
    }

    /// Whether there is such an image, also if it is damaged.
    pub fn has(&self, text: &str) -> Result<bool, StoreError> {
        Ok(self.lookup(&self.read_index()?, text)?.is_some())
    }

    /// [`find`](Self::find), with an absent image as an error in Docker's words.
    pub fn get(&self, text: &str) -> Result<Image, StoreError> {
        self.find(text)?.ok_or_else(|| match Reference::parse(text) {
            Ok(reference) => StoreError::NotFound(reference.with_default_tag().familiar()),
            Err(_) => StoreError::NotFound(text.to_owned()),
        })
    }

    /// The id of what `text` names, also if the image cannot be read.
    ///
    /// # Errors
    /// The store cannot be read, or several ids begin so.
    pub fn id_named(&self, text: &str) -> Result<Option<Digest>, StoreError> {
        let index = self.read_index()?;
        Ok(self.lookup(&index, text)?.and_then(|entry| self.id_of(entry)))
    }

    /// The index that each name means: the same image may be of another one, or of none, under another name.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn indexes_of_names(&self) -> Result<BTreeMap<Reference, Digest>, StoreError> {
        let index = self.read_index()?;
        Ok(index.entries.iter().filter_map(|entry| Some((reference(entry)?, index_of(entry)?))).collect())
    }

    /// What registries are known to call this reference, of each platform that is here. `None`: it is not here.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn sources_of(&self, name: &Reference) -> Result<Option<Vec<Digest>>, StoreError> {
        let full = name.clone().with_default_tag().full();
        let index = self.read_index()?;
        let entries: Vec<_> = index.entries.iter().filter(|entry| full_name(entry) == Some(&full)).collect();
        Ok((!entries.is_empty()).then(|| entries.into_iter().filter_map(source).collect()))
    }

    /// What the registry called this reference when this image of it was pulled; `None` if it was made here.
    pub(crate) fn source_of(&self, name: &Reference, image: &Image) -> Result<Option<Digest>, StoreError> {
        let full = name.full();
        let index = self.read_index()?;
        let of_both =
            |entry: &&Descriptor| entry.digest == image.manifest_digest && full_name(entry) == Some(&full);
        Ok(index.entries.iter().find(of_both).and_then(source))
    }

    /// [`find`](Self::find), of several platforms the one that serves `wanted` best.
    ///
    /// # Errors
    /// The store, or the image, cannot be read.
    pub fn find_for(&self, text: &str, wanted: &Platform) -> Result<Option<Image>, StoreError> {
        let index = self.read_index()?;
        let fitting = self.candidates(&index, text)?.into_iter().filter_map(|entry| {
            let rank = wanted.rank(&self.platform_of(entry)?)?;
            Some((rank, entry))
        });
        match fitting.min_by_key(|(rank, _)| *rank) {
            Some((_, entry)) => self.load(&index, entry).map(Some),
            None => Ok(None),
        }
    }

    /// Every platform that the store has of what `text` names, this machine's first.
    ///
    /// # Errors
    /// The store, or one of the images, cannot be read.
    pub fn variants(&self, text: &str) -> Result<Vec<Image>, StoreError> {
        let index = self.read_index()?;
        let mut seen = BTreeSet::new();
        let mut found = self.candidates(&index, text)?;
        found.retain(|entry| seen.insert(entry.digest));
        let host = Platform::host();
        found.sort_by_key(|entry| self.rank_of(entry, &host));
        found.into_iter().map(|entry| self.load(&index, entry)).collect()
    }

    /// The document of an index that images came out of, with its bytes and its media type; `None` if it was not kept.
    ///
    /// # Errors
    /// It is damaged.
    pub fn index_document(&self, digest: &Digest) -> Result<Option<IndexDocument>, StoreError> {
        if !self.has_blob(digest) {
            return Ok(None);
        }
        let bytes = self.read_blob(digest, "image index", MAX_DOCUMENT)?;
        for kind in [OCI_INDEX, DOCKER_LIST] {
            if let Ok(Document::Index(index)) = Document::parse(&bytes, kind) {
                return Ok(Some((bytes, kind, index)));
            }
        }
        Ok(None)
    }

    /// Finds an image by its id alone.
    pub fn find_id(&self, id: &Digest) -> Result<Option<Image>, StoreError> {
        let index = self.read_index()?;
        match self.entry_of_id(&index, id) {
            Some(entry) => self.load(&index, entry).map(Some),
            None => Ok(None),
        }
    }

    /// The entry that `text` names, as [`find`](Self::find) reads it: of several platforms this machine's.
    pub(super) fn lookup<'i>(
        &self,
        index: &'i IndexFile,
        text: &str,
    ) -> Result<Option<&'i Descriptor>, StoreError> {
        let found = self.candidates(index, text)?;
        if let [] | [_] = found.as_slice() {
            return Ok(found.first().copied());
        }
        let host = Platform::host();
        Ok(found.into_iter().min_by_key(|entry| self.rank_of(entry, &host)))
    }

    /// How well the image of an entry runs on `platform`: not at all comes last.
    fn rank_of(&self, entry: &Descriptor, platform: &Platform) -> usize {
        self.platform_of(entry).and_then(|own| platform.rank(&own)).unwrap_or(usize::MAX)
    }

    /// What the image of an entry runs on.
    pub(super) fn platform_of(&self, entry: &Descriptor) -> Option<Platform> {
        if let Some(platform) = &entry.platform {
            return Some(platform.normal());
        }
        let id = self.id_of(entry)?;
        let bytes = self.read_blob(&id, "image configuration", MAX_CONFIG).ok()?;
        Some(ImageConfig::parse_known(&bytes).ok()?.platform())
    }

    /// The entries that `text` names: one, or one for each platform (by a digest, one for each name as well).
    pub(super) fn candidates<'i>(
        &self,
        index: &'i IndexFile,
        text: &str,
    ) -> Result<Vec<&'i Descriptor>, StoreError> {
        let bare = text.strip_prefix("sha256:").unwrap_or(text);
        if let Ok(id) = format!("sha256:{bare}").parse::<Digest>() {
            let found: Vec<_> = self.entry_of_id(index, &id).into_iter().collect();
            if found.is_empty() {
                // Several platforms that were built together have no other name than the index's digest, if they were given none.
                return Ok(index.entries.iter().filter(|entry| index_of(entry) == Some(id)).collect());
            }
            return Ok(found);
        }
        if let Ok(wanted) = Reference::parse(text) {
            let wanted = wanted.with_default_tag();
            // As Docker does: a digest says it all, the tag beside it is ignored.
            let found: Vec<_> = if let Some(digest) = wanted.digest() {
                let is_meant = |entry: &&Descriptor| {
                    reference(entry).is_some_and(|name| name.same_repository(&wanted))
                        && (source(entry).as_ref() == Some(digest) || entry.digest == *digest)
                };
                index.entries.iter().filter(is_meant).collect()
            } else {
                let full = wanted.full();
                index.entries.iter().filter(|entry| full_name(entry) == Some(&full)).collect()
            };
            if !found.is_empty() {
                return Ok(found);
            }
        }
        Ok(self.lookup_prefix(index, text, bare)?.into_iter().collect())
    }

    fn lookup_prefix<'i>(
        &self,
        index: &'i IndexFile,
        text: &str,
        bare: &str,
    ) -> Result<Option<&'i Descriptor>, StoreError> {
        if bare.is_empty() || !bare.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Ok(None);
        }
        let mut ids = BTreeSet::new();
        let mut found = None;
        for entry in &index.entries {
            if let Some(id) = self.id_of(entry)
                && id.hex().starts_with(bare)
                && ids.insert(id)
            {
                found = Some(entry);
            }
        }
        if ids.len() > 1 {
            return Err(StoreError::Ambiguous { prefix: text.to_owned(), count: ids.len() });
        }
        Ok(found)
    }

    pub(super) fn entry_of_id<'i>(&self, index: &'i IndexFile, id: &Digest) -> Option<&'i Descriptor> {
        index.entries.iter().find(|entry| self.id_of(entry).as_ref() == Some(id))
    }

    /// The image id of an entry: as noted, or out of the manifest if another tool wrote the entry.
    pub(super) fn id_of(&self, entry: &Descriptor) -> Option<Digest> {
        noted_id(entry).or_else(|| self.manifest_of(entry).ok().map(|manifest| manifest.config.digest))
    }

    pub(super) fn manifest_of(&self, entry: &Descriptor) -> Result<Manifest, StoreError> {
        let bytes = self.read_blob(&entry.digest, "manifest", MAX_DOCUMENT)?;
        let refuse = |source| StoreError::Document { digest: entry.digest, source };
        match Document::parse(&bytes, &entry.media_type).map_err(refuse)? {
            Document::Manifest(manifest) => Ok(manifest),
            Document::Index(_) => Err(refuse(DocumentError::Nested)),
        }
    }

    /// Every image that can be read, newest first; each once, with all its references.
    pub fn list(&self) -> Result<Vec<Image>, StoreError> {
        Ok(self.listing()?.images)
    }

    /// Every image, and what is damaged: one that cannot be read hides only itself.
    pub fn listing(&self) -> Result<Listing, StoreError> {
        let index = self.read_index()?;
        let mut seen = BTreeSet::new();
        let mut listing = Listing::default();
        for entry in &index.entries {
            let id = self.id_of(entry);
            if !seen.insert(id.unwrap_or(entry.digest)) {
                continue;
            }
            match self.read_image(&index, entry) {
                Ok(image) => listing.images.push(image),
                // What another tool put in (an index, an artifact) is no image of ours, and not damaged.
                Err(StoreError::Document { .. }) if noted_id(entry).is_none() => {}
                Err(error) => {
                    let digests = names_of(&index, &entry.digest, id).1;
                    let platform = self.platform_of(entry);
                    let origin = digests.into_iter().next().map(|name| (name, platform));
                    listing.broken.push(Broken { name: name_of(entry, id), error, origin });
                }
            }
        }
        listing
            .images
            .sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.references.cmp(&b.references)));
        Ok(listing)
    }

    /// Reads the image of an entry; one that is damaged is reported with what to do about it.
    pub(super) fn load(&self, index: &IndexFile, entry: &Descriptor) -> Result<Image, StoreError> {
        self.read_image(index, entry).map_err(|error| {
            let name = name_of(entry, noted_id(entry));
            StoreError::Broken { name, source: Box::new(error) }
        })
    }

    /// Reads the image of an entry.
    fn read_image(&self, index: &IndexFile, entry: &Descriptor) -> Result<Image, StoreError> {
        let manifest = self.manifest_of(entry)?;
        let id = manifest.config.digest;
        let bytes = self.read_blob(&id, "image configuration", MAX_CONFIG)?;
        let config = ImageConfig::parse_known(&bytes)
            .map_err(|source| StoreError::Json { path: self.blob_path(&id), source })?;
        let layers = self.layers_of(&manifest, &config, &entry.digest)?;
        let (references, repo_digests) = names_of(index, &entry.digest, Some(id));
        let size =
            noted_size(entry).unwrap_or_else(|| layers.iter().map(|layer| self.layer_size(layer)).sum());
        let hidden = noted_hidden(entry).filter(|count| *count == 0 || *count < layers.len());
        let hidden = hidden.unwrap_or_else(|| self.hidden_layers(&layers));
        Ok(Image {
            id,
            manifest_digest: entry.digest,
            manifest_type: entry.media_type.clone(),
            manifest_size: entry.size,
            references: references.into_iter().collect(),
            repo_digests: repo_digests.into_iter().collect(),
            created: config.created.as_deref().and_then(|text| text.parse().ok()),
            platform: config.platform(),
            index: index_of(entry),
            manifest,
            config,
            layers,
            hidden,
            size,
        })
    }

    /// Pairs the manifest's blobs with the configuration's diff IDs.
    pub(crate) fn layers_of(
        &self,
        manifest: &Manifest,
        config: &ImageConfig,
        digest: &Digest,
    ) -> Result<Vec<Layer>, StoreError> {
        let diff_ids = &config.rootfs.diff_ids;
        if manifest.layers.len() != diff_ids.len() {
            let source =
                DocumentError::LayerCount { layers: manifest.layers.len(), diff_ids: diff_ids.len() };
            return Err(StoreError::Document { digest: *digest, source });
        }
        let pair = |(blob, diff_id): (&Descriptor, &Digest)| Layer {
            diff_id: *diff_id,
            digest: blob.digest,
            blob_size: blob.size,
            media_type: blob.media_type.clone(),
            dir: self.layer_path(diff_id).join("fs"),
        };
        Ok(manifest.layers.iter().zip(diff_ids).map(pair).collect())
    }

    /// Bytes in the files of one layer, as noted when it was unpacked; 0 if the layer is not there.
    pub fn layer_size(&self, layer: &Layer) -> u64 {
        self.layer_record(&layer.diff_id).map_or(0, |record| record.size)
    }

    pub(super) fn layer_record(&self, diff_id: &Digest) -> Option<LayerRecord> {
        let path = self.layer_path(diff_id).join("layer.json");
        own::read(&path, MAX_DOCUMENT).ok().and_then(|bytes| rbox_spec::record::decode(&bytes).ok())
    }

    /// How many layers lie below the highest one whose root is opaque.
    pub(super) fn hidden_layers(&self, layers: &[Layer]) -> usize {
        let opaque = |layer: &Layer| self.layer_record(&layer.diff_id).is_some_and(|record| record.opaque);
        layers.iter().rposition(opaque).unwrap_or(0)
    }

    /// The image configuration's bytes, exactly as they came.
    pub fn config_bytes(&self, image: &Image) -> Result<Vec<u8>, StoreError> {
        self.read_blob(&image.id, "image configuration", MAX_CONFIG)
    }

    /// The manifest's bytes, exactly as they came.
    pub fn manifest_bytes(&self, image: &Image) -> Result<Vec<u8>, StoreError> {
        self.read_blob(&image.manifest_digest, "manifest", MAX_DOCUMENT)
    }

    /// Reads a small blob. What is not what its digest promises is damaged, and never handed on.
    pub(crate) fn read_blob(
        &self,
        digest: &Digest,
        what: &'static str,
        limit: u64,
    ) -> Result<Vec<u8>, StoreError> {
        let path = self.blob_path(digest);
        let file = own::open_to_read(&path).map_err(io_error("open", &path))?;
        let mut bytes = Vec::with_capacity(4096);
        file.take(limit + 1).read_to_end(&mut bytes).map_err(io_error("read", &path))?;
        let damaged = |found| StoreError::Damaged { what, digest: *digest, found };
        if bytes.is_empty() {
            return Err(damaged("its file is empty".to_owned()));
        }
        if bytes.len() as u64 > limit {
            return Err(damaged(format!("it is over {limit} bytes long")));
        }
        let found = digest_of(digest.algorithm(), &bytes);
        if found != *digest {
            return Err(damaged(format!("its content has digest {found}")));
        }
        Ok(bytes)
    }

    /// Whether every layer of the image is there, unpacked and with its blob, or a way to make that again. Costs two `stat`s a layer.
    pub fn is_complete(&self, image: &Image) -> bool {
        self.missing_layer(image).is_none()
    }

    /// The first layer of the image of which that is not true.
    pub(crate) fn missing_layer<'i>(&self, image: &'i Image) -> Option<&'i Layer> {
        let is_whole = |layer: &&Layer| self.has_whole_layer(&layer.diff_id, &layer.digest, layer.blob_size);
        image.layers.iter().find(|layer| !is_whole(layer))
    }

    /// Whether a layer is unpacked, and its blob there in its length, or can be made again.
    pub fn has_whole_layer(&self, diff_id: &Digest, digest: &Digest, blob_size: u64) -> bool {
        self.has_layer(diff_id) && self.has_bytes_of(diff_id, digest, blob_size)
    }

    /// Whether a blob is there in its length. A file of another one is what a lost write left.
    pub(crate) fn has_blob_of(&self, digest: &Digest, size: u64) -> bool {
        fs::metadata(self.blob_path(digest)).is_ok_and(|meta| meta.is_file() && meta.len() == size)
    }

    /// Whether the content of every layer's blob is what its digest promises. Reads all of them; one that is damaged is
    /// deleted, so that whoever wants it fetches it again.
    pub fn verify_layers(&self, image: &Image) -> Result<bool, StoreError> {
        let mut whole = true;
        for layer in &image.layers {
            let path = self.blob_path(&layer.digest);
            let file = match own::open_to_read(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    whole &= self.copy_layer(layer, &mut io::sink()).is_ok();
                    continue;
                }
                Err(source) => return Err(StoreError::Io { action: "open", path, source }),
            };
            let mut reader = HashingReader::new(&file, layer.digest.algorithm());
            io::copy(&mut reader, &mut io::sink()).map_err(io_error("read", &path))?;
            if reader.finish().0 != layer.digest {
                whole = false;
                self.discard_blob(&layer.digest, &file)?;
            }
        }
        Ok(whole)
    }

    /// Deletes a blob whose content, read from `file`, was found to be damaged: it is of use to nobody.
    pub(crate) fn discard_blob(&self, digest: &Digest, file: &File) -> Result<(), StoreError> {
        let path = self.blob_path(digest);
        // Someone else may have put a good one there meanwhile.
        if !same_file(file, &path) {
            return Ok(());
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", &path)(error)),
            _ => Ok(()),
        }
    }

    /// Holds the image while a container is made of it; drop the pin once the container's record is on disk.
    ///
    /// Fails with [`StoreError::NotFound`] if the image was removed since it was found.
    pub fn pin(&self, image: &Image) -> Result<Pin, StoreError> {
        let path = self.blob_path(&image.id);
        let gone = || StoreError::NotFound(image.id.to_string());
        let file = match own::open_to_read(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(gone()),
            Err(source) => return Err(StoreError::Io { action: "open", path, source }),
        };
        lock::take(&file, How::Shared, Patience::WORK).map_err(io_error("lock", &path))?;
        // Removal takes the entry out while it holds the lock, and the file goes only later.
        if !same_file(&file, &path) || self.entry_of_id(&self.read_index()?, &image.id).is_none() {
            return Err(gone());
        }
        Ok(Pin { _locked: file })
    }

    /// Holds layers whose image has no record any more, as only a container has them: until another one's record is on disk, too.
    /// None if one of them is gone already.
    ///
    /// # Errors
    /// The store's lock cannot be had.
    pub fn pin_layers(&self, layers: &[PathBuf]) -> Result<Option<Pin>, StoreError> {
        // As long as somebody seems to add, nothing is deleted that nothing names.
        let lock = self.lock_file("store.lock", How::Shared)?;
        Ok(layers.iter().all(|layer| layer.is_dir()).then_some(Pin { _locked: lock }))
    }
}

/// What a user may call the image of an entry.
fn name_of(entry: &Descriptor, id: Option<Digest>) -> String {
    match reference(entry) {
        Some(name) => name.familiar(),
        None => id.unwrap_or(entry.digest).short(),
    }
}

//! `save`: images of the store as one archive.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use rbox_spec::{Digest, Platform, Reference};
use serde::Serialize;

use super::error::ArchiveError;
use super::plan::manifest_of;
use super::{INDEX, LAYOUT, MANIFEST};
use crate::media::{Descriptor, DescriptorPlatform, Index, OCI_INDEX, OCI_MANIFEST, layer_compression};
use crate::store::{CopyError, Image, ImageStore, Layer, NAME_ANNOTATION, Pin, StoreError, TAG_ANNOTATION};

/// The length of a block of a tar archive.
const BLOCK: usize = 512;

/// What to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SaveFormat {
    /// What `docker save` writes since version 25: an OCI layout with manifest.json and repositories.
    #[default]
    DockerArchive,
    /// An OCI layout alone.
    OciArchive,
}

/// An image to save, for each of its platforms, with the names to save it under.
struct Chosen {
    images: Vec<Image>,
    references: Vec<Reference>,
    _pins: Vec<Pin>,
}

/// An image for each of its platforms, and its names.
type Named = (Vec<Image>, Vec<Reference>);

/// One image in manifest.json.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEntry {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// Saves the images called `names`: a name with a tag is saved under it, a repository's name means all its tags, an id
/// is saved without a name. Of an image for several platforms all that are here are saved, or the `platforms` that are asked for. The images
/// cannot be removed meanwhile.
///
/// # Errors
/// One is not there, or is not there for a platform that was asked for; or nothing can be written.
pub fn save<S: AsRef<str>>(
    store: &ImageStore,
    names: &[S],
    platforms: &[Platform],
    writer: impl Write,
    format: SaveFormat,
) -> Result<(), ArchiveError> {
    let chosen = choose(store, names, platforms)?;
    let mut archive = Archive { tar: tar::Builder::new(writer), store, format, written: BTreeSet::new() };
    archive.directory("blobs/")?;
    archive.directory("blobs/sha256/")?;
    let mut index = index_of(Vec::new());
    let mut docker = Vec::new();
    let mut repositories: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for Chosen { images, references, .. } in &chosen {
        let descriptor = archive.images(images)?;
        index.manifests.extend(named(&descriptor, references));
        // Its readers know one image of a name: this machine's, which is the first.
        let Some(image) = images.first() else { continue };
        docker.push(DockerEntry {
            config: blob_name(&image.id),
            repo_tags: (!references.is_empty()).then(|| references.iter().map(Reference::familiar).collect()),
            layers: image.layers.iter().map(|layer| blob_name(&layer.digest)).collect(),
        });
        for reference in references {
            if let (Some(tag), Some(top)) = (reference.tag(), image.layers.last()) {
                let tags = repositories.entry(reference.familiar_name()).or_default();
                tags.insert(tag.to_owned(), top.digest.hex());
            }
        }
    }
    archive.json(INDEX, &index)?;
    if format == SaveFormat::DockerArchive {
        archive.json(MANIFEST, &docker)?;
    }
    archive.file(LAYOUT, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    if format == SaveFormat::DockerArchive && !repositories.is_empty() {
        archive.json("repositories", &repositories)?;
    }
    let mut writer = archive.tar.into_inner().map_err(ArchiveError::Write)?;
    writer.flush().map_err(ArchiveError::Write)
}

fn index_of(manifests: Vec<Descriptor>) -> Index {
    Index { schema_version: 2, media_type: Some(OCI_INDEX.to_owned()), manifests, annotations: None }
}

/// Finds what is to be saved, each image once, and pins it.
fn choose<S: AsRef<str>>(
    store: &ImageStore,
    names: &[S],
    platforms: &[Platform],
) -> Result<Vec<Chosen>, ArchiveError> {
    let mut chosen: Vec<Chosen> = Vec::new();
    for name in names {
        for (images, references) in named_images(store, name.as_ref(), platforms)? {
            let ids = |images: &[Image]| images.iter().map(|image| image.id).collect::<BTreeSet<_>>();
            let wanted = ids(&images);
            if let Some(known) = chosen.iter_mut().find(|known| ids(&known.images) == wanted) {
                known.references.extend(references);
                known.references.sort();
                known.references.dedup();
                continue;
            }
            // An id beside a name that means this platform and others: the name's entry has it.
            if references.is_empty() && chosen.iter().any(|known| wanted.is_subset(&ids(&known.images))) {
                continue;
            }
            chosen.retain(|known| !known.references.is_empty() || !ids(&known.images).is_subset(&wanted));
            let mut pins = Vec::new();
            for image in &images {
                pins.push(store.pin(image)?);
                if let Some(layer) = store.missing_layer(image) {
                    return Err(StoreError::MissingLayer(layer.digest).into());
                }
            }
            chosen.push(Chosen { images, references, _pins: pins });
        }
    }
    Ok(chosen)
}

fn named_images(store: &ImageStore, name: &str, platforms: &[Platform]) -> Result<Vec<Named>, ArchiveError> {
    let reference = Reference::parse(name).ok();
    if let Some(repository) = reference.as_ref().filter(|reference| reference.is_name_only()) {
        let images = store.list()?;
        let all = images.iter().flat_map(|image| &image.references);
        let tags: BTreeSet<&Reference> = all.filter(|known| known.same_repository(repository)).collect();
        if !tags.is_empty() {
            let one =
                |tag: &&Reference| Ok((of_platforms(store, &tag.full(), platforms)?, vec![(*tag).clone()]));
            return tags.iter().map(one).collect();
        }
    }
    let images = of_platforms(store, name, platforms)?;
    // An id, or a digest, names no tag.
    let wanted = reference.map(Reference::with_default_tag);
    let all = images.iter().flat_map(|image| &image.references);
    let references = all.filter(|known| wanted.as_ref() == Some(*known)).take(1).cloned().collect();
    Ok(vec![(images, references)])
}

/// What a name has of these platforms, or all of it.
fn of_platforms(store: &ImageStore, name: &str, platforms: &[Platform]) -> Result<Vec<Image>, ArchiveError> {
    let mut found = Vec::new();
    for wanted in platforms {
        match store.find_for(name, wanted)? {
            Some(image) if found.iter().all(|other: &Image| other.id != image.id) => found.push(image),
            Some(_) => {}
            None => {
                store.get(name)?;
                let (name, wanted) = (name.to_owned(), wanted.to_string());
                return Err(StoreError::NoPlatform { name, wanted }.into());
            }
        }
    }
    if platforms.is_empty() {
        found = store.variants(name)?;
    }
    if found.is_empty() {
        store.get(name)?;
    }
    Ok(found)
}

/// The descriptor of a manifest, once for each name, or once without.
fn named(descriptor: &Descriptor, references: &[Reference]) -> Vec<Descriptor> {
    if references.is_empty() {
        return vec![descriptor.clone()];
    }
    let with = |reference: &Reference| {
        let mut descriptor = descriptor.clone();
        let notes = descriptor.annotations.insert(BTreeMap::new());
        notes.insert(NAME_ANNOTATION.to_owned(), reference.full());
        notes.insert(TAG_ANNOTATION.to_owned(), reference.tag().unwrap_or_default().to_owned());
        descriptor
    };
    references.iter().map(with).collect()
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}

/// The archive being written.
struct Archive<'s, W: Write> {
    tar: tar::Builder<W>,
    store: &'s ImageStore,
    format: SaveFormat,
    written: BTreeSet<Digest>,
}

impl<W: Write> Archive<'_, W> {
    /// Writes an image for each platform. The descriptor is that of the only one, or of an index: the one that they came out of, if nothing
    /// of it is missing.
    fn images(&mut self, images: &[Image]) -> Result<Descriptor, ArchiveError> {
        let mut written = Vec::new();
        for image in images {
            written.push(self.image(image)?);
        }
        let stated = self.attestations(images, &written)?;
        if let ([_], Some(only), []) = (images, written.first(), stated.as_slice()) {
            return Ok(only.clone());
        }
        written.extend(stated);
        let of = images.first().and_then(|image| image.index);
        let kept = of.map(|digest| self.store.index_document(&digest)).transpose()?.flatten();
        let is_whole = |index: &Index| {
            index.manifests.iter().all(|one| written.iter().any(|other| other.digest == one.digest))
        };
        let bytes = match kept {
            Some((bytes, OCI_INDEX, index)) if is_whole(&index) => bytes,
            _ => to_json(INDEX, &index_of(written))?,
        };
        let digest = crate::hash::sha256(&bytes);
        self.bytes(&digest, &bytes)?;
        Ok(Descriptor::new(OCI_INDEX, digest, bytes.len() as u64))
    }

    /// Writes what is stated of images that are `written`, and returns the descriptors. Docker's archives have none.
    fn attestations(
        &mut self,
        images: &[Image],
        written: &[Descriptor],
    ) -> Result<Vec<Descriptor>, ArchiveError> {
        let mut stated = Vec::new();
        if self.format == SaveFormat::DockerArchive {
            return Ok(stated);
        }
        for (image, there) in images.iter().zip(written) {
            let Some(index) = &image.index else { continue };
            for one in self.store.attestations(index, &image.manifest_digest)? {
                let made = |source| ArchiveError::Json { name: "the attestation".to_owned(), source };
                let is_same = image.manifest_digest == there.digest;
                let moved = || one.moved(&image.manifest_digest, &there.digest);
                let one = if is_same { one } else { moved().map_err(made)? };
                for bytes in one.blobs() {
                    self.bytes(&crate::hash::sha256(bytes), bytes)?;
                }
                stated.push(one.descriptor);
            }
        }
        Ok(stated)
    }

    /// Writes an image's blobs, and returns the descriptor of its manifest: as it came, or, for one of Docker's types,
    /// which no OCI layout may have, the same in OCI's.
    fn image(&mut self, image: &Image) -> Result<Descriptor, ArchiveError> {
        for layer in &image.layers {
            self.layer(layer)?;
        }
        let config = self.store.config_bytes(image)?;
        self.bytes(&image.id, &config)?;
        let manifest = if image.manifest_type == OCI_MANIFEST {
            self.store.manifest_bytes(image)?
        } else {
            let mut layers = Vec::new();
            for layer in &image.layers {
                let refuse = |source| ArchiveError::Document { digest: image.manifest_digest, source };
                let compression = layer_compression(&layer.media_type).map_err(refuse)?;
                layers.push(Descriptor::new(compression.layer_type(), layer.digest, layer.blob_size));
            }
            let mut manifest = manifest_of(&config, &layers);
            manifest.config.digest = image.id;
            to_json(MANIFEST, &manifest)?
        };
        let digest = crate::hash::sha256(&manifest);
        self.bytes(&digest, &manifest)?;
        let mut descriptor = Descriptor::new(OCI_MANIFEST, digest, manifest.len() as u64);
        descriptor.platform = Some(DescriptorPlatform::from(&image.platform));
        Ok(descriptor)
    }

    fn header(size: u64, mode: u32, kind: tar::EntryType) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        // No time: the same images are the same archive.
        header.set_mtime(0);
        header
    }

    fn directory(&mut self, name: &str) -> Result<(), ArchiveError> {
        let mut header = Self::header(0, 0o755, tar::EntryType::Directory);
        self.tar.append_data(&mut header, name, io::empty()).map_err(ArchiveError::Write)
    }

    fn file(&mut self, name: &str, bytes: &[u8]) -> Result<(), ArchiveError> {
        let mut header = Self::header(bytes.len() as u64, 0o644, tar::EntryType::Regular);
        self.tar.append_data(&mut header, name, bytes).map_err(ArchiveError::Write)
    }

    fn json(&mut self, name: &str, value: &impl Serialize) -> Result<(), ArchiveError> {
        let bytes = to_json(name, value)?;
        self.file(name, &bytes)
    }

    fn bytes(&mut self, digest: &Digest, bytes: &[u8]) -> Result<(), ArchiveError> {
        if self.written.insert(*digest) { self.file(&blob_name(digest), bytes) } else { Ok(()) }
    }

    /// Copies a layer's blob, whose length is what its manifest says, or the archive would be out of step.
    fn layer(&mut self, layer: &Layer) -> Result<(), ArchiveError> {
        if !self.written.insert(layer.digest) {
            return Ok(());
        }
        let mut header = Self::header(layer.blob_size, 0o644, tar::EntryType::Regular);
        header.set_path(blob_name(&layer.digest)).map_err(ArchiveError::Write)?;
        header.set_cksum();
        self.tar.append(&header, io::empty()).map_err(ArchiveError::Write)?;
        self.store.copy_layer(layer, self.tar.get_mut()).map_err(|error| match error {
            CopyError::Write(error) => ArchiveError::Write(error),
            CopyError::Store(error) => error.into(),
        })?;
        let padding = usize::try_from(layer.blob_size.wrapping_neg() % BLOCK as u64).unwrap_or_default();
        self.tar.get_mut().write_all(&[0; BLOCK][..padding]).map_err(ArchiveError::Write)
    }
}

fn to_json(name: &str, value: &impl Serialize) -> Result<Vec<u8>, ArchiveError> {
    serde_json::to_vec(value).map_err(|source| ArchiveError::Json { name: name.to_owned(), source })
}

//! `save`: images of the store as one archive.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use rbox_spec::{Digest, Reference};
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

/// An image to save, with the names to save it under.
struct Chosen {
    image: Image,
    references: Vec<Reference>,
    _pin: Pin,
}

/// One image in manifest.json.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEntry {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// Saves the images called `names`: a name with a tag is saved under it, a repository's name means all its tags, an id
/// is saved without a name. The images cannot be removed meanwhile.
pub fn save<S: AsRef<str>>(
    store: &ImageStore,
    names: &[S],
    writer: impl Write,
    format: SaveFormat,
) -> Result<(), ArchiveError> {
    let chosen = choose(store, names)?;
    let mut archive = Archive { tar: tar::Builder::new(writer), store, written: BTreeSet::new() };
    archive.directory("blobs/")?;
    archive.directory("blobs/sha256/")?;
    let mut index = Index {
        schema_version: 2,
        media_type: Some(OCI_INDEX.to_owned()),
        manifests: Vec::new(),
        annotations: None,
    };
    let mut docker = Vec::new();
    let mut repositories: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for Chosen { image, references, .. } in &chosen {
        let descriptor = archive.image(image)?;
        index.manifests.extend(named(&descriptor, references));
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

/// Finds what is to be saved, each image once, and pins it.
fn choose<S: AsRef<str>>(store: &ImageStore, names: &[S]) -> Result<Vec<Chosen>, ArchiveError> {
    let mut chosen: Vec<Chosen> = Vec::new();
    for name in names {
        let name = name.as_ref();
        for (image, references) in named_images(store, name)? {
            if let Some(known) = chosen.iter_mut().find(|known| known.image.id == image.id) {
                known.references.extend(references);
                known.references.sort();
                known.references.dedup();
                continue;
            }
            let pin = store.pin(&image)?;
            if !store.is_complete(&image) {
                return Err(StoreError::MissingLayer(image.id).into());
            }
            chosen.push(Chosen { image, references, _pin: pin });
        }
    }
    Ok(chosen)
}

fn named_images(store: &ImageStore, name: &str) -> Result<Vec<(Image, Vec<Reference>)>, ArchiveError> {
    let reference = Reference::parse(name).ok();
    if let Some(repository) = reference.as_ref().filter(|reference| reference.is_name_only()) {
        let mut found = Vec::new();
        for image in store.list()? {
            let of = |known: &&Reference| known.same_repository(repository);
            let references: Vec<_> = image.references.iter().filter(of).cloned().collect();
            if !references.is_empty() {
                found.push((image, references));
            }
        }
        if !found.is_empty() {
            return Ok(found);
        }
    }
    let image = store.get(name)?;
    // An id, or a digest, names no tag.
    let wanted = reference.map(Reference::with_default_tag);
    let references =
        image.references.iter().filter(|known| wanted.as_ref() == Some(*known)).cloned().collect();
    Ok(vec![(image, references)])
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
    written: BTreeSet<Digest>,
}

impl<W: Write> Archive<'_, W> {
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
        descriptor.platform = Some(DescriptorPlatform {
            architecture: image.platform.architecture.clone(),
            os: image.platform.os.clone(),
            variant: image.platform.variant.clone(),
            ..DescriptorPlatform::default()
        });
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

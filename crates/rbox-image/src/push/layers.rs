//! What goes out: each layer's bytes, where the registry may have them already, and the manifest that names them.
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use rbox_rootfs::own;
use rbox_spec::{Digest, Reference};

use super::blob::{Blob, Content};
use super::error::PushError;
use super::job::Job;
use crate::compress::write_layer;
use crate::media::{Compression, DOCKER_LAYER, DOCKER_MANIFEST, Descriptor, layer_compression};
use crate::store::{CopyError, Image, Layer, StoreError, nameless};

/// Other repositories of the registry that are asked for one blob.
const MOST_ORIGINS: usize = 3;

/// The repositories of the registry in which a layer may be, by its diff ID: which blob it is there is for the registry to know.
pub(super) type Origins = BTreeMap<Digest, Vec<String>>;

/// A layer as it goes out.
pub(super) struct Outgoing {
    pub(super) digest: Digest,
    pub(super) diff_id: Digest,
    content: Content,
    /// Its descriptor, where that is another than the one in the manifest.
    made: Option<Descriptor>,
}

impl Outgoing {
    pub(super) fn blob(&self) -> Blob<'_> {
        let (content, diff_id) = (&self.content, Some(&self.diff_id));
        Blob { digest: self.digest, size: self.content.len(), content, diff_id }
    }

    /// What names it, of a layer that was of this type.
    pub(super) fn descriptor(&self, media_type: &str) -> Descriptor {
        let as_it_was = || Descriptor::new(media_type, self.digest, self.content.len());
        self.made.clone().unwrap_or_else(as_it_was)
    }
}

impl Job<'_> {
    /// The layers of an image, those that are to be compressed compressed.
    pub(super) fn outgoing(&self, image: &Image) -> Result<Vec<Outgoing>, PushError> {
        image.layers.iter().map(|layer| self.layer(layer, &image.manifest_type)).collect()
    }

    /// A layer that a manifest of this type is to name.
    pub(super) fn layer(&self, layer: &Layer, manifest_type: &str) -> Result<Outgoing, PushError> {
        let to = self.options.compression;
        let refuse = |source| PushError::Document { digest: layer.digest, source };
        let now = layer_compression(&layer.media_type).map_err(refuse)?;
        let path = self.store.blob_path(&layer.digest);
        if !self.store.has_whole_layer(&layer.diff_id, &layer.digest, layer.blob_size) {
            return Err(StoreError::MissingLayer(layer.digest).into());
        }
        if now == Compression::None && (to != Compression::None || !path.exists()) {
            return self.made(layer, to, manifest_type);
        }
        let file = own::open_to_read(&path).map_err(io_error("open", &path))?;
        let content = Content::File { file, path, size: layer.blob_size };
        Ok(Outgoing { digest: layer.digest, diff_id: layer.diff_id, content, made: None })
    }

    /// Compresses a layer, or packs it, into a file that has no name, so that nothing of it outlives this process.
    fn made(&self, layer: &Layer, to: Compression, manifest_type: &str) -> Result<Outgoing, PushError> {
        let path = self.store.fresh("new-push");
        let file = nameless(&path)?;
        let written = write_layer(self.store, layer, to, &file);
        let (digest, size) = written.map_err(|error| match error {
            CopyError::Write(error) => io_error("compress", &path)(error),
            CopyError::Store(error) => error.into(),
        })?;
        if to == Compression::None {
            let content = Content::File { file, path, size };
            return Ok(Outgoing { digest, diff_id: layer.diff_id, content, made: None });
        }
        let kind = match to {
            Compression::Gzip if manifest_type == DOCKER_MANIFEST => DOCKER_LAYER,
            Compression::Zstd if manifest_type == DOCKER_MANIFEST => {
                "application/vnd.docker.image.rootfs.diff.tar.zstd"
            }
            _ => to.layer_type(),
        };
        let made = Some(Descriptor::new(kind, digest, size));
        Ok(Outgoing { digest, diff_id: layer.diff_id, content: Content::File { file, path, size }, made })
    }

    /// The manifest: the bytes that came, or, where a layer was compressed, the same with that layer.
    pub(super) fn manifest(&self, image: &Image, outgoing: &[Outgoing]) -> Result<Vec<u8>, PushError> {
        if outgoing.iter().all(|layer| layer.made.is_none()) {
            return Ok(self.store.manifest_bytes(image)?);
        }
        let mut manifest = image.manifest.clone();
        for (named, layer) in manifest.layers.iter_mut().zip(outgoing) {
            if let Some(made) = &layer.made {
                *named = made.clone();
            }
        }
        Ok(serde_json::to_vec(&manifest)?)
    }

    /// Where else in the registry these layers were seen: in the repositories that images with them came from or went to.
    pub(super) fn origins(&self, to: &Reference, layers: &[Layer]) -> Result<Origins, PushError> {
        let mut origins = Origins::new();
        for image in self.store.list()? {
            let others =
                image.repo_digests.iter().filter(|r| r.domain() == to.domain() && r.path() != to.path());
            for other in others {
                for layer in &image.layers {
                    let known = origins.entry(layer.diff_id).or_default();
                    if known.len() < MOST_ORIGINS && known.iter().all(|path| path != other.path()) {
                        known.push(other.path().to_owned());
                    }
                }
            }
        }
        let wanted: BTreeSet<&Digest> = layers.iter().map(|layer| &layer.diff_id).collect();
        origins.retain(|diff_id, _| wanted.contains(diff_id));
        Ok(origins)
    }
}

fn io_error<'p>(action: &'static str, path: &'p Path) -> impl FnOnce(io::Error) -> PushError + 'p {
    move |source| PushError::Io { action, path: path.display().to_string(), source }
}

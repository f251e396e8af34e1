//! `load`: the images of an archive into the store.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read;

use rbox_spec::{Digest, Platform, Reference};

use super::compression::{inflate, open};
use super::error::ArchiveError;
use super::plan::{manifest_of, plan};
use super::planned::{Planned, PlannedLayer};
use super::spool::{Spool, io_error};
use crate::layer::{LayerError, unpack_stream};
use crate::media::{Descriptor, OCI_MANIFEST};
use crate::store::{Image, ImageStore, MAX_STATEMENT, Staging, Transaction};

/// What `load` is doing.
#[derive(Debug, Clone, Copy)]
pub enum LoadEvent<'e> {
    /// A layer is being unpacked.
    Layer {
        /// Its diff ID.
        diff_id: &'e Digest,
        /// Bytes of its file.
        size: u64,
    },
    /// The layer was in the store already.
    LayerExists {
        /// Its diff ID.
        diff_id: &'e Digest,
    },
    /// The layer is in the store.
    LayerDone {
        /// Its diff ID.
        diff_id: &'e Digest,
    },
}

/// An image that was loaded.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The image.
    pub image: Image,
    /// The names it was loaded under. Empty: it has none.
    pub references: Vec<Reference>,
    /// Names that another image had before, with its id: it has lost them.
    pub replaced: Vec<(Reference, Digest)>,
}

impl Loaded {
    /// What `docker load` prints of it, a line a name.
    pub fn lines(&self) -> Vec<String> {
        let moved = self.replaced.iter().map(|(name, id)| {
            let name = name.familiar();
            format!("The image {name} already exists, renaming the old one with ID {id} to empty string")
        });
        let named = self.references.iter().map(|name| format!("Loaded image: {}", name.familiar()));
        let nameless = self.references.is_empty().then(|| format!("Loaded image ID: {}", self.image.id));
        moved.chain(named).chain(nameless).collect()
    }
}

/// Loads every image of a docker-archive or an oci-archive, compressed or not. Of a multi-platform image it takes all platforms that are
/// there, or those that are asked for.
///
/// All images of the archive are looked at before the first is registered; each is registered as a whole.
pub fn load(
    store: &ImageStore,
    archive: impl Read + Send,
    platforms: &[Platform],
    progress: &mut dyn FnMut(LoadEvent<'_>),
) -> Result<Vec<Loaded>, ArchiveError> {
    // Held first: it keeps the spooled files from being tidied away.
    let transaction = store.transaction()?;
    let (outer, source) = open(archive).map_err(ArchiveError::Read)?.ok_or(ArchiveError::Empty)?;
    let mut spool = Spool::read(store, inflate(outer, source).map_err(ArchiveError::Read)?)?;
    let planned = plan(&spool, platforms)?;
    let known = known_layers(store)?;
    // Of several platforms each takes the name, and none from another.
    let mut coming: HashMap<Reference, Vec<Digest>> = HashMap::new();
    for image in &planned {
        let id = crate::hash::sha256(&image.config);
        image.references.iter().for_each(|name| coming.entry(name.clone()).or_default().push(id));
    }
    let mut loaded = Vec::new();
    for image in planned {
        loaded.push(add(&transaction, &mut spool, (&known, &coming), image, progress)?);
    }
    drop(transaction);
    store.tidy();
    Ok(loaded)
}

/// The blobs the store has of layers that are unpacked, by diff ID. A docker-archive names no blobs, so a layer that
/// was pulled compressed need not be kept a second time.
fn known_layers(store: &ImageStore) -> Result<HashMap<Digest, Descriptor>, ArchiveError> {
    let mut known = HashMap::new();
    for image in store.list()? {
        for layer in image.layers {
            if store.has_whole_layer(&layer.diff_id, &layer.digest, layer.blob_size)
                && let Ok(compression) = crate::media::layer_compression(&layer.media_type)
            {
                let descriptor = Descriptor::new(compression.layer_type(), layer.digest, layer.blob_size);
                known.entry(layer.diff_id).or_insert(descriptor);
            }
        }
    }
    Ok(known)
}

fn add(
    transaction: &Transaction<'_>,
    spool: &mut Spool,
    (known, coming): (&HashMap<Digest, Descriptor>, &HashMap<Reference, Vec<Digest>>),
    image: Planned,
    progress: &mut dyn FnMut(LoadEvent<'_>),
) -> Result<Loaded, ArchiveError> {
    let store = transaction.store();
    let mut descriptors = Vec::new();
    for layer in &image.layers {
        match known.get(&layer.diff_id) {
            Some(descriptor) if image.manifest.is_none() => {
                progress(LoadEvent::LayerExists { diff_id: &layer.diff_id });
                descriptors.push(descriptor.clone());
            }
            _ => descriptors.push(add_layer(transaction, spool, layer, progress)?),
        }
    }
    transaction.add_blob(&image.config)?;
    let (manifest, media_type) = if let Some(given) = image.manifest {
        given
    } else {
        let bytes = serde_json::to_vec(&manifest_of(&image.config, &descriptors))
            .map_err(|source| ArchiveError::Json { name: "the manifest made".to_owned(), source })?;
        (bytes, OCI_MANIFEST.to_owned())
    };
    let mut replaced = Vec::new();
    for reference in &image.references {
        let is_new = |id: &Digest| coming.get(reference).is_some_and(|ids| ids.contains(id));
        if let Some(before) = store.find(&reference.full())?.filter(|before| !is_new(&before.id)) {
            replaced.push((reference.clone(), before.id));
        }
    }
    // What is there already may have been moved there from here.
    for blob in image.stated.iter().filter(|blob| !store.has_blob(blob)) {
        if let Some(bytes) = spool.bytes(blob, "a statement", MAX_STATEMENT)? {
            transaction.add_blob_as(blob, &bytes)?;
        }
    }
    let digest = crate::hash::sha256(&manifest);
    let from = (None, image.of.as_ref());
    let registered = transaction.register_as(digest, &manifest, &media_type, &image.references, from)?;
    Ok(Loaded { image: registered, references: image.references, replaced })
}

/// Unpacks a layer out of its spooled file, then gives the file to the store.
fn add_layer(
    transaction: &Transaction<'_>,
    spool: &mut Spool,
    layer: &PlannedLayer,
    progress: &mut dyn FnMut(LoadEvent<'_>),
) -> Result<Descriptor, ArchiveError> {
    let store = transaction.store();
    let PlannedLayer { blob, diff_id, compression } = layer;
    let absent = || ArchiveError::Absent { by: "the image", name: blob.to_string() };
    let spooled = spool.get(blob).ok_or_else(absent)?;
    let (path, size) = (spooled.path.clone(), spooled.size);
    let descriptor = Descriptor::new(compression.layer_type(), *blob, size);
    let has_blob = fs::metadata(store.blob_path(blob)).is_ok_and(|meta| meta.is_file() && meta.len() == size);
    if store.has_whole_layer(diff_id, blob, size) {
        progress(LoadEvent::LayerExists { diff_id });
        return Ok(descriptor);
    }
    progress(LoadEvent::Layer { diff_id, size });
    let staging = transaction.stage_layer(diff_id)?;
    let from = if has_blob { store.blob_path(blob) } else { path.clone() };
    let file = File::open(&from).map_err(|source| io_error("open", &from, source))?;
    let refuse = |source| ArchiveError::Layer { digest: *diff_id, source };
    let root = staging.as_ref().map(Staging::root);
    let unpacked = unpack_stream(&file, diff_id.algorithm(), root).map_err(refuse)?;
    if unpacked.diff_id != *diff_id {
        return Err(refuse(LayerError::DiffId { want: *diff_id, found: unpacked.diff_id }));
    }
    match &staging {
        // Syncs the spooled file as well: it is on the same filesystem.
        Some(staging) => staging.seal(&unpacked)?,
        None => file.sync_all().map_err(|source| io_error("fsync", &from, source))?,
    }
    if !has_blob {
        transaction.publish_blob(&path, blob)?;
        spool.taken(blob);
    }
    if let Some(staging) = staging {
        staging.publish(store, diff_id)?;
    }
    progress(LoadEvent::LayerDone { diff_id });
    Ok(descriptor)
}

//! Layers that are no image, with a document that says what they are: results of a build's steps.
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use rbox_spec::{Digest, Reference};

use super::Pushed;
use super::blob::{Blob, Content};
use super::error::PushError;
use super::job::Job;
use super::options::PushOptions;
use super::progress::{PushProgress, PushState};
use crate::hash::sha256;
use crate::media::{Descriptor, Manifest, OCI_MANIFEST};
use crate::registry::{Client, Registries, RegistryError};
use crate::store::{ImageStore, Layer};
use crate::transfer::Transfer as _;

/// Makes a document of the blobs that layers became, by their diff IDs.
pub type Describe<'a> =
    dyn Fn(&BTreeMap<Digest, Descriptor>) -> Result<Vec<u8>, serde_json::Error> + Sync + 'a;

/// What is pushed.
pub struct Artifact<'a> {
    /// Layers of the store, compressed as [`PushOptions::compression`] says.
    pub layers: &'a [Layer],
    /// The type of the document that stands where an image has its configuration.
    pub config_type: &'a str,
    /// That document.
    pub config: &'a Describe<'a>,
}

/// Pushes layers, what they are, and last the manifest under the reference's tag: until then the registry has what it had under it.
///
/// # Errors
/// It is named by a digest, the registry refuses, or what goes out is damaged.
pub fn push_artifact(
    store: &ImageStore,
    registries: &Registries,
    reference: &Reference,
    artifact: &Artifact<'_>,
    options: &PushOptions,
    progress: &dyn PushProgress,
) -> Result<Pushed, PushError> {
    let reference = &reference.clone().with_default_tag();
    let tag = reference.tag().filter(|_| reference.digest().is_none()).ok_or(PushError::Digest)?;
    let endpoint = registries.endpoints(reference.domain())?.pop();
    let endpoint = endpoint.ok_or_else(|| RegistryError::NotFound(reference.familiar()))?;
    let client = Client::new(options.timeouts, options.credentials.clone());
    let job = Job::new(store, options, progress);
    let origins = job.origins(reference, artifact.layers)?;
    let session = client.push_session(&endpoint, reference, origins.values().flatten());
    // Each is compressed when its turn comes, and its file is gone when it was sent: of all together the disk may have no room.
    let made: Mutex<BTreeMap<Digest, Descriptor>> = Mutex::default();
    let queue: BTreeMap<Digest, &Layer> =
        artifact.layers.iter().map(|layer| (layer.diff_id, layer)).collect();
    let queue: Vec<&Layer> = queue.into_values().collect();
    job.several(&queue, options.parallel, |layer| {
        job.check_abandoned()?;
        job.tell(&layer.diff_id, PushState::Preparing);
        let outgoing = job.layer(layer, OCI_MANIFEST)?;
        let from = origins.get(&layer.diff_id).map_or(&[][..], Vec::as_slice);
        job.blob(&session, &outgoing.blob(), from)?;
        let descriptor = outgoing.descriptor(&layer.media_type);
        made.lock().unwrap_or_else(PoisonError::into_inner).insert(layer.diff_id, descriptor);
        Ok(())
    })?;
    let made = made.into_inner().unwrap_or_else(PoisonError::into_inner);
    let config = (artifact.config)(&made)?;
    let (digest, size) = (sha256(&config), config.len() as u64);
    let content = Content::Bytes(config);
    job.blob(&session, &Blob { digest, size, content: &content, diff_id: None }, &[])?;
    // Two layers may be one blob.
    let layers: BTreeMap<Digest, Descriptor> =
        made.into_values().map(|descriptor| (descriptor.digest, descriptor)).collect();
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(OCI_MANIFEST.to_owned()),
        config: Descriptor::new(artifact.config_type, digest, size),
        layers: layers.into_values().collect(),
        annotations: None,
    };
    let bytes = serde_json::to_vec(&manifest)?;
    let digest = sha256(&bytes);
    job.retry(tag, || session.put_manifest(tag, OCI_MANIFEST, &bytes, &digest))?;
    Ok(Pushed { digest, size: bytes.len() as u64 })
}

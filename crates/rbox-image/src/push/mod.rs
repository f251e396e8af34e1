//! Pushing an image: its layers, several at once, then the configuration, then the manifest, which makes them an image.
//!
//! An image goes out as the bytes that it came in: manifest, configuration and compressed layers. Only a layer that is kept
//! uncompressed is compressed on its way, into a file without a name, and the manifest then names that. All threads are joined before
//! [`push`] returns, so that only a single-threaded process makes containers.
mod blob;
mod error;
#[cfg(test)]
mod faults;
mod job;
mod layers;
mod options;
mod progress;

use std::sync::atomic::AtomicBool;

use rbox_spec::{Digest, Reference};

use crate::hash::digest_of;
use crate::registry::{Client, Registries, RegistryError, Session};
use crate::store::{Image, ImageStore};
use crate::transfer::Transfer as _;

use blob::{Blob, Content};
pub use error::PushError;
use job::Job;
use layers::Outgoing;
pub use options::PushOptions;
pub use progress::{PushEvent, PushProgress, PushState};

/// An image that the registry has now.
#[derive(Debug, Clone)]
pub struct Pushed {
    /// The manifest's digest.
    pub digest: Digest,
    /// The manifest's length in bytes.
    pub size: u64,
}

/// Pushes the tag of a reference to its registry; mirrors are asked for images only.
///
/// # Errors
/// There is no such tag, the registry refuses, or what goes out is damaged.
pub fn push(
    store: &ImageStore,
    registries: &Registries,
    reference: &Reference,
    options: &PushOptions,
    progress: &dyn PushProgress,
) -> Result<Pushed, PushError> {
    let tag = reference.tag().filter(|_| reference.digest().is_none()).ok_or(PushError::Digest)?;
    let image = find(store, reference)?;
    if let Some(wanted) = options.platform.as_ref().filter(|wanted| wanted.rank(&image.platform).is_none()) {
        let (name, wanted) = (reference.familiar(), wanted.clone());
        return Err(PushError::WrongPlatform { name, wanted });
    }
    let _pin = store.pin(&image)?;
    let endpoint = registries.endpoints(reference.domain())?.pop();
    let endpoint = endpoint.ok_or_else(|| RegistryError::NotFound(reference.familiar()))?;
    let job = Job { store, image: &image, options, progress, abandoned: AtomicBool::new(false) };
    let outgoing = job.outgoing()?;
    let origins = job.origins(reference)?;
    let client = Client::new(options.timeouts, options.credentials.clone());
    let session = client.push_session(&endpoint, reference, origins.values().flatten());
    job.layers(&session, &outgoing, &origins)?;
    let config = Content::Bytes(store.config_bytes(&image)?);
    let size = config.len();
    job.blob(&session, &Blob { digest: image.id, size, content: &config, diff_id: None }, &[])?;
    let bytes = job.manifest(&outgoing)?;
    let digest = digest_of(image.manifest_digest.algorithm(), &bytes);
    job.retry(tag, || session.put_manifest(tag, &image.manifest_type, &bytes, &digest))?;
    store.pushed(&image, reference, digest)?;
    let size = bytes.len() as u64;
    progress.event(PushEvent::Message(&format!("{tag}: digest: {digest} size: {size}")));
    Ok(Pushed { digest, size })
}

/// The image of a reference, by its name alone: an id of the same letters is another one.
fn find(store: &ImageStore, reference: &Reference) -> Result<Image, PushError> {
    if let Some(image) = store.find(&reference.full())? {
        return Ok(image);
    }
    let known =
        store.list()?.iter().any(|image| image.references.iter().any(|r| r.same_repository(reference)));
    Err(if known {
        PushError::NoTag(reference.familiar())
    } else {
        PushError::NoImage(reference.familiar_name())
    })
}

impl Job<'_> {
    /// Sends the layers, several at once.
    fn layers(
        &self,
        session: &Session<'_>,
        outgoing: &[Outgoing],
        origins: &layers::Origins,
    ) -> Result<(), PushError> {
        let mut queue: Vec<&Outgoing> = Vec::new();
        // The topmost first, as Docker has them; some images have one layer twice.
        for layer in outgoing.iter().rev() {
            if queue.iter().all(|other| other.digest != layer.digest) {
                self.tell(&layer.diff_id, PushState::Preparing);
                queue.push(layer);
            }
        }
        self.several(&queue, self.options.parallel, |layer| {
            let from = origins.get(&layer.diff_id).map_or(&[][..], Vec::as_slice);
            self.blob(session, &layer.blob(), from)
        })
    }
}

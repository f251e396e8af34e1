//! Pushing an image: its layers, several at once, then the configuration, then the manifest, which makes them an image.
//!
//! An image goes out as the bytes that it came in: manifest, configuration and compressed layers. Only a layer that is kept
//! uncompressed is compressed on its way, into a file without a name, and the manifest then names that. All threads are joined before
//! [`push`] returns, so that only a single-threaded process makes containers.
mod artifact;
mod blob;
mod error;
#[cfg(test)]
mod faults;
mod job;
mod layers;
mod options;
mod progress;

use rbox_spec::{Digest, Reference};

use crate::attestation::Attestation;
use crate::hash::{digest_of, sha256};
use crate::media::{Descriptor, DescriptorPlatform, Index, OCI_INDEX};
use crate::registry::registries::Endpoint;
use crate::registry::{Client, Registries, RegistryError, Session};
use crate::store::{Image, ImageStore, Pin};
use crate::transfer::Transfer as _;

pub use artifact::{Artifact, Describe, push_artifact};
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

/// Pushes the tag of a reference to its registry; mirrors are asked for images only. Of an image for several platforms all that are here
/// are pushed, and the index that names them; with a platform only that one.
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
    let images = find(store, reference, options)?;
    let pins: Vec<Pin> = images.iter().map(|image| store.pin(image)).collect::<Result<_, _>>()?;
    let endpoint = registries.endpoints(reference.domain())?.pop();
    let endpoint = endpoint.ok_or_else(|| RegistryError::NotFound(reference.familiar()))?;
    let client = Client::new(options.timeouts, options.credentials.clone());
    let to = Target { client: &client, endpoint: &endpoint, reference };
    let job = Job::new(store, options, progress);
    let attested = match &options.platform {
        None => attestations(store, &images)?,
        Some(_) => Vec::new(),
    };
    let pushed = match images.as_slice() {
        [image] if attested.is_empty() => {
            let one = job.one(&to, image, Some(tag))?;
            job.tell_of_others(image, &one)?;
            one.pushed()
        }
        all => several(&to, tag, &job, (all, &attested))?,
    };
    for image in &images {
        store.pushed(image, reference, pushed.digest)?;
    }
    drop(pins);
    let Pushed { digest, size } = &pushed;
    progress.event(PushEvent::Message(&format!("{tag}: digest: {digest} size: {size}")));
    Ok(pushed)
}

/// The images of a reference, by its name alone: an id of the same letters is another one.
fn find(store: &ImageStore, reference: &Reference, options: &PushOptions) -> Result<Vec<Image>, PushError> {
    let name = reference.full();
    let found = match &options.platform {
        None => store.variants(&name)?,
        Some(wanted) => match store.find_for(&name, wanted)? {
            Some(image) => vec![image],
            None if store.has(&name)? => {
                let (name, wanted) = (reference.familiar(), wanted.clone());
                return Err(PushError::WrongPlatform { name, wanted });
            }
            None => Vec::new(),
        },
    };
    if !found.is_empty() {
        return Ok(found);
    }
    let known =
        store.list()?.iter().any(|image| image.references.iter().any(|r| r.same_repository(reference)));
    Err(if known {
        PushError::NoTag(reference.familiar())
    } else {
        PushError::NoImage(reference.familiar_name())
    })
}

/// Where an image goes.
struct Target<'c> {
    client: &'c Client,
    endpoint: &'c Endpoint,
    reference: &'c Reference,
}

/// Pushes an image of several platforms: each by its digest, then the index. That is the one they came out of, if the registry has or gets
/// all that it names; else one of those that are here, or that were built here and are packed only now.
fn several(
    to: &Target<'_>,
    tag: &str,
    job: &Job<'_>,
    (images, attested): (&[Image], &[(Digest, Attestation)]),
) -> Result<Pushed, PushError> {
    let (mut parts, mut stated) = (Vec::new(), Vec::new());
    for image in images {
        let part = job.one(to, image, None)?;
        let of_image = attested.iter().filter(|(of, _)| *of == image.manifest_digest);
        for (of, attestation) in of_image {
            stated.push(job.attestation(to, attestation, of, &part.descriptor.digest)?);
        }
        parts.push(part);
    }
    parts.extend(stated);
    let Some(first) = images.first() else { return Err(PushError::NoImage(to.reference.familiar_name())) };
    let session = to.client.session(to.endpoint, to.reference);
    let kept = match first.index {
        Some(digest) => job.store.index_document(&digest)?.map(|kept| (digest, kept)),
        None => None,
    };
    let (media_type, bytes, digest) = match kept {
        Some((digest, (bytes, kind, index))) if job.has_all(&session, &index, &parts)? => {
            (kind, bytes, digest)
        }
        kept => {
            let mut annotations = None;
            if let Some((_, (_, _, index))) = kept {
                let is_named = |part: &Part| {
                    let digest = part.descriptor.digest;
                    index.manifests.iter().any(|one| one.digest == digest)
                };
                let here: Vec<String> = images.iter().map(|image| image.platform.to_string()).collect();
                let here = here.join(", ");
                let all = index.manifests.iter().filter(|one| is_for_a_platform(one)).count();
                let line = format!(
                    "Info: {} of {all} platforms are here: pushed an index of {here}, whose digest is its own",
                    images.len()
                );
                if images.len() < all || parts.iter().all(is_named) {
                    job.say(&line);
                }
                annotations = index.annotations;
            }
            let index = Index {
                schema_version: 2,
                media_type: Some(OCI_INDEX.to_owned()),
                manifests: parts.into_iter().map(|part| part.descriptor).collect(),
                annotations,
            };
            let bytes = serde_json::to_vec(&index)?;
            let digest = sha256(&bytes);
            (OCI_INDEX, bytes, digest)
        }
    };
    let session = to.client.push_session(to.endpoint, to.reference, std::iter::empty());
    job.retry(tag, || session.put_manifest(tag, media_type, &bytes, &digest))?;
    Ok(Pushed { digest, size: bytes.len() as u64 })
}

/// What is stated of images that are kept, by the digests of their manifests.
fn attestations(store: &ImageStore, images: &[Image]) -> Result<Vec<(Digest, Attestation)>, PushError> {
    let mut all = Vec::new();
    for image in images {
        let Some(index) = &image.index else { continue };
        let of = image.manifest_digest;
        all.extend(store.attestations(index, &of)?.into_iter().map(|one| (of, one)));
    }
    Ok(all)
}

/// Whether an index's entry is an image, and no provenance beside one.
fn is_for_a_platform(descriptor: &Descriptor) -> bool {
    descriptor.platform.as_ref().is_none_or(|platform| platform.os != "unknown")
}

/// An image that the registry has.
struct Part {
    descriptor: Descriptor,
}

impl Part {
    fn pushed(&self) -> Pushed {
        Pushed { digest: self.descriptor.digest, size: self.descriptor.size }
    }
}

impl Job<'_> {
    /// Pushes one image, under a tag or its digest alone.
    fn one(&self, to: &Target<'_>, image: &Image, tag: Option<&str>) -> Result<Part, PushError> {
        let outgoing = self.outgoing(image)?;
        let origins = self.origins(to.reference, &image.layers)?;
        let session = to.client.push_session(to.endpoint, to.reference, origins.values().flatten());
        self.layers(&session, &outgoing, &origins)?;
        let config = Content::Bytes(self.store.config_bytes(image)?);
        let size = config.len();
        self.blob(&session, &Blob { digest: image.id, size, content: &config, diff_id: None }, &[])?;
        let bytes = self.manifest(image, &outgoing)?;
        let kind = &image.manifest_type;
        let digest = digest_of(image.manifest_digest.algorithm(), &bytes);
        let by_digest = digest.to_string();
        let tag = tag.unwrap_or(&by_digest);
        self.retry(tag, || session.put_manifest(tag, kind, &bytes, &digest))?;
        let mut descriptor = Descriptor::new(kind, digest, bytes.len() as u64);
        descriptor.platform = Some(DescriptorPlatform::from(&image.platform));
        Ok(Part { descriptor })
    }

    /// Pushes what is stated of an image, which is `of` here and has another manifest there if its layers were packed.
    fn attestation(
        &self,
        to: &Target<'_>,
        attestation: &Attestation,
        of: &Digest,
        there: &Digest,
    ) -> Result<Part, PushError> {
        let moved = if of == there { attestation.clone() } else { attestation.moved(of, there)? };
        let session = to.client.push_session(to.endpoint, to.reference, std::iter::empty());
        for bytes in moved.statements.iter().map(|(_, bytes)| bytes).chain([&moved.config]) {
            let (digest, content) = (sha256(bytes), Content::Bytes(bytes.clone()));
            self.blob(
                &session,
                &Blob { digest, size: content.len(), content: &content, diff_id: None },
                &[],
            )?;
        }
        let Descriptor { digest, media_type, .. } = &moved.descriptor;
        let name = digest.to_string();
        self.retry(&name, || session.put_manifest(&name, media_type, &moved.manifest, digest))?;
        Ok(Part { descriptor: moved.descriptor })
    }

    /// In Docker's words: one platform of several is a whole image there.
    fn tell_of_others(&self, image: &Image, pushed: &Part) -> Result<(), PushError> {
        let Some(of) = image.index.filter(|_| self.options.platform.is_none()) else { return Ok(()) };
        let Some((_, _, index)) = self.store.index_document(&of)? else { return Ok(()) };
        if index.manifests.iter().filter(|one| is_for_a_platform(one)).count() > 1 {
            self.say(&format!(
                "Info: Not all multiplatform-content is present and only the available single-platform image was pushed: {of} -> {}",
                pushed.descriptor.digest
            ));
        }
        Ok(())
    }

    /// Whether the registry has all that the index names, or just got it.
    fn has_all(&self, session: &Session<'_>, index: &Index, parts: &[Part]) -> Result<bool, PushError> {
        for one in &index.manifests {
            if parts.iter().any(|part| part.descriptor.digest == one.digest) {
                continue;
            }
            let name = one.digest.to_string();
            match self.retry(&name, || session.head_manifest(&name)) {
                Ok(_) => {}
                Err(
                    PushError::Registry(RegistryError::NotFound(_) | RegistryError::NoRepository { .. })
                    | PushError::Denied(_),
                ) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

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

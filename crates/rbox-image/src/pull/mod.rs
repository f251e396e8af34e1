//! Pulling an image: manifest, configuration, layers, then the record.
//!
//! Each layer is a pipeline of threads (download and hash → inflate and diff ID → unpack), three layers at once. All of
//! them are joined before [`pull`] returns, so that only a single-threaded process makes containers.
mod batch;
mod blob;
mod choose;
mod error;
#[cfg(test)]
mod faults;
mod job;
mod options;
mod progress;
#[cfg(test)]
mod tests;

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use rbox_spec::{Digest, Reference};

use crate::config::ImageConfig;
use crate::media::Document;
use crate::registry::client::Fetched;
use crate::registry::{Client, Registries, RegistryError, Session};
use crate::signature::{Verdict, VerifyKeys, check, is_cosigns};
use crate::store::{Image, ImageStore, Layer, OfIndex, StoreError, Transaction};
use crate::transfer::{Transfer as _, one_line};

use batch::Batch;
use choose::Chosen;
pub use error::PullError;
use job::Job;
pub use options::PullOptions;
pub use progress::{LayerState, NoProgress, PullEvent, PullProgress};

/// A pulled image.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// The image, as it is in the store.
    pub image: Image,
    /// What the registry calls the reference: the digest of the index, or of the manifest if there is no index.
    pub digest: Digest,
    /// Whether the store had it already.
    pub up_to_date: bool,
}

/// Pulls an image. Asks for `:latest` if the reference has neither tag nor digest.
///
/// If the store has what the tag names, this costs one request.
pub fn pull(
    store: &ImageStore,
    registries: &Registries,
    reference: &Reference,
    options: &PullOptions,
    progress: &dyn PullProgress,
) -> Result<Pulled, PullError> {
    let reference = reference.clone().with_default_tag();
    let endpoints = registries.endpoints(reference.domain())?;
    let keys = registries.verify_key(reference.domain()).map(VerifyKeys::read).transpose()?;
    let client = Client::new(options.timeouts, options.credentials.clone());
    let mut failures: Vec<String> = Vec::new();
    let last = endpoints.len().saturating_sub(1);
    for (number, endpoint) in endpoints.iter().enumerate() {
        let session = client.session(endpoint, &reference);
        let abandoned = AtomicBool::new(false);
        // A mirror that does not answer is not worth a minute of waiting: the registry itself comes next.
        let attempts = if number == last { options.attempts } else { 1 };
        let options = &PullOptions { attempts, ..options.clone() };
        let job = Job { store, reference: &reference, options, progress, keys: keys.as_ref(), abandoned };
        match job.run(&session) {
            Ok(pulled) => return Ok(pulled),
            Err(error) if number != last && error.is_endpoints_fault() => {
                let line = format!("mirror {}: {}", endpoint.origin, one_line(&error));
                progress.event(PullEvent::Message(&line));
                failures.push(line);
            }
            Err(error) if error.is_disk_full() => {
                // Others may still be adding; then their end, or the next pull, tidies up.
                let _ = store.sweep(Duration::ZERO);
                return Err(PullError::DiskFull {
                    dir: store.dir().display().to_string(),
                    source: Box::new(error),
                });
            }
            Err(error) if failures.is_empty() => return Err(error),
            Err(error) => {
                return Err(PullError::Mirrors { mirrors: failures.join("; "), source: Box::new(error) });
            }
        }
    }
    Err(PullError::Registry(RegistryError::NotFound(reference.familiar())))
}

/// The tags of a repository, in the registry's order: those of the first endpoint that answers.
pub fn tags(
    registries: &Registries,
    repository: &Reference,
    options: &PullOptions,
) -> Result<Vec<String>, PullError> {
    let endpoints = registries.endpoints(repository.domain())?;
    let client = Client::new(options.timeouts, options.credentials.clone());
    let mut failure = None;
    for endpoint in &endpoints {
        match client.session(endpoint, repository).tags() {
            // Signatures are beside images, and none themselves.
            Ok(tags) => return Ok(tags.into_iter().filter(|tag| !is_cosigns(tag)).collect()),
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.unwrap_or_else(|| RegistryError::NotFound(repository.familiar_name())).into())
}

/// The digest that a tag has in its registry now, of the first endpoint that answers. Nothing is stored.
pub fn digest(
    registries: &Registries,
    reference: &Reference,
    options: &PullOptions,
) -> Result<Digest, PullError> {
    if let Some(digest) = reference.digest() {
        return Ok(*digest);
    }
    let endpoints = registries.endpoints(reference.domain())?;
    let client = Client::new(options.timeouts, options.credentials.clone());
    let tag = reference.tag().unwrap_or("latest");
    let mut failure = None;
    for endpoint in &endpoints {
        let session = client.session(endpoint, reference);
        let said = match session.head_manifest(tag) {
            Ok(None) => session.manifest(tag, None).map(|fetched| fetched.digest),
            Ok(Some(digest)) => Ok(digest),
            Err(error) => Err(error),
        };
        match said {
            Ok(digest) => return Ok(digest),
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.unwrap_or_else(|| RegistryError::NotFound(reference.familiar())).into())
}

/// The index that was fetched for a reference; `None` if it was an image.
fn of_index(top: Fetched) -> Result<Option<OfIndex>, PullError> {
    let refuse = |source| PullError::Document { digest: top.digest, source };
    match Document::parse(&top.bytes, &top.media_type).map_err(refuse)? {
        Document::Index(index) => Ok(Some(OfIndex::new(top.digest, top.bytes, &index))),
        Document::Manifest(_) => Ok(None),
    }
}

impl Job<'_> {
    fn run(&self, session: &Session<'_>) -> Result<Pulled, PullError> {
        let name = self.name();
        let from = || self.say(&format!("{name}: Pulling from {}", self.reference.path()));
        if let Some(pulled) = self.up_to_date(session)? {
            from();
            return Ok(pulled);
        }
        self.store.tidy();
        let transaction = self.store.transaction()?;
        from();
        let fetched = self.retry(&name, || session.manifest(&name, self.reference.digest()))?;
        let (digest, top) = (fetched.digest, fetched.clone());
        self.check_signature(session, &digest)?;
        let Chosen { fetched, manifest, config } = self.choose(session, &transaction, fetched)?;
        self.check_platform(&config)?;
        let layers = self.store.layers_of(&manifest, &config, &fetched.digest)?;
        self.layers(session, &transaction, &layers)?;
        let media_type = fetched.media_type.split(';').next().unwrap_or_default().trim();
        let named = match self.reference.digest() {
            Some(by_digest) => self.reference.with_digest(*by_digest),
            None => self.reference.clone(),
        };
        let of = of_index(top)?.filter(|of| of.digest != fetched.digest);
        let from = (Some(digest), of.as_ref());
        let image = transaction.register_as(fetched.digest, &fetched.bytes, media_type, &[named], from)?;
        Ok(Pulled { image, digest, up_to_date: false })
    }

    /// Whether the store has what the registry has: one HEAD for a tag, nothing at all for a digest.
    fn up_to_date(&self, session: &Session<'_>) -> Result<Option<Pulled>, PullError> {
        let name = self.reference.full();
        let found = match &self.options.platform {
            Some(wanted) => self.store.find_for(&name, wanted),
            None => self.store.find(&name),
        };
        let image = match found {
            // What is damaged is fetched again.
            Ok(None) | Err(StoreError::Broken { .. }) => return Ok(None),
            Ok(Some(image)) => image,
            Err(error) => return Err(error.into()),
        };
        // Another platform's image is here because it was asked for, where there are several.
        let fits = self.platform().rank(&image.platform).is_some() || image.index.is_none();
        if !fits || !self.store.is_complete(&image) {
            return Ok(None);
        }
        if self.options.verify && !self.store.verify_layers(&image)? {
            return Ok(None);
        }
        if let Some(digest) = self.reference.digest() {
            self.check_signature(session, digest)?;
            return Ok(Some(Pulled { image, digest: *digest, up_to_date: true }));
        }
        let name = self.name();
        let Some(digest) = self.retry(&name, || session.head_manifest(&name))? else { return Ok(None) };
        let known = image
            .repo_digests
            .iter()
            .any(|r| r.same_repository(self.reference) && r.digest() == Some(&digest));
        // The tag must have come from there, and not just the image: a tag made here may name something else.
        if known && self.store.source_of(self.reference, &image)? == Some(digest) {
            self.check_signature(session, &digest)?;
            return Ok(Some(Pulled { image, digest, up_to_date: true }));
        }
        Ok(None)
    }

    /// Refuses what is not signed, where the registry's configuration wants that: before anything of it is kept.
    fn check_signature(&self, session: &Session<'_>, digest: &Digest) -> Result<(), PullError> {
        let Some(keys) = self.keys else { return Ok(()) };
        match self.retry(&self.name(), || check(session, digest, keys))? {
            Verdict::Signed => Ok(()),
            Verdict::Not(why) => {
                let (name, key) = (self.reference.familiar(), keys.file.display().to_string());
                Err(PullError::Unsigned { name, key, why })
            }
        }
    }

    fn check_platform(&self, config: &ImageConfig) -> Result<(), PullError> {
        let (wanted, found) = (self.platform(), config.platform());
        // Without --platform an image for another architecture is fetched, as Docker does; another system cannot run at all.
        let refused = match self.options.platform {
            Some(_) => wanted.rank(&found).is_none(),
            None => wanted.os != found.os,
        };
        if refused {
            return Err(PullError::WrongPlatform { name: self.reference.familiar(), wanted, found });
        }
        Ok(())
    }

    /// Fetches what layers are missing, several at once.
    fn layers(
        &self,
        session: &Session<'_>,
        transaction: &Transaction<'_>,
        layers: &[Layer],
    ) -> Result<(), PullError> {
        let mut queue: Vec<&Layer> = Vec::new();
        for layer in layers {
            if queue.iter().any(|other| other.digest == layer.digest && other.diff_id == layer.diff_id) {
                continue; // Some images have one layer twice.
            }
            if self.is_stored(layer) {
                self.tell(&layer.digest, LayerState::AlreadyExists);
                continue;
            }
            queue.push(layer);
            self.tell(&layer.digest, LayerState::Waiting);
        }
        let batch = Batch::new(transaction);
        let fetched = self.several(&queue, self.options.parallel, |layer| self.layer(session, &batch, layer));
        // What is finished stays, also if another layer failed: the next pull has it.
        let settled = batch.settle();
        fetched.and(settled)
    }
}

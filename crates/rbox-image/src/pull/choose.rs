//! Of what a tag names, the image for the platform: the document itself, or one that an index leads to, perhaps by way of
//! further indexes.
use std::cell::Cell;

use super::error::PullError;
use super::job::Job;
use crate::config::ImageConfig;
use crate::hash::digest_of;
use crate::media::{
    DOCKER_LIST, DOCKER_MANIFEST, Descriptor, Document, DocumentError, Index, MAX_CONFIG, MOST_NESTED,
    Manifest, OCI_INDEX, OCI_MANIFEST,
};
use crate::registry::Session;
use crate::registry::client::Fetched;
use crate::store::Transaction;
use crate::transfer::Transfer as _;
use rbox_spec::Platform;

/// Documents fetched on the way to an image. More than one candidate is looked at only where an index does not say what its
/// entries are for.
const MOST_FETCHED: u32 = 32;

/// The image that is pulled.
pub(super) struct Chosen {
    pub(super) fetched: Fetched,
    pub(super) manifest: Manifest,
    pub(super) config: ImageConfig,
}

/// A way through indexes.
struct Search<'s, 'c> {
    session: &'s Session<'c>,
    transaction: &'s Transaction<'s>,
    wanted: Platform,
    /// Documents that may still be fetched.
    left: Cell<u32>,
    /// What the indexes say they have.
    offered: Cell<Vec<String>>,
}

impl Job<'_> {
    /// Follows what was fetched for the reference to one image.
    pub(super) fn choose(
        &self,
        session: &Session<'_>,
        transaction: &Transaction<'_>,
        fetched: Fetched,
    ) -> Result<Chosen, PullError> {
        let (left, offered) = (Cell::new(MOST_FETCHED), Cell::default());
        let search = Search { session, transaction, wanted: self.platform(), left, offered };
        if let Some(chosen) = self.resolve(&search, fetched, 0)? {
            return Ok(chosen);
        }
        let offered = search.offered.take().join(", ");
        let offered = offered.chars().take(300).filter(|c| !c.is_control()).collect();
        Err(PullError::NoPlatform { wanted: search.wanted, offered })
    }

    fn resolve(
        &self,
        search: &Search<'_, '_>,
        fetched: Fetched,
        depth: u32,
    ) -> Result<Option<Chosen>, PullError> {
        let digest = fetched.digest;
        let refuse = |source| PullError::Document { digest, source };
        let index = match Document::parse(&fetched.bytes, &fetched.media_type).map_err(refuse)? {
            Document::Manifest(manifest) => {
                let config = self.config(search.session, search.transaction, &manifest)?;
                return Ok(Some(Chosen { fetched, manifest, config }));
            }
            Document::Index(_) if depth >= MOST_NESTED => return Err(refuse(DocumentError::Nested)),
            Document::Index(index) => index,
        };
        for descriptor in search.candidates(&index) {
            let Some(left) = search.left.get().checked_sub(1) else { break };
            search.left.set(left);
            let found = self
                .fetch_document(search.session, &descriptor)
                .and_then(|fetched| self.resolve(search, fetched, depth + 1));
            if descriptor.platform.is_some() || index.manifests.len() == 1 {
                // An index of one need not say what it is for; its configuration does, and is looked at later.
                if let Some(chosen) = found? {
                    return Ok(Some(chosen));
                }
                continue;
            }
            match found {
                Ok(Some(chosen)) if search.wanted.rank(&chosen.config.platform()).is_some() => {
                    return Ok(Some(chosen));
                }
                Ok(other) => search.offer(other.map(|chosen| chosen.config.platform().to_string())),
                // No image at all, such as a signature.
                Err(PullError::Document { source: DocumentError::Artifact(_), .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn config(
        &self,
        session: &Session<'_>,
        transaction: &Transaction<'_>,
        manifest: &Manifest,
    ) -> Result<ImageConfig, PullError> {
        let descriptor = &manifest.config;
        if descriptor.size > MAX_CONFIG {
            return Err(self.size(
                "image configuration",
                descriptor,
                format!("at most {MAX_CONFIG} of a sane one"),
            ));
        }
        let name = descriptor.digest.to_string();
        let stored = self
            .store
            .has_blob(&descriptor.digest)
            .then(|| self.store.read_blob(&descriptor.digest, "image configuration", MAX_CONFIG).ok());
        let intact = |bytes: &Vec<u8>| digest_of(descriptor.digest.algorithm(), bytes) == descriptor.digest;
        let bytes = if let Some(bytes) = stored.flatten().filter(intact) {
            self.check_size("image configuration", descriptor, bytes.len() as u64)?;
            bytes
        } else {
            let bytes = self.retry(&name, || session.blob(&descriptor.digest, 0)?.bytes(MAX_CONFIG))?;
            self.check_size("image configuration", descriptor, bytes.len() as u64)?;
            let found = digest_of(descriptor.digest.algorithm(), &bytes);
            if found != descriptor.digest {
                return Err(PullError::Digest {
                    what: "image configuration",
                    want: descriptor.digest,
                    found,
                });
            }
            bytes
        };
        let config = ImageConfig::parse(&bytes)
            .map_err(|source| PullError::Configuration { digest: descriptor.digest, source })?;
        transaction.add_blob_as(&descriptor.digest, &bytes)?;
        Ok(config)
    }

    fn fetch_document(&self, session: &Session<'_>, descriptor: &Descriptor) -> Result<Fetched, PullError> {
        let name = descriptor.digest.to_string();
        let fetched = self.retry(&name, || session.manifest(&name, Some(&descriptor.digest)))?;
        self.check_size("manifest", descriptor, fetched.bytes.len() as u64)?;
        let sent = fetched.media_type.split(';').next().unwrap_or_default().trim();
        if sent != descriptor.media_type {
            let (sent, inside) = (descriptor.media_type.clone(), sent.to_owned());
            let source = DocumentError::TypeMismatch { sent, inside };
            return Err(PullError::Document { digest: descriptor.digest, source });
        }
        Ok(fetched)
    }
}

impl Search<'_, '_> {
    /// The entries that may lead to the image: those for its platform, the best first, then those that do not say for which
    /// they are, as Docker takes them.
    fn candidates(&self, index: &Index) -> Vec<Descriptor> {
        let mut found = Vec::new();
        for descriptor in &index.manifests {
            let image = matches!(
                descriptor.media_type.as_str(),
                OCI_MANIFEST | DOCKER_MANIFEST | OCI_INDEX | DOCKER_LIST
            );
            match descriptor.platform.as_ref().filter(|platform| !platform.os.is_empty()) {
                None if image => {
                    found.push((usize::MAX, Descriptor { platform: None, ..descriptor.clone() }));
                }
                // Attestations beside the images.
                Some(platform) if platform.os != "unknown" => {
                    let platform =
                        Platform::new(&platform.os, &platform.architecture, platform.variant.as_deref());
                    self.offer(Some(platform.to_string()));
                    found.extend(self.wanted.rank(&platform).map(|rank| (rank, descriptor.clone())));
                }
                _ => {}
            }
        }
        found.sort_by_key(|(rank, _)| *rank);
        found.into_iter().map(|(_, descriptor)| descriptor).collect()
    }

    fn offer(&self, platform: Option<String>) {
        let mut offered = self.offered.take();
        offered.extend(platform);
        self.offered.set(offered);
    }
}

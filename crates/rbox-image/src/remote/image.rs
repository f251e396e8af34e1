//! One document of a registry, and copying what it names into another repository.
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rbox_spec::{Digest, Kind, Platform, Reference};
use serde_json::Value;

use super::error::RemoteError;
use crate::hash::digest_of;
use crate::media::{Descriptor, DescriptorPlatform, Document, MAX_CONFIG, Manifest};
use crate::registry::client::Fetched;
use crate::registry::origin::Origin;
use crate::registry::registries::Endpoint;
use crate::registry::{Client, Credentials, Registries, RegistryError, Session, Timeouts};
use crate::transfer::{one_line, patiently_telling};

/// Hears what is waited for.
pub type Say = Arc<dyn Fn(&str) + Send + Sync>;

/// Registries, as this machine's configuration has them.
pub struct Remote {
    reader: Client,
    pub(super) writer: Client,
    registries: Registries,
    pub(super) say: Say,
    /// Mirrors that did not answer, and are not asked again.
    dead: Mutex<Vec<Origin>>,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("registries", &self.registries).finish_non_exhaustive()
    }
}

/// A manifest or an index, as a registry has it.
#[derive(Debug, Clone)]
pub struct RemoteImage {
    /// What it was asked for by.
    pub name: Reference,
    /// Its type, digest and length; the platform, where it was looked up.
    pub descriptor: Descriptor,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// What they say.
    pub document: Document,
}

impl RemoteImage {
    fn new(name: &Reference, fetched: Fetched) -> Result<Self, RemoteError> {
        let media_type = fetched.media_type.split(';').next().unwrap_or_default().trim();
        let digest = fetched.digest;
        let refuse = |source| RemoteError::Document { digest, source };
        let document = Document::read(&fetched.bytes, media_type).map_err(refuse)?;
        let descriptor = Descriptor::new(media_type, digest, fetched.bytes.len() as u64);
        Ok(Self { name: name.clone(), descriptor, bytes: fetched.bytes, document })
    }

    /// By its digest, in the same repository.
    pub fn by_digest(&self) -> Reference {
        self.name.with_digest(self.descriptor.digest)
    }
}

/// What a manifest is asked for by.
pub(super) fn wanted(name: &Reference) -> String {
    match (name.digest(), name.tag()) {
        (Some(digest), _) => digest.to_string(),
        (None, tag) => tag.unwrap_or("latest").to_owned(),
    }
}

impl Remote {
    /// With the credentials of `login`. `say` hears which registry is waited for, and why.
    pub fn new(registries: Registries, say: Say) -> Self {
        let reader = Client::new(Timeouts::default(), Credentials::docker());
        // A registry reads a large blob before it says that it has it.
        let timeouts = Timeouts { answer: Duration::from_mins(2), ..Timeouts::default() };
        Self {
            reader,
            writer: Client::new(timeouts, Credentials::docker()),
            registries,
            say,
            dead: Mutex::default(),
        }
    }

    /// Asks the mirrors, and the registry itself last. A mirror that does not answer is not waited for.
    pub(super) fn read<T>(
        &self,
        name: &Reference,
        question: impl Fn(&Session<'_>) -> Result<T, RegistryError>,
    ) -> Result<T, RemoteError> {
        let endpoints = self.registries.endpoints(name.domain())?;
        let Some((last, mirrors)) = endpoints.split_last() else {
            return Err(RegistryError::NotFound(name.familiar()).into());
        };
        for mirror in mirrors {
            let dead = || self.dead.lock().unwrap_or_else(PoisonError::into_inner);
            if dead().contains(&mirror.origin) {
                continue;
            }
            let error = match question(&self.reader.session(mirror, name)) {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if error.is_transient() || error.is_unreachable() {
                dead().push(mirror.origin.clone());
            }
            if error.kind() != Kind::NotFound {
                (self.say)(&format!("mirror {}: {}", mirror.origin, one_line(&error)));
            }
        }
        let session = self.reader.session(last, name);
        Ok(patiently_telling(&*self.say, || question(&session))?)
    }

    /// The keys that something of this registry has to be signed by.
    pub(super) fn verify_key(&self, registry: &str) -> Option<std::path::PathBuf> {
        self.registries.verify_key(registry).map(std::path::Path::to_path_buf)
    }

    /// Where to write: the registry itself.
    pub(super) fn target(&self, name: &Reference) -> Result<Endpoint, RemoteError> {
        let endpoint = self.registries.endpoints(name.domain())?.pop();
        Ok(endpoint.ok_or_else(|| RegistryError::NotFound(name.familiar()))?)
    }

    /// The document of a name.
    ///
    /// # Errors
    /// It is not there, or no manifest and no index.
    pub fn fetch(&self, name: &Reference) -> Result<RemoteImage, RemoteError> {
        let name = name.clone().with_default_tag();
        let fetched = self.read(&name, |session| session.manifest(&wanted(&name), name.digest()))?;
        RemoteImage::new(&name, fetched)
    }

    /// The configuration of an image.
    ///
    /// # Errors
    /// It is not there, or not what its digest promises.
    pub fn config(&self, name: &Reference, manifest: &Manifest) -> Result<Vec<u8>, RemoteError> {
        self.blob(name, &manifest.config, "image configuration", MAX_CONFIG)
    }

    /// A document of a repository, of at most so many bytes; `what` says in errors which.
    ///
    /// # Errors
    /// It is not there, or longer, or not what its digest promises.
    pub fn blob(
        &self,
        name: &Reference,
        descriptor: &Descriptor,
        what: &str,
        most: u64,
    ) -> Result<Vec<u8>, RemoteError> {
        let bytes = self.read(name, |session| session.blob(&descriptor.digest, 0)?.bytes(most))?;
        let found = digest_of(descriptor.digest.algorithm(), &bytes);
        if found != descriptor.digest {
            let want = descriptor.digest;
            return Err(RemoteError::Refused(format!(
                "{what}: the registry sent content with digest {found}, expected {want}"
            )));
        }
        Ok(bytes)
    }

    /// What an image runs on, as its configuration says.
    ///
    /// # Errors
    /// The configuration is not there, or none.
    pub fn platform(&self, name: &Reference, manifest: &Manifest) -> Result<DescriptorPlatform, RemoteError> {
        let bytes = self.config(name, manifest)?;
        let read = |source| RemoteError::Json {
            what: format!("image configuration {}", manifest.config.digest),
            source,
        };
        let value: Value = rbox_spec::json::from_slice(&bytes).map_err(read)?;
        let text = |key: &str| value[key].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        Ok(DescriptorPlatform {
            architecture: text("architecture").unwrap_or_default(),
            os: text("os").unwrap_or_default(),
            variant: text("variant"),
            os_version: text("os.version"),
            os_features: None,
        })
    }

    /// Gives the registry a document, under the tag or the digest of `name`.
    ///
    /// # Errors
    /// The registry refuses it.
    pub fn put(
        &self,
        name: &Reference,
        media_type: &str,
        bytes: &[u8],
        digest: &Digest,
    ) -> Result<(), RemoteError> {
        let endpoint = self.target(name)?;
        let session = self.writer.push_session(&endpoint, name, std::iter::empty());
        self.put_by(&session, &wanted(name), (media_type, bytes), digest)
    }

    /// Gives a registry a document of this type.
    pub(super) fn put_by(
        &self,
        session: &Session<'_>,
        under: &str,
        (media_type, bytes): (&str, &[u8]),
        digest: &Digest,
    ) -> Result<(), RemoteError> {
        let put = || session.put_manifest(under, media_type, bytes, digest);
        Ok(patiently_telling(&*self.say, put)?)
    }
}

/// As buildx and Docker write it.
pub(super) fn shown(platform: &DescriptorPlatform) -> String {
    Platform::new(&platform.os, &platform.architecture, platform.variant.as_deref()).to_string()
}

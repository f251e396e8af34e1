//! Making a signature, and giving it to the registry that has the image.
use rbox_spec::{Digest, Kind, Reference};
use serde_json::{Value, json};

use super::key::PrivateKey;
use super::payload::{MAX_PAYLOAD, PAYLOAD, is_by, layer, names, payload, tag_of};
use crate::hash::{digest_of, sha256};
use crate::media::{Descriptor, Document, MAX_CONFIG, Manifest, OCI_CONFIG, OCI_MANIFEST};
use crate::registry::{Client, Credentials, Registries, RegistriesError, RegistryError, Session, Timeouts};
use crate::transfer::patiently;

/// A signature that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The configuration of registries.
    #[error(transparent)]
    Config(#[from] RegistriesError),
    /// What is there under the signatures' tag.
    #[error("{name} is in the way: {reason}")]
    InTheWay {
        /// The tag.
        name: String,
        /// What it is.
        reason: String,
    },
    /// The tag is another image in the registry than here.
    #[error(
        "refused to sign {name}: the registry has {there} under it now, the one here is {here}: push or pull it again, or sign what you mean by NAME@DIGEST"
    )]
    Another {
        /// The name.
        name: String,
        /// What the registry has.
        there: Digest,
        /// What came from there, or went there, last.
        here: String,
    },
    /// The kernel gives no random bytes.
    #[error("sign: no random bytes")]
    NoRandomness,
    /// The new manifest cannot be written down.
    #[error("make the manifest")]
    Json(#[from] serde_json::Error),
}

impl SignError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Registry(error) => error.kind(),
            Self::Config(error) => error.kind(),
            Self::InTheWay { .. } | Self::Another { .. } => Kind::Conflict,
            Self::NoRandomness | Self::Json(_) => Kind::Internal,
        }
    }
}

/// An image that is signed now.
#[derive(Debug, Clone)]
pub struct Signed {
    /// What the registry calls it.
    pub digest: Digest,
    /// It had a signature by this key already.
    pub was_signed: bool,
    /// What was signed is what was meant: by its digest, or because the image here is the same.
    pub is_known: bool,
}

/// Signs what the registry has under this name, beside the signatures that it has.
///
/// `here`: what registries are known to call the image of this name on this machine. A registry that gives another one is not signed for.
///
/// # Errors
/// The registry does not have it, has another one than is here, or refuses.
pub fn sign(
    registries: &Registries,
    name: &Reference,
    here: &[Digest],
    key: &PrivateKey,
) -> Result<Signed, SignError> {
    let name = name.clone().with_default_tag();
    let endpoint = registries.endpoints(name.domain())?.pop();
    let endpoint = endpoint.ok_or_else(|| RegistryError::NotFound(name.familiar()))?;
    let client = Client::new(Timeouts::default(), Credentials::docker());
    let session = client.push_session(&endpoint, &name, std::iter::empty());
    let wanted = match (name.digest(), name.tag()) {
        (Some(digest), _) => digest.to_string(),
        (None, tag) => tag.unwrap_or("latest").to_owned(),
    };
    // The bytes, and not what a header says of them.
    let digest = patiently(|| session.manifest(&wanted, name.digest()))?.digest;
    if name.digest().is_none() && !here.is_empty() && !here.contains(&digest) {
        let here = here.iter().map(Digest::to_string).collect::<Vec<_>>().join(" or ");
        return Err(SignError::Another { name: name.familiar(), there: digest, here });
    }
    let is_known = name.digest().is_some() || here.contains(&digest);
    let tag = tag_of(&digest);
    let mut manifest = before(&session, &tag)?;
    let payload = payload(&name, &digest);
    if is_signed(&session, &manifest, &digest, key)? {
        return Ok(Signed { digest, was_signed: true, is_known });
    }
    patiently(|| session.put_blob(payload.as_bytes()))?;
    manifest.layers.push(layer(key, payload.as_bytes()).ok_or(SignError::NoRandomness)?);
    let config = config(&manifest.layers);
    patiently(|| session.put_blob(config.as_bytes()))?;
    manifest.config = Descriptor::new(OCI_CONFIG, sha256(config.as_bytes()), config.len() as u64);
    let bytes = serde_json::to_vec(&manifest)?;
    let signed = sha256(&bytes);
    patiently(|| session.put_manifest(&tag, OCI_MANIFEST, &bytes, &signed))?;
    Ok(Signed { digest, was_signed: false, is_known })
}

/// The signatures that there are.
fn before(session: &Session<'_>, tag: &str) -> Result<Manifest, SignError> {
    let in_the_way = |reason: String| SignError::InTheWay { name: tag.to_owned(), reason };
    let fetched = match patiently(|| session.manifest(tag, None)) {
        Ok(fetched) => fetched,
        Err(RegistryError::NotFound(_) | RegistryError::NoRepository { .. }) => {
            return Ok(Manifest {
                schema_version: 2,
                media_type: Some(OCI_MANIFEST.to_owned()),
                config: Descriptor::new(OCI_CONFIG, sha256(b""), 0),
                layers: Vec::new(),
                annotations: None,
            });
        }
        Err(error) => return Err(error.into()),
    };
    let manifest = match Document::read(&fetched.bytes, &fetched.media_type) {
        Ok(Document::Manifest(manifest)) => manifest,
        Ok(Document::Index(_)) => return Err(in_the_way("it is an index".to_owned())),
        Err(error) => return Err(in_the_way(error.to_string())),
    };
    if manifest.config.size > MAX_CONFIG || manifest.layers.iter().any(|layer| layer.media_type != PAYLOAD) {
        return Err(in_the_way("it has more than signatures in it".to_owned()));
    }
    Ok(Manifest { media_type: Some(OCI_MANIFEST.to_owned()), ..manifest })
}

/// Whether there is a good signature by this key.
fn is_signed(
    session: &Session<'_>,
    manifest: &Manifest,
    digest: &Digest,
    key: &PrivateKey,
) -> Result<bool, SignError> {
    let public = [key.public()];
    for layer in &manifest.layers {
        if layer.size > MAX_PAYLOAD {
            continue;
        }
        let payload = match patiently(|| session.blob(&layer.digest, 0)?.bytes(MAX_PAYLOAD)) {
            Ok(payload) => payload,
            Err(error) if error.is_transient() => return Err(error.into()),
            // Nobody can read it, so it is no good one.
            Err(_) => continue,
        };
        if digest_of(layer.digest.algorithm(), &payload) == layer.digest
            && is_by(&public, layer, &payload)
            && names(&payload, digest).is_ok()
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The configuration that registries want of an image: with nothing but the digests of the payloads.
fn config(layers: &[Descriptor]) -> String {
    let created = "0001-01-01T00:00:00Z";
    let history: Vec<Value> = layers.iter().map(|_| json!({ "created": created })).collect();
    let diff_ids: Vec<String> = layers.iter().map(|layer| layer.digest.to_string()).collect();
    json!({
        "architecture": "",
        "created": created,
        "history": history,
        "os": "",
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
        "config": {},
    })
    .to_string()
}

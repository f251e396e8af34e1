//! Whether what a registry calls an image is signed by one of the keys that its configuration wants.
use std::path::{Path, PathBuf};

use rbox_spec::Digest;

use super::key::{KeyError, PublicKey};
use super::payload::{MAX_PAYLOAD, MOST_SIGNATURES, PAYLOAD, is_by, names, tag_of};
use crate::hash::digest_of;
use crate::media::Document;
use crate::registry::{RegistryError, Session};

/// The keys of a registry, and where they stand.
#[derive(Debug, Clone)]
pub struct VerifyKeys {
    /// The file.
    pub file: PathBuf,
    /// What it has.
    pub keys: Vec<PublicKey>,
}

impl VerifyKeys {
    /// The keys of a file.
    ///
    /// # Errors
    /// It cannot be read, or has none.
    pub fn read(file: &Path) -> Result<Self, KeyError> {
        Ok(Self { file: file.to_owned(), keys: PublicKey::read_all(file)? })
    }
}

/// What came of looking for a signature.
pub(crate) enum Verdict {
    /// There is a good one.
    Signed,
    /// There is none. Why, for a message.
    Not(String),
}

/// Looks for a signature of the image by one of the keys.
///
/// # Errors
/// The registry cannot be asked.
pub(crate) fn check(
    session: &Session<'_>,
    digest: &Digest,
    keys: &VerifyKeys,
) -> Result<Verdict, RegistryError> {
    let tag = tag_of(digest);
    let fetched = match session.manifest(&tag, None) {
        Ok(fetched) => fetched,
        Err(RegistryError::NotFound(_) | RegistryError::NoRepository { .. }) => {
            return Ok(Verdict::Not(format!("there is no signature of {digest} in its repository")));
        }
        Err(error) => return Err(error),
    };
    let manifest = match Document::read(&fetched.bytes, &fetched.media_type) {
        Ok(Document::Manifest(manifest)) => manifest,
        Ok(Document::Index(_)) => return Ok(Verdict::Not(format!("{tag} is an index, and no signature"))),
        Err(error) => return Ok(Verdict::Not(format!("{tag} is no signature: {error}"))),
    };
    let (mut why, mut failure) = (None, None);
    for layer in manifest.layers.iter().filter(|layer| layer.media_type == PAYLOAD).take(MOST_SIGNATURES) {
        if layer.size > MAX_PAYLOAD {
            why = why.or(Some("its payload is longer than any"));
            continue;
        }
        // One that cannot be read says nothing of the others.
        let payload = match session.blob(&layer.digest, 0).and_then(|blob| blob.bytes(MAX_PAYLOAD)) {
            Ok(payload) => payload,
            Err(error) => {
                why = why.or(Some("its payload cannot be read"));
                failure = failure.or(Some(error).filter(RegistryError::is_transient));
                continue;
            }
        };
        if digest_of(layer.digest.algorithm(), &payload) != layer.digest {
            why = why.or(Some("what the registry gives as its payload has another digest"));
        } else if !is_by(&keys.keys, layer, &payload) {
            why = why.or(Some("its signature is by another key, or not of its payload"));
        } else {
            match names(&payload, digest) {
                Ok(()) => return Ok(Verdict::Signed),
                Err(wrong) => why = Some(wrong),
            }
        }
    }
    // What could not be read this time may be the good one.
    if let Some(failure) = failure {
        return Err(failure);
    }
    Ok(Verdict::Not(match why {
        Some(why) => format!("{tag}: {why}"),
        None => format!("{tag} has no signature in it"),
    }))
}

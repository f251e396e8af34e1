//! What is signed, and the document that carries it: cosign's.
//!
//! A signature of the image with digest `sha256:X` is a layer of the image with the tag `sha256-X.sig` in the same repository. The layer's
//! blob is the payload, which names the digest; its annotation is the signature of that blob. Sources: cosign's `specs/SIGNATURE_SPEC.md`, and the
//! "simple signing" format of containers/image (`docs/containers-signature.5.md`). Of the payload the digest and the type count; the name of the
//! repository does not, so that an image can be copied elsewhere with its signature.
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rbox_spec::{Digest, Reference};
use serde::Deserialize;
use serde_json::json;

use super::key::{PrivateKey, PublicKey};
use crate::media::Descriptor;

/// The media type of a payload.
pub(super) const PAYLOAD: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// The annotation that has the signature.
pub(super) const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const TYPE: &str = "cosign container image signature";
/// Payloads are some hundred bytes long.
pub(super) const MAX_PAYLOAD: u64 = 64 << 10;
/// More signatures of one image are not looked at.
pub(super) const MOST_SIGNATURES: usize = 100;

/// The tag under which an image's signatures are.
pub(crate) fn tag_of(digest: &Digest) -> String {
    format!("{}-{}.sig", digest.algorithm(), digest.hex())
}

/// Whether a tag is one of cosign's, and no image's.
pub(crate) fn is_cosigns(tag: &str) -> bool {
    let bare = [".sig", ".att", ".sbom"].iter().find_map(|end| tag.strip_suffix(end));
    bare.and_then(|bare| bare.strip_prefix("sha256-"))
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[derive(Deserialize)]
struct Payload {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

/// The payload for an image.
pub(super) fn payload(name: &Reference, digest: &Digest) -> String {
    json!({
        "critical": {
            "identity": { "docker-reference": name.name() },
            "image": { "docker-manifest-digest": digest.to_string() },
            "type": TYPE,
        },
        "optional": null,
    })
    .to_string()
}

/// Whether a payload speaks of this image, or what is wrong with it. Only one whose signature was found to be right is worth reading.
pub(super) fn names(payload: &[u8], digest: &Digest) -> Result<(), &'static str> {
    let Ok(payload) = rbox_spec::json::from_slice::<Payload>(payload) else {
        return Err("its payload is not of cosign's form");
    };
    if payload.critical.kind != TYPE {
        return Err("its payload is of another type than cosign's");
    }
    if payload.critical.image.digest != digest.to_string() {
        return Err("it is the signature of another image");
    }
    Ok(())
}

/// Whether one of the keys made this signature of a payload.
pub(super) fn is_by(keys: &[PublicKey], layer: &Descriptor, payload: &[u8]) -> bool {
    let text = layer.annotations.as_ref().and_then(|notes| notes.get(SIGNATURE));
    let signature = text.and_then(|text| STANDARD.decode(text.trim()).ok());
    signature.is_some_and(|signature| keys.iter().any(|key| key.verifies(payload, &signature)))
}

/// The layer of a new signature. `None`: there is no randomness to sign with.
pub(super) fn layer(key: &PrivateKey, payload: &[u8]) -> Option<Descriptor> {
    let signature = STANDARD.encode(key.sign(payload)?);
    let mut layer = Descriptor::new(PAYLOAD, crate::hash::sha256(payload), payload.len() as u64);
    layer.annotations = Some(BTreeMap::from([(SIGNATURE.to_owned(), signature)]));
    Some(layer)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn payloads_name_an_image_by_its_digest_only() {
        let digest = crate::hash::sha256(b"image");
        let name = Reference::parse("registry.lan/team/app:1").unwrap();
        let good = payload(&name, &digest);
        assert!(good.contains(r#""docker-reference":"registry.lan/team/app""#), "{good}");
        assert_eq!(names(good.as_bytes(), &digest), Ok(()));
        let other = crate::hash::sha256(b"other");
        assert_eq!(names(good.as_bytes(), &other), Err("it is the signature of another image"));
        for (from, to) in [
            (TYPE, "atomic container signature"),
            ("docker-manifest-digest", "digest"),
            ("\"critical\"", "\"optional\""),
            ("sha256:", ""),
        ] {
            assert!(names(good.replacen(from, to, 1).as_bytes(), &digest).is_err(), "{from}");
        }
        assert!(names(b"", &digest).is_err() && names(b"[]", &digest).is_err());
    }

    #[test]
    fn tags_of_cosign_are_known() {
        let digest = crate::hash::sha256(b"image");
        assert!(is_cosigns(&tag_of(&digest)) && is_cosigns(&tag_of(&digest).replace(".sig", ".att")));
        for tag in ["1.sig", "latest", "sha256-00.sig", "sha256-", "sha512.sig"] {
            assert!(!is_cosigns(tag), "{tag}");
        }
    }
}

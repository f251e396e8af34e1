//! What a fuzzer gives: payloads, keys in PEM and DER, signatures.
use std::collections::BTreeMap;

use super::key::{PrivateKey, PublicKey, of_sec1};
use super::payload::{PAYLOAD, SIGNATURE, is_by, names};
use crate::hash::sha256;
use crate::media::Descriptor;

/// The image that a payload has to name.
const IMAGE: &[u8] = b"image";

/// Whether this is a payload for the fuzzer's image, whose digest is the second.
pub fn payload(bytes: &[u8]) -> (bool, String) {
    let digest = sha256(IMAGE);
    (names(bytes, &digest).is_ok(), digest.to_string())
}

/// Public keys of a PEM text, or one as DER. How many; none of them has made a signature that is the text.
pub fn public(bytes: &[u8]) -> usize {
    let keys = PublicKey::of_pem(bytes).unwrap_or_default();
    let keys: Vec<_> = keys.into_iter().chain(PublicKey::of_der(bytes)).collect();
    assert!(keys.iter().all(|key| !key.verifies(IMAGE, bytes)));
    keys.len()
}

/// A private key as PEM or as DER: what it signs, its public key takes, and nothing else.
pub fn private(bytes: &[u8]) {
    let Some(key) = PrivateKey::of_pem(bytes).ok().or_else(|| of_sec1(bytes)) else { return };
    let (Some(signature), public) = (key.sign(IMAGE), key.public()) else { return };
    assert!(public.verifies(IMAGE, &signature) && !public.verifies(b"another", &signature));
}

/// An annotation that is to be the signature of a payload by one of some keys. It is, only if its bytes are that.
pub fn annotation(keys: &[u8], text: &str, payload: &[u8]) {
    let mut layer = Descriptor::new(PAYLOAD, sha256(payload), payload.len() as u64);
    layer.annotations = Some(BTreeMap::from([(SIGNATURE.to_owned(), text.to_owned())]));
    let keys = PublicKey::of_pem(keys).unwrap_or_default();
    if is_by(&keys, &layer, payload) {
        let other = [payload, b"x"].concat();
        assert!(!is_by(&keys, &layer, &other));
    }
}

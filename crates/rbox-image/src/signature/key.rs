//! Keys that sign images: ECDSA on P-256 and Ed25519, as PEM.
//!
//! Sources: RFC 8410 and RFC 5480 (public keys), RFC 5958 (PKCS#8), RFC 5915 (EC private keys), RFC 7468 (PEM).
use std::path::{Path, PathBuf};
use std::{fmt, io};

use rbox_rootfs::own;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _, UnparsedPublicKey, VerificationAlgorithm,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivateKeyDer, SubjectPublicKeyInfoDer};

/// A file of keys is never longer.
const MAX_FILE: u64 = 1 << 20;

/// What stands before the point in the public key of this curve: the algorithm and its one parameter.
const P256: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// The same of Ed25519, which has no parameter.
const EDWARDS: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// `version`, and the algorithm of a P-256 key, in PKCS#8.
const P256_IN_PKCS8: &[u8] = &[
    0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07,
];

/// A file that has no key that can be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It cannot be read.
    #[error("read the key {file}", file = file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is in it is no key, or one of another kind.
    #[error("{file}: {reason}", file = file.display())]
    Unusable {
        /// The file.
        file: PathBuf,
        /// What it is.
        reason: &'static str,
    },
}

impl KeyError {
    /// What it means to the caller.
    pub fn kind(&self) -> rbox_spec::Kind {
        match self {
            Self::Read { source, .. } => rbox_spec::Kind::of_io(source),
            Self::Unusable { .. } => rbox_spec::Kind::Unsupported,
        }
    }
}

fn unusable(file: &Path) -> impl FnOnce(&'static str) -> KeyError {
    |reason| KeyError::Unusable { file: file.to_owned(), reason }
}

fn read(file: &Path) -> Result<Vec<u8>, KeyError> {
    own::read(file, MAX_FILE).map_err(|source| KeyError::Read { file: file.to_owned(), source })
}

/// A key that checks signatures.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    is_ecdsa: bool,
    point: Vec<u8>,
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_ecdsa { "PublicKey(P-256)" } else { "PublicKey(Ed25519)" })
    }
}

impl PublicKey {
    /// All keys of a PEM file: while one is replaced by another, both may be in it.
    ///
    /// # Errors
    /// It cannot be read, or has no key, or one that cannot be used.
    pub fn read_all(file: &Path) -> Result<Vec<Self>, KeyError> {
        Self::of_pem(&read(file)?).map_err(unusable(file))
    }

    /// All keys of a text, or what it is instead.
    pub(super) fn of_pem(text: &[u8]) -> Result<Vec<Self>, &'static str> {
        let mut keys = Vec::new();
        for der in SubjectPublicKeyInfoDer::pem_slice_iter(text) {
            let der = der.map_err(|_| "it is not valid PEM")?;
            let key = Self::of_der(&der);
            keys.push(key.ok_or("it has a public key that is neither ECDSA on P-256 nor Ed25519")?);
        }
        if keys.is_empty() {
            return Err("it has no PUBLIC KEY in PEM form");
        }
        Ok(keys)
    }

    pub(super) fn of_der(der: &[u8]) -> Option<Self> {
        if let Some(point) = der.strip_prefix(P256) {
            // Uncompressed, as everybody writes it.
            return (point.len() == 65 && point.first() == Some(&4))
                .then(|| Self { is_ecdsa: true, point: point.to_owned() });
        }
        let point = der.strip_prefix(EDWARDS).filter(|point| point.len() == 32)?;
        Some(Self { is_ecdsa: false, point: point.to_owned() })
    }

    /// Whether this key made the signature of this message.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let algorithm: &dyn VerificationAlgorithm =
            if self.is_ecdsa { &ECDSA_P256_SHA256_ASN1 } else { &ED25519 };
        UnparsedPublicKey::new(algorithm, &self.point).verify(message, signature).is_ok()
    }
}

/// A key that signs.
pub struct PrivateKey(Pair);

enum Pair {
    Ecdsa(EcdsaKeyPair),
    Edwards(Ed25519KeyPair),
}

/// Secrets are not printed.
impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(…)")
    }
}

impl PrivateKey {
    /// The key of a PEM file, in PKCS#8 or as `openssl ecparam -genkey` writes it.
    ///
    /// # Errors
    /// It cannot be read, is encrypted, or is of another kind.
    pub fn read(file: &Path) -> Result<Self, KeyError> {
        Self::of_pem(&read(file)?).map_err(unusable(file))
    }

    /// The key of a text, or what it is instead.
    pub(super) fn of_pem(bytes: &[u8]) -> Result<Self, &'static str> {
        let text = String::from_utf8_lossy(bytes);
        if text.contains("ENCRYPTED SIGSTORE PRIVATE KEY") || text.contains("ENCRYPTED COSIGN PRIVATE KEY") {
            return Err(
                "it is encrypted in cosign's own form, which cannot be read here: sign with a plain key, as 'openssl genpkey -algorithm ed25519' makes one",
            );
        }
        if text.contains("ENCRYPTED") {
            return Err("it is encrypted: decrypt it first, as with 'openssl pkey -in KEY -out PLAIN'");
        }
        let der = PrivateKeyDer::from_pem_slice(bytes).map_err(|_| "it has no PRIVATE KEY in PEM form")?;
        let pkcs8 = match &der {
            PrivateKeyDer::Pkcs8(der) => der.secret_pkcs8_der().to_owned(),
            PrivateKeyDer::Sec1(der) => wrap_sec1(der.secret_sec1_der()),
            _ => Vec::new(),
        };
        Self::of_pkcs8(&pkcs8)
            .ok_or("it is neither an ECDSA key on P-256 (with its public key) nor an Ed25519 key")
    }

    fn of_pkcs8(der: &[u8]) -> Option<Self> {
        let random = SystemRandom::new();
        if let Ok(pair) = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der, &random) {
            return Some(Self(Pair::Ecdsa(pair)));
        }
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).ok().map(|pair| Self(Pair::Edwards(pair)))
    }

    /// The signature of a message; `None` if there is no randomness.
    pub fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        match &self.0 {
            Pair::Ecdsa(pair) => {
                pair.sign(&SystemRandom::new(), message).ok().map(|signature| signature.as_ref().to_owned())
            }
            Pair::Edwards(pair) => Some(pair.sign(message).as_ref().to_owned()),
        }
    }

    /// The key that checks its signatures.
    pub fn public(&self) -> PublicKey {
        match &self.0 {
            Pair::Ecdsa(pair) => PublicKey { is_ecdsa: true, point: pair.public_key().as_ref().to_owned() },
            Pair::Edwards(pair) => {
                PublicKey { is_ecdsa: false, point: pair.public_key().as_ref().to_owned() }
            }
        }
    }
}

/// An EC private key as PKCS#8, where the algorithm stands outside of it.
fn wrap_sec1(key: &[u8]) -> Vec<u8> {
    let inner = tagged(0x04, key);
    tagged(0x30, &[P256_IN_PKCS8, &inner].concat())
}

/// A DER value. Keys have less than 64 KiB, as their file has; a longer one becomes one that nobody can read.
fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap_or(u16::MAX).to_be_bytes();
    let mut out = match content.len() {
        0..0x80 => vec![tag, length[1]],
        _ => vec![tag, 0x82, length[0], length[1]],
    };
    if (0x80..0x100).contains(&content.len()) {
        // DER wants the shortest form.
        out = vec![tag, 0x81, length[1]];
    }
    out.extend_from_slice(content);
    out
}

/// What a fuzzer makes of an EC private key that stands for itself: as what is read of a file, without the file.
#[cfg(fuzzing)]
pub(super) fn of_sec1(der: &[u8]) -> Option<PrivateKey> {
    PrivateKey::of_pkcs8(&wrap_sec1(der))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::process::Command;

    use super::*;

    fn openssl(dir: &Path, args: &[&str]) {
        let made = Command::new("openssl").args(args).current_dir(dir).output().unwrap();
        assert!(made.status.success(), "{args:?}: {}", String::from_utf8_lossy(&made.stderr));
    }

    #[test]
    fn keys_of_openssl_sign_and_check() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        openssl(dir.path(), &["genpkey", "-algorithm", "ed25519", "-out", "ed"]);
        openssl(
            dir.path(),
            &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "p8"],
        );
        openssl(dir.path(), &["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "sec1"]);
        openssl(dir.path(), &["ecparam", "-name", "secp384r1", "-genkey", "-noout", "-out", "p384"]);
        openssl(dir.path(), &["pkey", "-in", "p384", "-pubout", "-out", "p384.pub"]);
        openssl(dir.path(), &["pkey", "-in", "ed", "-aes128", "-passout", "pass:x", "-out", "locked"]);
        let mut keys = Vec::new();
        for name in ["ed", "p8", "sec1"] {
            let public = format!("{name}.pub");
            openssl(dir.path(), &["pkey", "-in", name, "-pubout", "-out", &public]);
            let key = PrivateKey::read(&path(name)).unwrap();
            let of_file = PublicKey::read_all(&path(&public)).unwrap();
            assert_eq!(of_file, [key.public()], "{name}");
            let signature = key.sign(b"message").unwrap();
            assert!(
                key.public().verifies(b"message", &signature)
                    && !key.public().verifies(b"Message", &signature)
            );
            let mut bent = signature.clone();
            *bent.last_mut().unwrap() ^= 1;
            assert!(!key.public().verifies(b"message", &bent) && !key.public().verifies(b"message", b""));
            keys.push((of_file, signature));
        }
        for (at, (public, _)) in keys.iter().enumerate() {
            for (other, (_, signature)) in keys.iter().enumerate() {
                assert_eq!(public[0].verifies(b"message", signature), at == other);
            }
        }
        // openssl checks what is made here.
        std::fs::write(path("message"), "message").unwrap();
        std::fs::write(path("signature"), &keys[1].1).unwrap();
        openssl(dir.path(), &["dgst", "-sha256", "-verify", "p8.pub", "-signature", "signature", "message"]);
        let both = std::fs::read_to_string(path("ed.pub")).unwrap()
            + &std::fs::read_to_string(path("p8.pub")).unwrap();
        std::fs::write(path("both.pub"), both).unwrap();
        assert_eq!(PublicKey::read_all(&path("both.pub")).unwrap().len(), 2);
        for (name, said) in [
            ("locked", "it is encrypted: decrypt"),
            ("p384", "neither an ECDSA"),
            ("ed.pub", "no PRIVATE KEY"),
        ] {
            let error = PrivateKey::read(&path(name)).unwrap_err().to_string();
            assert!(error.contains(said), "{name}: {error}");
        }
        for (name, said) in [("p384.pub", "neither ECDSA"), ("ed", "no PUBLIC KEY")] {
            let error = PublicKey::read_all(&path(name)).unwrap_err().to_string();
            assert!(error.contains(said), "{name}: {error}");
        }
    }
}

//! Content digests: `sha256:<64 hex>` and `sha512:<128 hex>`, and nothing else.
//!
//! A digest becomes part of paths in the store and of URLs sent to registries, so the type holds the
//! bytes themselves: there is no way to build one that prints as anything but lower-case hexadecimal.
//! Source: OCI image specification, `descriptor.md`, section "Digests".
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::kind::Kind;

/// The hash function of a [`Digest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256, 32 bytes.
    Sha256,
    /// SHA-512, 64 bytes.
    Sha512,
}

impl Algorithm {
    /// The name used before the colon, and as a directory name under `blobs/`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// The length of the hash in bytes.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The digest of some content: an algorithm and exactly as many bytes as it produces.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Digest {
    /// A SHA-256 digest.
    Sha256([u8; 32]),
    /// A SHA-512 digest.
    Sha512([u8; 64]),
}

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// No `algorithm:` in front, or nothing after it.
    #[error("invalid digest {0:?}: want sha256:<64 hexadecimal digits>")]
    Format(String),
    /// An algorithm other than sha256 and sha512.
    #[error("unsupported digest algorithm {0:?}: only sha256 and sha512 are accepted")]
    Algorithm(String),
    /// Too few or too many digits.
    #[error("invalid {algorithm} digest: {found} hexadecimal digits instead of {want}")]
    Length {
        /// The algorithm named.
        algorithm: Algorithm,
        /// Digits found.
        found: usize,
        /// Digits wanted.
        want: usize,
    },
    /// A character that is not a lower-case hexadecimal digit.
    #[error("invalid {0} digest: only the digits 0-9 and a-f are allowed")]
    Digit(Algorithm),
}

impl DigestError {
    /// What it means to the caller.
    pub const fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

impl Digest {
    /// The algorithm.
    pub const fn algorithm(&self) -> Algorithm {
        match self {
            Self::Sha256(_) => Algorithm::Sha256,
            Self::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// The raw hash.
    pub const fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Sha256(bytes) => bytes,
            Self::Sha512(bytes) => bytes,
        }
    }

    /// The hash as lower-case hexadecimal digits, without the algorithm.
    pub fn hex(&self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = String::with_capacity(self.as_bytes().len() * 2);
        for byte in self.as_bytes() {
            text.push(char::from(DIGITS[usize::from(byte >> 4)]));
            text.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        text
    }

    /// The first twelve digits, as shown in tables.
    pub fn short(&self) -> String {
        let mut hex = self.hex();
        hex.truncate(12);
        hex
    }

    /// A digest from raw bytes; `None` when the length is not the algorithm's.
    pub fn from_bytes(algorithm: Algorithm, bytes: &[u8]) -> Option<Self> {
        match algorithm {
            Algorithm::Sha256 => bytes.try_into().ok().map(Self::Sha256),
            Algorithm::Sha512 => bytes.try_into().ok().map(Self::Sha512),
        }
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let Some((name, digits)) = text.split_once(':') else {
            return Err(DigestError::Format(clip(text)));
        };
        let algorithm = match name {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            "" => return Err(DigestError::Format(clip(text))),
            other => return Err(DigestError::Algorithm(clip(other))),
        };
        let want = algorithm.bytes() * 2;
        if digits.len() != want {
            return Err(DigestError::Length { algorithm, found: digits.chars().count(), want });
        }
        let mut bytes = [0_u8; 64];
        for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
            let (Some(high), Some(low)) = (nibble(pair[0]), nibble(pair[1])) else {
                return Err(DigestError::Digit(algorithm));
            };
            *byte = high << 4 | low;
        }
        Self::from_bytes(algorithm, &bytes[..algorithm.bytes()]).ok_or(DigestError::Length {
            algorithm,
            found: digits.len(),
            want,
        })
    }
}

/// A hostile digest can be megabytes long; an error message shows the start of it.
fn clip(text: &str) -> String {
    text.chars().take(80).collect()
}

const fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm(), self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn prints_what_it_read() {
        let digest: Digest = EMPTY.parse().unwrap();
        assert_eq!(digest.to_string(), EMPTY);
        assert_eq!(digest.short(), "e3b0c44298fc");
        let long = format!("sha512:{}", "0123456789abcdef".repeat(8));
        assert_eq!(long.parse::<Digest>().unwrap().to_string(), long);
        let json = serde_json::to_string(&digest).unwrap();
        assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), digest);
    }

    #[test]
    fn refuses_all_else() {
        let upper = EMPTY.to_uppercase().replace("SHA256", "sha256");
        let long = format!("{EMPTY}0");
        for bad in [
            "",
            "sha256",
            "sha256:",
            "sha256:../../x",
            "sha256:e3b0",
            "md5:d41d8cd98f00b204e9800998ecf8427e",
            ":e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b85/",
            "sha256: 3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "sha512:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "sha256:é3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b85",
            &upper,
            &long,
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{bad} was accepted");
        }
    }
}

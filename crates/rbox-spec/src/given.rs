//! Files that a container is given: secrets, and what Compose calls configs.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::kind::Kind;

/// Where a secret is, unless its target says otherwise.
pub const SECRETS: &str = "/run/secrets";
/// Bytes of one file.
pub const MOST: u64 = 1 << 20;

/// A file that a container is given. Each start puts a copy of its content there, in memory and read-only; the content is in none of
/// the container's records.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenFile {
    /// An absolute path inside the container.
    pub target: String,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
    /// `--secret` in the words that give it again; empty when something else gave it.
    pub flag: String,
}

impl GivenFile {
    /// A file that everybody may read.
    pub fn readable(target: impl Into<String>) -> Self {
        Self { target: target.into(), mode: 0o444, ..Self::default() }
    }

    /// As `inspect` has it.
    pub(crate) fn as_docker(&self) -> Value {
        json!({ "Target": self.target, "UID": self.uid, "GID": self.gid, "Mode": self.mode })
    }

    /// Refuses a target that names no file inside, and bits that are none.
    pub fn check(&self) -> Result<(), InvalidFile> {
        let refused = |why| Err(InvalidFile { target: self.target.clone(), why });
        match self.target.strip_prefix('/') {
            None => refused("the target must be an absolute path"),
            Some(below) if below.split('/').any(|part| matches!(part, "" | "." | "..")) => {
                refused("the target must be a plain path, without . and .. in it")
            }
            Some(_) if self.target.contains('\0') => refused("the target has a NUL byte in it"),
            Some(_) if self.mode > 0o777 => refused("the mode must be at most 0777"),
            Some(_) => Ok(()),
        }
    }
}

/// A file that cannot be given.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("invalid file {target:?}: {why}")]
pub struct InvalidFile {
    target: String,
    why: &'static str,
}

impl InvalidFile {
    /// What it means to the caller.
    pub const fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

/// What is in such a file. Nothing that shows values shows it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Content(pub Vec<u8>);

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        for good in ["/a", "/run/secrets/a b", "/etc/..a"] {
            assert_eq!(GivenFile::readable(good).check(), Ok(()), "{good}");
        }
        for bad in ["", "a", "/", "/a/", "//a", "/a/../b", "/a/./b", "/a\0b", "../a"] {
            assert!(GivenFile::readable(bad).check().is_err(), "{bad:?}");
        }
        assert!(GivenFile { mode: 0o4755, ..GivenFile::readable("/a") }.check().is_err());
    }

    #[test]
    fn content_is_not_shown() {
        assert_eq!(format!("{:?}", Content(b"hidden".to_vec())), "6 bytes");
    }
}

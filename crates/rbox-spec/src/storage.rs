//! `--storage-opt`: what a container's own layer may be.

use std::collections::BTreeMap;

use crate::kind::Kind;
use crate::size::{Size, SizeError};

/// The least that a layer can do with: it has directories of its own.
pub const LEAST: u64 = 64 << 10;

/// Why an option of the layer is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidStorage {
    /// Not of the form `KEY=VALUE`.
    #[error("invalid storage option: \"{0}\": expected size=SIZE, such as size=10g")]
    Form(String),
    /// Another key.
    #[error("--storage-opt: Unknown option {0}: there is size")]
    Unknown(String),
    /// The size is none.
    #[error("--storage-opt size: {0}")]
    Size(#[from] SizeError),
    /// Too little for anything to run.
    #[error("--storage-opt size={0}: a container needs at least 64k for its own directories")]
    Small(String),
}

impl InvalidStorage {
    /// What it means to the caller.
    pub const fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

/// Reads options of the form `KEY=VALUE`; of one that is given twice the last one counts.
pub fn parse(options: &[String]) -> Result<BTreeMap<String, String>, InvalidStorage> {
    let mut all = BTreeMap::new();
    for option in options {
        let (key, value) = option.split_once('=').ok_or_else(|| InvalidStorage::Form(option.clone()))?;
        all.insert(key.to_owned(), value.to_owned());
    }
    limit(&all)?;
    Ok(all)
}

/// The most bytes that the layer may take, if it has a limit: as with Docker 0 is none, and keys are in any case.
pub fn limit(options: &BTreeMap<String, String>) -> Result<Option<u64>, InvalidStorage> {
    let mut limit = None;
    for (key, value) in options {
        if !key.eq_ignore_ascii_case("size") {
            return Err(InvalidStorage::Unknown(key.clone()));
        }
        let bytes = value.parse::<Size>()?.bytes();
        if (1..LEAST).contains(&bytes) {
            return Err(InvalidStorage::Small(value.clone()));
        }
        limit = (bytes > 0).then_some(bytes);
    }
    Ok(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options() {
        let limit = |option: &str| parse(&[option.to_owned()]).and_then(|options| limit(&options));
        assert_eq!(limit("size=10g"), Ok(Some(10 << 30)));
        assert_eq!(limit("SIZE=1.5M"), Ok(Some(3 << 19)));
        assert_eq!(limit("size=0"), Ok(None));
        assert_eq!(parse(&[]), Ok(BTreeMap::new()));
        for (bad, words) in [
            ("size", "invalid storage option"),
            ("dm.basesize=10G", "Unknown option dm.basesize"),
            ("size=", "invalid size"),
            ("size=-1", "invalid size"),
            ("size=10x", "invalid suffix"),
            ("size=4096", "at least 64k"),
        ] {
            let error = limit(bad).map_err(|error| error.to_string());
            assert!(error.as_ref().is_err_and(|error| error.contains(words)), "{bad}: {error:?}");
        }
    }
}

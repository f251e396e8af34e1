//! Versions of the records that rbox keeps on disk.
//!
//! Each record says its version and which rbox wrote it. [`decode`] upgrades an older one step by step, and refuses a newer one.
//! Older programs pass over the two fields, so they can read what a newer one of the same version writes.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Kind;

/// Changes a record of one version into one of the next.
pub type Step = fn(&mut Map<String, Value>);

/// What is kept on disk as a JSON object.
pub trait Record: Serialize + DeserializeOwned {
    /// The step at index n leads from version n to n + 1. Records without a version are of version 0.
    const STEPS: &'static [Step];
}

/// A record as it is written.
#[derive(Serialize)]
pub struct Versioned<'a, T> {
    record_version: usize,
    written_by: &'static str,
    #[serde(flatten)]
    record: &'a T,
}

impl<'a, T: Record> Versioned<'a, T> {
    /// The record with its version.
    pub fn new(record: &'a T) -> Self {
        Self { record_version: T::STEPS.len(), written_by: env!("CARGO_PKG_VERSION"), record }
    }
}

/// The version only: the rest of the text is passed over.
#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    record_version: usize,
    #[serde(default)]
    written_by: String,
}

/// The text of a record.
pub fn encode<T: Record>(record: &T) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&Versioned::new(record))
}

/// Why the text of a record could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// It is not what rbox writes.
    #[error(transparent)]
    Damaged(#[from] serde_json::Error),
    /// A newer rbox wrote it: nothing is wrong with it, and it must be left as it is.
    #[error(
        "it has record version {version}, which needs rbox {written_by} or newer; this rbox reads up to version {known}"
    )]
    Newer {
        /// Its version.
        version: usize,
        /// Which rbox wrote it.
        written_by: String,
        /// The newest version that can be read here.
        known: usize,
    },
}

impl DecodeError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Damaged(_) => Kind::Damaged,
            Self::Newer { .. } => Kind::Unsupported,
        }
    }
}

/// Reads a record of this version or an older one.
pub fn decode<T: Record>(text: &[u8]) -> Result<T, DecodeError> {
    let head: Head = crate::json::from_slice(text)?;
    let known = T::STEPS.len();
    if head.record_version == known {
        return Ok(crate::json::from_slice(text)?);
    }
    let Some(steps) = T::STEPS.get(head.record_version..) else {
        return Err(newer(&head, known));
    };
    let mut record: Map<String, Value> = crate::json::from_slice(text)?;
    for step in steps {
        step(&mut record);
    }
    Ok(crate::json::from_value(Value::Object(record))?)
}

fn newer(head: &Head, known: usize) -> DecodeError {
    // What somebody put there is shown, but not all of it: it is one line of a message.
    let written_by = head.written_by.chars().filter(char::is_ascii_graphic).take(32).collect();
    DecodeError::Newer { version: head.record_version, written_by, known }
}

/// For steps: gives a field that older versions did not write its value.
pub fn fill(record: &mut Map<String, Value>, field: &str, value: Value) {
    record.entry(field).or_insert(value);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test that cannot go on has failed.
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Lamp {
        watts: u64,
        colour: String,
    }

    impl Record for Lamp {
        const STEPS: &'static [Step] = &[
            |lamp| fill(lamp, "colour", "white".into()),
            |lamp| {
                let kilowatts = lamp.remove("kilowatts").and_then(|value| value.as_u64());
                fill(lamp, "watts", (kilowatts.unwrap_or_default() * 1000).into());
            },
        ];
    }

    fn lamp(watts: u64, colour: &str) -> Lamp {
        Lamp { watts, colour: colour.to_owned() }
    }

    #[test]
    fn older_records_are_upgraded_step_by_step() {
        let table = [
            (r#"{"kilowatts":2}"#, lamp(2000, "white")),
            (r#"{"kilowatts":2,"colour":"red"}"#, lamp(2000, "red")),
            (r#"{"record_version":0,"kilowatts":2}"#, lamp(2000, "white")),
            (r#"{"record_version":1,"kilowatts":3,"colour":"red"}"#, lamp(3000, "red")),
            (r#"{"record_version":2,"written_by":"x","watts":4,"colour":"red"}"#, lamp(4, "red")),
        ];
        for (text, wanted) in table {
            assert_eq!(decode::<Lamp>(text.as_bytes()).unwrap(), wanted, "{text}");
        }
    }

    #[test]
    fn a_record_of_this_version_needs_all_its_fields() {
        for text in [r#"{"record_version":2,"watts":4}"#, r#"{"record_version":1,"kilowatts":1}"#] {
            assert_eq!(decode::<Lamp>(text.as_bytes()).unwrap_err().kind(), Kind::Damaged, "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_again_with_its_version() {
        let text = encode(&lamp(7, "blue")).unwrap();
        assert_eq!(decode::<Lamp>(&text).unwrap(), lamp(7, "blue"));
        let value: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(value["record_version"], 2);
        assert_eq!(value["written_by"], env!("CARGO_PKG_VERSION"));
    }

    #[test]
    fn a_newer_record_is_refused_in_one_line() {
        let text = br#"{"record_version":9,"written_by":"4.0.0\nx","lumen":4}"#;
        let error = decode::<Lamp>(text).unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported);
        let message = error.to_string();
        let wanted =
            "it has record version 9, which needs rbox 4.0.0x or newer; this rbox reads up to version 2";
        assert_eq!(message, wanted);
    }
}

//! Versions of the records that rbox keeps on disk.
//!
//! Each record says its version and which rbox wrote it. [`decode`] upgrades an older one step by step, and refuses a newer one.
//! Older programs pass over the two fields, so they can read what a newer one of the same version writes.

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

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

/// Reads a record of this version or an older one.
pub fn decode<T: Record>(text: &[u8]) -> serde_json::Result<T> {
    let head: Head = serde_json::from_slice(text)?;
    let known = T::STEPS.len();
    if head.record_version == known {
        return serde_json::from_slice(text);
    }
    let Some(steps) = T::STEPS.get(head.record_version..) else {
        return Err(serde_json::Error::custom(newer(&head, known)));
    };
    let mut record: Map<String, Value> = serde_json::from_slice(text)?;
    for step in steps {
        step(&mut record);
    }
    serde_json::from_value(Value::Object(record))
}

fn newer(head: &Head, known: usize) -> String {
    let version = head.record_version;
    // What somebody put there is shown, but not all of it: it is one line of a message.
    let by: String = head.written_by.chars().filter(char::is_ascii_graphic).take(32).collect();
    format!(
        "it has record version {version}, which needs rbox {by} or newer; this rbox reads up to version {known}"
    )
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
            assert!(decode::<Lamp>(text.as_bytes()).is_err(), "{text}");
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
        let message = decode::<Lamp>(text).unwrap_err().to_string();
        let wanted =
            "it has record version 9, which needs rbox 4.0.0x or newer; this rbox reads up to version 2";
        assert_eq!(message, wanted);
    }
}

//! A volume: what is written down of it, and how it is shown.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use rbox_spec::VolumeName;
use rbox_sys::usage::disk_usage;
use serde::{Deserialize, Serialize};

/// The label Docker gives to a volume that nobody named.
const ANONYMOUS_LABEL: &str = "com.docker.volume.anonymous";

/// What a volume is made with when there is none of its name.
#[derive(Debug, Clone, Default)]
pub struct NewVolume {
    /// Nobody named it.
    pub anonymous: bool,
    /// The user's labels.
    pub labels: BTreeMap<String, String>,
    /// The driver's options.
    pub options: BTreeMap<String, String>,
}

impl NewVolume {
    pub(crate) fn record(&self, created: Timestamp) -> Record {
        let Self { anonymous, labels, options } = self.clone();
        Record { created, anonymous, labels, options }
    }
}

/// `volume.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) created: Timestamp,
    pub(crate) anonymous: bool,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) options: BTreeMap<String, String>,
}

impl rbox_spec::record::Record for Record {
    const STEPS: &'static [rbox_spec::record::Step] = &[version_1, version_2];
}

/// Before there were versions, labels came to records that had none.
fn version_1(record: &mut serde_json::Map<String, serde_json::Value>) {
    rbox_spec::record::fill(record, "labels", serde_json::Value::Object(serde_json::Map::new()));
}

/// Options came: a volume that has some is a file system, and only looks like a directory to version 1.
fn version_2(record: &mut serde_json::Map<String, serde_json::Value>) {
    rbox_spec::record::fill(record, "options", serde_json::Value::Object(serde_json::Map::new()));
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its name; 64 hex digits when nobody named it.
    pub name: VolumeName,
    /// Nobody named it: `rm -v`, `--rm` and `prune` take it away.
    pub anonymous: bool,
    /// When it was made.
    pub created: Timestamp,
    /// The user's labels.
    pub labels: BTreeMap<String, String>,
    /// What its file system is, as the driver's options say it; none for a directory.
    pub options: BTreeMap<String, String>,
    /// The directory that is mounted.
    pub mountpoint: PathBuf,
    /// Why its record could not be read. It is used all the same, as one that was named and has no labels: what it
    /// holds is worth more than its record.
    pub damage: Option<String>,
}

/// Docker's JSON for a volume, with its keys and order.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct VolumeJson {
    created_at: String,
    driver: &'static str,
    labels: Option<BTreeMap<String, String>>,
    mountpoint: String,
    name: String,
    options: Option<BTreeMap<String, String>>,
    scope: &'static str,
}

impl Volume {
    /// As `volume inspect` shows it.
    pub fn to_json(&self) -> VolumeJson {
        let labels = self.all_labels();
        VolumeJson {
            created_at: self.created.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            driver: "local",
            labels: (!labels.is_empty()).then_some(labels),
            mountpoint: self.mountpoint.display().to_string(),
            name: self.name.to_string(),
            options: (!self.options.is_empty()).then(|| self.options.clone()),
            scope: "local",
        }
    }

    /// The user's labels, and Docker's own on a volume that nobody named.
    pub fn all_labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.labels.clone();
        if self.anonymous {
            labels.insert(ANONYMOUS_LABEL.into(), String::new());
        }
        labels
    }

    /// Whether it is a file system of its own, mounted while containers use it.
    pub fn has_file_system(&self) -> bool {
        self.options.contains_key("type")
    }

    /// Bytes its files take on disk.
    pub fn size(&self) -> u64 {
        disk_usage(&self.mountpoint)
    }
}

//! What `inspect` shows: Docker's JSON for containers, images and networks, with its keys and their order.
//!
//! Keys that stand for things rbox does not have (swarm, Windows, storage drivers) hold what Docker shows when
//! they are not used, so that programs that read them go on.

mod container;
mod endpoint;
mod image;
mod network;

pub use container::container;
pub use image::image;
pub use network::network;

use jiff::Timestamp;
use serde_json::Value;

/// What Docker writes for a moment that has not come.
pub const NEVER: &str = "0001-01-01T00:00:00Z";

/// RFC 3339 with the nanoseconds there are.
fn time(time: Option<Timestamp>) -> String {
    time.map_or_else(|| NEVER.to_owned(), |time| time.to_string())
}

/// What a template reads: the record with the keys that Docker's JSON leaves out while they hold nothing, and that its
/// templates know all the same, as in `{{if .State.Health}}…{{end}}`.
pub fn for_template(mut record: Value) -> Value {
    const ABSENT: [(&str, &[&str]); 4] = [
        ("", &["SizeRw", "SizeRootFs"]),
        ("/State", &["Health"]),
        ("/HostConfig", &["Annotations", "Init", "Mounts", "StorageOpt", "Sysctls", "Tmpfs"]),
        ("/Config", &["ExposedPorts", "Healthcheck", "Shell", "StopTimeout"]),
    ];
    let is_container = record.get("State").is_some();
    let is_image = record.get("RootFS").is_some();
    let mut add = |at: &str, key: &str, value: Value| {
        if let Some(fields) = record.pointer_mut(at).and_then(Value::as_object_mut) {
            fields.entry(key).or_insert(value);
        }
    };
    for (at, keys) in ABSENT {
        for key in keys.iter().filter(|_| is_container || !at.is_empty()) {
            add(at, key, Value::Null);
        }
    }
    add("/Config", "StopSignal", "".into());
    if is_image {
        add("", "Variant", "".into());
    }
    record
}

/// A list, or `null` where Docker shows that for an empty one.
fn list(items: &[String]) -> Value {
    if items.is_empty() { Value::Null } else { items.into() }
}

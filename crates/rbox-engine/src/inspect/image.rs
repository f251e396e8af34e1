//! `inspect` of an image.

use rbox_image::Image;
use serde_json::{Map, Value, json};

use crate::inspect::NEVER;

/// The JSON of one image.
pub fn image(image: &Image) -> Value {
    let config = &image.config;
    let names = |references: &[rbox_spec::Reference]| -> Vec<String> {
        references.iter().map(rbox_spec::Reference::familiar).collect()
    };
    let mut out = json!({
        "Id": image.id.to_string(),
        "RepoTags": names(&image.references),
        "RepoDigests": names(&image.repo_digests),
        "Parent": config.parent.clone().unwrap_or_default(),
        "Comment": comment(image),
    });
    let Some(fields) = out.as_object_mut() else { return out };
    if let Some(created) = &config.created {
        fields.insert("Created".into(), created.clone().into());
    }
    fields.insert("DockerVersion".into(), config.docker_version.clone().unwrap_or_default().into());
    fields.insert("Author".into(), config.author.clone().unwrap_or_default().into());
    fields.insert("Architecture".into(), image.platform.architecture.clone().into());
    if let Some(variant) = config.variant.as_ref().filter(|variant| !variant.is_empty()) {
        fields.insert("Variant".into(), variant.clone().into());
    }
    fields.insert("Os".into(), image.platform.os.clone().into());
    fields.insert("Size".into(), image.size.into());
    // Overlay's order: the uppermost first.
    let dirs: Vec<String> = image.layers.iter().rev().map(|layer| layer.dir.display().to_string()).collect();
    let mut data = Map::new();
    if let Some((upper, lower)) = dirs.split_first() {
        if !lower.is_empty() {
            data.insert("LowerDir".into(), lower.join(":").into());
        }
        data.insert("UpperDir".into(), upper.clone().into());
    }
    fields.insert("GraphDriver".into(), json!({ "Data": data, "Name": "overlay2" }));
    let layers: Vec<String> = image.layers.iter().map(|layer| layer.diff_id.to_string()).collect();
    fields.insert("RootFS".into(), json!({ "Type": "layers", "Layers": layers }));
    fields.insert("Metadata".into(), json!({ "LastTagTime": NEVER }));
    fields.insert(
        "Descriptor".into(),
        json!({
            "mediaType": image.manifest_type,
            "digest": image.manifest_digest.to_string(),
            "size": image.manifest_size,
        }),
    );
    fields.insert("Config".into(), run_config(image));
    out
}

/// The image's own, or else that of the last step.
fn comment(image: &Image) -> String {
    let own = image.config.comment.clone().filter(|text| !text.is_empty());
    own.or_else(|| image.history().last()?.comment.clone()).unwrap_or_default()
}

/// What the image says of a container of it. What it does not say is left out, but for the keys that Docker's API 1.51 has
/// always; they stand in the order of their names, as there.
fn run_config(image: &Image) -> Value {
    let config = &image.config.config;
    let mut fields = Map::new();
    let mut add = |key: &str, value: Value| {
        let is_empty = match &value {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.is_empty(),
            Value::Object(fields) => fields.is_empty(),
            _ => false,
        };
        if !is_empty {
            fields.insert(key.to_owned(), value);
        } else if ["Entrypoint", "Labels", "OnBuild", "Volumes"].contains(&key) {
            fields.insert(key.to_owned(), Value::Null);
        } else if ["User", "WorkingDir"].contains(&key) {
            fields.insert(key.to_owned(), "".into());
        }
    };
    let keys = |map: &std::collections::BTreeMap<String, Value>| -> Value {
        map.keys().map(|key| (key.clone(), json!({}))).collect::<Map<_, _>>().into()
    };
    add("Cmd", json!(config.cmd));
    add("Entrypoint", json!(config.entrypoint));
    add("Env", json!(config.env));
    add("ExposedPorts", keys(&config.exposed_ports));
    add("Healthcheck", json!(config.healthcheck));
    add("Labels", json!(config.labels));
    add("OnBuild", json!(config.on_build));
    add("Shell", json!(config.shell));
    add("StopSignal", json!(config.stop_signal));
    add("User", config.user.clone().into());
    add("Volumes", keys(&config.volumes));
    add("WorkingDir", config.working_dir.clone().into());
    fields.into()
}

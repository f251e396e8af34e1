//! `inspect` of an image.

use rbox_image::Image;
use serde_json::{Map, Value, json};

use super::{NEVER, list};

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
        "Parent": "",
        "Comment": config.comment.clone().unwrap_or_default(),
        "Created": config.created.clone().unwrap_or_else(|| NEVER.to_owned()),
        "DockerVersion": config.docker_version.clone().unwrap_or_default(),
        "Author": config.author.clone().unwrap_or_default(),
        "Config": run_config(image),
        "Architecture": image.platform.architecture,
    });
    let Some(fields) = out.as_object_mut() else { return out };
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
    out
}

fn run_config(image: &Image) -> Value {
    let config = &image.config.config;
    let keys = |map: &std::collections::BTreeMap<String, Value>| -> Value {
        if map.is_empty() {
            return Value::Null;
        }
        map.keys().map(|key| (key.clone(), json!({}))).collect::<Map<_, _>>().into()
    };
    let words = |words: &Option<Vec<String>>| words.as_deref().map_or(Value::Null, list);
    let mut out = json!({
        "Hostname": "",
        "Domainname": "",
        "User": config.user,
        "AttachStdin": false,
        "AttachStdout": false,
        "AttachStderr": false,
    });
    let Some(fields) = out.as_object_mut() else { return out };
    let mut add = |key: &str, value: Value| fields.insert(key.to_owned(), value);
    if !config.exposed_ports.is_empty() {
        add("ExposedPorts", keys(&config.exposed_ports));
    }
    for key in ["Tty", "OpenStdin", "StdinOnce"] {
        add(key, false.into());
    }
    add("Env", list(&config.env));
    add("Cmd", words(&config.cmd));
    if let Some(check) = &config.healthcheck {
        add("Healthcheck", json!(check));
    }
    add("Image", "".into());
    add("Volumes", keys(&config.volumes));
    add("WorkingDir", config.working_dir.clone().into());
    add("Entrypoint", words(&config.entrypoint));
    add("OnBuild", list(&config.on_build));
    add("Labels", if config.labels.is_empty() { Value::Null } else { json!(config.labels) });
    if let Some(signal) = &config.stop_signal {
        add("StopSignal", signal.clone().into());
    }
    if let Some(timeout) = config.stop_timeout {
        add("StopTimeout", timeout.into());
    }
    if config.shell.is_some() {
        add("Shell", words(&config.shell));
    }
    out
}

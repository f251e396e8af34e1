//! What templates of `imagetools inspect` see of an image in a registry: the fields of buildx's structures.

use std::cell::Cell;

use rbox_engine::image::media::{Descriptor, Document, Index, Manifest};
use rbox_engine::image::remote::{Remote, RemoteImage};
use rbox_engine::spec::{Digest, Platform, json};
use serde_json::{Map, Value, json};

use crate::output::escape;
use crate::output::template::Template;

/// What is read for one template, in all. Statements on an image may be long: a bill of materials has a line for each file.
const MOST: u64 = 64 << 20;
/// What a document counts at least, so that small ones are not many without end.
const LEAST: u64 = 4 << 10;
/// What the values of all that is read take in memory, at most: a document of nothing but brackets is a hundred times as large there.
const MOST_MEMORY: u64 = 256 << 20;
const STATEMENT: &str = "application/vnd.in-toto+json";
const PREDICATE: &str = "in-toto.io/predicate-type";
const PROVENANCE: &str = "https://slsa.dev/provenance/";
const SBOM: &str = "https://spdx.dev/Document";

/// The fields of an OCI configuration, in their order. Others are another format's, and not shown.
const IMAGE: [&str; 10] = [
    "created",
    "author",
    "architecture",
    "os",
    "os.version",
    "os.features",
    "variant",
    "config",
    "rootfs",
    "history",
];
const CONFIG: [&str; 10] = [
    "User",
    "ExposedPorts",
    "Env",
    "Entrypoint",
    "Cmd",
    "Volumes",
    "WorkingDir",
    "Labels",
    "StopSignal",
    "ArgsEscaped",
];
const ROOTFS: [&str; 2] = ["type", "diff_ids"];
const HISTORY: [&str; 5] = ["created", "created_by", "author", "comment", "empty_layer"];

/// An image of a registry, of which as much is read as a template asks for.
pub(super) struct Fields<'a> {
    remote: &'a Remote,
    image: &'a RemoteImage,
    name: &'a str,
    /// Bytes that may still be read.
    left: Cell<u64>,
    /// Bytes that their values may still take.
    memory: Cell<u64>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(remote: &'a Remote, image: &'a RemoteImage, name: &'a str) -> Self {
        Self { remote, image, name, left: Cell::new(MOST), memory: Cell::new(MOST_MEMORY) }
    }

    /// Counts what is to be read, or was.
    fn count(&self, bytes: u64) -> anyhow::Result<()> {
        let left = self.left.get().checked_sub(bytes.max(LEAST));
        self.left.set(left.ok_or_else(|| self.too_much(&format!("{} MiB long", MOST >> 20)))?);
        Ok(())
    }

    /// The values of a document, as far as there is memory for them.
    fn values(&self, document: &[u8]) -> anyhow::Result<Value> {
        let left = self.memory.get().checked_sub(memory_of(document));
        let what = || self.too_much(&format!("{} MiB of values", MOST_MEMORY >> 20));
        self.memory.set(left.ok_or_else(what)?);
        Ok(json::from_slice(document)?)
    }

    fn too_much(&self, than: &str) -> anyhow::Error {
        let name = self.name;
        anyhow::anyhow!("what is said of {name} is over {than} in all: ask for one platform by its digest")
    }

    /// A document beside the image.
    fn fetch(&self, digest: Digest) -> anyhow::Result<RemoteImage> {
        let found = self.remote.fetch(&self.image.name.with_digest(digest))?;
        self.count(found.descriptor.size)?;
        Ok(found)
    }

    /// What a template makes of it.
    pub(super) fn formatted(&self, format: &str) -> anyhow::Result<String> {
        if let Some(value) = json_path(format).map(|path| self.whole(&path)).transpose()?.flatten() {
            // Indented, as buildx's own function does it.
            return Ok(escape::json(&serde_json::to_string_pretty(&value)?).into_owned());
        }
        let asks = |field: &str| format.contains(field);
        let image = if asks(".Image") { self.images(with_all)? } else { Value::Null };
        let mut data =
            json!({ "Name": self.name, "Manifest": go_names(&self.manifest(true)?), "Image": image });
        for (name, pick) in [("Provenance", provenance as Pick), ("SBOM", sbom)] {
            if asks(name) {
                data[name] = self.attested(pick, true)?;
            }
        }
        Ok(Template::parse(format)?.render(&data)?)
    }

    /// What these fields lead to. None: there is no such field.
    fn whole(&self, path: &[&str]) -> anyhow::Result<Option<Value>> {
        let images = || self.images(in_order);
        let Some((first, rest)) = path.split_first() else {
            let all = json!({ "name": self.name, "manifest": self.manifest(false)?, "image": images()? });
            return Ok(Some(all));
        };
        let mut value = match *first {
            "Name" => self.name.into(),
            "Manifest" => self.manifest(false)?,
            "Image" => images()?,
            "Provenance" => self.attested(provenance, false)?,
            "SBOM" => self.attested(sbom, false)?,
            _ => return Ok(None),
        };
        for field in rest {
            let fields = value.as_object_mut();
            let key =
                fields.as_ref().and_then(|fields| fields.keys().find(|key| go_name(key) == *field).cloned());
            value = match (fields, key) {
                (Some(fields), Some(key)) => fields[&key].take(),
                _ => Value::Null,
            };
        }
        Ok(Some(value))
    }

    /// Its document; with those fields that are empty, if `all`.
    fn manifest(&self, all: bool) -> anyhow::Result<Value> {
        let Descriptor { media_type, digest, size, .. } = &self.image.descriptor;
        let Document::Index(index) = &self.image.document else {
            let value = json!({ "mediaType": media_type, "digest": digest, "size": size });
            return Ok(if all { with_annotations(value) } else { value });
        };
        let mut value = json!({
            "schemaVersion": index.schema_version,
            "mediaType": media_type,
            "digest": digest,
            "size": size,
            "manifests": index.manifests,
        });
        if let Some(notes) = &index.annotations {
            value["annotations"] = serde_json::to_value(notes)?;
        }
        if all {
            if let Some(entries) = value["manifests"].as_array_mut() {
                for entry in entries {
                    *entry = with_annotations(entry.take());
                }
            }
            value = with_annotations(value);
        }
        Ok(value)
    }

    /// The configuration, or for several platforms each under its platform.
    fn images(&self, shape: fn(&Value) -> Value) -> anyhow::Result<Value> {
        let (remote, image) = (self.remote, self.image);
        let read = |image: &RemoteImage| -> anyhow::Result<Value> {
            let Document::Manifest(manifest) = &image.document else { anyhow::bail!("an index in an index") };
            let config = remote.config(&image.name, manifest)?;
            self.count(config.len() as u64)?;
            Ok(shape(&self.values(&config)?))
        };
        let Document::Index(index) = &image.document else { return read(image) };
        let mut all = Map::new();
        for (one, platform) in of_platforms(index) {
            all.insert(platform.to_string(), read(&self.fetch(one.digest)?)?);
        }
        if let (1, Some((_, only))) = (all.len(), all.iter().next()) {
            return Ok(only.clone());
        }
        Ok(all.into())
    }

    /// What is stated of the image, or of several platforms of each; of one with those fields that are empty, if `all`.
    fn attested(&self, pick: Pick, all: bool) -> anyhow::Result<Value> {
        let Document::Index(index) = &self.image.document else { return Ok(pick(&[], all)) };
        let platforms: Vec<_> = of_platforms(index).collect();
        if let [(only, _)] = platforms.as_slice() {
            return Ok(pick(&self.stated_of(index, only)?, all));
        }
        let mut found = Map::new();
        for (one, platform) in platforms {
            let statements = self.stated_of(index, one)?;
            if pick(&statements, false) != json!({}) {
                found.insert(platform.to_string(), pick(&statements, all));
            }
        }
        Ok(found.into())
    }

    fn stated_of(&self, index: &Index, one: &Descriptor) -> anyhow::Result<Vec<(String, Value)>> {
        let of = one.digest.to_string();
        let noted = |entry: &Descriptor, key: &str| entry.annotations.as_ref()?.get(key).cloned();
        let states = |entry: &&Descriptor| {
            noted(entry, "vnd.docker.reference.type").as_deref() == Some("attestation-manifest")
                && noted(entry, "vnd.docker.reference.digest").as_ref() == Some(&of)
        };
        let Some(entry) = index.manifests.iter().find(states) else { return Ok(Vec::new()) };
        let found = self.fetch(entry.digest)?;
        match &found.document {
            Document::Manifest(manifest) => self.statements(manifest),
            Document::Index(_) => Ok(Vec::new()),
        }
    }

    /// What a manifest of statements states, by its type.
    fn statements(&self, manifest: &Manifest) -> anyhow::Result<Vec<(String, Value)>> {
        let mut all = Vec::new();
        for layer in manifest.layers.iter().filter(|layer| layer.media_type == STATEMENT) {
            let Some(kind) = layer.annotations.as_ref().and_then(|notes| notes.get(PREDICATE)) else {
                continue;
            };
            if !kind.starts_with(PROVENANCE) && kind != SBOM {
                continue;
            }
            self.count(layer.size)?;
            let bytes = self.remote.blob(&self.image.name, layer, "statement", layer.size)?;
            let mut statement = self.values(&bytes)?;
            let predicate = statement.get_mut("predicate").map(Value::take).unwrap_or_default();
            all.push((kind.clone(), predicate));
        }
        Ok(all)
    }
}

/// What the values of a document take in memory, at most: an object has a table from its first field on, an array room for four.
fn memory_of(document: &[u8]) -> u64 {
    let (mut sum, mut in_text, mut is_escaped) = (document.len() as u64, false, false);
    for byte in document {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = in_text,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'{' => sum += 512,
            b'[' => sum += 128,
            b',' => sum += 96,
            _ => {}
        }
    }
    sum
}

/// Makes a field of statements.
type Pick = fn(&[(String, Value)], bool) -> Value;

fn provenance(statements: &[(String, Value)], all: bool) -> Value {
    let found = statements.iter().find(|(kind, _)| kind.starts_with(PROVENANCE));
    match found {
        Some((_, predicate)) => json!({ "SLSA": predicate }),
        None if all => json!({ "SLSA": null }),
        None => json!({}),
    }
}

fn sbom(statements: &[(String, Value)], all: bool) -> Value {
    let mut found = statements.iter().filter(|(kind, _)| kind == SBOM).map(|(_, predicate)| predicate);
    let first = found.next();
    let more: Vec<&Value> = found.collect();
    match first {
        Some(first) if all || !more.is_empty() => json!({ "SPDX": first, "AdditionalSPDXs": more }),
        Some(first) => json!({ "SPDX": first }),
        None if all => json!({ "SPDX": null, "AdditionalSPDXs": [] }),
        None => json!({}),
    }
}

/// Its images, and no statements.
fn of_platforms(index: &Index) -> impl Iterator<Item = (&Descriptor, Platform)> {
    let known = |one| -> Option<(&Descriptor, Platform)> {
        let one: &Descriptor = one;
        let platform = one.platform.as_ref().filter(|platform| platform.os != "unknown")?;
        Some((one, platform.normal()))
    };
    index.manifests.iter().filter_map(known)
}

/// The fields of `{{json .A.B}}`, if a template is just that.
fn json_path(format: &str) -> Option<Vec<&str>> {
    let inside = format.trim().strip_prefix("{{")?.strip_suffix("}}")?.trim();
    let path = inside.strip_prefix("json")?.trim().strip_prefix('.')?;
    let is_name = |field: &&str| !field.is_empty() && field.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let fields: Vec<&str> = path.split('.').collect();
    if path.is_empty() {
        return Some(Vec::new());
    }
    fields.iter().all(is_name).then_some(fields)
}

/// The fields of a structure in its order, without what is empty.
fn picked(value: &Value, keys: &[&str]) -> Value {
    let is_empty = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    };
    let found = keys.iter().filter_map(|key| Some(((*key).to_owned(), value.get(*key)?.clone())));
    found.filter(|(_, value)| !is_empty(value)).collect::<Map<_, _>>().into()
}

/// A configuration as buildx shows it.
fn in_order(config: &Value) -> Value {
    let mut image = picked(config, &IMAGE);
    let Some(fields) = image.as_object_mut() else { return image };
    for (key, keys) in [("config", &CONFIG[..]), ("rootfs", &ROOTFS)] {
        if let Some(inner) = fields.get_mut(key) {
            *inner = picked(inner, keys);
        }
    }
    if let Some(history) = fields.get_mut("history").and_then(Value::as_array_mut) {
        for line in history {
            *line = picked(line, &HISTORY);
        }
    }
    image
}

/// A configuration as a template sees it: what is empty is a field all the same.
fn with_all(config: &Value) -> Value {
    let mut image = go_names(&in_order(config));
    let empty = |keys: &[&str]| -> Value {
        let of = |key: &str| match key {
            "config" | "rootfs" | "ExposedPorts" | "Volumes" | "Labels" => json!({}),
            "history" | "os.features" | "Env" | "Entrypoint" | "Cmd" | "diff_ids" => json!([]),
            "created" => Value::Null,
            "ArgsEscaped" => false.into(),
            _ => "".into(),
        };
        keys.iter().map(|key| (go_name(key), of(key))).collect::<Map<_, _>>().into()
    };
    let fill = |value: &mut Value, keys: &[&str]| {
        let mut whole = empty(keys);
        if let (Some(known), Some(all)) = (value.as_object(), whole.as_object_mut()) {
            all.extend(known.clone());
        }
        *value = whole;
    };
    fill(&mut image, &IMAGE);
    for (key, keys) in [("Config", &CONFIG[..]), ("RootFS", &ROOTFS)] {
        if let Some(inner) = image.get_mut(key) {
            fill(inner, keys);
        }
    }
    image
}

/// A descriptor or an index whose annotations are there, if only empty.
fn with_annotations(mut value: Value) -> Value {
    if let Some(fields) = value.as_object_mut() {
        fields.entry("annotations").or_insert_with(|| json!({}));
    }
    value
}

/// Keys as a Go template names them.
fn go_names(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let inner = |key: &str, value: &Value| match key {
                // Their keys are the image's own.
                "annotations" | "Labels" | "ExposedPorts" | "Volumes" => value.clone(),
                _ => go_names(value),
            };
            fields.iter().map(|(key, value)| (go_name(key), inner(key, value))).collect()
        }
        Value::Array(items) => items.iter().map(go_names).collect(),
        other => other.clone(),
    }
}

/// `digest` is `.Digest`, `os` is `.OS`.
fn go_name(key: &str) -> String {
    match key {
        "os" => return "OS".to_owned(),
        "os.version" => return "OSVersion".to_owned(),
        "os.features" => return "OSFeatures".to_owned(),
        "rootfs" => return "RootFS".to_owned(),
        "diff_ids" => return "DiffIDs".to_owned(),
        _ => {}
    }
    let capital = |word: &str| {
        let mut letters = word.chars();
        let first = letters.next().map(|first| first.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    };
    key.split('_').map(capital).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_take_more_than_their_text() {
        for (text, wanted) in [
            (r#""[{,""#, 5),
            (r#"["\"[","\\",{}]"#, 15 + 128 + 2 * 96 + 512),
            (r#"{"a":1,"b":[]}"#, 14 + 512 + 96 + 128),
        ] {
            assert_eq!(memory_of(text.as_bytes()), wanted, "{text}");
        }
    }
}

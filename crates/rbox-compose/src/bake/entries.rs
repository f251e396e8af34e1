//! Caches, outputs, secrets, agents and statements of a target, which stand in files as texts or as objects.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use super::functions::fields;
use super::value::Value;

/// A cache or an output: a type, and what else is said of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// `type`.
    pub kind: String,
    /// All else.
    pub attributes: BTreeMap<String, String>,
}

/// A secret of RUN.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Secret {
    /// What RUN calls it.
    pub id: String,
    /// Its file, or nothing.
    pub source: String,
    /// The variable that it is in, or nothing.
    pub variable: String,
}

/// Keys of an agent, or the agent itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ssh {
    /// What RUN calls it.
    pub id: String,
    /// Sockets or keys.
    pub paths: Vec<String>,
}

/// A statement about an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attest {
    /// `type`.
    pub kind: String,
    /// It is not made.
    pub disabled: bool,
    /// All else.
    pub attributes: BTreeMap<String, String>,
}

/// What can be read from a text or from an object.
pub(crate) trait Item: Sized + Clone + PartialEq {
    /// From `key=value,…`.
    fn of_text(text: &str) -> Result<Vec<Self>, String>;
    /// From an object.
    fn of_fields(fields: BTreeMap<String, String>) -> Result<Self, String>;
    /// What is there once. None: all that is not the same.
    fn identity(&self) -> Option<&str>;
    fn to_json(&self) -> Json;
}

/// Reads a list of them; what is empty in it is left out.
pub(crate) fn items<T: Item>(value: &Value) -> Result<Vec<T>, String> {
    let list = value.as_list().ok_or_else(|| format!("list required, not {}", value.kind()))?;
    let mut all = Vec::new();
    for one in list {
        match one {
            Value::Text(text) if text.is_empty() => {}
            Value::Text(text) => all.extend(T::of_text(text)?),
            Value::Map(nest) => {
                let mut fields = BTreeMap::new();
                for (key, value) in nest.items.iter().filter(|(_, value)| !value.is_null()) {
                    fields.insert(key.clone(), word(key, value)?);
                }
                all.push(T::of_fields(fields)?);
            }
            other => return Err(format!("string or object required, not {}", other.kind())),
        }
    }
    Ok(all)
}

/// A field as a text; paths of an agent are several.
fn word(key: &str, value: &Value) -> Result<String, String> {
    match (key, value.as_list()) {
        ("paths", Some(list)) => Ok(list
            .iter()
            .map(|one| one.to_text().map(|text| text.to_string()))
            .collect::<Result<Vec<_>, _>>()?
            .join(",")),
        _ => value.to_text().map(|text| text.to_string()).map_err(|error| format!("{key}: {error}")),
    }
}

/// Each once, as buildx has it: the last of those that are for one thing, at the place of the first; of equal ones the order is buildx's.
pub(crate) fn normal<T: Item>(mut all: Vec<T>) -> Vec<T> {
    if all.iter().all(|one| one.identity().is_some()) {
        let mut kept: Vec<T> = Vec::new();
        for one in all {
            match kept.iter_mut().find(|known| known.identity() == one.identity()) {
                Some(known) => *known = one,
                None => kept.push(one),
            }
        }
        return kept;
    }
    for place in (0..all.len().saturating_sub(1)).rev() {
        let same = (place + 1..all.len()).find(|other| all.get(*other) == all.get(place));
        if let Some(same) = same {
            all.swap_remove(same);
        }
    }
    all
}

fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let pair = |field: String| {
        let (key, value) = field.split_once('=').ok_or_else(|| format!("invalid value {field}"))?;
        Ok((key.trim().to_lowercase(), value.to_owned()))
    };
    fields(text)?.into_iter().map(pair).collect()
}

/// A truth as Go reads it.
pub(crate) fn truth(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("invalid truth {text:?}")),
    }
}

impl Entry {
    /// The words of a flag.
    pub fn words(&self) -> String {
        let mut all = Vec::new();
        if !self.kind.is_empty() {
            all.push(quoted(&format!("type={}", self.kind)));
        }
        all.extend(self.attributes.iter().map(|(key, value)| quoted(&format!("{key}={value}"))));
        all.join(",")
    }

    /// An output, from the words of a flag: a path alone is a directory, and `-` an archive on standard output.
    pub(crate) fn output(text: &str) -> Result<Self, String> {
        let is_path = fields(text)? == [text] && !text.starts_with("type=");
        if is_path {
            let kind = if text == "-" { "tar" } else { "local" };
            return Ok(Self {
                kind: kind.to_owned(),
                attributes: BTreeMap::from([("dest".to_owned(), text.to_owned())]),
            });
        }
        Self::of_fields(pairs(text)?.into_iter().collect())
            .map_err(|_| "type is required for output".to_owned())
    }

    /// Outputs of a value.
    pub(crate) fn outputs(value: &Value) -> Result<Vec<Self>, String> {
        let list = value.as_list().ok_or_else(|| format!("list required, not {}", value.kind()))?;
        let mut all = Vec::new();
        for one in list {
            match one {
                Value::Text(text) if text.is_empty() => {}
                Value::Text(text) => all.push(Self::output(text)?),
                other => {
                    let one: Vec<Self> = items(&Value::list(vec![other.clone()])?)?;
                    all.extend(one);
                }
            }
        }
        Ok(all)
    }
}

/// A field with quotes around it, where it needs some.
fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

impl Item for Entry {
    /// Of a cache. What has no `=` is the name of an image, or of several.
    fn of_text(text: &str) -> Result<Vec<Self>, String> {
        if text.contains('=') {
            let all = pairs(text)?.into_iter().collect();
            return Ok(vec![Self::of_fields(all).map_err(|_| format!("type required for {text:?}"))?]);
        }
        let image = |name: String| Self {
            kind: "registry".to_owned(),
            attributes: BTreeMap::from([("ref".to_owned(), name)]),
        };
        Ok(fields(text)?.into_iter().map(image).collect())
    }

    fn of_fields(mut fields: BTreeMap<String, String>) -> Result<Self, String> {
        // No other spelling of a key may pass by what looks at paths: `build` trims keys and takes capitals.
        let is_plain = |key: &str| {
            let read = key.trim().to_lowercase();
            let is_path = ["dest", "destination", "src", "source", "type"].contains(&read.as_str());
            !key.contains([',', '=', '"', '\n']) && (!is_path || read == key)
        };
        if let Some(key) = fields.keys().find(|key| !is_plain(key)) {
            return Err(format!("invalid key {key:?}"));
        }
        for (long, short) in [("destination", "dest"), ("source", "src")] {
            if let Some(value) = fields.remove(long) {
                fields.insert(short.to_owned(), value);
            }
        }
        let kind = fields.remove("type").filter(|kind| !kind.is_empty());
        if fields.get("dest").is_some_and(String::is_empty) {
            fields.remove("dest");
        }
        Ok(Self { kind: kind.ok_or("type is required")?, attributes: fields })
    }

    fn identity(&self) -> Option<&str> {
        None
    }

    fn to_json(&self) -> Json {
        let mut all = self.attributes.clone();
        all.insert("type".to_owned(), self.kind.clone());
        json!(all)
    }
}

impl Item for Secret {
    fn of_text(text: &str) -> Result<Vec<Self>, String> {
        let all = pairs(text)?;
        Ok(vec![Self::of_fields(all.into_iter().collect())?])
    }

    fn of_fields(fields: BTreeMap<String, String>) -> Result<Self, String> {
        let mut secret = Self::default();
        let mut kind = String::new();
        for (key, value) in fields {
            match key.as_str() {
                "type" if matches!(value.as_str(), "file" | "env") => kind = value,
                "type" => return Err(format!("unsupported secret type {value:?}")),
                "id" => secret.id = value,
                "source" | "src" => secret.source = value,
                "env" => secret.variable = value,
                _ => return Err(format!("unexpected key {key:?} of a secret")),
            }
        }
        if kind == "env" && secret.variable.is_empty() {
            secret.variable = std::mem::take(&mut secret.source);
        }
        Ok(secret)
    }

    fn identity(&self) -> Option<&str> {
        Some(&self.id)
    }

    fn to_json(&self) -> Json {
        fields_of([("id", &self.id), ("src", &self.source), ("env", &self.variable)])
    }
}

/// Those that are not empty.
fn fields_of<const N: usize>(fields: [(&str, &String); N]) -> Json {
    let fields = fields.into_iter().filter(|(_, value)| !value.is_empty());
    Json::Object(fields.map(|(key, value)| (key.to_owned(), Json::from(value.as_str()))).collect())
}

impl Secret {
    /// The words of a flag.
    pub fn words(&self) -> String {
        let all = [("id", &self.id), ("src", &self.source), ("env", &self.variable)];
        let all = all.into_iter().filter(|(_, value)| !value.is_empty());
        all.map(|(key, value)| quoted(&format!("{key}={value}"))).collect::<Vec<_>>().join(",")
    }
}

impl Item for Ssh {
    fn of_text(text: &str) -> Result<Vec<Self>, String> {
        let (id, paths) = text.split_once('=').map_or((text, None), |(id, paths)| (id, Some(paths)));
        let paths = paths.map(|paths| paths.split(',').map(str::to_owned).collect()).unwrap_or_default();
        Ok(vec![Self { id: id.to_owned(), paths }])
    }

    fn of_fields(mut fields: BTreeMap<String, String>) -> Result<Self, String> {
        let paths = fields.remove("paths").filter(|paths| !paths.is_empty());
        let id = fields.remove("id").unwrap_or_default();
        match fields.keys().next() {
            Some(key) => Err(format!("unexpected key {key:?} of ssh")),
            None => Ok(Self {
                id,
                paths: paths.map(|all| all.split(',').map(str::to_owned).collect()).unwrap_or_default(),
            }),
        }
    }

    fn identity(&self) -> Option<&str> {
        Some(&self.id)
    }

    fn to_json(&self) -> Json {
        let mut all = Map::new();
        if !self.id.is_empty() {
            all.insert("id".to_owned(), self.id.clone().into());
        }
        if !self.paths.is_empty() {
            all.insert("paths".to_owned(), json!(self.paths));
        }
        Json::Object(all)
    }
}

impl Ssh {
    /// The words of a flag.
    pub fn words(&self) -> String {
        if self.paths.is_empty() { self.id.clone() } else { format!("{}={}", self.id, self.paths.join(",")) }
    }
}

impl Item for Attest {
    fn of_text(text: &str) -> Result<Vec<Self>, String> {
        Ok(vec![Self::of_fields(pairs(text)?.into_iter().collect())?])
    }

    fn of_fields(mut fields: BTreeMap<String, String>) -> Result<Self, String> {
        let kind =
            fields.remove("type").filter(|kind| !kind.is_empty()).ok_or("attestation type not specified")?;
        let disabled = fields.remove("disabled").map_or(Ok(false), |text| truth(&text))?;
        Ok(Self { kind, disabled, attributes: fields })
    }

    fn identity(&self) -> Option<&str> {
        Some(&self.kind)
    }

    fn to_json(&self) -> Json {
        let mut all: BTreeMap<&str, Json> =
            self.attributes.iter().map(|(key, value)| (key.as_str(), value.as_str().into())).collect();
        all.insert("type", self.kind.as_str().into());
        if self.disabled {
            all.insert("disabled", true.into());
        }
        json!(all)
    }
}

impl Attest {
    /// What `--sbom` and `--provenance` say.
    pub fn canonical(kind: &str, text: &str) -> String {
        match truth(text) {
            Ok(wanted) => format!("type={kind},disabled={}", !wanted),
            Err(_) => format!("type={kind},{text}"),
        }
    }

    /// The words of a flag.
    pub fn words(&self) -> String {
        let mut all = vec![format!("type={}", self.kind)];
        all.extend(self.disabled.then(|| "disabled=true".to_owned()));
        all.extend(self.attributes.iter().map(|(key, value)| quoted(&format!("{key}={value}"))));
        all.join(",")
    }
}

//! A target: what one build is asked for.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use super::entries::{Attest, Entry, Item, Secret, Ssh, items, normal};
use super::value::Value;

/// What one build is asked for. What nobody said is `None` or empty.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs, reason = "the fields are the attributes of bake files")]
pub struct Target {
    pub name: String,
    pub description: String,
    pub(crate) inherits: Vec<String>,
    pub annotations: Vec<String>,
    pub attest: Vec<Attest>,
    pub context: Option<String>,
    pub contexts: BTreeMap<String, String>,
    pub dockerfile: Option<String>,
    pub dockerfile_inline: Option<String>,
    pub args: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    pub tags: Option<Vec<String>>,
    pub cache_from: Vec<Entry>,
    pub cache_to: Option<Vec<Entry>>,
    pub target: Option<String>,
    pub secrets: Vec<Secret>,
    pub ssh: Vec<Ssh>,
    pub platforms: Option<Vec<String>>,
    pub outputs: Option<Vec<Entry>>,
    pub pull: Option<bool>,
    pub no_cache: Option<bool>,
    pub network: Option<String>,
    pub no_cache_filter: Vec<String>,
    pub shm_size: Option<String>,
    pub ulimits: Vec<String>,
    pub resources: Option<BTreeMap<String, String>>,
    pub call: Option<String>,
    pub entitlements: Vec<String>,
    pub extra_hosts: BTreeMap<String, String>,
    /// It is built for another one only, as its context.
    pub linked: bool,
}

/// Several targets under one name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Targets and groups.
    pub targets: Vec<String>,
}

/// The attributes there are, but for `matrix` and `name`.
pub(crate) const ATTRIBUTES: &[&str] = &[
    "description",
    "inherits",
    "annotations",
    "attest",
    "context",
    "contexts",
    "dockerfile",
    "dockerfile-inline",
    "args",
    "labels",
    "tags",
    "cache-from",
    "cache-to",
    "target",
    "secret",
    "ssh",
    "platforms",
    "output",
    "pull",
    "no-cache",
    "network",
    "no-cache-filter",
    "shm-size",
    "ulimits",
    "resources",
    "call",
    "entitlements",
    "extra-hosts",
    "policy",
];

/// What a limit of resources has to be.
pub(crate) const RESOURCES: &[(&str, bool)] = &[
    ("memory", false),
    ("memory-swap", false),
    ("cpu-shares", true),
    ("cpu-period", true),
    ("cpu-quota", true),
    ("cpuset-cpus", false),
    ("cpuset-mems", false),
];

fn text(value: &Value) -> Result<Option<String>, String> {
    if value.is_null() { Ok(None) } else { Ok(Some(value.to_text()?.to_string())) }
}

fn truth(value: &Value) -> Result<Option<bool>, String> {
    if value.is_null() { Ok(None) } else { value.to_bool().map(Some) }
}

/// None: it is null.
pub(crate) fn texts(value: &Value) -> Result<Option<Vec<String>>, String> {
    if value.is_null() {
        return Ok(None);
    }
    let list = value.as_list().ok_or_else(|| format!("list of string required, not {}", value.kind()))?;
    list.iter().map(|one| Ok(one.to_text()?.to_string())).collect::<Result<_, String>>().map(Some)
}

/// Those that are null are left out.
fn pairs(value: &Value) -> Result<BTreeMap<String, String>, String> {
    if value.is_null() {
        return Ok(BTreeMap::new());
    }
    let fields = value.as_map().ok_or_else(|| format!("map of string required, not {}", value.kind()))?;
    let given = fields.iter().filter(|(_, one)| !one.is_null());
    given
        .map(|(key, one)| {
            Ok((key.clone(), one.to_text().map_err(|error| format!("element {key:?}: {error}"))?.to_string()))
        })
        .collect()
}

fn entries<T: Item>(value: &Value) -> Result<Option<Vec<T>>, String> {
    if value.is_null() { Ok(None) } else { items(value).map(Some) }
}

impl Target {
    /// Sets an attribute.
    pub(crate) fn set(&mut self, name: &str, value: &Value) -> Result<(), String> {
        match name {
            "description" => self.description = text(value)?.unwrap_or_default(),
            "inherits" => self.inherits = texts(value)?.unwrap_or_default(),
            "annotations" => self.annotations = texts(value)?.unwrap_or_default(),
            "attest" => self.attest = entries(value)?.unwrap_or_default(),
            "context" => self.context = text(value)?,
            "contexts" => self.contexts = pairs(value)?,
            "dockerfile" => self.dockerfile = text(value)?,
            "dockerfile-inline" => self.dockerfile_inline = text(value)?,
            "args" => self.args = pairs(value)?,
            "labels" => self.labels = pairs(value)?,
            "tags" => self.tags = texts(value)?,
            "cache-from" => self.cache_from = entries(value)?.unwrap_or_default(),
            "cache-to" => self.cache_to = entries(value)?,
            "target" => self.target = text(value)?,
            "secret" => self.secrets = entries(value)?.unwrap_or_default(),
            "ssh" => self.ssh = entries(value)?.unwrap_or_default(),
            "platforms" => self.platforms = texts(value)?,
            "output" if value.is_null() => self.outputs = None,
            "output" => self.outputs = Some(Entry::outputs(value)?),
            "pull" => self.pull = truth(value)?,
            "no-cache" => self.no_cache = truth(value)?,
            "network" => self.network = text(value)?,
            "no-cache-filter" => self.no_cache_filter = texts(value)?.unwrap_or_default(),
            "shm-size" => self.shm_size = text(value)?,
            "ulimits" => self.ulimits = texts(value)?.unwrap_or_default(),
            "resources" if value.is_null() => self.resources = None,
            "resources" => {
                let mut all = BTreeMap::new();
                for (key, one) in pairs(value)? {
                    set_resource(&mut all, &key, one)?;
                }
                self.resources = Some(all);
            }
            "call" => self.call = text(value)?,
            "entitlements" => self.entitlements = texts(value)?.unwrap_or_default(),
            "extra-hosts" => self.extra_hosts = pairs(value)?,
            "policy" if value.is_null() => {}
            "policy" => return Err("policies of sources are not supported: take it out".to_owned()),
            other => return Err(format!("there is no attribute {other:?}")),
        }
        Ok(())
    }

    /// What another one says is laid over what this one says.
    pub(crate) fn merge(&mut self, over: &Self) {
        fn or<T: Clone>(own: &mut Option<T>, over: Option<&T>) {
            if over.is_some() {
                *own = over.cloned();
            }
        }
        let pairs = |own: &mut BTreeMap<String, String>, over: &BTreeMap<String, String>| {
            own.extend(over.iter().map(|(key, value)| (key.clone(), value.clone())));
        };
        or(&mut self.context, over.context.as_ref());
        or(&mut self.dockerfile, over.dockerfile.as_ref());
        or(&mut self.dockerfile_inline, over.dockerfile_inline.as_ref());
        or(&mut self.tags, over.tags.as_ref());
        or(&mut self.target, over.target.as_ref());
        or(&mut self.call, over.call.as_ref());
        or(&mut self.platforms, over.platforms.as_ref());
        or(&mut self.cache_to, over.cache_to.as_ref());
        or(&mut self.outputs, over.outputs.as_ref());
        or(&mut self.pull, over.pull.as_ref());
        or(&mut self.no_cache, over.no_cache.as_ref());
        or(&mut self.network, over.network.as_ref());
        or(&mut self.shm_size, over.shm_size.as_ref());
        pairs(&mut self.args, &over.args);
        pairs(&mut self.contexts, &over.contexts);
        pairs(&mut self.labels, &over.labels);
        pairs(&mut self.extra_hosts, &over.extra_hosts);
        if let Some(resources) = &over.resources {
            pairs(self.resources.get_or_insert_default(), resources);
        }
        self.annotations.extend(over.annotations.iter().cloned());
        self.no_cache_filter.extend(over.no_cache_filter.iter().cloned());
        self.ulimits.extend(over.ulimits.iter().cloned());
        self.entitlements.extend(over.entitlements.iter().cloned());
        self.inherits.extend(over.inherits.iter().cloned());
        self.attest = normal([self.attest.as_slice(), &over.attest].concat());
        self.secrets = normal([self.secrets.as_slice(), &over.secrets].concat());
        self.ssh = normal([self.ssh.as_slice(), &over.ssh].concat());
        self.cache_from = normal([self.cache_from.as_slice(), &over.cache_from].concat());
        if !over.description.is_empty() {
            self.description.clone_from(&over.description);
        }
    }

    /// Each thing once, and nothing that is empty.
    pub(crate) fn normalize(&mut self) {
        let given = |all: &mut Option<Vec<String>>| {
            if let Some(all) = all {
                once(all);
            }
        };
        once(&mut self.annotations);
        given(&mut self.tags);
        given(&mut self.platforms);
        once(&mut self.no_cache_filter);
        once(&mut self.ulimits);
        self.attest = normal(std::mem::take(&mut self.attest));
        self.secrets = normal(std::mem::take(&mut self.secrets));
        self.ssh = normal(std::mem::take(&mut self.ssh));
        self.cache_from = normal(std::mem::take(&mut self.cache_from));
        self.cache_to = self.cache_to.take().map(normal);
        self.outputs = self.outputs.take().map(normal);
        if self.network.as_deref() == Some("host") {
            self.entitlements.push("network.host".to_owned());
        }
        once(&mut self.entitlements);
        self.contexts.retain(|_, context| !context.is_empty());
    }

    /// As `--print` has it, in buildx's order.
    pub fn to_json(&self) -> Json {
        let escape = |text: &str| text.replace("${", "$${").replace("%{", "%%{");
        let escaped = |all: &BTreeMap<String, String>| -> BTreeMap<String, String> {
            all.iter().map(|(key, value)| (key.clone(), escape(value))).collect()
        };
        let mut json = self.fields();
        let mut again = |key: &str, value: Json| {
            if let Some(field) = json.get_mut(key) {
                *field = value;
            }
        };
        again("annotations", self.annotations.iter().map(|one| escape(one)).collect());
        again("dockerfile-inline", json!(self.dockerfile_inline.as_deref().map(escape)));
        again("args", json!(escaped(&self.args)));
        again("labels", json!(escaped(&self.labels)));
        again("extra-hosts", json!(escaped(&self.extra_hosts)));
        Json::Object(json)
    }

    /// All that was said, as other targets see it.
    pub(crate) fn to_value(&self) -> Result<Value, String> {
        let mut all = self.fields();
        all.insert("name".to_owned(), self.name.clone().into());
        if !self.inherits.is_empty() {
            all.insert("inherits".to_owned(), json!(self.inherits));
        }
        for name in ATTRIBUTES {
            all.entry(*name).or_insert(Json::Null);
        }
        Value::of_json(&Json::Object(all))
    }

    fn fields(&self) -> Map<String, Json> {
        fn list<T: Item>(all: &[T]) -> Json {
            all.iter().map(Item::to_json).collect()
        }
        let given = |all: &Option<Vec<String>>| json!(all);
        let all = [
            ("description", json!(self.description)),
            ("annotations", json!(self.annotations)),
            ("attest", list(&self.attest)),
            ("context", json!(self.context)),
            ("contexts", json!(self.contexts)),
            ("dockerfile", json!(self.dockerfile)),
            ("dockerfile-inline", json!(self.dockerfile_inline)),
            ("args", json!(self.args)),
            ("labels", json!(self.labels)),
            ("tags", given(&self.tags)),
            ("cache-from", list(&self.cache_from)),
            ("cache-to", self.cache_to.as_deref().map_or(Json::Null, list)),
            ("target", json!(self.target)),
            ("secret", list(&self.secrets)),
            ("ssh", list(&self.ssh)),
            ("platforms", given(&self.platforms)),
            ("output", self.outputs.as_deref().map_or(Json::Null, list)),
            ("pull", json!(self.pull)),
            ("no-cache", json!(self.no_cache)),
            ("network", json!(self.network)),
            ("no-cache-filter", json!(self.no_cache_filter)),
            ("shm-size", json!(self.shm_size)),
            ("ulimits", json!(self.ulimits)),
            ("resources", self.resources.as_ref().map_or(Json::Null, resources)),
            ("call", json!(self.call)),
            ("entitlements", json!(self.entitlements)),
            ("extra-hosts", json!(self.extra_hosts)),
        ];
        let is_given = |name: &str, value: &Json| match value {
            Json::Null => false,
            Json::Array(all) => !all.is_empty(),
            Json::Object(all) => name == "resources" || !all.is_empty(),
            // Of texts only a description is left out when it is empty.
            Json::String(text) => name != "description" || !text.is_empty(),
            _ => true,
        };
        let all = all.into_iter().filter(|(name, value)| is_given(name, value));
        all.map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

fn resources(all: &BTreeMap<String, String>) -> Json {
    let field = |(name, is_number): &(&str, bool)| {
        let value = all.get(*name)?;
        let number = value.parse::<i64>().ok().filter(|_| *is_number);
        Some(((*name).to_owned(), number.map_or_else(|| value.as_str().into(), Json::from)))
    };
    Json::Object(RESOURCES.iter().filter_map(field).collect())
}

/// Sets a limit.
pub(crate) fn set_resource(
    all: &mut BTreeMap<String, String>,
    name: &str,
    value: String,
) -> Result<(), String> {
    match RESOURCES.iter().find(|(known, _)| *known == name) {
        Some((_, true)) if value.parse::<i64>().is_err() => {
            Err(format!("invalid value {value} for key resources.{name}: it is a whole number"))
        }
        Some(_) => {
            all.insert(name.to_owned(), value);
            Ok(())
        }
        None => Err(format!("unknown resources key {name}")),
    }
}

/// Each text once, and no empty one.
pub(crate) fn once(all: &mut Vec<String>) {
    let mut seen = std::collections::HashSet::new();
    all.retain(|one| !one.is_empty() && seen.insert(one.clone()));
}

//! `--set`: what is said of targets on the command line.

use std::collections::{BTreeMap, HashMap};

use super::config::Config;
use super::entries::{Attest, Entry, Item, Secret, Ssh, normal, truth};
use super::error::BakeError;
use super::pattern::matches;
use super::target::{Target, set_resource};

/// What the command line says of one attribute of one target.
#[derive(Clone, Debug, Default)]
struct Said {
    values: Vec<String>,
    appends: bool,
}

/// Paths that the command line itself names: they need no `--allow`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Allowed {
    pub(crate) read: Vec<String>,
    pub(crate) write: Vec<String>,
    pub(crate) entitlements: Vec<String>,
}

/// What `--set` says, by the names of targets and keys.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overrides(HashMap<String, BTreeMap<String, Said>>);

const LISTS: &[&str] = &[
    "output",
    "cache-to",
    "cache-from",
    "tags",
    "platform",
    "secrets",
    "ssh",
    "attest",
    "entitlements",
    "network",
    "annotations",
    "no-cache-filter",
    "ulimits",
];
const NAMED: &[&str] = &["args", "contexts", "labels", "extra-hosts", "resources", "secret"];
const SINGLE: &[&str] = &[
    "context",
    "dockerfile",
    "target",
    "call",
    "no-cache",
    "shm-size",
    "pull",
    "push",
    "load",
    "description",
];

fn invalid<T>(message: String) -> Result<T, BakeError> {
    Err(BakeError::Invalid(message))
}

impl Overrides {
    pub(crate) fn parse(
        all: &[String],
        config: &Config,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, BakeError> {
        let mut found = Self::default();
        for text in all {
            let (key, value) =
                text.split_once('=').map_or((text.as_str(), None), |(key, value)| (key, Some(value)));
            let (key, appends) = key.strip_suffix('+').map_or((key, false), |key| (key, true));
            let Some((pattern, key)) = key.split_once('.') else {
                return invalid(format!("invalid override key {key}, expected target.name"));
            };
            let (kind, name) = key.split_once('.').map_or((key, None), |(kind, name)| (kind, Some(name)));
            if NAMED.contains(&kind) && name.is_none_or(str::is_empty) {
                return invalid(format!("invalid key {pattern}.{key}, {kind} requires name"));
            }
            let is_single = SINGLE.contains(&kind) && kind != "description";
            if (!NAMED.contains(&kind) && name.is_some())
                || !(LISTS.contains(&kind) || NAMED.contains(&kind) || is_single)
            {
                return invalid(format!("unknown key: {key}"));
            }
            if appends && !LISTS.contains(&kind) {
                return invalid(format!("invalid key {pattern}.{key}+, {kind} does not support append"));
            }
            let value = match (value, kind, name) {
                (Some(value), _, _) => value.to_owned(),
                (None, "args", Some(name)) => match env(name) {
                    Some(value) => value,
                    None => continue,
                },
                _ => return invalid(format!("invalid override {text}, expected target.name=value")),
            };
            for target in targets(config, pattern)? {
                let said = found.0.entry(target).or_default().entry(key.to_owned()).or_default();
                if !LISTS.contains(&kind) || kind == "network" {
                    said.values.clear();
                }
                said.appends = appends;
                said.values.push(value.clone());
            }
        }
        Ok(found)
    }

    /// Lays what was said over a target.
    pub(crate) fn apply(&self, target: &mut Target, allowed: &mut Allowed) -> Result<(), BakeError> {
        let Some(all) = self.0.get(&target.name) else { return Ok(()) };
        for (key, said) in all {
            let (kind, name) = key.split_once('.').unwrap_or((key, ""));
            let done = if LISTS.contains(&kind) {
                set_list(target, kind, said, allowed)
            } else {
                set_one(target, kind, name, said.values.last().cloned().unwrap_or_default(), allowed)
            };
            done.map_err(|error| BakeError::Invalid(format!("--set {}.{key}: {error}", target.name)))?;
        }
        Ok(())
    }
}

/// Targets that a pattern means.
fn targets(config: &Config, pattern: &str) -> Result<Vec<String>, BakeError> {
    let names = || config.targets.iter().map(|target| &target.name);
    if names().any(|name| name == pattern) {
        return Ok(vec![pattern.to_owned()]);
    }
    let found: Vec<String> = names().filter(|name| matches(pattern, name)).cloned().collect();
    if found.is_empty() {
        return Err(BakeError::NotFound(format!("could not find any target matching '{pattern}'")));
    }
    Ok(found)
}

fn set_one(
    target: &mut Target,
    kind: &str,
    name: &str,
    value: String,
    allowed: &mut Allowed,
) -> Result<(), String> {
    match kind {
        "context" => target.context = Some(value),
        "dockerfile" => target.dockerfile = Some(value),
        "target" => target.target = Some(value),
        "call" => target.call = Some(value),
        "shm-size" => target.shm_size = Some(value),
        "no-cache" => target.no_cache = Some(truth(&value)?),
        "pull" => target.pull = Some(truth(&value)?),
        "push" => push(target, truth(&value)?),
        "load" => load(target, truth(&value)?),
        "args" => drop(target.args.insert(name.to_owned(), value)),
        "contexts" => drop(target.contexts.insert(name.to_owned(), value)),
        "labels" => drop(target.labels.insert(name.to_owned(), value)),
        "extra-hosts" => drop(target.extra_hosts.insert(name.to_owned(), value)),
        "resources" => set_resource(target.resources.get_or_insert_default(), name, value)?,
        "secret" => {
            let new = Secret::of_text(&value)?.pop().unwrap_or_default();
            let secret = target.secrets.iter_mut().find(|secret| secret.id == name);
            let secret = secret
                .ok_or_else(|| format!("secret {name:?} must be declared before it can be overridden"))?;
            if !new.id.is_empty() && new.id != name {
                return Err(format!(
                    "secret override id {:?} does not match declared secret {name:?}",
                    new.id
                ));
            }
            allowed.read.extend(Some(new.source.clone()).filter(|path| !path.is_empty()));
            (secret.source, secret.variable) = (new.source, new.variable);
        }
        other => return Err(format!("unknown key: {other}")),
    }
    Ok(())
}

/// Those that were said, after those that were there or instead of them.
fn laid<T: Item>(own: &[T], said: &Said) -> Result<Vec<T>, String> {
    let mut all = if said.appends { own.to_vec() } else { Vec::new() };
    for value in said.values.iter().filter(|value| !value.is_empty()) {
        all.extend(T::of_text(value)?);
    }
    Ok(normal(all))
}

fn set_list(target: &mut Target, kind: &str, said: &Said, allowed: &mut Allowed) -> Result<(), String> {
    let texts =
        |own: &[String]| if said.appends { [own, &said.values].concat() } else { said.values.clone() };
    match kind {
        "tags" => target.tags = Some(texts(target.tags.as_deref().unwrap_or_default())),
        "platform" => target.platforms = Some(texts(target.platforms.as_deref().unwrap_or_default())),
        "no-cache-filter" => target.no_cache_filter = texts(&target.no_cache_filter),
        "ulimits" => target.ulimits = texts(&target.ulimits),
        "network" => target.network = said.values.last().cloned(),
        "annotations" => target.annotations.extend(said.values.iter().cloned()),
        "entitlements" => {
            target.entitlements.extend(said.values.iter().cloned());
            allowed.entitlements.extend(said.values.iter().cloned());
        }
        "attest" => target.attest = laid::<Attest>(&target.attest, &Said { appends: true, ..said.clone() })?,
        "secrets" => {
            target.secrets = laid::<Secret>(&target.secrets, said)?;
            allowed.read.extend(laid::<Secret>(&[], said)?.into_iter().map(|secret| secret.source));
        }
        "ssh" => {
            target.ssh = laid::<Ssh>(&target.ssh, said)?;
            allowed.read.extend(laid::<Ssh>(&[], said)?.into_iter().flat_map(|ssh| ssh.paths));
        }
        "cache-from" => {
            target.cache_from = laid::<Entry>(&target.cache_from, said)?;
            allowed.read.extend(
                laid::<Entry>(&[], said)?.iter().filter_map(|one| one.attributes.get("src").cloned()),
            );
        }
        "cache-to" => {
            target.cache_to = Some(laid::<Entry>(target.cache_to.as_deref().unwrap_or_default(), said)?);
            allowed.write.extend(
                laid::<Entry>(&[], said)?.iter().filter_map(|one| one.attributes.get("dest").cloned()),
            );
        }
        "output" => {
            let given = said.values.iter().filter(|value| !value.is_empty());
            let given = given.map(|value| Entry::output(value)).collect::<Result<Vec<_>, _>>()?;
            allowed.write.extend(given.iter().filter_map(|one| one.attributes.get("dest").cloned()));
            let own = target.outputs.take().filter(|_| said.appends).unwrap_or_default();
            target.outputs = Some(normal([own, given].concat()));
        }
        other => return Err(format!("unknown key: {other}")),
    }
    Ok(())
}

fn image_pushed() -> Entry {
    Entry { kind: "image".to_owned(), attributes: BTreeMap::from([("push".to_owned(), "true".to_owned())]) }
}

/// `--push`: what is an image goes to its registry. An output of files stays alone.
fn push(target: &mut Target, wanted: bool) {
    let mut outputs = target.outputs.take().unwrap_or_default();
    if !wanted {
        outputs.retain(|output| output.kind != "registry");
    }
    for output in outputs.iter_mut().filter(|output| output.kind == "image") {
        output.attributes.insert("push".to_owned(), wanted.to_string());
    }
    if wanted && outputs.iter().all(|output| output.kind == "docker") {
        outputs.push(image_pushed());
    }
    target.outputs = Some(outputs).filter(|outputs| !outputs.is_empty());
}

/// `--load`: what is an image is here as well.
fn load(target: &mut Target, wanted: bool) {
    let outputs = target.outputs.clone().unwrap_or_default();
    let is_here = outputs.iter().any(|one| one.kind == "docker" && !one.attributes.contains_key("dest"));
    let is_image = |one: &Entry| matches!(one.kind.as_str(), "image" | "registry" | "oci" | "docker");
    if !wanted || is_here || !outputs.iter().all(is_image) {
        return;
    }
    let here = Entry { kind: "docker".to_owned(), ..Entry::default() };
    target.outputs = Some([outputs, vec![here]].concat());
}

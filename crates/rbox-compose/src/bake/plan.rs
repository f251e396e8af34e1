//! The targets that were chosen, ready to be built.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value as Json, json};

use super::error::BakeError;
use super::functions::escape_html;
use super::overrides::Allowed;
use super::target::{Group, Target};

/// Files that are in a repository.
#[derive(Clone, Debug)]
pub struct Remote {
    /// Its address.
    pub url: String,
}

/// The targets that were chosen.
#[derive(Clone, Debug)]
pub struct Plan {
    /// By their names; also those that others need.
    pub targets: BTreeMap<String, Target>,
    /// The groups that lead to them.
    pub groups: BTreeMap<String, Group>,
    pub(crate) allowed: Allowed,
}

/// Whether a context is none of this host's directories.
pub(crate) fn is_elsewhere(path: &str) -> bool {
    path.starts_with("target:")
        || path.starts_with("docker-image:")
        || path.starts_with("oci-layout:")
        || is_remote(path)
}

/// Whether it is an address.
pub(crate) fn is_remote(path: &str) -> bool {
    ["http://", "https://", "git://", "ssh://", "git@", "github.com/"]
        .iter()
        .any(|start| path.starts_with(start))
}

impl Plan {
    pub(crate) fn of(
        mut targets: BTreeMap<String, Target>,
        groups: BTreeMap<String, Group>,
        allowed: Allowed,
        remote: Option<&Remote>,
    ) -> Result<Self, BakeError> {
        for target in targets.values_mut() {
            for (what, path) in [("context", &target.context), ("dockerfile", &target.dockerfile)] {
                if path.as_deref() == Some("-") {
                    let message = format!("target {}: {what} from stdin not allowed in bake", target.name);
                    return Err(BakeError::Invalid(message));
                }
            }
            let place = |path: &str| placed(path, remote);
            target.context = target.context.as_deref().map(place);
            for context in target.contexts.values_mut().filter(|_| remote.is_some()) {
                *context = place(context);
            }
        }
        Ok(Self { targets, groups, allowed })
    }

    /// As `--print` has it, without an end of line.
    pub fn to_json(&self) -> String {
        let targets = self.targets.iter().map(|(name, one)| (name.clone(), one.to_json()));
        let all = self.with_targets(targets.collect());
        escape_html(&serde_json::to_string_pretty(&all).unwrap_or_default())
    }

    /// The targets, each with what was told of it by the name of what was asked for.
    pub fn told(&self, mut told: BTreeMap<&str, Json>) -> Json {
        let target = |(name, one): (&String, &Target)| {
            let mut fields = Map::new();
            fields.insert("build".to_owned(), one.to_json());
            if let (Some(call), Some(told)) = (&one.call, told.remove(name.as_str())) {
                // The checks' older name.
                let call = if call == "lint" { "check" } else { call };
                fields.insert(call.to_owned(), told);
            }
            (name.clone(), Json::Object(fields))
        };
        let targets = self.targets.iter().map(target).collect();
        Json::Object(self.with_targets(targets))
    }

    fn with_targets(&self, targets: Map<String, Json>) -> Map<String, Json> {
        let mut all = Map::new();
        let group = |group: &Group| {
            let mut fields = Map::new();
            if !group.description.is_empty() {
                fields.insert("description".to_owned(), group.description.as_str().into());
            }
            fields.insert("targets".to_owned(), json!(group.targets));
            Json::Object(fields)
        };
        if !self.groups.is_empty() {
            let groups = self.groups.iter().map(|(name, one)| (name.clone(), group(one)));
            all.insert("group".to_owned(), Json::Object(groups.collect()));
        }
        all.insert("target".to_owned(), Json::Object(targets));
        all
    }

    /// The targets such that one that is another's context comes before that, else by their names.
    pub fn order(&self) -> Vec<&Target> {
        let (mut order, mut done) = (Vec::new(), BTreeSet::new());
        let mut left: Vec<&Target> = self.targets.values().collect();
        while !left.is_empty() {
            let is_ready = |target: &Target, done: &BTreeSet<&str>| {
                target.links().all(|(_, of)| done.contains(of) || !self.targets.contains_key(of))
            };
            let (mut ready, rest): (Vec<&Target>, Vec<&Target>) =
                left.into_iter().partition(|one| is_ready(one, &done));
            left = rest;
            if ready.is_empty() {
                // There are no circles: they were refused.
                ready = std::mem::take(&mut left);
            }
            done.extend(ready.iter().map(|target| target.name.as_str()));
            order.append(&mut ready);
        }
        order
    }
}

impl Target {
    /// Contexts that are targets: how this one calls each, and which it is.
    pub fn links(&self) -> impl Iterator<Item = (&str, &str)> {
        self.contexts
            .iter()
            .filter_map(|(name, context)| Some((name.as_str(), context.strip_prefix("target:")?)))
    }
}

/// Where a context is.
fn placed(path: &str, remote: Option<&Remote>) -> String {
    if let Some(own) = path.strip_prefix("cwd://") {
        return cleaned(own);
    }
    if is_elsewhere(path) {
        return path.to_owned();
    }
    match remote {
        Some(remote) => below(&remote.url, &cleaned(path)),
        None => cleaned(path),
    }
}

/// A directory of a repository.
fn below(url: &str, dir: &str) -> String {
    if dir == "." {
        return url.to_owned();
    }
    let (base, fragment) = url.split_once('#').unwrap_or((url, ""));
    let (reference, own) = fragment.split_once(':').unwrap_or((fragment, ""));
    let whole = if own.is_empty() { dir.to_owned() } else { cleaned(&format!("{own}/{dir}")) };
    format!("{base}#{reference}:{whole}")
}

/// A path without what leads nowhere.
pub(crate) fn cleaned(path: &str) -> String {
    let is_absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if is_absolute => {}
            other => parts.push(other),
        }
    }
    match (is_absolute, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

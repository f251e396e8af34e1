//! One tree over another: maps merge, lists append, other values replace, and some paths have rules of their own.

use std::collections::HashMap;

use rbox_spec::device_request::is_qualified;

use super::canonical::volume_target;
use super::tree::{Fault, any, matches, shown};
use crate::yaml::{Map, Node, Value};

/// Written as a list or as a map; in the end lists of `KEY=VALUE`, one after the other.
const SEQUENCES: &[&str] = &[
    "networks.*.labels",
    "volumes.*.labels",
    "services.*.annotations",
    "services.*.build.args",
    "services.*.build.additional_contexts",
    "services.*.build.labels",
    "services.*.deploy.labels",
    "services.*.dns",
    "services.*.dns_opt",
    "services.*.dns_search",
    "services.*.env_file",
    "services.*.label_file",
    "services.*.environment",
    "services.*.labels",
    "services.*.volumes.*.volume.labels",
    "services.*.sysctls",
    "services.*.tmpfs",
];
const REPLACED: &[&str] =
    &["services.*.command", "services.*.entrypoint", "services.*.healthcheck.test", "services.*.ulimits.*"];

/// Lays `over` on `base`.
pub(crate) fn merge(base: Node, over: Node) -> Result<Node, Fault> {
    merge_at(base, over, &mut Vec::new())
}

/// Lays what a service says on what it extends.
pub(crate) fn merge_service(base: Node, over: Node) -> Result<Node, Fault> {
    merge_at(base, over, &mut vec!["services".into(), "x".into()])
}

fn merge_at(base: Node, over: Node, path: &mut Vec<String>) -> Result<Node, Fault> {
    if any(path, SEQUENCES) {
        let mut list = sequence(&base);
        list.extend(sequence(&over));
        return Ok(over.with(Value::List(list)));
    }
    if any(path, REPLACED) {
        return Ok(over);
    }
    if let Some(merged) = special(&base, &over, path)? {
        return Ok(merged);
    }
    if over.is_null() {
        return Ok(base);
    }
    let place = over.with(Value::Null);
    match (base.value, over.value) {
        (Value::Map(base), Value::Map(over)) => Ok(place.with(Value::Map(mappings(base, over, path)?))),
        (Value::List(mut base), Value::List(over)) => {
            base.extend(over);
            Ok(place.with(Value::List(base)))
        }
        (Value::Map(_) | Value::List(_), _) => Err((place.at, format!("cannot override {}", shown(path)))),
        (_, value) => Ok(place.with(value)),
    }
}

fn mappings(mut base: Map, over: Map, path: &mut Vec<String>) -> Result<Map, Fault> {
    for (key, node) in over {
        let merged = match base.remove(&key) {
            Some(before) => {
                path.push(key.clone());
                let merged = merge_at(before, node.clone(), path)?;
                path.pop();
                Node { key: node.key, ..merged }
            }
            None => node,
        };
        base.insert(key, merged);
    }
    Ok(base)
}

fn special(base: &Node, over: &Node, path: &mut Vec<String>) -> Result<Option<Node>, Fault> {
    let merged = if matches(path, "services.*.build") {
        let build = |node: &Node| match &node.value {
            Value::Text(_) => Map::from([("context".to_owned(), node.clone())]),
            _ => node.as_map().cloned().unwrap_or_default(),
        };
        mappings(build(base), build(over), path)?
    } else if matches(path, "services.*.depends_on") {
        let default = || {
            Node::map([("condition", Node::text("service_started")), ("required", Value::Bool(true).into())])
        };
        mappings(mapping(base, &default), mapping(over, &default), path)?
    } else if any(path, &["services.*.models", "services.*.networks"]) {
        mappings(mapping(base, &Node::default), mapping(over, &Node::default), path)?
    } else if any(path, &["services.*.extra_hosts", "services.*.build.extra_hosts"]) {
        let mut list = sequence(base);
        let more: Vec<Node> = sequence(over).into_iter().filter(|node| !list.contains(node)).collect();
        list.extend(more);
        return Ok(Some(over.with(Value::List(list))));
    } else if matches(path, "services.*.logging") {
        let (Some(before), Some(after)) = (base.as_map(), over.as_map()) else {
            return Ok(Some(over.clone()));
        };
        match (before.get("driver"), after.get("driver")) {
            (Some(one), Some(other)) if one != other => after.clone(),
            _ => mappings(before.clone(), after.clone(), path)?,
        }
    } else if matches(path, "networks.*.ipam.config") {
        return pools(base, over, path).map(Some);
    } else {
        return Ok(None);
    };
    Ok(Some(over.with(Value::Map(merged))))
}

/// Address pools merge by their subnets.
fn pools(base: &Node, over: &Node, path: &mut Vec<String>) -> Result<Node, Fault> {
    let list = |node: &Node| {
        let wrong = || (node.at, format!("{}: unexpected type {}", shown(path), node.value.go_type()));
        node.as_list().map(<[Node]>::to_vec).ok_or_else(wrong)
    };
    let (base, overs) = (list(base)?, list(over)?);
    let subnet = |node: &Node| node.get("subnet").cloned();
    let mut all: Vec<Node> = Vec::new();
    for pool in base {
        for other in &overs {
            if subnet(other) != subnet(&pool) && !all.iter().any(|known| subnet(known) == subnet(other)) {
                all.push(other.clone());
                continue;
            }
            let (Some(one), Some(two)) = (pool.as_map(), other.as_map()) else { continue };
            let merged = pool.with(Value::Map(mappings(one.clone(), two.clone(), path)?));
            match all.iter_mut().find(|known| subnet(known) == subnet(&merged)) {
                Some(known) => *known = merged,
                None => all.push(merged),
            }
        }
    }
    Ok(over.with(Value::List(all)))
}

/// A list of `KEY=VALUE` out of a map, sorted; a list as it is; a text as the one entry.
fn sequence(node: &Node) -> Vec<Node> {
    match &node.value {
        Value::Map(map) => {
            let mut list = Vec::new();
            for (key, value) in map {
                match &value.value {
                    Value::Null => list.push(value.with(Value::Text(key.clone()))),
                    Value::List(values) => {
                        list.extend(
                            values.iter().map(|each| each.with(Value::Text(format!("{key}={}", each.value)))),
                        );
                    }
                    single => list.push(value.with(Value::Text(format!("{key}={single}")))),
                }
            }
            list.sort_by(|a, b| a.as_text().cmp(&b.as_text()));
            list
        }
        Value::List(list) => list.clone(),
        Value::Text(_) => vec![node.clone()],
        _ => Vec::new(),
    }
}

fn mapping(node: &Node, default: &dyn Fn() -> Node) -> Map {
    match &node.value {
        Value::Map(map) => map.clone(),
        Value::List(list) => {
            let names = list.iter().filter_map(|entry| Some((entry.as_text()?.to_owned(), entry)));
            names.map(|(name, entry)| (name, Node { at: entry.at, key: entry.at, ..default() })).collect()
        }
        _ => Map::new(),
    }
}

/// Lists in which a later entry takes the place of an earlier one with the same key.
const BY_NAME: &[&str] = &[
    "networks.*.labels",
    "networks.*.ipam.options",
    "services.*.annotations",
    "services.*.build.args",
    "services.*.build.additional_contexts",
    "services.*.build.platform",
    "services.*.build.tags",
    "services.*.build.labels",
    "services.*.cap_add",
    "services.*.cap_drop",
    "services.*.deploy.labels",
    "services.*.dns",
    "services.*.dns_opt",
    "services.*.dns_search",
    "services.*.environment",
    "services.*.labels",
    "services.*.links",
    "services.*.networks.*.aliases",
    "services.*.networks.*.link_local_ips",
    "services.*.profiles",
    "services.*.sysctls",
    "services.*.tmpfs",
];

/// Leaves one of those entries of a list that have the same key.
pub(crate) fn unique(node: &mut Node) -> Result<(), Fault> {
    unique_at(node, &mut Vec::new())
}

fn unique_at(node: &mut Node, path: &mut Vec<String>) -> Result<(), Fault> {
    match &mut node.value {
        Value::Map(map) => {
            for (key, node) in map {
                path.push(key.clone());
                unique_at(node, path)?;
                path.pop();
            }
        }
        Value::List(list) => {
            let Some(key) = key_of(path) else { return Ok(()) };
            let mut kept: Vec<Node> = Vec::with_capacity(list.len());
            let mut places: HashMap<String, usize> = HashMap::new();
            for (index, entry) in std::mem::take(list).into_iter().enumerate() {
                let name = key(&entry, &format!("{}.[{index}]", shown(path)))?;
                if let Some(place) = places.get(&name) {
                    kept[*place] = entry;
                } else {
                    places.insert(name, kept.len());
                    kept.push(entry);
                }
            }
            *list = kept;
        }
        _ => {}
    }
    Ok(())
}

type Key = fn(&Node, &str) -> Result<String, Fault>;

fn key_of(path: &[String]) -> Option<Key> {
    if any(path, BY_NAME) {
        return Some(name_key);
    }
    let [services, _, key] = path else { return None };
    if services != "services" {
        return None;
    }
    Some(match key.as_str() {
        "devices" => device_key,
        "configs" => config_key,
        "secrets" => secret_key,
        "env_file" => env_file_key,
        "expose" => expose_key,
        "ports" => port_key,
        "volumes" => volume_key,
        _ => return None,
    })
}

fn name_key(node: &Node, path: &str) -> Result<String, Fault> {
    match node.as_text() {
        Some(text) => Ok(text.split_once('=').map_or(text, |(key, _)| key).to_owned()),
        None => Err((node.at, format!("{path}: unexpected type {}", node.value.go_type()))),
    }
}

fn target_key(node: &Node, path: &str, what: &str) -> Result<String, Fault> {
    match node.get("target").and_then(Node::as_text) {
        Some(target) => Ok(target.to_owned()),
        None => Err((node.at, format!("service {what} {path} is missing a mount target"))),
    }
}

fn volume_key(node: &Node, path: &str) -> Result<String, Fault> {
    match &node.value {
        Value::Map(_) => target_key(node, path, "volume"),
        Value::Text(text) => volume_target(text).map_err(|error| (node.at, error)),
        _ => Ok(String::new()),
    }
}

fn device_key(node: &Node, path: &str) -> Result<String, Fault> {
    match &node.value {
        Value::Map(_) => target_key(node, path, "device"),
        Value::Text(text) if is_qualified(text) => Ok(text.clone()),
        Value::Text(text) => Ok(text.split(':').nth(1).unwrap_or(text).to_owned()),
        _ => Ok(String::new()),
    }
}

fn expose_key(node: &Node, path: &str) -> Result<String, Fault> {
    match &node.value {
        Value::Text(_) | Value::Int(_) => Ok(node.value.to_string()),
        _ => Err((node.at, format!("{path}: unsupported expose value {}", node.value))),
    }
}

fn config_key(node: &Node, path: &str) -> Result<String, Fault> {
    file_key(node, path, "")
}

fn secret_key(node: &Node, path: &str) -> Result<String, Fault> {
    file_key(node, path, "/run/secrets")
}

fn file_key(node: &Node, path: &str, directory: &str) -> Result<String, Fault> {
    match &node.value {
        Value::Text(name) => Ok(format!("{directory}/{name}")),
        Value::Map(map) => match (map.get("target"), map.get("source")) {
            (Some(target), _) => Ok(target.value.to_string()),
            (None, source) => Ok(format!("{directory}/{}", source.cloned().unwrap_or_default().value)),
        },
        _ => Err((node.at, format!("{path}: unsupported value {}", node.value))),
    }
}

fn env_file_key(node: &Node, path: &str) -> Result<String, Fault> {
    match &node.value {
        Value::Text(file) => Ok(file.clone()),
        Value::Map(map) => match map.get("path") {
            Some(file) => Ok(file.value.to_string()),
            None => Err((node.at, format!("environment path attribute {path} is missing"))),
        },
        _ => Ok(String::new()),
    }
}

fn port_key(node: &Node, path: &str) -> Result<String, Fault> {
    let Some(map) = node.as_map() else { return Ok(node.value.to_string()) };
    let Some(target) = map.get("target") else {
        return Err((node.at, format!("service ports {path} is missing a target port")));
    };
    let part = |key: &str, default: &str| {
        map.get(key).map_or_else(|| default.to_owned(), |node| node.value.to_string())
    };
    let (host, protocol) = (part("host_ip", "0.0.0.0"), part("protocol", "tcp"));
    Ok(format!("{host}:{}:{}/{protocol}", part("published", ""), target.value))
}

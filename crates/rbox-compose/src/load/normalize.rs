//! What is implied: the default network, dependencies of links and shared namespaces, names of resources.

use rbox_spec::lexical::clean;

use crate::environment::Environment;
use crate::yaml::{Map, Node, Value};

/// Puts in what is implied.
pub(crate) fn normalize(root: &mut Node, name: &str, environment: &Environment) {
    let Some(dict) = root.as_map_mut() else { return };
    dict.insert("name".into(), Node::text(name));
    networks(dict);
    if let Some(services) = dict.get_mut("services").and_then(Node::as_map_mut) {
        for service in services.values_mut().filter_map(Node::as_map_mut) {
            normalize_service(service, environment);
        }
    }
    for kind in ["networks", "volumes", "configs", "secrets"] {
        let Some(resources) = dict.get_mut(kind).and_then(Node::as_map_mut) else { continue };
        for (key, resource) in resources {
            if resource.is_null() {
                resource.value = Value::Map(Map::new());
            }
            let Some(resource) = resource.as_map_mut() else { continue };
            if resource.get("name").is_none_or(Node::is_null) {
                let external = resource.get("external").is_some_and(|node| {
                    matches!(node.value.to_string().as_str(), "true" | "True" | "TRUE" | "t" | "T" | "1")
                });
                let full = if external { key.clone() } else { format!("{name}_{key}") };
                resource.insert("name".into(), Node::text(full));
            }
        }
    }
}

fn networks(dict: &mut Map) {
    let mut uses_default = false;
    if let Some(services) = dict.get_mut("services").and_then(Node::as_map_mut) {
        for service in services.values_mut().filter_map(Node::as_map_mut) {
            if service.contains_key("provider") || service.contains_key("network_mode") {
                continue;
            }
            let empty = service.get("networks").and_then(Node::as_map).is_none_or(Map::is_empty);
            if empty {
                service.insert("networks".into(), Node::map([("default", Node::default())]));
            }
            uses_default |= service.get("networks").is_some_and(|networks| networks.get("default").is_some());
        }
    }
    if uses_default {
        let networks = dict.entry("networks".into()).or_insert_with(|| Value::Map(Map::new()).into());
        if let Some(networks) = networks.as_map_mut() {
            networks.entry("default".into()).or_default();
        }
    }
}

fn normalize_service(service: &mut Map, environment: &Environment) {
    if let Some(policy) = service.get_mut("pull_policy")
        && policy.as_text() == Some("if_not_present")
    {
        policy.value = Value::Text("missing".into());
    }
    if let Some(build) = service.get_mut("build").and_then(Node::as_map_mut) {
        if build.get("context").is_none_or(Node::is_null) {
            build.insert("context".into(), Node::text("."));
        }
        let set = |key: &str| build.get(key).is_some_and(|node| !node.is_null());
        if !set("dockerfile") && !set("dockerfile_inline") {
            build.insert("dockerfile".into(), Node::text("Dockerfile"));
        }
        if let Some(args) = build.get_mut("args") {
            resolve(args, environment, false);
        }
    }
    if let Some(variables) = service.get_mut("environment") {
        resolve(variables, environment, true);
    }
    let needs = implied(service);
    if !needs.is_empty() {
        let depends_on = service.entry("depends_on".into()).or_insert_with(|| Value::Map(Map::new()).into());
        if let Some(depends_on) = depends_on.as_map_mut() {
            for (name, restart) in needs {
                depends_on.entry(name).or_insert_with(|| {
                    Node::map([
                        ("condition", Node::text("service_started")),
                        ("restart", Value::Bool(restart).into()),
                        ("required", Value::Bool(true).into()),
                    ])
                });
            }
        }
    }
    if let Some(Value::List(mounts)) = service.get_mut("volumes").map(|node| &mut node.value) {
        for mount in mounts.iter_mut().filter_map(Node::as_map_mut) {
            if let Some(Value::Text(target)) = mount.get_mut("target").map(|node| &mut node.value) {
                *target = clean(target);
            }
        }
    }
}

/// The services that a service needs without saying so, and whether it is restarted with them.
fn implied(service: &Map) -> Vec<(String, bool)> {
    let texts = |key: &str| {
        let list = service.get(key).and_then(Node::as_list).unwrap_or_default();
        list.iter().filter_map(Node::as_text).map(str::to_owned).collect::<Vec<_>>()
    };
    let mut needs = Vec::new();
    for link in texts("links") {
        let name = match link.split_once(':') {
            Some((name, alias)) if !alias.contains(':') => name.to_owned(),
            _ => link,
        };
        needs.push((name, true));
    }
    for key in ["network_mode", "ipc", "pid", "uts", "cgroup"] {
        let shared = service.get(key).and_then(Node::as_text).and_then(|mode| mode.strip_prefix("service:"));
        needs.extend(shared.map(|name| (name.to_owned(), true)));
    }
    for volume in texts("volumes_from") {
        if !volume.starts_with("container:") {
            let name = volume.split(':').next().unwrap_or(&volume).to_owned();
            needs.push((name, false));
        }
    }
    needs
}

/// Gives variables without a value the one of the environment.
pub(crate) fn resolve(node: &mut Node, environment: &Environment, keep: bool) {
    match &mut node.value {
        Value::Map(map) => {
            for (key, node) in map.iter_mut().filter(|(_, node)| node.is_null()) {
                if let Some(value) = environment.get(key) {
                    node.value = Value::Text(value);
                }
            }
            if !keep {
                map.retain(|_, node| !node.is_null());
            }
        }
        Value::List(list) => {
            for node in list.iter_mut() {
                if let Value::Text(text) = &mut node.value
                    && !text.contains('=')
                    && let Some(value) = environment.get(text)
                {
                    *text = format!("{text}={value}");
                }
            }
            if !keep {
                list.retain(|node| node.as_text().is_none_or(|text| text.contains('=')));
            }
        }
        _ => {}
    }
}

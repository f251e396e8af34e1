//! From the short ways to write things to the long ones, and the values of what is left out.

use rbox_spec::device_request::is_qualified;
use rbox_spec::lexical::clean;

use super::ports;
use super::tree::{Fault, matches, shown, walk};
use crate::yaml::{Map, Node, Value};

/// Puts each short way into the long one. With `keep`, what cannot be read stays as it is: it may hold variables.
pub(crate) fn canonical(root: &mut Node, keep: bool, warnings: &mut Vec<String>) -> Result<(), Fault> {
    walk(root, &mut Vec::new(), &mut |node, path| {
        let names: Vec<&str> = path.iter().map(String::as_str).collect();
        match names.as_slice() {
            [kind @ ("volumes" | "networks" | "secrets" | "configs"), _] => {
                external(node, &shown(path), warnings)?;
                let _ = kind;
            }
            ["services", _, key] => return service(node, key, path, keep),
            ["services", _, "build", key] => return build(node, key, path, keep),
            ["services", _, list @ ("volumes" | "devices" | "secrets" | "configs"), "[]"] => {
                return entry(node, list, path, keep);
            }
            ["services", _, "build", "secrets", "[]"] => return entry(node, "secrets", path, keep),
            ["services", _, "develop", "watch", "[]", "ignore" | "include"] => string_to_list(node),
            _ => {}
        }
        Ok(true)
    })
}

fn invalid(node: &Node, path: &[String], what: &str) -> Fault {
    (node.at, format!("{}: invalid type {} for {what}", shown(path), node.value.go_type()))
}

fn string_to_list(node: &mut Node) {
    if node.as_text().is_some() {
        *node = node.with(Value::List(vec![node.clone()]));
    }
}

fn names_to_map(node: &mut Node) {
    if let Some(list) = node.as_list() {
        let map: Map = list
            .iter()
            .filter_map(|name| Some((name.as_text()?.to_owned(), name.with(Value::Null))))
            .collect();
        *node = node.with(Value::Map(map));
    }
}

fn service(node: &mut Node, key: &str, path: &[String], keep: bool) -> Result<bool, Fault> {
    match key {
        "build" => match &node.value {
            Value::Text(_) => {
                *node = node.with(Value::Map(Map::from([("context".to_owned(), node.clone())])));
            }
            Value::Map(_) | Value::Null => {}
            _ => return Err(invalid(node, path, "build")),
        },
        "depends_on" => depends_on(node, path)?,
        "env_file" => {
            string_to_list(node);
            if let Value::List(list) = &mut node.value {
                for file in list {
                    if file.as_text().is_some() {
                        *file = file.with(Value::Map(Map::from([("path".to_owned(), file.clone())])));
                    }
                    if let Some(map) = file.as_map_mut() {
                        map.entry("required".into()).or_insert_with(|| Value::Bool(true).into());
                    }
                }
            }
        }
        "label_file" | "dns" => string_to_list(node),
        "extends" if node.as_text().is_some() => {
            *node = node.with(Value::Map(Map::from([("service".to_owned(), node.clone())])));
        }
        "gpus" if node.as_text().is_some() => {
            let all = Node::map([("count", Node::text("all"))]);
            *node = node.with(Value::List(vec![all]));
        }
        "networks" | "models" => names_to_map(node),
        "ports" => {
            ports::canonical(node, path, keep)?;
            return Ok(false);
        }
        _ => {}
    }
    Ok(true)
}

fn depends_on(node: &mut Node, path: &[String]) -> Result<(), Fault> {
    let default = |at: &Node| {
        let mut map =
            Node::map([("condition", Node::text("service_started")), ("required", Value::Bool(true).into())]);
        (map.at, map.key) = (at.at, at.at);
        map
    };
    match &mut node.value {
        Value::Map(map) => {
            for (name, dependency) in map {
                let place = dependency.at;
                let Some(dependency) = dependency.as_map_mut() else {
                    return Err((place, format!("{}.{name}: unsupported value", shown(path))));
                };
                dependency.entry("condition".into()).or_insert_with(|| Node::text("service_started"));
                dependency.entry("required".into()).or_insert_with(|| Value::Bool(true).into());
            }
            Ok(())
        }
        Value::List(list) => {
            let map: Map =
                list.iter().filter_map(|name| Some((name.as_text()?.to_owned(), default(name)))).collect();
            *node = node.with(Value::Map(map));
            Ok(())
        }
        Value::Null => Ok(()),
        _ => Err(invalid(node, path, "depends_on")),
    }
}

fn build(node: &mut Node, key: &str, path: &[String], keep: bool) -> Result<bool, Fault> {
    match key {
        "provenance" | "sbom" if !node.is_null() => {
            *node = node.with(Value::Text(node.value.to_string()));
        }
        "additional_contexts" => {
            let Some(list) = node.as_list() else { return Ok(true) };
            let mut map = Map::new();
            for entry in list {
                let text = entry.value.to_string();
                match text.split_once('=') {
                    Some((name, value)) => {
                        map.insert(name.to_owned(), entry.with(Value::Text(value.to_owned())));
                    }
                    None if keep => return Ok(true),
                    None => {
                        let message = format!("{}: invalid value {text}, expected key=value", shown(path));
                        return Err((entry.at, message));
                    }
                }
            }
            *node = node.with(Value::Map(map));
        }
        "ssh" => {
            let Some(list) = node.as_list() else { return Ok(true) };
            let mut map = Map::new();
            for entry in list {
                let text = entry.value.to_string();
                match text.split_once('=') {
                    Some((id, value)) => {
                        map.insert(id.to_owned(), entry.with(Value::Text(value.to_owned())));
                    }
                    None if text == "default" => {
                        map.insert(text, entry.with(Value::Null));
                    }
                    None => return Err((entry.at, format!("{}: invalid ssh key {text:?}", shown(path)))),
                }
            }
            *node = node.with(Value::Map(map));
        }
        _ => {}
    }
    Ok(true)
}

fn entry(node: &mut Node, list: &str, path: &[String], keep: bool) -> Result<bool, Fault> {
    let Value::Text(text) = &node.value else { return Ok(true) };
    let map = match list {
        "volumes" => match volume(text) {
            Ok(map) => map,
            Err(_) if keep => return Ok(true),
            Err(error) => return Err((node.at, format!("{}: {error}", shown(path)))),
        },
        "devices" => {
            // A name in CDI may have colons.
            let parts: Vec<&str> = if is_qualified(text) { vec![text] } else { text.split(':').collect() };
            let (source, target, permissions) = match parts.as_slice() {
                [source] => (*source, *source, "rwm"),
                [source, target] => (*source, *target, "rwm"),
                [source, target, permissions] => (*source, *target, *permissions),
                _ if keep => return Ok(true),
                _ => {
                    return Err((
                        node.at,
                        format!("confusing device mapping, please use long syntax: {text}"),
                    ));
                }
            };
            let target = if target.is_empty() { source } else { target };
            Node::map([
                ("source", Node::text(source)),
                ("target", Node::text(target)),
                ("permissions", Node::text(permissions)),
            ])
        }
        _ => Node::map([("source", Node::text(text.clone()))]),
    };
    *node = node.with(map.value);
    Ok(true)
}

fn external(node: &mut Node, path: &str, warnings: &mut Vec<String>) -> Result<(), Fault> {
    let at = node.at;
    let Some(resource) = node.as_map_mut() else { return Ok(()) };
    let Some(Value::Map(external)) = resource.get("external").map(|node| node.value.clone()) else {
        return Ok(());
    };
    resource.insert("external".into(), Value::Bool(true).into());
    if let Some(name) = external.get("name") {
        warnings.push(format!("{path}: external.name is deprecated. Please set name and external: true"));
        match resource.get("name") {
            Some(other) if other != name => {
                return Err((at, format!("{path}: name and external.name conflict; only use name")));
            }
            _ => {
                resource.insert("name".into(), name.clone());
            }
        }
    }
    Ok(())
}

const PROPAGATIONS: &[&str] = &["rprivate", "private", "rshared", "shared", "rslave", "slave"];

/// The parts between the colons of a short volume; a drive of Windows stays with its path, and so does `${…}`.
fn sections(spec: &str) -> Vec<String> {
    let chars: Vec<char> = spec.chars().collect();
    let mut sections = vec![String::new()];
    let mut braces = 0;
    for (index, &c) in chars.iter().enumerate() {
        let Some(last) = sections.last_mut() else { continue };
        let drive = last.chars().count() == 1 && last.chars().all(char::is_alphabetic);
        match c {
            '$' if chars.get(index + 1) == Some(&'{') => {
                braces += 1;
                last.push(c);
            }
            '}' if braces > 0 => {
                braces -= 1;
                last.push(c);
            }
            ':' if braces == 0 && !drive => sections.push(String::new()),
            _ => last.push(c),
        }
    }
    sections
}

/// Where a short volume is mounted.
pub(crate) fn volume_target(spec: &str) -> Result<String, String> {
    let node = volume(spec)?;
    Ok(node.get("target").and_then(Node::as_text).unwrap_or_default().to_owned())
}

/// Reads `[SOURCE:]TARGET[:OPTIONS]`.
fn volume(spec: &str) -> Result<Node, String> {
    if spec.is_empty() {
        return Err("invalid empty volume spec".into());
    }
    if spec.len() <= 2 {
        return Ok(Node::map([("type", Node::text("volume")), ("target", Node::text(clean(spec)))]));
    }
    let sections = sections(spec);
    if sections.iter().any(String::is_empty) {
        return Err(format!("invalid spec: {spec}: empty section between colons"));
    }
    let (source, target, options) = match sections.as_slice() {
        [target] => ("", target.as_str(), ""),
        [source, target] => (source.as_str(), target.as_str(), ""),
        [source, target, options] => (source.as_str(), target.as_str(), options.as_str()),
        _ => return Err(format!("invalid spec: {spec}: too many colons")),
    };
    let mut mount = Map::from([("target".to_owned(), Node::text(clean(target)))]);
    let (mut bind, mut volume) = (Map::new(), None);
    let mut read_only = false;
    for option in options.split(',') {
        match option {
            "ro" => read_only = true,
            "rw" => read_only = false,
            "nocopy" => volume = Some(Node::map([("nocopy", Value::Bool(true).into())])),
            "z" | "Z" => {
                bind.insert("selinux".into(), Node::text(option));
            }
            option if PROPAGATIONS.contains(&option) => {
                bind.insert("propagation".into(), Node::text(option));
            }
            _ => {}
        }
    }
    if read_only {
        mount.insert("read_only".into(), Value::Bool(true).into());
    }
    if is_path(source) {
        bind.insert("create_host_path".into(), Value::Bool(true).into());
        mount.insert("type".into(), Node::text("bind"));
    } else {
        mount.insert("type".into(), Node::text("volume"));
        volume = volume.or_else(|| Some(Value::Map(Map::new()).into()));
    }
    if !source.is_empty() {
        mount.insert("source".into(), Node::text(source));
    }
    if !bind.is_empty() {
        mount.insert("bind".into(), Value::Map(bind).into());
    }
    if let Some(volume) = volume {
        mount.insert("volume".into(), volume);
    }
    Ok(Value::Map(mount).into())
}

fn is_path(source: &str) -> bool {
    let mut chars = source.chars();
    source.starts_with(['.', '/', '~'])
        || source.starts_with("\\\\")
        || chars.next().is_some_and(char::is_alphabetic) && chars.next() == Some(':')
}

/// Puts in the values of what is left out.
pub(crate) fn defaults(root: &mut Node) -> Result<(), Fault> {
    walk(root, &mut Vec::new(), &mut |node, path| {
        let at = node.at;
        let name = || shown(path);
        if matches(path, "services.*.build") {
            if let Some(map) = node.as_map_mut() {
                map.entry("context".into()).or_insert_with(|| Node::text("."));
            }
            return Ok(false);
        }
        if matches(path, "services.*.secrets.*") {
            let Some(map) = node.as_map_mut() else {
                return Err((at, format!("{}: unsupported type", name())));
            };
            let source = map.get("source").map(|node| node.value.to_string()).unwrap_or_default();
            map.entry("target".into()).or_insert_with(|| Node::text(format!("/run/secrets/{source}")));
            return Ok(false);
        }
        if matches(path, "services.*.ports.*") {
            if let Some(map) = node.as_map_mut() {
                map.entry("protocol".into()).or_insert_with(|| Node::text("tcp"));
                map.entry("mode".into()).or_insert_with(|| Node::text("ingress"));
            }
            return Ok(false);
        }
        if matches(path, "services.*.deploy.resources.reservations.devices.*")
            || matches(path, "services.*.gpus.*")
        {
            if let Some(map) = node.as_map_mut()
                && !map.contains_key("count")
                && !map.contains_key("device_ids")
            {
                map.insert("count".into(), Node::text("all"));
            }
            return Ok(false);
        }
        Ok(true)
    })
}

/// Leaves out entries of `dns` that are empty, as variables make them.
pub(crate) fn omit_empty(root: &mut Node) {
    let Some(services) = root.as_map_mut().and_then(|map| map.get_mut("services")).and_then(Node::as_map_mut)
    else {
        return;
    };
    for service in services.values_mut() {
        let dns = service.as_map_mut().and_then(|map| map.get_mut("dns"));
        if let Some(Node { value: Value::List(list), .. }) = dns {
            list.retain(|node| !node.is_null() && node.as_text() != Some(""));
        }
    }
}

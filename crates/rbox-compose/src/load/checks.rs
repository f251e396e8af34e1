//! What must hold of a canonical tree by itself.

use std::net::IpAddr;

use super::tree::{Fault, shown};
use crate::yaml::{Node, Value};

/// Checks a tree.
pub(crate) fn check(root: &Node) -> Result<(), Fault> {
    visit(root, &mut Vec::new())
}

fn visit(node: &Node, path: &mut Vec<String>) -> Result<(), Fault> {
    let names: Vec<&str> = path.iter().map(String::as_str).collect();
    match names.as_slice() {
        ["volumes", _] => return external(node, path),
        ["configs", _] => return file_object(node, path, &["file", "environment", "content"]),
        ["secrets", _] => return file_object(node, path, &["file", "environment"]),
        ["services", _, "ports", _] => return port(node, path),
        ["services", _, "develop", "watch", _, "path"] if node.as_text() == Some("") => {
            return Err((node.at, format!("{}: value can't be blank", shown(path))));
        }
        ["services", _, "deploy", "resources", "reservations", "devices", _] | ["services", _, "gpus", _]
            if node.get("count").is_some() && node.get("device_ids").is_some() =>
        {
            let message = format!("{}: \"count\" and \"device_ids\" attributes are exclusive", shown(path));
            return Err((node.at, message));
        }
        _ => {}
    }
    match &node.value {
        Value::Map(map) => {
            for (key, node) in map {
                path.push(key.clone());
                visit(node, path)?;
                path.pop();
            }
        }
        Value::List(list) => {
            for node in list {
                path.push("[]".into());
                visit(node, path)?;
                path.pop();
            }
        }
        _ => {}
    }
    Ok(())
}

fn external(node: &Node, path: &[String]) -> Result<(), Fault> {
    let Some(map) = node.as_map() else { return Ok(()) };
    if map.get("external").map(|node| &node.value) != Some(&Value::Bool(true)) {
        return Ok(());
    }
    let other =
        map.iter().find(|(key, _)| !matches!(key.as_str(), "name" | "external") && !key.starts_with("x-"));
    match other {
        None => Ok(()),
        Some((key, node)) => {
            let message =
                format!("{}: conflicting parameters \"external\" and {key:?} specified", shown(path));
            Err((node.key, message))
        }
    }
}

fn file_object(node: &Node, path: &[String], keys: &[&str]) -> Result<(), Fault> {
    let Some(map) = node.as_map() else {
        return Err((node.at, format!("{} must be a mapping", shown(path))));
    };
    match keys.iter().filter(|key| map.contains_key(**key)).count() {
        0 if map.contains_key("driver") || map.contains_key("external") => Ok(()),
        0 => Err((node.at, format!("{}: one of {} must be set", shown(path), keys.join("|")))),
        1 => Ok(()),
        _ => Err((node.at, format!("{}: {} attributes are mutually exclusive", shown(path), keys.join("|")))),
    }
}

fn port(node: &Node, path: &[String]) -> Result<(), Fault> {
    match node.get("host_ip") {
        Some(address) if address.value.to_string().parse::<IpAddr>().is_err() => {
            Err((address.at, format!("{}: invalid ip address: {}", shown(path), address.value)))
        }
        _ => Ok(()),
    }
}

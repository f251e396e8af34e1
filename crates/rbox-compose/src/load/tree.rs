//! Paths of keys, and walks over a tree along them.

use crate::yaml::{At, Node, Value};

/// What is wrong at a place of a tree, in words that have the path.
pub(crate) type Fault = (At, String);

/// Whether a path is one of a pattern's: names, and `*` for any.
pub(crate) fn matches(path: &[String], pattern: &str) -> bool {
    let mut parts = pattern.split('.');
    for part in path {
        match parts.next() {
            Some(wanted) if wanted == "*" || wanted == part => {}
            _ => return false,
        }
    }
    parts.next().is_none()
}

pub(crate) fn any(path: &[String], patterns: &[&str]) -> bool {
    patterns.iter().any(|pattern| matches(path, pattern))
}

pub(crate) fn shown(path: &[String]) -> String {
    path.join(".")
}

/// What is done at a node; whether to go on below it.
pub(crate) type Change<'a> = dyn FnMut(&mut Node, &[String]) -> Result<bool, Fault> + 'a;

/// Calls `change` for each node, those above first; it says whether to go on below. Entries of lists are `[]` in paths.
pub(crate) fn walk(node: &mut Node, path: &mut Vec<String>, change: &mut Change<'_>) -> Result<(), Fault> {
    if !change(node, path)? {
        return Ok(());
    }
    match &mut node.value {
        Value::Map(map) => {
            for (key, node) in map {
                path.push(key.clone());
                walk(node, path, change)?;
                path.pop();
            }
        }
        Value::List(list) => {
            for node in list {
                path.push("[]".into());
                walk(node, path, change)?;
                path.pop();
            }
        }
        _ => {}
    }
    Ok(())
}

//! The order of services: what others depend on comes first.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Project, Service};

/// The services of a project, those that others depend on first, by name among equals. A circle, which no project that was loaded
/// has, is cut where it is met.
pub fn in_order(project: &Project) -> Vec<&Service> {
    let depends = |name: &str| -> Vec<&str> {
        let service = project.services.get(name);
        service.map(|service| service.depends_on.keys().map(String::as_str).collect()).unwrap_or_default()
    };
    let names = project.services.keys().map(String::as_str);
    sorted(names, depends).into_iter().filter_map(|name| project.services.get(name)).collect()
}

/// Names in waves, for taking down: each comes after all that depend on it. `depends` tells what each depends on.
pub fn dependents_first(depends: &BTreeMap<String, BTreeSet<String>>) -> Vec<Vec<String>> {
    let mut left: BTreeSet<&String> = depends.keys().collect();
    let mut waves = Vec::new();
    while !left.is_empty() {
        let is_needed = |name: &String| {
            left.iter().any(|other| *other != name && depends.get(*other).is_some_and(|on| on.contains(name)))
        };
        let mut wave: Vec<String> =
            left.iter().filter(|name| !is_needed(name)).map(|name| (*name).clone()).collect();
        if wave.is_empty() {
            // A circle, which containers of several versions of the files may make.
            wave = left.iter().map(|name| (*name).clone()).collect();
        }
        left.retain(|name| !wave.contains(name));
        waves.push(wave);
    }
    waves
}

fn sorted<'a>(names: impl Iterator<Item = &'a str>, depends: impl Fn(&str) -> Vec<&'a str>) -> Vec<&'a str> {
    let mut done = Vec::new();
    let mut seen = BTreeSet::new();
    // A stack of our own: files may chain as many services as they like.
    for name in names {
        let mut stack = vec![(name, false)];
        while let Some((name, is_left)) = stack.pop() {
            if is_left {
                done.push(name);
            } else if seen.insert(name) {
                stack.push((name, true));
                let mut on = depends(name);
                on.reverse();
                stack.extend(on.into_iter().map(|name| (name, false)));
            }
        }
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(&str, &[&str])]) -> BTreeMap<String, BTreeSet<String>> {
        let set = |on: &[&str]| on.iter().map(|name| (*name).to_owned()).collect();
        edges.iter().map(|(name, on)| ((*name).to_owned(), set(on))).collect()
    }

    #[test]
    fn what_depends_goes_first() {
        let stack = graph(&[("db", &[]), ("cache", &[]), ("api", &["db", "cache"]), ("web", &["api"])]);
        assert_eq!(dependents_first(&stack), [vec!["web"], vec!["api"], vec!["cache", "db"]]);
        let circle = graph(&[("a", &["b"]), ("b", &["a"]), ("c", &["a"])]);
        assert_eq!(dependents_first(&circle), [vec!["c"], vec!["a", "b"]]);
        assert_eq!(dependents_first(&graph(&[("own", &["own", "gone"])])), [vec!["own"]]);
    }

    #[test]
    fn what_is_needed_comes_first() {
        let on = |name: &str| match name {
            "web" => vec!["api", "static"],
            "api" => vec!["db"],
            "x" => vec!["y"],
            "y" => vec!["x"],
            _ => Vec::new(),
        };
        assert_eq!(sorted(["web", "x"].into_iter(), on), ["db", "api", "static", "web", "y", "x"]);
    }
}

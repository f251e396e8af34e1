//! The order of services: what others depend on comes first.

use std::collections::BTreeSet;

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

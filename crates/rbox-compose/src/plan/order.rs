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

/// The order in which services end: each once all that depend on it have ended.
#[derive(Debug)]
pub struct Ending {
    /// What each service that has not begun to end depends on.
    waiting: BTreeMap<String, BTreeSet<String>>,
    /// The same of those that are ending.
    ending: BTreeMap<String, BTreeSet<String>>,
}

impl Ending {
    /// `depends` tells what each service depends on.
    pub fn of(depends: BTreeMap<String, BTreeSet<String>>) -> Self {
        Self { waiting: depends, ending: BTreeMap::new() }
    }

    /// The services that may begin to end now. Empty while others have to end first, and when all have begun.
    pub fn begin(&mut self) -> Vec<String> {
        let others = || self.waiting.iter().chain(&self.ending);
        let is_needed =
            |name: &String| others().any(|(other, depends)| other != name && depends.contains(name));
        let mut next: Vec<String> = self.waiting.keys().filter(|name| !is_needed(name)).cloned().collect();
        if next.is_empty() && self.ending.is_empty() {
            // A circle, which containers of several versions of the files may make.
            next = self.waiting.keys().cloned().collect();
        }
        for name in &next {
            self.ending.extend(self.waiting.remove_entry(name));
        }
        next
    }

    /// A service has ended.
    pub fn ended(&mut self, service: &str) {
        self.ending.remove(service);
    }
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
        let stack = [("db", &[][..]), ("cache", &[]), ("api", &["db", "cache"]), ("web", &["api"])];
        assert_eq!(waves(&stack), [vec!["web"], vec!["api"], vec!["cache", "db"]]);
        let circle = [("a", &["b"][..]), ("b", &["a"]), ("c", &["a"])];
        assert_eq!(waves(&circle), [vec!["c"], vec!["a", "b"]]);
        assert_eq!(waves(&[("own", &["own", "gone"])]), [vec!["own"]]);
    }

    /// What begins to end together, when all that has begun has to have ended before the next begins.
    fn waves(edges: &[(&str, &[&str])]) -> Vec<Vec<String>> {
        let mut order = Ending::of(graph(edges));
        let mut waves = Vec::new();
        loop {
            let next = order.begin();
            if next.is_empty() {
                return waves;
            }
            assert_eq!(order.begin(), Vec::<String>::new());
            for service in &next {
                order.ended(service);
            }
            waves.push(next);
        }
    }

    #[test]
    fn nobody_waits_for_more_than_it_must() {
        let mut order = Ending::of(graph(&[("slow", &["x"]), ("quick", &["y"]), ("x", &[]), ("y", &[])]));
        assert_eq!(order.begin(), ["quick", "slow"]);
        order.ended("quick");
        assert_eq!(order.begin(), ["y"]);
        order.ended("slow");
        assert_eq!(order.begin(), ["x"]);
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

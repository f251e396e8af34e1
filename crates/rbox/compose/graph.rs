//! What depends on what, and the walks along it: each service as soon as those it waits for are done.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rbox_compose::Instance;
use rbox_compose::model::{Condition, Project};

/// Between two looks of who waits.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// Services, and what each depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Graph(pub(crate) BTreeMap<String, BTreeMap<String, Edge>>);

/// What a service depends on another one for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Edge {
    pub(crate) until: Until,
    /// It is restarted with the other.
    pub(crate) restart: bool,
    /// It is not started without the other.
    pub(crate) required: bool,
}

/// When the other is far enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// It was started.
    Started,
    /// Its health checks pass.
    Healthy,
    /// They pass, or it has none and runs.
    RunningOrHealthy,
    /// It ended with 0.
    Completed,
}

impl Until {
    /// As Compose spells it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Started => "service_started",
            Self::Healthy => "service_healthy",
            Self::RunningOrHealthy => "running_or_healthy",
            Self::Completed => "service_completed_successfully",
        }
    }

    fn parse(word: &str) -> Self {
        let all = [Self::Started, Self::Healthy, Self::Completed];
        all.into_iter().find(|one| one.as_str() == word).unwrap_or(Self::RunningOrHealthy)
    }
}

impl From<Condition> for Until {
    fn from(condition: Condition) -> Self {
        match condition {
            Condition::Started => Self::Started,
            Condition::Healthy => Self::Healthy,
            Condition::CompletedSuccessfully => Self::Completed,
        }
    }
}

impl Graph {
    /// Of the services that the files have enabled.
    pub(crate) fn of_files(project: &Project) -> Self {
        let edges = |service: &rbox_compose::model::Service| {
            let all = service.depends_on.iter().map(|(name, other)| {
                let until = other.condition.into();
                (name.clone(), Edge { until, restart: other.restart, required: other.required })
            });
            all.collect()
        };
        Self(project.services.iter().map(|(name, service)| (name.clone(), edges(service))).collect())
    }

    /// Of containers, by their labels.
    pub(crate) fn of_labels<'a>(instances: impl Iterator<Item = &'a Instance>) -> Self {
        let mut graph = Self::default();
        for one in instances {
            let label = one.label(rbox_compose::labels::DEPENDS_ON).unwrap_or_default();
            graph.0.entry(one.service.clone()).or_default().extend(edges_of_label(label));
        }
        graph
    }

    /// Only these services.
    pub(crate) fn only(mut self, services: &BTreeSet<String>) -> Self {
        self.0.retain(|name, _| services.contains(name));
        self
    }

    /// These services and, step by step, those they depend on.
    pub(crate) fn with_dependencies(&self, services: &[String]) -> BTreeSet<String> {
        self.closure(services, |name, other| self.0.get(name).is_some_and(|edges| edges.contains_key(other)))
    }

    /// These services and, step by step, those that depend on them.
    pub(crate) fn with_dependents(&self, services: &[String]) -> BTreeSet<String> {
        self.closure(services, |name, other| self.0.get(other).is_some_and(|edges| edges.contains_key(name)))
    }

    fn closure(&self, from: &[String], leads: impl Fn(&str, &str) -> bool) -> BTreeSet<String> {
        let mut found: BTreeSet<String> = BTreeSet::new();
        let mut next: Vec<String> = from.to_vec();
        while let Some(name) = next.pop() {
            next.extend(self.0.keys().filter(|other| leads(&name, other)).cloned());
            next.retain(|other| !found.contains(other));
            found.insert(name);
        }
        found
    }

    /// The services that depend on one, of those that are there.
    pub(crate) fn dependents(&self, service: &str) -> impl Iterator<Item = &String> {
        self.0.iter().filter(move |(_, edges)| edges.contains_key(service)).map(|(name, _)| name)
    }

    /// For each service those that must be done before it, for a walk that begins with what depends on others.
    pub(crate) fn reversed(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let dependents = |name: &'_ String| self.dependents(name).map(String::as_str).collect();
        self.0.keys().map(|name| (name.as_str(), dependents(name))).collect()
    }
}

/// `NAME:CONDITION:RESTART`, with commas. What older versions left out is the careful choice.
fn edges_of_label(label: &str) -> impl Iterator<Item = (String, Edge)> {
    label.split(',').filter(|word| !word.is_empty()).map(|word| {
        let mut parts = word.split(':');
        let name = parts.next().unwrap_or_default().to_owned();
        let until = Until::parse(parts.next().unwrap_or_default());
        let restart = parts.next().is_none_or(|word| word == "true");
        (name, Edge { until, restart, required: true })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn graph(pairs: &[(&str, &str)]) -> Graph {
        let all = pairs.iter().map(|(name, label)| ((*name).to_owned(), edges_of_label(label).collect()));
        Graph(all.collect())
    }

    #[test]
    fn labels_say_what_depends_on_what() {
        let graph =
            graph(&[("web", "db:service_healthy:false,init:service_completed_successfully:true,old")]);
        let edges = &graph.0["web"];
        assert_eq!(edges["db"], Edge { until: Until::Healthy, restart: false, required: true });
        assert_eq!(edges["init"].until, Until::Completed);
        assert_eq!(edges["old"], Edge { until: Until::RunningOrHealthy, restart: true, required: true });
    }

    #[test]
    fn closures_go_both_ways() {
        let graph = graph(&[("a", "b"), ("b", "c"), ("c", ""), ("d", "c")]);
        let names = |set: BTreeSet<String>| set.into_iter().collect::<Vec<_>>().join(" ");
        assert_eq!(names(graph.with_dependencies(&["a".into()])), "a b c");
        assert_eq!(names(graph.with_dependents(&["c".into()])), "a b c d");
        assert_eq!(graph.dependents("c").cloned().collect::<Vec<_>>(), ["b", "d"]);
    }
}

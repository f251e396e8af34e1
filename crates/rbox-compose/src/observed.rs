//! What there is of a project: its containers, by the labels that they carry. The files are not asked.

use std::collections::BTreeMap;

use rbox_engine::engine::{Container, Engine};
use rbox_engine::error::EngineError;

use crate::labels;

/// A container of a project.
#[derive(Debug, Clone)]
pub struct Instance {
    /// As it is now.
    pub container: Container,
    /// Its project.
    pub project: String,
    /// Its service.
    pub service: String,
    /// Which of the service's containers it is, from 1.
    pub number: u32,
    /// It is none of the service's own: of `run`, or a [hook](Self::hook).
    pub one_off: bool,
    /// It runs a step of `pre_start`.
    pub hook: bool,
}

impl Instance {
    /// None for a container of no project.
    pub fn of(container: Container) -> Option<Self> {
        let labels = &container.record.config.labels;
        let text = |key: &str| labels.get(key).cloned();
        let hook = labels.contains_key(labels::HOOK);
        Some(Self {
            project: text(labels::PROJECT)?,
            service: text(labels::SERVICE).unwrap_or_default(),
            number: text(labels::NUMBER).and_then(|number| number.parse().ok()).unwrap_or(0),
            one_off: text(labels::ONE_OFF).is_some_and(|flag| flag == "True") || hook,
            hook,
            container,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.container.record.name.as_str()
    }

    /// One of its labels.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.container.record.config.labels.get(key).map(String::as_str)
    }

    /// The services that its own depends on, as its label has it: they are known without the files.
    pub fn depends_on(&self) -> impl Iterator<Item = &str> {
        let words = self.label(labels::DEPENDS_ON).unwrap_or_default().split(',');
        words.filter_map(|word| word.split(':').next()).filter(|name| !name.is_empty())
    }
}

/// The containers of a project.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// By service and number; those of `run` after the others.
    pub instances: Vec<Instance>,
}

impl Observed {
    /// The containers of one project.
    ///
    /// # Errors
    /// The directory of records cannot be read.
    pub fn of(engine: &Engine, project: &str) -> Result<Self, EngineError> {
        Ok(Self::projects(engine)?.remove(project).unwrap_or_default())
    }

    /// The containers of all projects, by the projects' names.
    ///
    /// # Errors
    /// The directory of records cannot be read.
    pub fn projects(engine: &Engine) -> Result<BTreeMap<String, Self>, EngineError> {
        let mut projects = BTreeMap::<String, Self>::new();
        for instance in engine.containers()?.into_iter().filter_map(Instance::of) {
            projects.entry(instance.project.clone()).or_default().instances.push(instance);
        }
        for observed in projects.values_mut() {
            observed.instances.sort_by(|a, b| {
                let order = |one: &Instance| (one.one_off, one.service.clone(), one.number);
                order(a).cmp(&order(b))
            });
        }
        Ok(projects)
    }

    /// The containers that are a service's own: not those of `run`.
    pub fn of_service<'a>(&'a self, service: &'a str) -> impl Iterator<Item = &'a Instance> {
        self.instances.iter().filter(move |one| !one.one_off && one.service == service)
    }

    /// Those of no service among `known`, and not of `run`.
    pub fn orphans<'a>(&'a self, known: &'a dyn Fn(&str) -> bool) -> impl Iterator<Item = &'a Instance> {
        self.instances.iter().filter(move |one| !one.one_off && !known(&one.service))
    }
}

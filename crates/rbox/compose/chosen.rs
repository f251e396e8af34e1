//! Which project is meant, and which of its containers the words of services mean.

use std::collections::BTreeSet;

use rbox_compose::{Instance, Loaded, Observed};

use crate::args::project::ProjectFlags;
use crate::command::error::{Coded, NOT_DONE, message};
use crate::command::global::Global;
use crate::compose::graph::Graph;
use crate::compose::project::{load, options, refused};

/// The project that a command acts on.
#[derive(Debug)]
pub(crate) struct Chosen {
    /// Its name.
    pub(crate) name: String,
    /// Its files, if they were read: with a name alone the labels of containers say all.
    pub(crate) loaded: Option<Loaded>,
    /// Its containers.
    pub(crate) observed: Observed,
}

impl Chosen {
    /// The project of these options, with its files unless `-p` names it and no file is given. Of the services those in `words`,
    /// with what they depend on, are enabled.
    pub(crate) fn read(global: &Global, words: &[String]) -> anyhow::Result<Self> {
        let flags = &global.project;
        let is_named = flags.project_name.as_ref().is_some_and(|name| !name.is_empty());
        let by_name = is_named && flags.files.is_empty();
        let loaded = if by_name { None } else { loaded(global, words)? };
        let name = match &loaded {
            Some(loaded) => loaded.project.name.clone(),
            None => checked(given_name(flags).unwrap_or_default())?,
        };
        let observed = Observed::of(&global.engine, &name)?;
        let chosen = Self { name, loaded, observed };
        chosen.check(words)?;
        Ok(chosen)
    }

    /// The same where containers that exist are all that counts: the files are read only if nothing else says the name.
    pub(crate) fn named(global: &Global) -> anyhow::Result<Self> {
        let name = name(global)?;
        let observed = Observed::of(&global.engine, &name)?;
        Ok(Self { name, loaded: None, observed })
    }

    /// The names of the services that there are: in the files, or else of containers.
    pub(crate) fn services(&self) -> BTreeSet<&str> {
        match &self.loaded {
            Some(loaded) => loaded.project.services.keys().map(String::as_str).collect(),
            None => self.own().map(|one| one.service.as_str()).collect(),
        }
    }

    /// Those that `words` mean: all, if there are none.
    pub(crate) fn selected(&self, words: &[String]) -> BTreeSet<&str> {
        let mut services = self.services();
        services.retain(|name| words.is_empty() || words.iter().any(|word| word == name));
        services
    }

    /// The containers of these services, without those of `run`.
    pub(crate) fn instances(&self, services: &BTreeSet<&str>) -> Vec<&Instance> {
        self.own().filter(|one| services.contains(one.service.as_str())).collect()
    }

    /// All containers but those of `run`.
    pub(crate) fn own(&self) -> impl Iterator<Item = &Instance> {
        self.observed.instances.iter().filter(|one| !one.one_off)
    }

    /// What depends on what: by the files, or else by the labels of containers.
    pub(crate) fn graph(&self) -> Graph {
        match &self.loaded {
            Some(loaded) => Graph::of_files(&loaded.project),
            None => Graph::of_labels(self.own()),
        }
    }

    /// The container of a service that runs: number `index`, or the first.
    pub(crate) fn running(&self, service: &str, index: Option<u32>) -> anyhow::Result<&Instance> {
        self.one(service, index, |one| one.container.is_active())
    }

    /// The container of a service that `fits`: number `index`, or the first. Those of `run` come last.
    pub(crate) fn one(
        &self,
        service: &str,
        index: Option<u32>,
        fits: impl Fn(&Instance) -> bool,
    ) -> anyhow::Result<&Instance> {
        let index = index.filter(|index| *index > 0);
        let own = |one: &&Instance| {
            !one.hook && one.service == service && index.is_none_or(|index| one.number == index)
        };
        self.observed.instances.iter().filter(own).find(|one| fits(one)).ok_or_else(|| {
            let message = match index {
                Some(index) => format!("service {service:?} is not running container #{index}"),
                None => format!("service {service:?} is not running"),
            };
            Coded { message, code: NOT_DONE }.into()
        })
    }

    /// Refuses words that name no service.
    pub(crate) fn check(&self, words: &[String]) -> anyhow::Result<()> {
        let known = self.services();
        match words.iter().find(|word| !known.contains(word.as_str())) {
            Some(word) => Err(Coded { message: format!("no such service: {word}"), code: NOT_DONE }.into()),
            None => Ok(()),
        }
    }
}

/// The project's name; the files are read only if nothing else says it.
pub(crate) fn name(global: &Global) -> anyhow::Result<String> {
    match given_name(&global.project) {
        Some(name) => checked(name),
        None => Ok(load(&shallow(global, &[])?)?.project.name),
    }
}

/// What Compose ends with when something could not be done: 1, whatever it was.
pub(crate) fn not_done<T>(result: anyhow::Result<T>) -> anyhow::Result<T> {
    result.map_err(|error| {
        if error.is::<Coded>() {
            return error;
        }
        Coded { message: message(&error), code: NOT_DONE }.into()
    })
}

/// The files. None where they cannot be read, but a variable names the project.
fn loaded(global: &Global, words: &[String]) -> anyhow::Result<Option<Loaded>> {
    match load(&shallow(global, words)?) {
        Ok(loaded) => Ok(Some(loaded)),
        Err(_) if given_name(&global.project).is_some() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Enough of a project to know its services: files of variables may be missing.
fn shallow(global: &Global, words: &[String]) -> anyhow::Result<rbox_compose::Options> {
    let options = options(global)?;
    Ok(rbox_compose::Options { services: words.to_vec(), resolve_environment: false, ..options })
}

/// A name that a project can have.
fn checked(name: String) -> anyhow::Result<String> {
    rbox_compose::check_name(&name).map(|()| name).map_err(refused)
}

/// The name that the command line or a variable gives.
fn given_name(flags: &ProjectFlags) -> Option<String> {
    let variable = || std::env::var("COMPOSE_PROJECT_NAME").ok();
    let given = flags.project_name.clone().filter(|name| !name.is_empty());
    given.or_else(variable).filter(|name| !name.is_empty())
}

/// A container's name without the project's, if it is the one that Compose gives.
pub(crate) fn short_name(one: &Instance) -> &str {
    let own = format!("{}-{}", one.service, one.number);
    let rest = one.name().strip_prefix(one.project.as_str()).and_then(|rest| rest.strip_prefix('-'));
    rest.filter(|rest| *rest == own).unwrap_or_else(|| one.name())
}

//! The variables of a project: each with where it came from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::Place;

/// Where a variable came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The environment of the caller.
    Shell,
    /// A file of `KEY=VALUE`: `.env`, or one of `--env-file` or of an `include`.
    File(PathBuf),
    /// Set while loading: `COMPOSE_PROJECT_NAME`, and `PWD` where the caller has none.
    Project,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shell => f.write_str("shell"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Project => f.write_str("project"),
        }
    }
}

/// A variable's value, and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// The value.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
}

/// The environment of the caller, asked for one variable at a time: a copy of all of it would stay in memory.
#[derive(Clone)]
pub struct Shell(Arc<Look>);

type Look = dyn Fn(&str) -> Option<String> + Send + Sync;

impl Shell {
    /// One that asks a function.
    pub fn new(look: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(look))
    }

    /// The environment of this process. What is not UTF-8 is not there.
    pub fn of_process() -> Self {
        Self::new(|name| {
            // The names that no variable can have would panic.
            let possible = !name.is_empty() && !name.contains(['=', '\0']);
            std::env::var_os(name).filter(|_| possible)?.into_string().ok()
        })
    }

    /// These variables and no others.
    pub fn of<N: Into<String>, V: Into<String>>(variables: impl IntoIterator<Item = (N, V)>) -> Self {
        let variables: BTreeMap<String, String> =
            variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self::new(move |name| variables.get(name).cloned())
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<String> {
        (self.0)(name)
    }
}

impl Default for Shell {
    /// Without any variable.
    fn default() -> Self {
        Self::new(|_| None)
    }
}

impl fmt::Debug for Shell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shell")
    }
}

/// The variables that compose files can name, by their names.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    shell: Shell,
    variables: BTreeMap<String, Variable>,
}

impl Environment {
    pub(crate) fn of(shell: Shell) -> Self {
        Self { shell, variables: BTreeMap::new() }
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<String> {
        self.variable(name).map(|variable| variable.value)
    }

    /// A variable with its origin.
    pub fn variable(&self, name: &str) -> Option<Variable> {
        let own = self.variables.get(name);
        own.cloned().or_else(|| self.shell.get(name).map(|value| Variable { value, origin: Origin::Shell }))
    }

    /// Those that are not the caller's, by their names.
    pub fn added(&self) -> impl Iterator<Item = (&str, &Variable)> {
        self.variables.iter().map(|(name, variable)| (name.as_str(), variable))
    }

    pub(crate) fn set(&mut self, name: &str, value: impl Into<String>, origin: Origin) {
        self.variables.insert(name.to_owned(), Variable { value: value.into(), origin });
    }

    /// Sets what is not set.
    pub(crate) fn add(&mut self, name: &str, value: impl Into<String>, origin: Origin) {
        if self.shell.get(name).is_none() && !self.variables.contains_key(name) {
            self.set(name, value, origin);
        }
    }
}

/// A variable that the compose files name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// Its name.
    pub name: String,
    /// Its value and where that came from; none where it has none.
    pub variable: Option<Variable>,
    /// The places in compose files that name it.
    pub places: Vec<Place>,
}

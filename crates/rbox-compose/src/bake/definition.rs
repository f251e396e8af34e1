//! The door: files in, targets out.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::config::{Config, Listed};
use super::error::BakeError;
use super::files::{BakeFile, Form};
use super::plan::{Plan, Remote};
use super::resolve::Resolver;
use super::{compose, entries, files, hcl, json, syntax};
use crate::environment::Shell;
use crate::error::Place;
use crate::yaml::At;

/// What targets are read from.
#[derive(Clone, Debug, Default)]
pub struct BakeOptions {
    /// The current directory.
    pub directory: PathBuf,
    /// The environment of the caller, which sets variables.
    pub environment: Shell,
    /// `-f`. None: those that are there by the usual names.
    pub files: Vec<String>,
    /// `--var`.
    pub variables: BTreeMap<String, String>,
    /// Files that come from elsewhere, in place of those of the directory.
    pub remote: Option<Vec<BakeFile>>,
    /// `BAKE_CMD_CONTEXT`, where it is not this directory.
    pub context: Option<String>,
}

/// All that files define.
#[derive(Debug)]
pub struct Definition {
    config: Config,
    warnings: Vec<String>,
    environment: Shell,
}

impl Definition {
    /// Reads the files.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place.
    pub fn load(options: &BakeOptions) -> Result<Self, BakeError> {
        let files = match &options.remote {
            Some(files) => files.clone(),
            None => files::read(&options.files, &options.directory)?,
        };
        let allowed = options.environment.get("BUILDX_BAKE_DISABLE_VARS_ENV_LOOKUP");
        let is_closed = allowed.is_some_and(|text| entries::truth(&text).unwrap_or(false));
        let environment = if is_closed { Shell::default() } else { options.environment.clone() };
        let (own, outer) = (options.variables.clone(), environment.clone());
        let environment = Shell::new(move |name| own.get(name).cloned().or_else(|| outer.get(name)));
        let (mut composed, mut bodies) = (Vec::new(), Vec::new());
        for (number, file) in files.iter().enumerate() {
            match body(file, number as u32) {
                None => composed.push(file),
                Some(found) => bodies.push(found.map_err(|fault| placed(&files, fault))?),
            }
        }
        let (mut config, mut warnings) = if composed.is_empty() {
            (Config::default(), Vec::new())
        } else {
            compose::load(&composed, &options.directory, &environment)?
        };
        let fixed = BTreeMap::from([
            ("BAKE_CMD_CONTEXT".to_owned(), options.context.clone().unwrap_or_else(|| "cwd://".to_owned())),
            ("BAKE_LOCAL_PLATFORM".to_owned(), rbox_spec::Platform::host().to_string()),
        ]);
        let added = config.add(bodies, &|name| environment.get(name), fixed);
        added.map_err(|fault| placed(&files, (fault.at, fault.message)))?;
        for (at, message) in &config.warnings {
            warnings.push(placed(&files, (*at, message.clone())).to_string());
        }
        Ok(Self { config, warnings, environment })
    }

    /// What the user should know, one line each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The variables, by their names.
    pub fn variables(&self) -> &[Listed] {
        &self.config.variables
    }

    /// Targets and groups by their names, with what they are for, and whether one is a group. Those that begin with `_` are not told.
    pub fn listed(&self) -> Vec<(String, String, bool)> {
        let targets =
            self.config.targets.iter().map(|one| (one.name.clone(), one.description.clone(), false));
        let groups = self.config.groups.iter().map(|one| {
            let mut targets = one.targets.clone();
            targets.sort();
            let targets = targets.join(", ");
            let description = match (one.description.as_str(), targets.as_str()) {
                ("", targets) => targets.to_owned(),
                (description, "") => description.to_owned(),
                (description, targets) => format!("{description} ({targets})"),
            };
            (one.name.clone(), description, true)
        });
        let mut all: Vec<_> = targets.chain(groups).filter(|(name, ..)| !name.starts_with('_')).collect();
        all.sort_by(|left, right| left.0.cmp(&right.0));
        all
    }

    /// The targets that these words mean, with what `--set` says.
    ///
    /// # Errors
    /// One of them is not there, or cannot be.
    pub fn plan(&self, words: &[String], set: &[String], remote: Option<&Remote>) -> Result<Plan, BakeError> {
        let mut resolver = Resolver::new(&self.config, set, &|name| self.environment.get(name))?;
        let chosen = resolver.choose(words)?;
        Plan::of(chosen.targets, chosen.groups, resolver.allowed, remote)
    }
}

/// What a file says; None of a compose file.
fn body(file: &BakeFile, number: u32) -> Option<Result<syntax::Body, hcl::Fault>> {
    match file.form() {
        Form::Compose => None,
        Form::Hcl => Some(hcl::read(&file.text, number)),
        Form::Json => Some(json::read(&file.text, number)),
        Form::Unknown => {
            let found = crate::yaml::read(&file.text, 0).ok();
            let is_compose =
                found.is_some_and(|all| all.iter().any(|one| one.root.get("services").is_some()));
            if is_compose {
                return None;
            }
            Some(
                hcl::read(&file.text, number)
                    .or_else(|fault| json::read(&file.text, number).map_err(|_| fault)),
            )
        }
    }
}

fn placed(files: &[BakeFile], (at, message): hcl::Fault) -> BakeError {
    let file = usize::try_from(at.file).ok().and_then(|number| files.get(number));
    let file =
        file.map(|file| if file.name == "-" { "standard input".to_owned() } else { file.name.clone() });
    match (at, file) {
        (At { line: 0, .. }, _) | (_, None) => BakeError::Invalid(message),
        (At { line, column, .. }, Some(file)) => BakeError::At { at: Place { file, line, column }, message },
    }
}

/// Anything goes in, and an answer comes out: for the fuzzer.
///
/// # Errors
/// Those of [`Definition::load`] and [`Definition::plan`].
pub fn load_text(name: &str, text: &str) -> Result<String, BakeError> {
    let file = BakeFile { name: name.to_owned(), text: text.to_owned() };
    let options = BakeOptions {
        directory: PathBuf::from("/"),
        environment: Shell::of([("HOME", "/root")]),
        remote: Some(vec![file]),
        ..BakeOptions::default()
    };
    let definition = Definition::load(&options)?;
    let all: Vec<String> = definition.listed().into_iter().map(|(name, ..)| name).collect();
    Ok(definition.plan(&all, &[], None)?.to_json())
}

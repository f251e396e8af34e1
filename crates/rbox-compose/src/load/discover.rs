//! Finding compose files, `.env` files and the project's name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::options::Options;
use super::paths::{join, parent};
use crate::environment::{Environment, Origin};
use crate::error::ComposeError;
use crate::words::{Missing, parse_dotenv};

const NAMES: &[&str] = &["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];
const OVERRIDES: &[&str] = &[
    "compose.override.yml",
    "compose.override.yaml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
];

/// Where a project is, before its files are read.
#[derive(Debug)]
pub(crate) struct Found {
    /// Absolute, or `-`.
    pub(crate) files: Vec<String>,
    pub(crate) directory: String,
    pub(crate) environment: Environment,
    pub(crate) profiles: Vec<String>,
    /// Those that were named.
    pub(crate) env_files: Vec<String>,
    /// Those of the files that came from elsewhere, by their names.
    pub(crate) remote: Vec<String>,
}

/// Finds a project.
pub(crate) fn discover(options: &Options, warnings: &mut Vec<String>) -> Result<Found, ComposeError> {
    let here = options.directory.to_string_lossy().into_owned();
    let mut environment = Environment::of(options.environment.clone());
    environment.add("PWD", here.clone(), Origin::Project);
    let shell = |name: &str| options.environment.get(name).filter(|value| !value.is_empty());
    let named: Vec<String> = if options.env_files.is_empty() {
        let list = shell("COMPOSE_ENV_FILES").unwrap_or_default();
        list.split(',').filter(|file| !file.is_empty()).map(str::to_owned).collect()
    } else {
        options.env_files.clone()
    };
    let no_default = match shell("COMPOSE_DISABLE_ENV_FILE").as_deref() {
        Some("1" | "t" | "T" | "TRUE" | "true" | "True") => true,
        None | Some("0" | "f" | "F" | "FALSE" | "false" | "False") => false,
        Some(other) => {
            return Err(ComposeError::Invalid(format!(
                "COMPOSE_DISABLE_ENV_FILE={other}: want true or false"
            )));
        }
    };
    let mut remote = Vec::new();
    let mut files = options.files.clone();
    for file in &mut files {
        if let Some(fetched) = options.fetched(file, &mut remote)? {
            *file = fetched;
        }
    }
    let project_directory = options.project_directory.as_ref().map(|directory| join_here(&here, directory));
    let directory = |files: &[String]| match &project_directory {
        Some(directory) => directory.clone(),
        None => files
            .iter()
            .find(|file| *file != "-")
            .map_or_else(|| here.clone(), |file| parent(&absolute(&here, file))),
    };
    let mut load = |files: &[String]| -> Result<(), ComposeError> {
        let default = join(&directory(files), ".env");
        let chosen = if named.is_empty() {
            if no_default || !Path::new(&default).is_file() { Vec::new() } else { vec![default] }
        } else {
            named.iter().map(|file| absolute(&here, file)).collect()
        };
        add_files(&mut environment, &chosen, warnings)
    };
    load(&files)?;
    if files.is_empty()
        && let Some(list) = environment.get("COMPOSE_FILE")
    {
        let separator = environment.get("COMPOSE_PATH_SEPARATOR").filter(|separator| !separator.is_empty());
        let separator = separator.unwrap_or_else(|| ":".to_owned());
        files = list
            .split(&separator)
            .map(|file| if file == "-" { file.to_owned() } else { absolute(&here, file) })
            .collect();
    }
    if files.is_empty() {
        files = search(&directory(&[]), warnings);
    }
    let directory = directory(&files);
    let mut load_again = |files: &[String]| -> Result<(), ComposeError> {
        let default = join(&directory, ".env");
        if named.is_empty() && !no_default && Path::new(&default).is_file() && !files.is_empty() {
            return add_files(&mut environment, &[default], warnings);
        }
        Ok(())
    };
    load_again(&files)?;
    if files.is_empty() {
        return Err(ComposeError::NoFile);
    }
    let profiles = if options.profiles.is_empty() {
        let list = environment.get("COMPOSE_PROFILES").unwrap_or_default();
        list.split(',')
            .map(|profile| profile.trim().to_owned())
            .filter(|profile| !profile.is_empty())
            .collect()
    } else {
        options.profiles.clone()
    };
    let files =
        files.into_iter().map(|file| if file == "-" { file } else { absolute(&here, &file) }).collect();
    Ok(Found { files, directory, environment, profiles, env_files: named, remote })
}

fn join_here(here: &str, directory: &Path) -> String {
    absolute(here, &directory.to_string_lossy())
}

pub(crate) fn absolute(here: &str, path: &str) -> String {
    if path.starts_with('/') { join("", path) } else { join(here, path) }
}

/// The compose file of a directory or its nearest parent that has one, and what overrides it.
fn search(directory: &str, warnings: &mut Vec<String>) -> Vec<String> {
    let mut directory = directory.to_owned();
    loop {
        let found = |names: &[&str], what: &str, warnings: &mut Vec<String>| {
            let there: Vec<String> = names
                .iter()
                .map(|name| join(&directory, name))
                .filter(|file| Path::new(file).exists())
                .collect();
            if let [first, _, ..] = there.as_slice() {
                warnings
                    .push(format!("Found multiple {what} files with supported names: {}", there.join(", ")));
                warnings.push(format!("Using {first}"));
            }
            there.into_iter().next()
        };
        if let Some(file) = found(NAMES, "config", warnings) {
            let mut files = vec![file];
            files.extend(found(OVERRIDES, "override", warnings));
            return files;
        }
        let above = parent(&directory);
        if above == directory {
            return Vec::new();
        }
        directory = above;
    }
}

struct Known<'a> {
    environment: &'a Environment,
    earlier: &'a BTreeMap<String, String>,
    warnings: &'a mut Vec<String>,
}

impl Missing for Known<'_> {
    fn lookup(&mut self, name: &str) -> Option<String> {
        self.environment.get(name).or_else(|| self.earlier.get(name).cloned())
    }

    fn missing(&mut self, name: &str) {
        let warning = format!("The {name:?} variable is not set. Defaulting to a blank string.");
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }
}

/// Adds the variables of files to an environment; what it has stays, a later file goes over an earlier one.
pub(crate) fn add_files(
    environment: &mut Environment,
    files: &[String],
    warnings: &mut Vec<String>,
) -> Result<(), ComposeError> {
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    let mut origins: BTreeMap<String, Origin> = BTreeMap::new();
    for file in files {
        let path = Path::new(file);
        if !path.exists() {
            return Err(ComposeError::NotFound(format!("couldn't find env file: {file}")));
        }
        let text = super::files::read_text(path)?;
        let mut values = all.clone();
        let earlier = all.clone();
        let mut known = Known { environment, earlier: &earlier, warnings };
        parse_dotenv(&text, &mut values, &mut known)
            .map_err(|error| ComposeError::Invalid(format!("failed to read {file}: {error}")))?;
        for (name, value) in values {
            if all.get(&name) != Some(&value) || !origins.contains_key(&name) {
                origins.insert(name.clone(), Origin::File(PathBuf::from(file)));
            }
            all.insert(name, value);
        }
    }
    for (name, value) in all {
        let origin = origins.remove(&name).unwrap_or(Origin::Project);
        environment.add(&name, value, origin);
    }
    Ok(())
}

/// A name without what names of projects have not.
pub(crate) fn normal_name(name: &str) -> String {
    let kept: String = name
        .to_lowercase()
        .chars()
        .filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-'))
        .collect();
    kept.trim_start_matches(['_', '-']).to_owned()
}

/// Refuses a name that no project can have.
///
/// # Errors
/// It is none, or has letters that names have not.
pub fn check_name(name: &str) -> Result<(), ComposeError> {
    match name {
        "" => Err(ComposeError::Invalid("project name must not be empty".to_owned())),
        name => checked_name(name).map(drop),
    }
}

/// Refuses a name that was asked for and cannot be one.
pub(crate) fn checked_name(name: &str) -> Result<String, ComposeError> {
    if normal_name(name) == name {
        return Ok(name.to_owned());
    }
    Err(ComposeError::Invalid(format!(
        "invalid project name {name:?}: must consist only of lowercase alphanumeric characters, hyphens, and underscores as well as start with a letter or number"
    )))
}

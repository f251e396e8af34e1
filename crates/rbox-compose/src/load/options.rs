//! What a project is loaded from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::environment::Shell;
use crate::error::ComposeError;

/// Gets compose files that are not on this host.
#[derive(Clone)]
pub struct Remote(Arc<Fetch>);

type Fetch = dyn Fn(&str) -> Option<Result<PathBuf, String>> + Send + Sync;

impl Remote {
    /// One that asks a function for what a name in compose files means: none where it is nothing that it gets, or else the file on this
    /// host, or why there is none.
    pub fn new(fetch: impl Fn(&str) -> Option<Result<PathBuf, String>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(fetch))
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Remote")
    }
}

impl Options {
    /// The file on this host that a name means which is no path; none for a path. What was fetched is added to `fetched`.
    pub(crate) fn fetched(
        &self,
        name: &str,
        fetched: &mut Vec<String>,
    ) -> Result<Option<String>, ComposeError> {
        let Some(found) = self.remote.as_ref().and_then(|remote| remote.0(name)) else {
            return refuse_remote(name).map(|()| None);
        };
        let file = found.map_err(ComposeError::Invalid)?;
        if !fetched.iter().any(|other| other == name) {
            fetched.push(name.to_owned());
        }
        Ok(Some(file.to_string_lossy().into_owned()))
    }
}

/// What a project is loaded from: the words of the command line, the environment, the current directory.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of `compose config`")]
pub struct Options {
    /// The current directory, absolute.
    pub directory: PathBuf,
    /// The environment of the caller.
    pub environment: Shell,
    /// `-f`: compose files; `-` is the standard input. None: `COMPOSE_FILE`, or what is found here and in parents.
    pub files: Vec<String>,
    /// Gets those that are not on this host; none: they are refused.
    pub remote: Option<Remote>,
    /// Texts of files that were read already, by the names in `files`.
    pub contents: BTreeMap<String, String>,
    /// `-p`: the project's name.
    pub name: Option<String>,
    /// `--profile`. None: `COMPOSE_PROFILES`.
    pub profiles: Vec<String>,
    /// `--env-file`. None: `COMPOSE_ENV_FILES`, or `.env`.
    pub env_files: Vec<String>,
    /// `--project-directory`.
    pub project_directory: Option<PathBuf>,
    /// The services that are meant, with those they depend on; none for all. Their profiles are on.
    pub services: Vec<String>,
    /// Keep networks, volumes, secrets and configs that no service uses.
    pub all_resources: bool,
    /// Put values of variables in.
    pub interpolate: bool,
    /// Put in what is implied, such as the default network.
    pub normalize: bool,
    /// Make paths absolute.
    pub resolve_paths: bool,
    /// Check that the parts of the model fit.
    pub check_consistency: bool,
    /// Read the files of `env_file` into `environment`.
    pub resolve_environment: bool,
}

impl Default for Options {
    /// All is done, in `/`, with an empty environment.
    fn default() -> Self {
        Self {
            directory: PathBuf::from("/"),
            environment: Shell::default(),
            files: Vec::new(),
            remote: None,
            contents: BTreeMap::new(),
            name: None,
            profiles: Vec::new(),
            env_files: Vec::new(),
            project_directory: None,
            services: Vec::new(),
            all_resources: false,
            interpolate: true,
            normalize: true,
            resolve_paths: true,
            check_consistency: true,
            resolve_environment: true,
        }
    }
}

/// What rbox does not fetch.
fn refuse_remote(path: &str) -> Result<(), ComposeError> {
    let remote = path.starts_with("oci://")
        || path.starts_with("https://")
        || path.starts_with("http://")
        || path.starts_with("git@")
        || path.starts_with("ssh://")
        || path.starts_with("git://")
        || path.starts_with("github.com/");
    if remote {
        return Err(ComposeError::Invalid(format!(
            "{path}: compose files are read from this host and from git repositories only; fetch it first and name the local file"
        )));
    }
    Ok(())
}

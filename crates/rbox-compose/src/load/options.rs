//! What a project is loaded from.

use std::path::PathBuf;

use crate::environment::Shell;

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

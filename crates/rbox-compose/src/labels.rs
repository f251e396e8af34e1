//! The labels by which Compose, and whoever looks at its containers, tells what is whose.

/// The project's name.
pub const PROJECT: &str = "com.docker.compose.project";
/// The project's directory.
pub const WORKING_DIR: &str = "com.docker.compose.project.working_dir";
/// The project's files, with commas.
pub const CONFIG_FILES: &str = "com.docker.compose.project.config_files";
/// The files of `--env-file`, with commas.
pub const ENVIRONMENT_FILE: &str = "com.docker.compose.project.environment_file";
/// The service's name.
pub const SERVICE: &str = "com.docker.compose.service";
/// Which of the service's containers it is, from 1.
pub const NUMBER: &str = "com.docker.compose.container-number";
/// `True` for one of `run`.
pub const ONE_OFF: &str = "com.docker.compose.oneoff";
/// The name of one of `run`.
pub const SLUG: &str = "com.docker.compose.slug";
/// The hash of the service's configuration.
pub const CONFIG_HASH: &str = "com.docker.compose.config-hash";
/// What it depends on: `NAME:CONDITION:RESTART`, with commas.
pub const DEPENDS_ON: &str = "com.docker.compose.depends_on";
/// The id of its image.
pub const IMAGE: &str = "com.docker.compose.image";
/// What it runs for a service that is not started yet: `pre_start`.
pub const HOOK: &str = "com.docker.compose.hook";
/// The name of the container that it replaces.
pub const REPLACE: &str = "com.docker.compose.replace";
/// The network's name in the files.
pub const NETWORK: &str = "com.docker.compose.network";
/// The volume's name in the files.
pub const VOLUME: &str = "com.docker.compose.volume";
/// Tells whether a container has the variables that providers give it now.
pub const PROVIDED: &str = "rbox.compose.provided";
/// The version of Compose that is spoken.
pub const VERSION: &str = "com.docker.compose.version";
/// The service as it was when its container was made, as `config --format json` shows it: to say what has changed.
pub const DEFINITION: &str = "rbox.compose.definition";

/// The version of Compose whose commands and labels these are.
pub const COMPOSE_VERSION: &str = "2.40.3";

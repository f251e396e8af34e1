//! The options between `compose` and its command: which project is meant.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

/// Which project is meant.
#[derive(Debug, Clone, Default, Args)]
#[allow(clippy::doc_markdown, reason = "they are printed as they stand")]
pub(crate) struct ProjectFlags {
    /// A compose file, or - for the standard input; several are laid over each other [env: COMPOSE_FILE]
    #[arg(short, long = "file", value_name = "FILE")]
    pub(crate) files: Vec<String>,
    /// The project's name [env: COMPOSE_PROJECT_NAME] [default: of the file, or of the directory]
    #[arg(short = 'p', long, value_name = "NAME")]
    pub(crate) project_name: Option<String>,
    /// Also the services of a profile; * for all [env: COMPOSE_PROFILES]
    #[arg(long = "profile", value_name = "PROFILE")]
    pub(crate) profiles: Vec<String>,
    /// A file of variables, in place of .env [env: COMPOSE_ENV_FILES]
    #[arg(long = "env-file", value_name = "FILE")]
    pub(crate) env_files: Vec<String>,
    /// Where relative paths lead [default: the directory of the first file]
    #[arg(long, alias = "workdir", value_name = "DIR")]
    pub(crate) project_directory: Option<PathBuf>,
    /// Also networks, volumes, secrets and configs that no service uses
    #[arg(long)]
    pub(crate) all_resources: bool,
    /// Show what would be done, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// How many things are pulled or built at once, at most; rbox does one after the other
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub(crate) parallel: Option<i64>,
    /// How progress is shown: auto, tty, plain, json or quiet [env: COMPOSE_PROGRESS]
    #[arg(long, value_name = "TYPE")]
    pub(crate) progress: Option<String>,
    /// When control sequences are used: never, always or auto [env: COMPOSE_ANSI]
    #[arg(long, value_name = "WHEN")]
    pub(crate) ansi: Option<String>,
}

impl ProjectFlags {
    /// The words that stand for these on a command line.
    pub(crate) fn words(&self) -> Vec<OsString> {
        let mut words: Vec<OsString> = Vec::new();
        let mut add = |option: &str, value: &std::ffi::OsStr| words.extend([option.into(), value.to_owned()]);
        let lists = [("--file", &self.files), ("--profile", &self.profiles), ("--env-file", &self.env_files)];
        for (option, values) in lists {
            for value in values {
                add(option, value.as_ref());
            }
        }
        let texts =
            [("--project-name", &self.project_name), ("--progress", &self.progress), ("--ansi", &self.ansi)];
        for (option, value) in texts {
            if let Some(value) = value {
                add(option, value.as_ref());
            }
        }
        if let Some(value) = &self.project_directory {
            add("--project-directory", value.as_ref());
        }
        let switches = [("--all-resources", self.all_resources), ("--dry-run", self.dry_run)];
        words.extend(switches.into_iter().filter(|(_, on)| *on).map(|(switch, _)| switch.into()));
        words
    }
}

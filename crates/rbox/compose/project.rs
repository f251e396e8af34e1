//! From the options between `compose` and its command to a project.

use std::path::PathBuf;

use rbox_compose::{ComposeError, Loaded, Options, Shell};

use crate::command::error::{Coded, NOT_DONE, message};
use crate::command::global::Global;
use crate::compose::remote::fetching;
use crate::output::escape;
use crate::output::table::write_all;

/// What a project is loaded from, by these options and this process.
pub(crate) fn options(global: &Global) -> anyhow::Result<Options> {
    let flags = &global.project;
    Ok(Options {
        remote: Some(fetching(&global.engine)),
        directory: here()?,
        environment: Shell::of_process(),
        files: flags.files.clone(),
        name: flags.project_name.clone(),
        profiles: flags.profiles.clone(),
        env_files: flags.env_files.clone(),
        project_directory: flags.project_directory.clone(),
        all_resources: flags.all_resources,
        ..Options::default()
    })
}

/// Loads a project, and says what is to be known of it.
pub(crate) fn load(options: &Options) -> anyhow::Result<Loaded> {
    let mut tell = |warning: &str| {
        let line = format!("rbox: warning: {}\n", escape::text(warning));
        let _ = write_all(&mut std::io::stderr(), &line);
    };
    rbox_compose::load_telling(options, &mut tell).map_err(refused)
}

/// A service that is not in the files.
pub(crate) fn no_service(name: &str) -> anyhow::Error {
    Coded { message: format!("no such service: {name}"), code: NOT_DONE }.into()
}

/// Whatever is wrong with a project, Compose ends with 1.
pub(crate) fn refused(error: ComposeError) -> anyhow::Error {
    Coded { message: message(&error.into()), code: NOT_DONE }.into()
}

/// The current directory by the name that the shell has for it, which may lead over symbolic links.
fn here() -> anyhow::Result<PathBuf> {
    use std::os::unix::fs::MetadataExt as _;
    let real = std::env::current_dir()?;
    let Some(named) = std::env::var_os("PWD").map(PathBuf::from).filter(|path| path.is_absolute()) else {
        return Ok(real);
    };
    let place = |path: &PathBuf| std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    Ok(if place(&named).is_some() && place(&named) == place(&real) { named } else { real })
}

//! Compose files of git repositories: fetched, and confirmed by the user before anything is made of them.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use rbox_build::{file_within, is_repository, keep_repository, without_password};
use rbox_compose::{Loaded, Remote};
use rbox_engine::engine::Engine;

use crate::args::asking;
use crate::command::error::{Coded, NOT_DONE};
use crate::output::escape;
use crate::output::table::write_all;

const NAMES: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];

/// Fetches compose files for a project that is loaded.
pub(crate) fn fetching(engine: &Engine) -> Remote {
    let (kept, build_dir) = (engine.projects_dir(), engine.build_dir());
    Remote::new(move |url| {
        if !is_repository(url) {
            return None;
        }
        Some(
            keep_repository(url, &kept, &build_dir)
                .map_err(|error| error.to_string())
                .and_then(|dir| file_of(url, &dir)),
        )
    })
}

fn file_of(url: &str, dir: &Path) -> Result<PathBuf, String> {
    let shown = without_password(url, url);
    for name in NAMES {
        if let Some(file) = file_within(dir, name).map_err(|error| format!("{shown}: {error}"))? {
            return Ok(file);
        }
    }
    Err(format!("{shown}: it has no compose file there"))
}

/// Asks whether a project is to be made of files that somebody else wrote, and of which variables of the caller.
///
/// # Errors
/// It is not, or nobody can be asked.
pub(crate) fn confirm(loaded: &Loaded, yes: bool) -> anyhow::Result<()> {
    if yes || loaded.remote.is_empty() {
        return Ok(());
    }
    let refused = |message: &str| Err(Coded { message: message.to_owned(), code: NOT_DONE }.into());
    let mut text = String::from("Warning: This Compose project includes files from remote sources:\n");
    for url in &loaded.remote {
        let _ = writeln!(text, "  - {}", escape::text(&without_password(url, url)));
    }
    let rows: Vec<[String; 3]> = loaded
        .variables
        .iter()
        .filter_map(|used| {
            let variable = used.variable.as_ref()?;
            Some([used.name.clone(), variable.value.clone(), variable.origin.to_string()])
        })
        .collect();
    if !rows.is_empty() {
        text.push_str("They are given these variables:\n");
        for [name, value, origin] in rows {
            let _ = writeln!(
                text,
                "  {}={} ({})",
                escape::text(&name),
                escape::text(&value),
                escape::text(&origin)
            );
        }
    }
    write_all(&mut std::io::stderr(), &text)?;
    if !std::io::stdin().is_terminal() {
        return refused(
            "files from remote sources may be malicious, and nobody can be asked here: look at them with config, and add --yes",
        );
    }
    let answer = asking::line(
        "Remote includes could potentially be malicious. Make sure you trust the source.\nDo you want to continue? [y/N]: ",
    )?;
    match answer.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => refused("operation cancelled by user"),
    }
}

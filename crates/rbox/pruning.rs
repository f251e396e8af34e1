//! What commands that delete much have in common: the question they ask first, and the list of what went.

use std::io::{BufRead, Write};

use clap::Args;
use rbox_engine::filter::Filters;

use crate::cli::say;

/// The options of every `prune`.
#[derive(Debug, Args)]
pub(crate) struct Pruning {
    /// Provide filter values (e.g. "until=24h", "label=app", "label!=keep")
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

impl Pruning {
    /// What is to go, told by filters of these keys.
    pub(crate) fn filters(&self, keys: &[&str]) -> anyhow::Result<Filters> {
        Ok(Filters::parse(&self.filter, keys)?)
    }

    /// Whether the user wants it, by `--force` or by an answer.
    pub(crate) fn agreed(&self, warning: &str) -> anyhow::Result<bool> {
        Ok(self.force || confirmed(warning)?)
    }
}

/// Shows the warning, asks, and reads one line. Anything but yes is no, and so is the end of input.
pub(crate) fn confirmed(warning: &str) -> anyhow::Result<bool> {
    let mut out = std::io::stdout().lock();
    write!(out, "{warning}\nAre you sure you want to continue? [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// The list of what was removed, told as it goes: a heading before the first, an empty line after the last, and nothing
/// when there is none.
pub(crate) struct Deleted {
    what: &'static str,
    told: bool,
}

impl Deleted {
    /// A list under `Deleted WHAT:`.
    pub(crate) fn new(what: &'static str) -> Self {
        Self { what, told: false }
    }

    /// One that is gone.
    pub(crate) fn say(&mut self, line: &str) -> anyhow::Result<()> {
        if !std::mem::replace(&mut self.told, true) {
            say(&format!("Deleted {}:", self.what))?;
        }
        say(line)
    }

    /// After the last.
    pub(crate) fn end(self) -> anyhow::Result<()> {
        if self.told { say("") } else { Ok(()) }
    }
}

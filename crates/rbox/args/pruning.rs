//! What commands that delete much have in common: the question they ask first, and the list of what went.

use clap::Args;
use rbox_engine::listing::filter::Filters;

use crate::args::asking::line;
use crate::output::lines::say;

/// The options of every `prune`.
#[derive(Debug, Args)]
pub(crate) struct Pruning {
    /// Provide filter values (e.g. "until=24h", "label=app", "label!=keep", "last-used=24h": what was used since then stays)
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

impl Pruning {
    /// What is to go, chosen by filters of these keys.
    pub(crate) fn filters(&self, keys: &[&str]) -> anyhow::Result<Filters> {
        Ok(Filters::parse(&self.filter, keys)?)
    }

    /// The filters, as Docker's warning lists them; empty without any.
    pub(crate) fn told(&self) -> String {
        if self.filter.is_empty() {
            return String::new();
        }
        let lines: Vec<String> = self.filter.iter().map(|filter| format!("  - {filter}")).collect();
        format!("\n  Items to be pruned will be filtered with:\n{}\n", lines.join("\n"))
    }

    /// Whether the user wants it, by `--force` or by an answer.
    pub(crate) fn agreed(&self, warning: &str) -> anyhow::Result<bool> {
        Ok(self.force || confirmed(warning)?)
    }
}

/// Shows the warning, asks, and reads one line. Anything but yes is no, and so is the end of input. An interrupt or SIGTERM is an
/// answer too, as Docker's client has it: nothing is done, and the exit code is 0.
pub(crate) fn confirmed(warning: &str) -> anyhow::Result<bool> {
    let question = format!("{warning}\nAre you sure you want to continue? [y/N] ");
    let answer = line(&question).inspect_err(|_| drop(say("")))?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// Prints what was removed: a heading, the names, and an empty line; nothing when there is none.
pub(crate) fn say_deleted<'a>(what: &str, all: impl Iterator<Item = &'a str>) -> anyhow::Result<()> {
    let lines: Vec<&str> = all.collect();
    if lines.is_empty() { Ok(()) } else { say(&format!("Deleted {what}:\n{}\n", lines.join("\n"))) }
}

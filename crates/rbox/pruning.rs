//! What commands that delete much have in common: the question they ask first, and the list of what went.

use std::io::{BufRead, Write};

use crate::cli::say;

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

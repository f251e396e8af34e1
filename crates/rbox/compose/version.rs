//! `rbox compose version`: whose commands these are.

use clap::Parser;
use rbox_compose::labels::COMPOSE_VERSION;

use crate::command::entry::Execute;
use crate::command::global::Global;
use crate::output::lines::say;

/// Show the version of Docker Compose whose commands these are
#[derive(Debug, Parser)]
#[command(name = "version", after_help = "Examples:\n  rbox compose version\n  rbox compose version --short")]
pub(crate) struct Version {
    /// pretty or json
    #[arg(short, long)]
    format: Option<String>,
    /// Only the number
    #[arg(long)]
    short: bool,
}

impl Execute for Version {
    fn execute(self, _: &Global) -> anyhow::Result<u8> {
        let line = match self.format.as_deref() {
            _ if self.short => COMPOSE_VERSION.to_owned(),
            Some("json") => format!("{{\"version\":\"v{COMPOSE_VERSION}\"}}"),
            _ => return tell(),
        };
        say(&line)?;
        Ok(0)
    }
}

/// `compose version`, and `compose --version`.
pub(crate) fn tell() -> anyhow::Result<u8> {
    let own = env!("CARGO_PKG_VERSION");
    say(&format!("Docker Compose version v{COMPOSE_VERSION} (its commands, by rbox {own})"))?;
    Ok(0)
}

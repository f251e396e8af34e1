//! `rbox compose volumes`: the volumes of a project.

use std::collections::BTreeSet;

use clap::Parser;
use rbox_compose::labels;
use rbox_engine::listing::filter::{Filters, VOLUME_KEYS};
use serde_json::Value;

use crate::command::entry::Execute;
use crate::command::global::Global;
use crate::compose::chosen::{Chosen, not_done};
use crate::output::lines::say;
use crate::output::table::{self, Format};
use crate::volume::volumes::{headers, row, warn_of_damage};

/// List the volumes of a project
#[derive(Debug, Parser)]
#[command(
    name = "volumes",
    after_help = "Examples:\n  rbox compose volumes\n  rbox compose volumes -q db             # those that db uses\n  rbox compose volumes --format json"
)]
pub(crate) struct Volumes {
    /// Format output: 'table', 'table TEMPLATE', 'json' or a Go template
    #[arg(long)]
    format: Option<String>,
    /// Only names
    #[arg(short, long)]
    quiet: bool,
    /// Only those that these services use
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

impl Execute for Volumes {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        not_done(self.carry_out(global))
    }
}

impl Volumes {
    fn carry_out(&self, global: &Global) -> anyhow::Result<u8> {
        let chosen = Chosen::read(global, &self.services)?;
        let label = format!("label={}={}", labels::PROJECT, chosen.name);
        let users = global.engine.volume_users()?;
        let mut volumes =
            global.engine.volumes().filtered(&Filters::parse(&[label], VOLUME_KEYS)?, &users)?;
        if !self.services.is_empty() {
            let meant = chosen.observed.instances.iter().filter(|one| self.services.contains(&one.service));
            let mounts = meant.flat_map(|one| &one.container.record.host.mounts);
            let used: BTreeSet<&str> = mounts.filter_map(|mount| mount.kind.source()).collect();
            volumes.retain(|volume| used.contains(volume.name.as_str()));
        }
        volumes.iter().for_each(warn_of_damage);
        if self.quiet {
            volumes.iter().try_for_each(|volume| say(volume.name.as_str()))?;
            return Ok(0);
        }
        let sizes = self.format.as_deref().is_some_and(|format| format.contains(".Size"));
        let rows: Vec<Value> =
            volumes.iter().map(|volume| row(volume, users.of(&volume.name).len(), sizes)).collect();
        let format = Format::parse(self.format.as_deref(), "{{.Driver}}\t{{.Name}}");
        table::print(&format, &headers(), &rows, &mut std::io::stdout())?;
        Ok(0)
    }
}

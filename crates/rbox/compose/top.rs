//! `rbox compose top` and `stats`: what runs in a project's containers, and what they use.

use std::fmt::Write as _;

use clap::Parser;
use rbox_compose::Instance;
use rbox_engine::engine::Container;

use crate::command::entry::Execute;
use crate::command::global::Global;
use crate::compose::chosen::{Chosen, name, not_done};
use crate::container::stats::{Shown, show};
use crate::container::top::{FULL, processes};
use crate::output::table::{align_with, write_all};

/// Display the processes of a project's containers
#[derive(Debug, Parser)]
#[command(name = "top", after_help = "Examples:\n  rbox compose top\n  rbox compose top web db")]
pub(crate) struct Top {
    /// Only these services
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

impl Execute for Top {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        not_done((|| {
            let chosen = Chosen::named(global)?;
            chosen.check(&self.services)?;
            let mut meant: Vec<&Instance> = chosen.observed.instances.iter().collect();
            meant.retain(|one| self.services.is_empty() || self.services.contains(&one.service));
            meant.retain(|one| one.container.is_active());
            meant.sort_by(|a, b| a.name().cmp(b.name()));
            let columns: Vec<&str> = FULL.iter().map(|(column, _)| *column).collect();
            let titles: Vec<&str> = FULL.iter().map(|(_, title)| *title).collect();
            let mut text = format!("SERVICE\t#\t{}\n", titles.join("\t"));
            let mut any = false;
            for one in meant {
                for cells in processes(global, &one.container, &columns)? {
                    any = true;
                    let _ = writeln!(text, "{}\t{}\t{}", one.service, one.number, cells.join("\t"));
                }
            }
            if any {
                write_all(&mut std::io::stdout(), &align_with(&text, 4, 2))?;
            }
            Ok(0)
        })())
    }
}

/// Display a live stream of what a project's containers use
#[derive(Debug, Parser)]
#[command(
    name = "stats",
    after_help = "Examples:\n  rbox compose stats                  # every second\n  rbox compose stats --no-stream web"
)]
pub(crate) struct Stats {
    /// Also those that do not run
    #[arg(short, long)]
    all: bool,
    /// Format output: 'table', 'table TEMPLATE', 'json' or a Go template
    #[arg(long)]
    format: Option<String>,
    /// Only once
    #[arg(long)]
    no_stream: bool,
    /// Do not cut ids
    #[arg(long)]
    no_trunc: bool,
    /// Only these services
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

impl Execute for Stats {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        not_done((|| {
            Chosen::named(global)?.check(&self.services)?;
            let project = name(global)?;
            let shown =
                Shown { format: self.format.as_deref(), no_stream: self.no_stream, no_trunc: self.no_trunc };
            show(global, &shown, &|| {
                let observed = rbox_compose::Observed::of(&global.engine, &project)?;
                let meant = observed.instances.into_iter().filter(|one| {
                    let named = self.services.is_empty() || self.services.contains(&one.service);
                    named && (self.all || one.container.is_active())
                });
                let pair = |one: Instance| {
                    let container: Container = one.container;
                    (container.record.id.short().to_owned(), container)
                };
                Ok(meant.map(pair).collect())
            })
        })())
    }
}

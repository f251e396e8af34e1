//! `rbox compose ls`: the projects there are.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use clap::Parser;
use rbox_compose::{Observed, labels};
use rbox_engine::listing::filter::glob;
use serde_json::{Value, json};

use crate::command::entry::Execute;
use crate::command::error::{Coded, NOT_DONE};
use crate::command::global::Global;
use crate::compose::chosen::not_done;
use crate::output::escape;
use crate::output::lines::say;
use crate::output::table::{align_wide, write_all};

/// List the projects
#[derive(Debug, Parser)]
#[command(
    name = "ls",
    after_help = "Examples:
  rbox compose ls                       # those of which something runs
  rbox compose ls -a --format json
  rbox compose ls -q --filter name=shop"
)]
pub(crate) struct Ls {
    /// Also those of which nothing runs
    #[arg(short, long)]
    all: bool,
    /// Only those of a name: name=NAME
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// table or json
    #[arg(long, default_value = "table")]
    format: String,
    /// Only names
    #[arg(short, long)]
    quiet: bool,
}

/// A project.
struct Project {
    name: String,
    status: String,
    files: String,
}

impl Execute for Ls {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        not_done(self.carry_out(global))
    }
}

impl Ls {
    fn carry_out(&self, global: &Global) -> anyhow::Result<u8> {
        let refused = |message: String| anyhow::Error::from(Coded { message, code: NOT_DONE });
        let mut names = Vec::new();
        for filter in &self.filter {
            match filter.split_once('=') {
                Some(("name", name)) => names.push(name),
                _ => return Err(refused(format!("invalid filter '{filter}'"))),
            }
        }
        let projects = Observed::projects(&global.engine)?;
        let shown: Vec<Project> = projects
            .iter()
            .filter(|(name, _)| names.is_empty() || names.iter().any(|wanted| glob(wanted, name)))
            .filter_map(|(name, observed)| self.project(name, observed))
            .collect();
        if self.quiet {
            shown.iter().try_for_each(|project| say(&project.name))?;
            return Ok(0);
        }
        match self.format.to_lowercase().as_str() {
            "" | "table" | "pretty" => {
                let mut text = "NAME\tSTATUS\tCONFIG FILES\n".to_owned();
                for Project { name, status, files } in &shown {
                    let _ = writeln!(text, "{}\t{status}\t{}", escape::text(name), escape::text(files));
                }
                write_all(&mut std::io::stdout(), &align_wide(&text, 20))?;
            }
            "json" => {
                let row =
                    |one: &Project| json!({"Name": one.name, "Status": one.status, "ConfigFiles": one.files});
                let rows: Vec<Value> = shown.iter().map(row).collect();
                say(&escape::json(&Value::Array(rows).to_string()))?;
            }
            other => {
                return Err(refused(format!("format value {other:?} could not be parsed: parsing failed")));
            }
        }
        Ok(0)
    }

    /// How many of its containers are in which state, and which files they were made of.
    fn project(&self, name: &str, observed: &Observed) -> Option<Project> {
        let meant = observed.instances.iter().filter(|one| self.all || one.container.is_active());
        let mut states: BTreeMap<&str, usize> = BTreeMap::new();
        let mut files: Vec<&str> = Vec::new();
        let mut seen = BTreeSet::new();
        let mut unknown = false;
        for one in meant {
            *states.entry(one.container.status.as_str()).or_default() += 1;
            match one.label(labels::CONFIG_FILES) {
                Some(all) => files.extend(all.split(',').filter(|file| seen.insert(*file))),
                None => unknown = true,
            }
        }
        let states: Vec<String> = states.iter().map(|(state, number)| format!("{state}({number})")).collect();
        let files = if unknown { "N/A".to_owned() } else { files.join(",") };
        (!states.is_empty()).then(|| Project { name: name.to_owned(), status: states.join(", "), files })
    }
}

//! `rbox system check`: what belongs to nobody or is damaged.

use clap::Parser;
use rbox_engine::engine::{CheckRequest, Finding, Outcome};
use serde_json::{Value, json};

use crate::command::entry::Execute;
use crate::command::global::Global;
use crate::output::escape;
use crate::output::lines::say;
use crate::output::table::{self, Format};
use crate::output::template::Headers;

/// Find what belongs to nobody or is damaged, and repair it
#[derive(Debug, Parser)]
#[command(
    name = "check",
    after_help = "Examples:
  rbox system check                      # exit code 1 if something is not as it should be
  rbox system check --layers             # also compares all layers with their digests
  rbox system check --layers --repair    # fetches and unpacks again what is damaged
  rbox system check --format json"
)]
pub(crate) struct Check {
    /// Format output: 'table', 'table TEMPLATE', 'json' or a Go template, for each
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Read all layers and compare them with their digests
    #[arg(long)]
    layers: bool,
    /// Remove what belongs to nobody, and make whole what is damaged
    #[arg(long)]
    repair: bool,
}

impl Execute for Check {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let request = CheckRequest { contents: self.layers, repair: self.repair };
        let found = global.engine.check(request)?;
        let left = found.iter().filter(|one| one.outcome != Outcome::Repaired).count();
        if let Some(format) = &self.format {
            let format = Format::parse(Some(format), "{{.Kind}}\t{{.What}}\t{{.Why}}\t{{.Outcome}}");
            let headers = Headers::from([
                ("ByHand", "BY HAND"),
                ("Error", "ERROR"),
                ("Kind", "KIND"),
                ("Outcome", "OUTCOME"),
                ("Repairable", "REPAIRABLE"),
                ("What", "WHAT"),
                ("Why", "WHY"),
            ]);
            let rows: Vec<Value> = found.iter().map(as_json).collect();
            table::print(&format, &headers, &rows, &mut std::io::stdout())?;
        } else {
            found.iter().try_for_each(|one| say(&escape::text(&line(one))))?;
            say(&sum(&found, left))?;
        }
        Ok(u8::from(left > 0))
    }
}

fn line(one: &Finding) -> String {
    let what = format!("{}: {}: {}", one.trouble.as_str(), one.what, one.why);
    match (&one.outcome, &one.by_hand) {
        (Outcome::Repaired, _) => format!("{what} (repaired)"),
        (Outcome::Failed(why), _) => format!("{what} (not repaired: {why})"),
        (Outcome::Left, Some(todo)) => format!("{what} ({todo})"),
        (Outcome::Left, None) => what,
    }
}

fn sum(found: &[Finding], left: usize) -> String {
    let repaired = found.len() - left;
    let repairable = found.iter().filter(|one| one.outcome == Outcome::Left && one.is_repairable()).count();
    match (found.len(), left) {
        (0, _) => "nothing is stray or damaged".to_owned(),
        (all, 0) => format!("{all} found, all repaired"),
        (all, _) if repaired > 0 => format!("{all} found, {repaired} repaired"),
        (all, _) if repairable > 0 => format!("{all} found; --repair takes care of {repairable}"),
        (all, _) => format!("{all} found"),
    }
}

fn as_json(one: &Finding) -> Value {
    let (outcome, error) = match &one.outcome {
        Outcome::Left => ("left", None),
        Outcome::Repaired => ("repaired", None),
        Outcome::Failed(why) => ("failed", Some(why.as_str())),
    };
    json!({
        "Kind": one.trouble.as_str(),
        "What": one.what,
        "Why": one.why,
        "Repairable": one.is_repairable(),
        "Outcome": outcome,
        "Error": error.unwrap_or_default(),
        "ByHand": one.by_hand.clone().unwrap_or_default(),
    })
}

//! `rbox builder prune` and `rbox builder du`: what builds keep.

use std::time::SystemTime;

use clap::Parser;
use jiff::Timestamp;
use rbox_build::{CacheEntry, cache_entries, prune_cache};
use rbox_engine::listing::filter::Filters;
use serde_json::{Value, json};

use crate::args::limits::size;
use crate::args::pruning::confirmed;
use crate::command::entry::Execute;
use crate::command::global::Global;
use crate::output::lines::say;
use crate::output::table::{self, Format};
use crate::output::template::Headers;
use crate::output::units::{ago, human_sum};

/// What can be asked of an entry.
const KEYS: &[&str] = &["id", "until", "type", "description"];

/// Remove what builds keep
#[derive(Debug, Parser)]
#[command(
    name = "prune",
    after_help = "Examples:\n  rbox builder prune -f                             # all of it\n  rbox builder prune -f --filter until=24h          # what was not used for a day\n  rbox builder prune -f --keep-storage 5gb          # but for the 5 GB that were used last\n\nImages stay, with their layers."
)]
pub(crate) struct Prune {
    /// Also what is internal; there is no difference here
    #[arg(short, long)]
    all: bool,
    /// Only what passes (until=24h, id=ID, type=regular or exec.cachemount, description=TEXT)
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
    /// Keep what was used last, up to this size
    #[arg(long, visible_alias = "max-used-space", alias = "reserved-space", value_name = "SIZE")]
    keep_storage: Option<String>,
    /// More about each entry
    #[arg(long)]
    verbose: bool,
}

/// Show what builds keep
#[derive(Debug, Parser)]
#[command(
    name = "du",
    after_help = "Examples:\n  rbox builder du\n  rbox builder du --verbose --filter type=exec.cachemount\n  rbox builder du --format json"
)]
pub(crate) struct Du {
    /// Only what passes (until=24h, id=ID, type=regular or exec.cachemount, description=TEXT)
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Format the output: table, json, or a template
    #[arg(long)]
    format: Option<String>,
    /// More about each entry
    #[arg(long)]
    verbose: bool,
}

impl Execute for Prune {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let filters = Filters::parse(&self.filter, KEYS)?;
        let keep = self.keep_storage.as_deref().map(size).transpose()?;
        let warning = "WARNING! This will remove all build cache.";
        if !self.force && !confirmed(warning)? {
            return Ok(0);
        }
        let (removed, freed) = prune(global, &filters, keep)?;
        show(&removed, self.verbose, None)?;
        say(&format!("Total:\t{}", human_sum(freed)))?;
        Ok(0)
    }
}

impl Execute for Du {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let filters = Filters::parse(&self.filter, KEYS)?;
        let until = filters.until(Timestamp::now())?;
        let mut all = cache_entries(&global.engine.build_dir())?;
        all.retain(|entry| passes(entry, &filters, until));
        let total: u64 = all.iter().map(|entry| entry.size).sum();
        let free: u64 = all.iter().filter(|entry| !entry.is_in_use).map(|entry| entry.size).sum();
        show(&all, self.verbose, self.format.as_deref())?;
        if self.format.is_none() {
            say(&format!("Reclaimable:\t{}\nTotal:\t\t{}", human_sum(free), human_sum(total)))?;
        }
        Ok(0)
    }
}

/// Removes what passes, but for what was used last and is within `keep` bytes.
pub(crate) fn prune(
    global: &Global,
    filters: &Filters,
    keep: Option<u64>,
) -> anyhow::Result<(Vec<CacheEntry>, u64)> {
    let until = filters.until(Timestamp::now())?;
    let last_used = filters.last_used(Timestamp::now())?;
    let mut kept = 0_u64;
    let mut wanted = |entry: &CacheEntry| {
        if !passes(entry, filters, until) || last_used.is_some_and(|since| used(entry) >= since) {
            return false;
        }
        kept = kept.saturating_add(entry.size);
        keep.is_none_or(|keep| kept > keep)
    };
    let pruned = prune_cache(&global.engine.build_dir(), &global.engine.images()?, &mut wanted)?;
    Ok((pruned.removed, pruned.freed))
}

fn passes(entry: &CacheEntry, filters: &Filters, until: Option<Timestamp>) -> bool {
    filters.matches("id", &entry.id)
        && filters.equals("type", entry.kind)
        && filters.matches("description", &entry.description)
        && until.is_none_or(|until| used(entry) < until)
}

fn used(entry: &CacheEntry) -> Timestamp {
    Timestamp::try_from(entry.used).unwrap_or(Timestamp::UNIX_EPOCH)
}

pub(crate) fn show(entries: &[CacheEntry], verbose: bool, format: Option<&str>) -> anyhow::Result<()> {
    let usual = "{{.ID}}\t{{.Reclaimable}}\t{{.Size}}\t{{.LastUsedAt}}";
    let long = "{{.ID}}\t{{.Type}}\t{{.Reclaimable}}\t{{.Size}}\t{{.LastUsedAt}}\t{{.Description}}";
    let format = Format::parse(format, if verbose { long } else { usual });
    let headers = Headers::from([
        ("ID", "ID"),
        ("Type", "TYPE"),
        ("Reclaimable", "RECLAIMABLE"),
        ("Size", "SIZE"),
        ("LastUsedAt", "LAST ACCESSED"),
        ("Description", "DESCRIPTION"),
    ]);
    let now = Timestamp::try_from(SystemTime::now()).unwrap_or(Timestamp::UNIX_EPOCH);
    let rows: Vec<Value> = entries.iter().map(|entry| row(entry, now)).collect();
    table::print(&format, &headers, &rows, &mut std::io::stdout())
}

fn row(entry: &CacheEntry, now: Timestamp) -> Value {
    let id: String = entry.id.chars().take(25).collect();
    json!({
        "ID": id,
        "Type": entry.kind,
        "Reclaimable": (!entry.is_in_use).to_string(),
        "Size": human_sum(entry.size),
        "LastUsedAt": ago(used(entry), now),
        "Description": entry.description,
    })
}

//! `rbox system df`, `prune` and `reset`: the disk as a whole.

use std::collections::HashSet;

use clap::Parser;
use rbox_engine::filter::PRUNE_KEYS;
use rbox_engine::teardown;
use rbox_engine::volume::disk_usage;
use serde_json::{Value, json};

use crate::cli::{Execute, Global, say};
use crate::pruning::{Pruning, confirmed};
use crate::table::{self, Format};
use crate::template::Headers;
use crate::units::human_size;
use crate::{network, rm, rmi, volume};

/// Show disk usage
#[derive(Debug, Parser)]
#[command(
    name = "df",
    after_help = "Examples:\n  rbox system df\n  rbox system df --format '{{.Type}} {{.Reclaimable}}'"
)]
pub(crate) struct Df {
    /// Format output: 'table', 'table TEMPLATE', 'json' or a Go template
    #[arg(long)]
    format: Option<String>,
}

impl Execute for Df {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        // Nothing is built here, so there is no cache of it; programs read four rows.
        let cache = row("Build Cache", 0, 0, 0, 0);
        let rows = [images(global)?, containers(global)?, volumes(global)?, cache];
        let format = Format::parse(
            self.format.as_deref(),
            "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
        );
        let headers = Headers::from([
            ("Active", "ACTIVE"),
            ("Reclaimable", "RECLAIMABLE"),
            ("Size", "SIZE"),
            ("TotalCount", "TOTAL"),
            ("Type", "TYPE"),
        ]);
        table::print(&format, &headers, &rows, &mut std::io::stdout())?;
        Ok(0)
    }
}

fn row(kind: &str, total: usize, active: usize, size: u64, reclaimable: u64) -> Value {
    let share =
        (reclaimable * 100).checked_div(size).map_or_else(String::new, |share| format!(" ({share}%)"));
    json!({
        "Active": active.to_string(),
        "Reclaimable": format!("{}{share}", human_size(reclaimable)),
        "Size": human_size(size),
        "TotalCount": total.to_string(),
        "Type": kind,
    })
}

/// Layers that several images share count once.
fn images(global: &Global) -> anyhow::Result<Value> {
    let store = global.images()?;
    let used: HashSet<String> = store.users()?.known.into_iter().map(|user| user.image.to_string()).collect();
    let images = global.listed_images()?;
    let is_used = |id: &str| used.contains(id);
    let mut seen = HashSet::new();
    let (mut size, mut kept) = (0, 0);
    // Those in use first: what they share with others is not reclaimable.
    for wanted in [true, false] {
        for image in images.iter().filter(|image| is_used(&image.id.to_string()) == wanted) {
            for layer in &image.layers {
                if seen.insert(layer.diff_id.to_string()) {
                    let bytes = store.layer_size(layer) + layer.blob_size;
                    size += bytes;
                    kept += if wanted { bytes } else { 0 };
                }
            }
        }
    }
    let active = images.iter().filter(|image| is_used(&image.id.to_string())).count();
    Ok(row("Images", images.len(), active, size, size - kept))
}

fn containers(global: &Global) -> anyhow::Result<Value> {
    let containers = global.containers()?;
    // What it has written, as `ps -s` has it.
    let size_of = |one: &rbox_engine::record::Container| {
        disk_usage(&global.paths.container(&one.record.id).join("upper"))
    };
    let size: u64 = containers.iter().map(size_of).sum();
    let stopped: u64 = containers.iter().filter(|one| !one.is_active()).map(size_of).sum();
    let active = containers.iter().filter(|one| one.is_active()).count();
    Ok(row("Containers", containers.len(), active, size, stopped))
}

fn volumes(global: &Global) -> anyhow::Result<Value> {
    let users = global.volume_users()?;
    let volumes = global.volumes().list()?;
    let (mut size, mut unused, mut active) = (0, 0, 0);
    for volume in &volumes {
        let bytes = volume.size();
        size += bytes;
        if users.of(&volume.name).is_empty() {
            unused += bytes;
        } else {
            active += 1;
        }
    }
    Ok(row("Local Volumes", volumes.len(), active, size, unused))
}

/// Remove unused data
#[derive(Debug, Parser)]
#[command(
    name = "prune",
    after_help = "Examples:\n  rbox system prune -f                   # stopped containers, images without a tag\n  rbox system prune -a -f --volumes      # all images no container uses, volumes nobody named\n  rbox system prune --filter until=24h"
)]
pub(crate) struct Prune {
    /// Remove all unused images, not just dangling ones
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    pruning: Pruning,
    /// Prune anonymous volumes
    #[arg(long)]
    volumes: bool,
}

impl Execute for Prune {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let filters = self.pruning.filters(PRUNE_KEYS)?;
        if self.volumes && filters.until(jiff::Timestamp::now())?.is_some() {
            // A volume's age says nothing of when it was used last.
            anyhow::bail!("ERROR: The \"until\" filter is not supported with \"--volumes\"");
        }
        let images = if self.all {
            "all images without at least one container associated to them"
        } else {
            "all dangling images"
        };
        let volumes =
            if self.volumes { "\n  - all anonymous volumes not used by at least one container" } else { "" };
        let warning = format!(
            "WARNING! This will remove:\n  - all stopped containers\n  - all networks not used by at least one container\n  - {images}{volumes}\n"
        );
        if !self.pruning.agreed(&warning)? {
            return Ok(0);
        }
        let mut reclaimed = rm::prune(global, &filters)?;
        network::prune(global, &filters)?;
        if self.volumes {
            reclaimed += volume::prune(global, &filters, false)?;
        }
        reclaimed += rmi::prune(global, &filters, self.all)?;
        say(&format!("Total reclaimed space: {}", human_size(reclaimed)))?;
        Ok(0)
    }
}

/// Remove all that rbox keeps: containers, images, volumes, networks
#[derive(Debug, Parser)]
#[command(
    name = "reset",
    after_help = "Examples:\n  rbox system reset        # asks first\n  rbox --root /tmp/r --state /tmp/s system reset -f"
)]
pub(crate) struct Reset {
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

impl Execute for Reset {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let (root, state) = (&global.paths.root, &global.paths.state);
        let warning = format!(
            "WARNING! This will end and remove all containers, and remove all images, volumes and networks in\n  {}\n  {}",
            root.display(),
            state.display()
        );
        if !self.force && !confirmed(&warning)? {
            return Ok(0);
        }
        let mut failures: Vec<String> = Vec::new();
        for container in global.containers()? {
            if let Err(error) = teardown::remove(&global.paths, &container, true, true) {
                failures.push(error.to_string());
            }
        }
        // A container that could not be ended still stands on these.
        if failures.is_empty() {
            if let Err(errors) = rbox_engine::wiring::networks(&global.paths).destroy() {
                failures.extend(errors.iter().map(ToString::to_string));
            }
            teardown::remove_group_parents(&global.paths);
            let _ = std::fs::remove_file(global.paths.boot_mark());
            for dir in [root, state] {
                for name in rbox_engine::paths::own_directories() {
                    let path = dir.join(name);
                    if let Err(error) = teardown::remove_tree(&path) {
                        failures.push(error.with_causes());
                    }
                }
                // Theirs only if nothing else lies in it.
                let _ = std::fs::remove_dir(dir);
            }
        }
        if !failures.is_empty() {
            anyhow::bail!("reset: {}", failures.join("; "));
        }
        Ok(0)
    }
}

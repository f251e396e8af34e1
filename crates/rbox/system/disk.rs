//! `rbox system df`, `prune` and `reset`: the disk as a whole.

use rbox_engine::engine::{Container, Volume};
use std::collections::{HashMap, HashSet};

use clap::Parser;
use jiff::Timestamp;
use rbox_build::CacheEntry;
use rbox_engine::image::Image;
use rbox_engine::listing::filter::PRUNE_KEYS;
use rbox_engine::spec::{Digest, Reference};
use serde_json::{Value, json};

use crate::args::pruning::{Pruning, confirmed, say_deleted};
use crate::builder::cache;
use crate::command::entry::Execute;
use crate::command::global::Global;
use crate::container::{ps, rm};
use crate::image::{images, rmi};
use crate::network::networks;
use crate::output::escape;
use crate::output::lines::say;
use crate::output::table::{self, Format};
use crate::output::template::{Headers, Template};
use crate::output::units::{ago, human_sum};
use crate::volume::volumes;

/// Show disk usage
#[derive(Debug, Parser)]
#[command(
    name = "df",
    after_help = "Examples:\n  rbox system df\n  rbox system df -v                  # each image, container and volume\n  rbox system df --format '{{.Type}} {{.Reclaimable}}'"
)]
pub(crate) struct Df {
    /// Format output: 'table', 'table TEMPLATE', 'json' or a Go template
    #[arg(long)]
    format: Option<String>,
    /// Show detailed information on space usage
    #[arg(short, long)]
    verbose: bool,
}

impl Execute for Df {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let format = Format::parse(
            self.format.as_deref(),
            "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
        );
        let mut out = std::io::stdout();
        if self.verbose {
            let given = self.format.as_deref().map(str::trim).unwrap_or_default();
            let is_table = matches!(format, Format::Table(_));
            let usage = Usage::read(global, !is_table)?;
            return match format {
                Format::Table(_) if matches!(given, "" | "table") => usage.print_tables(&mut out),
                Format::Json => {
                    table::write_all(&mut out, &format!("{}\n", escape::json(&usage.whole().to_string())))?;
                    Ok(0)
                }
                Format::Table(source) | Format::Template(source) => {
                    let text = Template::parse(&source)?.render(&usage.whole())?;
                    table::write_all(&mut out, &format!("{text}\n"))?;
                    Ok(0)
                }
            };
        }
        let cache = build_cache(global)?;
        let rows = [images(global)?, containers(global)?, volumes(global)?, cache];
        let headers = Headers::from([
            ("Active", "ACTIVE"),
            ("Reclaimable", "RECLAIMABLE"),
            ("Size", "SIZE"),
            ("TotalCount", "TOTAL"),
            ("Type", "TYPE"),
        ]);
        table::print(&format, &headers, &rows, &mut out)?;
        Ok(0)
    }
}

fn build_cache(global: &Global) -> anyhow::Result<Value> {
    let all = rbox_build::cache_entries(&global.engine.build_dir())?;
    let active = all.iter().filter(|entry| entry.is_in_use).count();
    let size = all.iter().map(|entry| entry.size).sum();
    let free = all.iter().filter(|entry| !entry.is_in_use).map(|entry| entry.size).sum();
    Ok(row("Build Cache", all.len(), active, size, free))
}

fn row(kind: &str, total: usize, active: usize, size: u64, reclaimable: u64) -> Value {
    let share =
        (reclaimable * 100).checked_div(size).map_or_else(String::new, |share| format!(" ({share}%)"));
    json!({
        "Active": active.to_string(),
        "Reclaimable": format!("{}{share}", human_sum(reclaimable)),
        "Size": human_sum(size),
        "TotalCount": total.to_string(),
        "Type": kind,
    })
}

/// What one image takes of the disk.
struct ImageUsage {
    image: Image,
    /// Bytes of the layers that other images have too.
    shared: u64,
    /// Bytes of those that only this one has.
    unique: u64,
    containers: usize,
}

/// All images, and the bytes of their layers, each once.
fn image_usage(global: &Global) -> anyhow::Result<(Vec<ImageUsage>, u64)> {
    let store = global.engine.images()?;
    let mut containers: HashMap<String, usize> = HashMap::new();
    for container in global.engine.containers()? {
        *containers.entry(container.record.image_id).or_default() += 1;
    }
    let images = global.engine.listed_images()?;
    // An image may have a layer twice.
    let of = |image: &Image| -> HashSet<Digest> { image.layers.iter().map(|layer| layer.diff_id).collect() };
    let mut layers: HashMap<Digest, (u64, usize)> = HashMap::new();
    for image in &images {
        for layer in &image.layers {
            layers.entry(layer.diff_id).or_insert_with(|| (store.layer_size(layer), 0));
        }
        for diff_id in of(image) {
            layers.entry(diff_id).and_modify(|(_, images)| *images += 1);
        }
    }
    let total = layers.values().map(|(size, _)| size).sum();
    let one = |image: Image| {
        let (mut shared, mut unique) = (0, 0);
        for (size, images) in of(&image).iter().filter_map(|diff_id| layers.get(diff_id)) {
            *(if *images > 1 { &mut shared } else { &mut unique }) += size;
        }
        let containers = containers.get(&image.id.to_string()).copied().unwrap_or(0);
        ImageUsage { image, shared, unique, containers }
    };
    Ok((images.into_iter().map(one).collect(), total))
}

/// As Docker counts it: reclaimable is all but what only the images in use have.
fn images(global: &Global) -> anyhow::Result<Value> {
    let (images, total) = image_usage(global)?;
    let used = || images.iter().filter(|one| one.containers > 0);
    let kept: u64 = used().map(|one| one.unique).sum();
    Ok(row("Images", images.len(), used().count(), total, total - kept))
}

fn containers(global: &Global) -> anyhow::Result<Value> {
    let containers = global.engine.containers()?;
    // What it has written, as `ps -s` has it.
    let size_of = |one: &Container| global.engine.written(&one.record);
    let (mut size, mut stopped, mut active) = (0, 0, 0);
    for one in &containers {
        let bytes = size_of(one);
        size += bytes;
        if one.is_active() {
            active += 1;
        } else {
            stopped += bytes;
        }
    }
    Ok(row("Containers", containers.len(), active, size, stopped))
}

/// The volumes that take space of rbox's: not those that have a file system of their own.
fn local_volumes(global: &Global) -> anyhow::Result<Vec<Volume>> {
    let mut volumes = global.engine.volumes().list()?;
    volumes.retain(|volume| volume.options.is_empty());
    Ok(volumes)
}

fn volumes(global: &Global) -> anyhow::Result<Value> {
    let users = global.engine.volume_users()?;
    let volumes = local_volumes(global)?;
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

/// `df -v`: each thing by itself.
struct Usage {
    images: Vec<Value>,
    containers: Vec<Value>,
    volumes: Vec<Value>,
    cache: Vec<Value>,
    /// What Docker does not tell: each layer once, and what containers have written to their logs.
    layers: Vec<Value>,
    logs: Vec<Value>,
    /// Bytes of what builds keep.
    cached: u64,
}

impl Usage {
    /// Ids and commands are whole with `full`.
    fn read(global: &Global, full: bool) -> anyhow::Result<Self> {
        let now = Timestamp::now();
        let (usage, _) = image_usage(global)?;
        let layers = layer_rows(global, &usage, full)?;
        let images = usage.iter().map(|one| image_row(one, full, now)).collect();
        let cache = rbox_build::cache_entries(&global.engine.build_dir())?;
        let cached = cache.iter().map(|entry| entry.size).sum();
        let cache = cache.iter().map(|entry| cache_row(entry, full, now)).collect();
        let view = ps::View { full, sizes: ps::Sizes::Own(global), now };
        let all = global.engine.containers()?;
        let containers = all.iter().map(|one| view.row(one)).collect::<Result<_, _>>()?;
        let logs = all.iter().map(|one| log_row(global, one)).collect();
        let users = global.engine.volume_users()?;
        let volumes = local_volumes(global)?;
        let volumes = volumes.iter().map(|one| volumes::row(one, users.of(&one.name).len(), true)).collect();
        Ok(Self { images, containers, volumes, cache, layers, logs, cached })
    }

    /// What a template is given, which is run once.
    fn whole(&self) -> Value {
        json!({
            "Images": self.images,
            "Containers": self.containers,
            "Volumes": self.volumes,
            "BuildCache": self.cache,
            "Layers": self.layers,
            "Logs": self.logs,
        })
    }

    fn print_tables(&self, out: &mut impl table::Stream) -> anyhow::Result<u8> {
        let cache_title = format!("Build cache usage: {}", human_sum(self.cached));
        let sections = [
            (
                "Images space usage:",
                "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}",
                images::headers(),
                &self.images[..],
            ),
            (
                "Containers space usage:",
                "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}",
                ps::headers(),
                &self.containers[..],
            ),
            (
                "Local Volumes space usage:",
                "{{.Name}}\t{{.Links}}\t{{.Size}}",
                volumes::headers(),
                &self.volumes[..],
            ),
            (
                &cache_title,
                "{{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.UsageCount}}\t{{.Shared}}",
                cache_headers(),
                &self.cache[..],
            ),
            ("Layers space usage:", "{{.ID}}\t{{.Size}}\t{{.Images}}", layer_headers(), &self.layers[..]),
            ("Logs space usage:", "{{.Names}}\t{{.Driver}}\t{{.Size}}", log_headers(), &self.logs[..]),
        ];
        for (at, (title, columns, headers, rows)) in sections.iter().enumerate() {
            let gap = if at > 0 { "\n" } else { "" };
            table::write_all(out, &format!("{gap}{title}\n\n"))?;
            table::print(&Format::Table((*columns).to_owned()), headers, rows, out)?;
        }
        Ok(0)
    }
}

/// One row a layer, the largest first: those of images, each once.
fn layer_rows(global: &Global, usage: &[ImageUsage], full: bool) -> anyhow::Result<Vec<Value>> {
    let store = global.engine.images()?;
    let mut layers: HashMap<Digest, (u64, Vec<String>)> = HashMap::new();
    for one in usage {
        let name = one.image.references.iter().find(|name| name.tag().is_some());
        let name = name.map_or_else(|| one.image.id.short(), Reference::familiar);
        for layer in &one.image.layers {
            let (_, names) =
                layers.entry(layer.diff_id).or_insert_with(|| (store.layer_size(layer), Vec::new()));
            if !names.contains(&name) {
                names.push(name.clone());
            }
        }
    }
    let mut layers: Vec<_> = layers.into_iter().collect();
    layers.sort_by(|(a, (size_a, _)), (b, (size_b, _))| size_b.cmp(size_a).then_with(|| a.cmp(b)));
    let row = |(id, (size, mut names)): (Digest, (u64, Vec<String>))| {
        names.sort();
        let id = if full { id.to_string() } else { id.short() };
        json!({ "ID": id, "Size": human_sum(size), "Images": names.join(", ") })
    };
    Ok(layers.into_iter().map(row).collect())
}

fn layer_headers() -> Headers {
    Headers::from([("ID", "LAYER ID"), ("Images", "IMAGES"), ("Size", "SIZE")])
}

fn log_row(global: &Global, container: &Container) -> Value {
    let record = &container.record;
    json!({
        "Names": record.name.as_str(),
        "Driver": record.host.log_driver.as_str(),
        "Size": human_sum(global.engine.log_size(record)),
    })
}

fn log_headers() -> Headers {
    Headers::from([("Driver", "LOG DRIVER"), ("Names", "NAMES"), ("Size", "SIZE")])
}

fn cache_row(entry: &CacheEntry, full: bool, now: Timestamp) -> Value {
    let used = Timestamp::try_from(entry.used).unwrap_or(Timestamp::UNIX_EPOCH);
    let id: String = if full { entry.id.clone() } else { entry.id.chars().take(12).collect() };
    json!({
        "ID": id,
        "CacheType": entry.kind,
        "Size": human_sum(entry.size),
        // Nobody notes when it was made, and how often it was used.
        "CreatedSince": "",
        "LastUsedSince": ago(used, now),
        "UsageCount": "",
        "Shared": "false",
        "InUse": entry.is_in_use.to_string(),
        "Description": entry.description,
    })
}

/// One row an image, with its first name only.
fn image_row(usage: &ImageUsage, full: bool, now: Timestamp) -> Value {
    let mut row = images::row(&usage.image, full, now);
    let name = usage.image.references.iter().find(|name| name.tag().is_some());
    if let Some(fields) = row.as_object_mut() {
        let mut set = |key: &str, value: String| fields.insert(key.to_owned(), value.into());
        set("Repository", name.map_or_else(|| images::NONE.to_owned(), Reference::familiar_name));
        set("Tag", name.and_then(Reference::tag).unwrap_or(images::NONE).to_owned());
        set("Digest", String::new());
        set("Containers", usage.containers.to_string());
        set("SharedSize", human_sum(usage.shared));
        set("UniqueSize", human_sum(usage.unique));
    }
    row
}

fn cache_headers() -> Headers {
    Headers::from([
        ("CacheType", "CACHE TYPE"),
        ("CreatedSince", "CREATED"),
        ("ID", "CACHE ID"),
        ("LastUsedSince", "LAST USED"),
        ("Shared", "SHARED"),
        ("Size", "SIZE"),
        ("UsageCount", "USAGE"),
    ])
}

/// Remove unused data
#[derive(Debug, Parser)]
#[command(
    name = "prune",
    after_help = "Examples:\n  rbox system prune -f                   # stopped containers, images without a tag\n  rbox system prune -a -f --volumes      # also all unused images and anonymous volumes\n  rbox system prune --filter until=24h"
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
        // What builds keep has no labels.
        let has_cache = !filters.contains("label") && !filters.contains("label!");
        let kept = match (has_cache, self.all) {
            (false, _) => "",
            (true, true) => "\n  - all build cache",
            (true, false) => "\n  - unused build cache",
        };
        let warning = format!(
            "WARNING! This will remove:\n  - all stopped containers\n  - all networks not used by at least one container{volumes}\n  - {images}{kept}\n{}",
            self.pruning.told()
        );
        if !self.pruning.agreed(&warning)? {
            return Ok(0);
        }
        let mut reclaimed = rm::prune(global, &filters)?;
        networks::prune(global, &filters)?;
        if self.volumes {
            reclaimed += volumes::prune(global, &filters, false)?;
        }
        reclaimed += rmi::prune(global, &filters, self.all)?;
        if has_cache {
            let (removed, freed) = cache::prune(global, &filters, None)?;
            say_deleted("build cache objects", removed.iter().map(|entry| entry.id.as_str()))?;
            reclaimed += freed;
        }
        say(&format!("Total reclaimed space: {}", human_sum(reclaimed)))?;
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
        let (root, state) = (&global.engine.paths().root, &global.engine.paths().state);
        let warning = format!(
            "WARNING! This will end and remove all containers, and remove all images, volumes and networks in\n  {}\n  {}",
            root.display(),
            state.display()
        );
        if !self.force && !confirmed(&warning)? {
            return Ok(0);
        }
        if let Err(failures) = global.engine.reset() {
            anyhow::bail!("reset: {}", failures.join("; "));
        }
        Ok(0)
    }
}

//! `rbox image tree` and `rbox image diff`: what an image's layers have, and where two images differ.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use clap::Parser;
use rbox_engine::engine::{Differs, FileDifference, ImageDifferences};
use rbox_engine::image::{Image, ImageStore, Layer};
use rbox_engine::spec::{Digest, Reference};
use serde_json::{Value, json};

use crate::command::entry::Execute;
use crate::command::global::Global;
use crate::image::history::image_for;
use crate::output::escape;
use crate::output::table::{document, write_all};
use crate::output::units::{ellipsis, human_size};

/// Letters of a step that are shown where it is not shown whole.
const STEP: usize = 60;

/// Show the layers of an image: their sizes, the line that made each, and which images have them too
#[derive(Debug, Parser)]
#[command(
    name = "tree",
    after_help = "Examples:\n  rbox image tree python:3.11-slim\n  rbox image tree --no-trunc --platform linux/arm64 debian:12\n  rbox image tree --format json app | jq '.Layers[] | select(.Size > 10000000) | .CreatedBy'"
)]
pub(crate) struct Tree {
    /// Format output: 'json', or a Go template
    #[arg(long)]
    format: Option<String>,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Of an image for several platforms this one (OS/ARCH[/VARIANT])
    #[arg(long)]
    platform: Option<String>,
    /// A name or id
    image: String,
}

/// A step of an image's history, and the layer it made.
struct Step<'i> {
    layer: Option<&'i Layer>,
    by: String,
}

/// The steps in their order. A layer that no step tells of has none of its own.
fn steps(image: &Image) -> Vec<Step<'_>> {
    let mut layers = image.layers.iter();
    let mut all: Vec<Step<'_>> = Vec::new();
    for step in image.history() {
        let layer = if step.empty_layer { None } else { layers.next() };
        all.push(Step { layer, by: step.created_by.clone().unwrap_or_default().replace('\t', " ") });
    }
    all.extend(layers.map(|layer| Step { layer: Some(layer), by: String::new() }));
    all
}

/// Which images have a layer.
fn users(store: &ImageStore, except: &Image) -> anyhow::Result<BTreeMap<Digest, Vec<String>>> {
    let mut all: BTreeMap<Digest, Vec<String>> = BTreeMap::new();
    for image in store.list()?.iter().filter(|image| image.id != except.id) {
        let name = image.references.first().map_or_else(|| image.id.short(), Reference::familiar);
        for layer in &image.layers {
            let known = all.entry(layer.diff_id).or_default();
            if !known.contains(&name) {
                known.push(name.clone());
            }
        }
    }
    Ok(all)
}

impl Execute for Tree {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let store = global.engine.images()?;
        let image = image_for(&store, &self.image, self.platform.as_deref())?;
        let users = users(&store, &image)?;
        let shared = |layer: &Layer| users.get(&layer.diff_id).cloned().unwrap_or_default();
        let steps = steps(&image);
        if let Some(format) = &self.format {
            let shown = |step: &Step<'_>| {
                json!({
                    "DiffID": step.layer.map(|layer| layer.diff_id.to_string()),
                    "Size": step.layer.map_or(0, |layer| store.layer_size(layer)),
                    "ContentSize": step.layer.map_or(0, |layer| layer.blob_size),
                    "CreatedBy": step.by,
                    "SharedWith": step.layer.map(shared).unwrap_or_default(),
                })
            };
            let whole = json!({
                "Id": image.id.to_string(),
                "Platform": image.platform.to_string(),
                "Size": image.size,
                "Layers": steps.iter().map(shown).collect::<Vec<Value>>(),
            });
            write_all(&mut std::io::stdout(), &document(format, &whole)?)?;
            return Ok(0);
        }
        // By the name that was asked for, if it is one of the image's.
        let asked = self.image.parse().ok().map(Reference::with_default_tag);
        let asked = asked.as_ref().filter(|asked| image.references.contains(asked));
        let name = asked.or(image.references.first());
        let name = name.map_or_else(|| image.id.short(), Reference::familiar);
        let mut out = String::new();
        let count = image.layers.len();
        let layers = if count == 1 { "layer" } else { "layers" };
        let _ = writeln!(
            out,
            "{}  {}  {}, {count} {layers}",
            escape::text(&name),
            image.platform,
            human_size(image.size)
        );
        for (at, step) in steps.iter().enumerate() {
            let branch = if at + 1 == steps.len() { "└─" } else { "├─" };
            let by = if self.no_trunc { step.by.clone() } else { ellipsis(&step.by, STEP) };
            let mut line = match step.layer {
                Some(layer) => {
                    let size = store.layer_size(layer);
                    let part = (size * 100).checked_div(image.size).unwrap_or(0);
                    format!(
                        "{branch} {}  {:>8}  {part:>3}%  {}",
                        layer.diff_id.short(),
                        human_size(size),
                        escape::text(&by)
                    )
                }
                None => format!("{branch} {:12}  {:>8}  {:>4}  {}", "", "", "", escape::text(&by)),
            };
            let others = step.layer.map(shared).unwrap_or_default();
            if !others.is_empty() {
                let _ = write!(line, "  (also in {})", few(&others));
            }
            let _ = writeln!(out, "{}", line.trim_end());
        }
        write_all(&mut std::io::stdout(), &out)?;
        Ok(0)
    }
}

/// Names, and how many more.
fn few(names: &[String]) -> String {
    let some: Vec<&str> = names.iter().take(3).map(String::as_str).collect();
    let more = names.len().saturating_sub(some.len());
    if more == 0 { some.join(", ") } else { format!("{} and {more} more", some.join(", ")) }
}

/// Show where the files of two images differ, by the layers that have them
#[derive(Debug, Parser)]
#[command(
    name = "diff",
    after_help = "Examples:\n  rbox image diff app:1 app:2\n  rbox image diff --format json app:1 app:2 | jq '.Files[].Path'\n\nA added, C changed, D deleted; the numbers are bytes in the first and in the second image. Times do not count."
)]
pub(crate) struct Diff {
    /// Format output: 'json', or a Go template
    #[arg(long)]
    format: Option<String>,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// A name or id
    #[arg(value_name = "IMAGE")]
    first: String,
    /// What it is compared with
    #[arg(value_name = "IMAGE")]
    second: String,
}

impl Execute for Diff {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let store = global.engine.images()?;
        let found = global.engine.compare_images(&self.first, &self.second)?;
        let text = match &self.format {
            Some(format) => document(format, &as_json(&store, &found))?,
            None => self.shown(&store, &found),
        };
        write_all(&mut std::io::stdout(), &text)?;
        Ok(0)
    }
}

const fn letter(how: Differs) -> char {
    match how {
        Differs::Added => 'A',
        Differs::Deleted => 'D',
        Differs::Modified => 'C',
    }
}

fn as_json(store: &ImageStore, found: &ImageDifferences) -> Value {
    let layers = |image: &Image| -> Vec<Value> {
        let by = lines_of(image);
        let one = |(layer, by): (&Layer, &String)| json!({ "DiffID": layer.diff_id.to_string(), "Size": store.layer_size(layer), "CreatedBy": by });
        image.layers.iter().zip(&by).map(one).collect()
    };
    let file = |one: &FileDifference| {
        let of = if one.difference.how == Differs::Deleted { &found.first } else { &found.second };
        let layer = one.layer.and_then(|at| of.layers.get(at)).map(|layer| layer.diff_id.to_string());
        json!({
            "Kind": letter(one.difference.how).to_string(),
            "Path": one.difference.path.display().to_string(),
            "SizeBefore": one.difference.before,
            "SizeAfter": one.difference.after,
            "Layer": layer,
        })
    };
    json!({
        "Images": [found.first.id.to_string(), found.second.id.to_string()],
        "SharedLayers": found.shared,
        "Layers": [layers(&found.first), layers(&found.second)],
        "Files": found.files.iter().map(file).collect::<Vec<Value>>(),
    })
}

/// The line that made each layer.
fn lines_of(image: &Image) -> Vec<String> {
    steps(image).into_iter().filter(|step| step.layer.is_some()).map(|step| step.by).collect()
}

impl Diff {
    fn shown(&self, store: &ImageStore, found: &ImageDifferences) -> String {
        let mut out = String::new();
        let shared = found.first.layers.get(..found.shared).unwrap_or_default();
        if !shared.is_empty() {
            let size: u64 = shared.iter().map(|layer| store.layer_size(layer)).sum();
            let layers = if shared.len() == 1 { "layer" } else { "layers" };
            let _ = writeln!(out, "= {} {layers} in both, {}", shared.len(), human_size(size));
        }
        self.side(store, &mut out, ('-', &found.first, found.shared), &found.files);
        self.side(store, &mut out, ('+', &found.second, found.shared), &found.files);
        out
    }

    /// The layers of one image, each with what differs in it. Of those that both have only the ones with a difference.
    fn side(
        &self,
        store: &ImageStore,
        out: &mut String,
        (sign, image, shared): (char, &Image, usize),
        files: &[FileDifference],
    ) {
        let is_here = |one: &&FileDifference| (one.difference.how == Differs::Deleted) == (sign == '-');
        for (at, (layer, by)) in image.layers.iter().zip(lines_of(image)).enumerate() {
            let own: Vec<&FileDifference> =
                files.iter().filter(is_here).filter(|one| one.layer == Some(at)).collect();
            if at < shared && own.is_empty() {
                continue;
            }
            let by = if self.no_trunc { by } else { ellipsis(&by, STEP) };
            let sign = if at < shared { '=' } else { sign };
            let line = format!(
                "{sign} {}  {:>8}  {}",
                layer.diff_id.short(),
                human_size(store.layer_size(layer)),
                escape::text(&by)
            );
            let _ = writeln!(out, "{}", line.trim_end());
            for one in own {
                file(out, one);
            }
        }
        for one in files.iter().filter(is_here).filter(|one| one.layer.is_none()) {
            file(out, one);
        }
    }
}

fn file(out: &mut String, one: &FileDifference) {
    let size = |bytes: Option<u64>| bytes.map_or_else(|| "-".to_owned(), |bytes| bytes.to_string());
    let path = one.difference.path.display().to_string();
    let sizes = match (one.difference.before, one.difference.after) {
        (None, None) => String::new(),
        (before, after) => format!("  {} {}", size(before), size(after)),
    };
    let _ = writeln!(out, "  {} {}{sizes}", letter(one.difference.how), escape::text(&path));
}

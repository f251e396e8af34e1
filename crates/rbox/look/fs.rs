//! `rbox fs`: the layers that a container's file system is made of, and which of them a file comes from.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use rbox_engine::engine::{ChangeKind, Container, FileLayer, LayerKind, Place, What};
use serde_json::{Value, json};

use crate::command::entry::Execute;
use crate::command::global::Global;
use crate::look;
use crate::output::escape;
use crate::output::svg;
use crate::output::table::{self, write_all};
use crate::output::units::{ellipsis, human_size};

/// Show the layers of a container's file system, or which of them a file comes from
#[derive(Debug, Parser)]
#[command(
    name = "fs",
    after_help = "Examples:
  rbox fs web                                  # its layers, and what it has changed
  rbox fs web /etc/passwd                      # which layer has the file that is seen
  rbox fs --watch web                          # again every second, until ^C
  rbox fs --svg layers.svg web
  rbox fs --format '{{range .Changes}}{{.Path}} {{end}}' web

The lowest layers are the image's and are never written to. What a container changes is copied up into a
layer of its own first, and what it removes is hidden there by a whiteout. See overlay in the kernel's
documentation, and mount(8)."
)]
pub(crate) struct Fs {
    /// How it is shown: 'text', 'json', or a Go template
    #[arg(
        long,
        default_value = "text",
        value_parser = |given: &str| table::word_or_template(given, &["text", "json"]),
    )]
    format: String,
    /// Show all changes and whole lines
    #[arg(short, long)]
    all: bool,
    /// Show it again every second
    #[arg(short, long, conflicts_with = "svg")]
    watch: bool,
    /// Draw a diagram into this file instead (- for the standard output)
    #[arg(long, value_name = "FILE", conflicts_with = "format")]
    svg: Option<PathBuf>,
    /// Its name or id
    container: String,
    /// A file or directory in it
    path: Option<PathBuf>,
}

/// Changes that are shown without `--all`.
const SOME: usize = 20;
/// Letters of the line that made a layer.
const LINE: usize = 56;

/// What became of a path, and the layer of the image that had it.
struct Change {
    kind: ChangeKind,
    path: PathBuf,
    from: Option<usize>,
    is_directory: bool,
}

impl Execute for Fs {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        loop {
            let container = global.engine.container(&self.container)?;
            let layers = global.engine.file_layers(&container)?;
            if layers.len() < 2 {
                anyhow::bail!(
                    "container {} stands on a directory of the host's: it has no layers",
                    self.container
                );
            }
            if let Some(path) = &self.svg {
                look::write_svg(path, &self.diagram(global, &container, &layers)?)?;
                return Ok(0);
            }
            let mut text = String::new();
            if self.watch && std::io::stdout().is_terminal() {
                // Home, and what was there before is wiped.
                text.push_str("\u{1b}[H\u{1b}[2J");
            }
            match &self.path {
                Some(path) => self.of_path(global, &container, &layers, path, &mut text)?,
                None => self.of_all(global, &container, &layers, &mut text)?,
            }
            write_all(&mut std::io::stdout(), &text)?;
            if !self.watch {
                return Ok(0);
            }
            std::thread::sleep(Duration::from_secs(1));
        }
    }
}

impl Fs {
    fn is_text(&self) -> bool {
        self.format == "text" || self.format.is_empty()
    }

    /// The layers, and what the container has changed.
    fn of_all(
        &self,
        global: &Global,
        container: &Container,
        layers: &[FileLayer],
        text: &mut String,
    ) -> anyhow::Result<()> {
        let changes = changes(global, container, layers)?;
        let record = &container.record;
        if !self.is_text() {
            let shown: Vec<Value> = changes.iter().map(|change| change.value(layers)).collect();
            let value = json!({
                "Name": record.name,
                "ID": record.id.as_str(),
                "Layers": layers.iter().rev().map(layer_value).collect::<Vec<_>>(),
                "Changes": shown,
            });
            text.push_str(&table::document(&self.format, &value)?);
            return Ok(());
        }
        let _ = writeln!(text, "{}: {} layers, the topmost first", record.name, layers.len());
        for layer in layers.iter().rev() {
            let _ = writeln!(text, "  {}", self.line(layer).trim_end());
        }
        let shown = if self.all { changes.len() } else { SOME };
        let _ = writeln!(text, "{}", if changes.is_empty() { "nothing is changed" } else { "changed:" });
        for change in changes.iter().take(shown) {
            let _ = writeln!(text, "  {}", change.text(layers));
        }
        if let more @ 1.. = changes.len().saturating_sub(shown) {
            let _ = writeln!(text, "  … and {more} more: rbox fs --all {}", record.name);
        }
        Ok(())
    }

    /// `72ab34cd12ef  5kB  COPY file /file`.
    fn line(&self, layer: &FileLayer) -> String {
        let size = match &layer.kind {
            LayerKind::Image { size, .. } => human_size(*size),
            _ => String::new(),
        };
        format!("{:<12}  {size:>8}  {}", name(layer), self.words(layer))
    }

    /// What a layer is, or the line that made it.
    fn words(&self, layer: &FileLayer) -> String {
        match &layer.kind {
            LayerKind::Upper => format!("its own: {}", layer.dir.display()),
            LayerKind::Base => "rbox's: what its own files are mounted over".to_owned(),
            LayerKind::Image { created_by, .. } => {
                let by = created_by.replace('\t', " ");
                let by = if self.all { by } else { ellipsis(&by, LINE) };
                escape::text(&by).into_owned()
            }
        }
    }

    /// What each layer has at a path.
    fn of_path(
        &self,
        global: &Global,
        container: &Container,
        layers: &[FileLayer],
        path: &Path,
        text: &mut String,
    ) -> anyhow::Result<()> {
        let found = global.engine.find_in_layers(layers, path)?;
        let given = path.to_string_lossy();
        let (resolved, places) = found.unwrap_or_else(|| (path.to_owned(), Vec::new()));
        let over = global.engine.mount_over(container, &resolved);
        if places.is_empty() && over.is_none() {
            anyhow::bail!("no layer of container {} has {}", self.container, escape::text(&given));
        }
        if !self.is_text() {
            let value = json!({
                "Name": container.record.name,
                "Path": resolved.to_string_lossy(),
                "MountedOver": over.map(|over| json!({ "At": over.at.to_string_lossy(), "Type": over.kind })),
                "Places": places.iter().map(|place| place_value(place, layers)).collect::<Vec<_>>(),
            });
            text.push_str(&table::document(&self.format, &value)?);
            return Ok(());
        }
        let shown = resolved.to_string_lossy();
        let leads =
            if path == resolved { String::new() } else { format!(" ({} leads there)", escape::text(&given)) };
        let _ = writeln!(text, "{} in {}{leads}", escape::text(&shown), container.record.name);
        if let Some(over) = &over {
            let at = over.at.to_string_lossy();
            let _ = writeln!(
                text,
                "  {} is mounted ({}): what layers have there is not seen",
                escape::text(&at),
                over.kind
            );
        }
        for place in &places {
            let Some(layer) = layers.get(place.layer) else { continue };
            let _ = writeln!(text, "  {}", self.place_line(place, layer, &places).trim_end());
        }
        Ok(())
    }

    fn place_line(&self, place: &Place, layer: &FileLayer, places: &[Place]) -> String {
        let is_below = places.iter().any(|other| other.layer < place.layer && other.what != What::Whiteout);
        let state = match (&place.what, place.is_seen) {
            (What::Whiteout, _) => "hides what is below",
            (_, false) => "hidden",
            (What::Directory { opaque: true }, true) if is_below => "seen; hides what is below",
            (What::Directory { .. }, true) if is_below => "seen, with what is below",
            (_, true) if is_below && layer.kind == LayerKind::Upper => "seen: copied up",
            (_, true) => "seen",
        };
        let size = if place.what == What::File { human_size(place.size) } else { String::new() };
        let by =
            if matches!(layer.kind, LayerKind::Image { .. }) { self.words(layer) } else { String::new() };
        let what = of_what(&place.what);
        format!("{:<12}  {what:<9}  {size:>8}  {state:<25}  {by}", name(layer))
    }

    /// Layers as boxes, each on the one below it; or those that have a path.
    fn diagram(
        &self,
        global: &Global,
        container: &Container,
        layers: &[FileLayer],
    ) -> anyhow::Result<String> {
        let changes = changes(global, container, layers)?;
        let places = match &self.path {
            Some(path) => {
                global.engine.find_in_layers(layers, path)?.map(|(_, places)| places).unwrap_or_default()
            }
            None => Vec::new(),
        };
        let mut boxes = Vec::new();
        for (number, layer) in layers.iter().enumerate().rev() {
            let mut lines = vec![self.words(layer)];
            if let Some(place) = places.iter().find(|place| place.layer == number) {
                let at = self.path.as_deref().unwrap_or(Path::new("/")).to_string_lossy().into_owned();
                let seen = if place.is_seen { "seen" } else { "not seen" };
                lines.push(format!("{at}: {}, {seen}", of_what(&place.what)));
            }
            if layer.kind == LayerKind::Upper && self.path.is_none() {
                let shown = if self.all { changes.len() } else { SOME };
                lines.extend(changes.iter().take(shown).map(|change| change.text(layers)));
            }
            boxes.push(svg::Box { title: name(layer), lines });
        }
        let arrow = |from| svg::Arrow { from, to: from + 1, text: "on".to_owned(), dashed: false };
        let arrows: Vec<_> = (0..boxes.len().saturating_sub(1)).map(arrow).collect();
        Ok(svg::draw(&format!("layers of {}", container.record.name), &boxes, &arrows))
    }
}

fn name(layer: &FileLayer) -> String {
    match &layer.kind {
        LayerKind::Upper => "upper".to_owned(),
        LayerKind::Base => "base".to_owned(),
        LayerKind::Image { diff_id, .. } => {
            diff_id.as_ref().map_or_else(|| "layer".to_owned(), rbox_engine::spec::Digest::short)
        }
    }
}

const fn of_what(what: &What) -> &'static str {
    match what {
        What::File => "file",
        What::Directory { .. } => "directory",
        What::Link(_) => "link",
        What::Whiteout => "whiteout",
        What::Special => "special",
    }
}

/// What the container has changed, and where each thing was before.
fn changes(global: &Global, container: &Container, layers: &[FileLayer]) -> anyhow::Result<Vec<Change>> {
    let mut all = Vec::new();
    global.engine.changes(container, &mut |kind, path| {
        all.push(Change { kind, path: path.to_owned(), from: None, is_directory: false });
        Ok(())
    })?;
    let below = layers.split_last().map_or(layers, |(_, below)| below);
    for change in &mut all {
        let Some((_, places)) = global.engine.find_in_layers(below, &change.path)? else { continue };
        let seen = places.iter().find(|place| place.is_seen);
        change.from = seen.map(|place| place.layer);
        change.is_directory = seen.is_some_and(|place| matches!(place.what, What::Directory { .. }));
    }
    Ok(all)
}

impl Change {
    fn text(&self, layers: &[FileLayer]) -> String {
        let path = self.path.to_string_lossy();
        let from = self.from.and_then(|layer| layers.get(layer)).map(name).unwrap_or_default();
        let words = match self.kind {
            ChangeKind::Modified if self.is_directory => String::new(),
            ChangeKind::Modified if !from.is_empty() => format!("  copied up from {from}"),
            ChangeKind::Deleted if !from.is_empty() => format!("  a whiteout hides it in {from}"),
            _ => String::new(),
        };
        format!("{} {}{words}", self.kind.letter(), escape::text(&path))
    }

    fn value(&self, layers: &[FileLayer]) -> Value {
        json!({
            "Kind": self.kind.letter().to_string(),
            "Path": self.path.to_string_lossy(),
            "From": self.from.and_then(|layer| layers.get(layer)).map(name),
        })
    }
}

fn layer_value(layer: &FileLayer) -> Value {
    let (diff_id, size, created_by) = match &layer.kind {
        LayerKind::Image { diff_id, size, created_by } => (diff_id.as_ref(), Some(*size), Some(created_by)),
        _ => (None, None, None),
    };
    json!({
        "Name": name(layer),
        "Dir": layer.dir.to_string_lossy(),
        "DiffID": diff_id.map(ToString::to_string),
        "Size": size,
        "CreatedBy": created_by,
    })
}

fn place_value(place: &Place, layers: &[FileLayer]) -> Value {
    let target = match &place.what {
        What::Link(target) => Some(target.to_string_lossy().into_owned()),
        _ => None,
    };
    let is_opaque = matches!(place.what, What::Directory { opaque: true });
    json!({
        "Layer": layers.get(place.layer).map(layer_value),
        "Type": of_what(&place.what),
        "Target": target,
        "Opaque": is_opaque,
        "Seen": place.is_seen,
        "Size": place.size,
        "Mode": format!("{:04o}", place.mode & 0o7777),
        "Modified": place.modified,
    })
}

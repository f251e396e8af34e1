//! `rbox images --tree`: images, and the platforms that each is for, as Docker's client lays them out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use rbox_engine::image::media::DescriptorPlatform;
use rbox_engine::image::{Image, ImageStore};
use rbox_engine::spec::{Digest, Reference};

use crate::command::global::Global;
use crate::output::escape;
use crate::output::table;
use crate::output::units::human_size;

/// Bytes of one image, or of all platforms of one.
#[derive(Clone, Copy, Default)]
struct Sizes {
    /// Unpacked and packed.
    disk: u64,
    /// As it came from a registry.
    content: u64,
}

/// A platform of an image.
struct Child {
    platform: String,
    id: Digest,
    sizes: Sizes,
    in_use: bool,
}

/// An image.
struct Row {
    names: Vec<String>,
    id: Digest,
    sizes: Sizes,
    in_use: bool,
    children: Vec<Child>,
}

/// Prints them. `is_meant`: the names that were asked for.
pub(crate) fn print(
    global: &Global,
    images: &[&Image],
    is_meant: &dyn Fn(&Reference) -> bool,
) -> anyhow::Result<u8> {
    let store = global.engine.images()?;
    let used: BTreeSet<String> =
        global.engine.containers()?.into_iter().map(|container| container.record.image_id).collect();
    let mut rows = Vec::new();
    for ((index, _), (images, names)) in groups(images, &store.indexes_of_names()?, is_meant) {
        rows.push(row(&store, names, (&images, index), &used)?);
    }
    // Those without a name come last.
    rows.sort_by(|a, b| a.names.is_empty().cmp(&b.names.is_empty()).then_with(|| a.names.cmp(&b.names)));
    table::write_all(&mut std::io::stdout(), &layout(&rows))?;
    Ok(0)
}

/// What makes one image: its index, if it is of one, and the manifests of its platforms.
type Same = (Option<Digest>, Vec<Digest>);

/// The platforms of each image, with its names: what two names have in common is one image if they have all of it in common. `indexes`: the one
/// that each name means.
fn groups<'i>(
    images: &[&'i Image],
    indexes: &BTreeMap<Reference, Digest>,
    is_meant: &dyn Fn(&Reference) -> bool,
) -> BTreeMap<Same, (Vec<&'i Image>, Vec<String>)> {
    let mut of_names: BTreeMap<&Reference, Vec<&Image>> = BTreeMap::new();
    let mut groups: BTreeMap<Same, (Vec<&Image>, Vec<String>)> = BTreeMap::new();
    for image in images {
        for name in image.references.iter().filter(|name| is_meant(name)) {
            of_names.entry(name).or_default().push(image);
        }
        if image.references.is_empty() {
            let id = image.index.unwrap_or(image.manifest_digest);
            groups.entry((image.index, vec![id])).or_default().0.push(image);
        }
    }
    for (name, mut images) in of_names {
        images.sort_by_key(|image| image.manifest_digest);
        let ids = images.iter().map(|image| image.manifest_digest).collect();
        let same = (indexes.get(name).copied(), ids);
        let group = groups.entry(same).or_insert_with(|| (images, Vec::new()));
        group.1.push(name.familiar());
    }
    groups
}

fn row(
    store: &ImageStore,
    names: Vec<String>,
    (images, index): (&[&Image], Option<Digest>),
    used: &BTreeSet<String>,
) -> anyhow::Result<Row> {
    let child = |image: &Image| Child {
        platform: image.platform.to_string(),
        id: image.manifest_digest,
        sizes: sizes(image),
        in_use: used.contains(&image.id.to_string()),
    };
    let mut children: Vec<Child> = images.iter().map(|image| child(image)).collect();
    let id = index.or_else(|| children.first().map(|child| child.id));
    // What is here is shown, whatever has become of the index it came out of.
    if let Some((_, _, document)) = index.and_then(|index| store.index_document(&index).ok().flatten()) {
        // In its order; what is not here is shown as such. Provenance is for no platform.
        let mut listed = Vec::new();
        for entry in &document.manifests {
            if let Some(at) = children.iter().position(|child| child.id == entry.digest) {
                listed.push(children.remove(at));
            } else if let Some(platform) = entry.platform.as_ref().filter(|platform| platform.os != "unknown")
            {
                let platform = shown(platform);
                listed.push(Child { platform, id: entry.digest, sizes: Sizes::default(), in_use: false });
            }
        }
        listed.append(&mut children);
        children = listed;
    }
    let total = children.iter().fold(Sizes::default(), |sum, child| Sizes {
        disk: sum.disk.saturating_add(child.sizes.disk),
        content: sum.content.saturating_add(child.sizes.content),
    });
    let in_use = children.iter().any(|child| child.in_use);
    let Some(id) = id else { anyhow::bail!("an image of no platform") };
    Ok(Row { names, id, sizes: total, in_use, children })
}

fn shown(platform: &DescriptorPlatform) -> String {
    platform.normal().to_string()
}

fn sizes(image: &Image) -> Sizes {
    let layers = image.layers.iter().map(|layer| layer.blob_size);
    let content =
        layers.fold(image.manifest_size.saturating_add(image.manifest.config.size), u64::saturating_add);
    Sizes { disk: image.size.saturating_add(content), content }
}

const SPACE: &str = "   ";

/// The first column is as wide as its widest cell; the numbers are to the right.
fn layout(rows: &[Row]) -> String {
    let names = rows.iter().flat_map(|row| row.names.iter().map(|name| width(name)));
    let platforms = rows.iter().flat_map(|row| row.children.iter().map(|child| width(&child.platform) + 3));
    let unnamed = rows.iter().any(|row| row.names.is_empty()).then_some(UNTAGGED.len());
    let first = names.chain(platforms).chain(unnamed).chain(["IMAGE".len()]).max().unwrap_or_default();
    let mut out =
        format!("{:first$}{SPACE}{:12}{SPACE}DISK USAGE{SPACE}CONTENT SIZE{SPACE}EXTRA\n", "IMAGE", "ID");
    for row in rows {
        let names: Vec<&str> = row.names.iter().map(String::as_str).collect();
        let (last, above) = names.split_last().unwrap_or((&UNTAGGED, &[]));
        for name in above {
            let _ = writeln!(out, "{}", escape::text(name));
        }
        line(&mut out, first, last, (&row.id, row.sizes, row.in_use));
        for (at, child) in row.children.iter().enumerate() {
            let branch = if at + 1 == row.children.len() { "└─" } else { "├─" };
            let cell = format!("{branch} {}", child.platform);
            line(&mut out, first, &cell, (&child.id, child.sizes, child.in_use));
        }
        out.push('\n');
    }
    out
}

const UNTAGGED: &str = "<untagged>";

fn width(text: &str) -> usize {
    text.chars().count()
}

fn line(out: &mut String, first: usize, cell: &str, (id, sizes, in_use): (&Digest, Sizes, bool)) {
    let (disk, content) = (human_size(sizes.disk), human_size(sizes.content));
    let mark = if in_use { "U" } else { "" };
    let text = format!(
        "{:first$}{SPACE}{}{SPACE}{disk:>10}{SPACE}{content:>12}{SPACE}{mark}",
        escape::text(cell),
        id.short()
    );
    let _ = writeln!(out, "{}", text.trim_end());
}

//! `rbox history`: how an image came to be.

use std::collections::BTreeMap;

use clap::Parser;
use jiff::Timestamp;
use rbox_engine::image::{Image, ImageStore};
use rbox_engine::spec::{Digest, Reference};
use serde_json::{Value, json};

use crate::args::platform::parse_platform;
use crate::command::entry::Execute;
use crate::command::global::Global;
use crate::output::table::{self, Format};
use crate::output::template::Headers;
use crate::output::units::{ago, ellipsis, human_size};

/// Show the history of an image
#[derive(Debug, Parser)]
#[command(
    name = "history",
    after_help = "Examples:\n  rbox history python:3.11-slim\n  rbox history --no-trunc --format '{{.CreatedBy}}' python:3.11-slim"
)]
pub(crate) struct History {
    /// Format output: 'table', 'table TEMPLATE', 'json' or a Go template
    #[arg(long)]
    format: Option<String>,
    /// Print sizes and dates in human readable format
    #[arg(
        short = 'H', long, default_value_t = true, default_missing_value = "true", num_args = 0..=1,
        require_equals = true, action = clap::ArgAction::Set
    )]
    human: bool,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only show image IDs
    #[arg(short, long)]
    quiet: bool,
    /// Of an image for several platforms this one (OS/ARCH[/VARIANT])
    #[arg(long)]
    platform: Option<String>,
    /// A name or id
    image: String,
}

impl Execute for History {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let store = global.engine.images()?;
        let image = image_for(&store, &self.image, self.platform.as_deref())?;
        let now = Timestamp::now();
        let mut layers = image.layers.iter();
        let mut sizes = Vec::new();
        for step in image.history() {
            let layer = if step.empty_layer { None } else { layers.next() };
            sizes.push(layer.map_or(0, |layer| store.layer_size(layer)));
        }
        let mut rows = Vec::new();
        let ids = results(&store, &image);
        for (at, (step, size)) in image.history().iter().zip(sizes).enumerate().rev() {
            // Most steps' results are no images here, but layers of one.
            let id = match ids.get(&at) {
                Some(id) if self.no_trunc => id.to_string(),
                Some(id) => id.short(),
                None => "<missing>".to_owned(),
            };
            let made = step.created.as_deref().and_then(|text| text.parse::<Timestamp>().ok());
            let by = step.created_by.clone().unwrap_or_default().replace('\t', " ");
            rows.push(self.row(&id, made, &by, step.comment.as_deref().unwrap_or(""), size, now));
        }
        let format = match (self.quiet, &self.format) {
            (true, None) => Format::Template("{{.ID}}".into()),
            (_, given) => Format::parse(
                given.as_deref(),
                "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
            ),
        };
        let headers = Headers::from([
            ("Comment", "COMMENT"),
            ("CreatedAt", "CREATED AT"),
            ("CreatedBy", "CREATED BY"),
            ("CreatedSince", "CREATED"),
            ("ID", "IMAGE"),
            ("Size", "SIZE"),
        ]);
        table::print(&format, &headers, &rows, &mut std::io::stdout())?;
        Ok(0)
    }
}

/// The image of a name, for a platform if one is asked for.
pub(crate) fn image_for(store: &ImageStore, name: &str, platform: Option<&str>) -> anyhow::Result<Image> {
    let Some(text) = platform else { return Ok(store.get(name)?) };
    let wanted = parse_platform(text)?;
    if let Some(image) = store.find_for(name, &wanted)? {
        return Ok(image);
    }
    let name = store.get(name)?.references.first().map_or_else(|| name.to_owned(), Reference::familiar);
    anyhow::bail!(
        "image with reference {name} was found but does not provide the specified platform ({wanted})"
    )
}

/// The images that steps came to: this one, and those that it was committed on one after the other.
fn results(store: &ImageStore, image: &Image) -> BTreeMap<usize, Digest> {
    let mut ids = BTreeMap::new();
    let mut next = Some(image.clone());
    while let Some(image) = next {
        let Some(last) = image.history().len().checked_sub(1) else { break };
        // A parent has fewer steps, or it is none.
        if ids.keys().next().is_some_and(|first| *first <= last) {
            break;
        }
        ids.insert(last, image.id);
        let parent = image.config.parent.as_deref().and_then(|id| id.parse().ok());
        next = parent.and_then(|id| store.find_id(&id).ok().flatten());
    }
    ids
}

impl History {
    fn row(
        &self,
        id: &str,
        made: Option<Timestamp>,
        by: &str,
        comment: &str,
        size: u64,
        now: Timestamp,
    ) -> Value {
        let made_at =
            made.map_or_else(|| "N/A".to_owned(), |made| made.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        let since = match made {
            Some(made) if self.human => ago(made, now),
            _ => made_at.clone(),
        };
        json!({
            "Comment": comment,
            "CreatedAt": made_at,
            "CreatedBy": if self.no_trunc { by.to_owned() } else { ellipsis(by, 45) },
            "CreatedSince": since,
            "ID": id,
            "Size": if self.human { human_size(size) } else { size.to_string() },
        })
    }
}

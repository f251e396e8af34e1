//! `rbox compose images`: what the containers of a project were made of.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use clap::Parser;
use jiff::Timestamp;
use rbox_compose::Instance;
use rbox_engine::image::{Image, ImageStore};
use rbox_engine::spec::Reference;
use serde_json::{Value, json};

use crate::command::entry::Execute;
use crate::command::error::{Coded, NOT_DONE};
use crate::command::global::Global;
use crate::compose::chosen::{Chosen, not_done};
use crate::output::escape;
use crate::output::lines::say;
use crate::output::table::{align_wide, write_all};
use crate::output::units::{ago, human_size};

/// List the images of a project's containers
#[derive(Debug, Parser)]
#[command(
    name = "images",
    after_help = "Examples:\n  rbox compose images\n  rbox compose images -q web\n  rbox compose images --format json"
)]
pub(crate) struct Images {
    /// table or json
    #[arg(long, default_value = "table")]
    format: String,
    /// Only ids
    #[arg(short, long)]
    quiet: bool,
    /// Only these services
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

/// The image of one container.
struct Row<'a> {
    container: &'a str,
    repository: String,
    tag: String,
    id: &'a str,
    platform: &'a str,
    size: u64,
    created: Option<Timestamp>,
}

impl Execute for Images {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        not_done(self.carry_out(global))
    }
}

impl Images {
    fn carry_out(&self, global: &Global) -> anyhow::Result<u8> {
        let chosen = Chosen::named(global)?;
        chosen.check(&self.services)?;
        let store = global.engine.images()?;
        let mut meant: Vec<&Instance> = chosen.observed.instances.iter().collect();
        meant.retain(|one| self.services.is_empty() || self.services.contains(&one.service));
        meant.sort_by(|a, b| a.name().cmp(b.name()));
        let rows: Vec<Row<'_>> =
            meant.into_iter().map(|one| row(one, &store)).collect::<anyhow::Result<_>>()?;
        if self.quiet {
            let mut seen = BTreeSet::new();
            for row in rows.iter().filter(|row| seen.insert(row.id)) {
                say(row.id.strip_prefix("sha256:").unwrap_or(row.id))?;
            }
            return Ok(0);
        }
        match self.format.to_lowercase().as_str() {
            "" | "table" | "pretty" => write_all(&mut std::io::stdout(), &table(&rows))?,
            "json" => say(&escape::json(&Value::Array(rows.iter().map(as_json).collect()).to_string()))?,
            other => {
                let message = format!("format value {other:?} could not be parsed: parsing failed");
                return Err(Coded { message, code: NOT_DONE }.into());
            }
        }
        Ok(0)
    }
}

fn row<'a>(one: &'a Instance, store: &ImageStore) -> anyhow::Result<Row<'a>> {
    let record = &one.container.record;
    let image: Option<Image> = match record.image_id.parse() {
        Ok(id) => store.find_id(&id)?,
        Err(_) => None,
    };
    let is_id = record.image_id.trim_start_matches("sha256:").starts_with(&record.image);
    let reference = Some(&record.image).filter(|_| !is_id).and_then(|name| Reference::parse(name).ok());
    Ok(Row {
        container: one.name(),
        repository: reference.as_ref().map(Reference::familiar_name).unwrap_or_default(),
        tag: reference.as_ref().map(tag).unwrap_or_default().to_owned(),
        id: &record.image_id,
        platform: &record.platform,
        size: image.as_ref().map_or(0, |image| image.size),
        created: image.and_then(|image| image.created),
    })
}

/// The tag that a name means.
fn tag(name: &Reference) -> &str {
    name.tag().unwrap_or(if name.digest().is_none() { "latest" } else { "" })
}

fn table(rows: &[Row<'_>]) -> String {
    let now = Timestamp::now();
    let mut text = "CONTAINER\tREPOSITORY\tTAG\tPLATFORM\tIMAGE ID\tSIZE\tCREATED\n".to_owned();
    let or_none =
        |text: &str| if text.is_empty() { "<none>".to_owned() } else { escape::text(text).into_owned() };
    for row in rows {
        let id: String = row.id.trim_start_matches("sha256:").chars().take(12).collect();
        let created = row.created.map_or_else(|| "N/A".to_owned(), |created| ago(created, now));
        let (repository, tag) = (or_none(&row.repository), or_none(&row.tag));
        let (platform, size) = (row.platform, human_size(row.size));
        let _ = writeln!(text, "{}\t{repository}\t{tag}\t{platform}\t{id}\t{size}\t{created}", row.container);
    }
    align_wide(&text, 20)
}

fn as_json(row: &Row<'_>) -> Value {
    json!({
        "ID": row.id,
        "ContainerName": row.container,
        "Repository": row.repository,
        "Tag": row.tag,
        "Platform": row.platform,
        "Size": row.size,
        "LastTagTime": row.created.unwrap_or(Timestamp::UNIX_EPOCH).to_string(),
    })
}

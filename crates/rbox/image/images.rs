//! `rbox images`: the images in the store.

use std::collections::BTreeMap;

use clap::Parser;
use jiff::Timestamp;
use rbox_engine::engine::Container;
use rbox_engine::image::{Image, ImageStore};
use rbox_engine::listing::filter::{Filters, IMAGE_KEYS, glob};
use rbox_engine::spec::{Platform, Reference};
use serde_json::{Value, json};

use crate::command::entry::Execute;
use crate::command::error::bad_input;
use crate::command::global::Global;
use crate::image::image_tree;
use crate::output::table::{self, Format};
use crate::output::template::Headers;
use crate::output::units::{ago, created_at, human_size, human_sum};

/// List images
#[derive(Debug, Parser)]
#[command(
    name = "images",
    after_help = "Examples:\n  rbox images\n  rbox images python              # one repository\n  rbox images 'py*:3.*'           # or a pattern\n  rbox images -q --filter dangling=true\n  rbox images --digests --format 'table {{.Repository}}\\t{{.Digest}}'\n  rbox images --tree              # each with the platforms that it is for\n\nFilters: dangling, label, before, since, reference, until."
)]
#[allow(clippy::struct_excessive_bools, reason = "each is an option of the command line")]
pub(crate) struct Images {
    /// Show all images (rbox keeps no intermediate ones)
    #[arg(short, long)]
    all: bool,
    /// Show digests
    #[arg(long)]
    digests: bool,
    /// Filter output based on conditions provided (KEY=VALUE)
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Format output: 'table', 'table TEMPLATE', 'json' or a Go template
    #[arg(long)]
    format: Option<String>,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only show image IDs
    #[arg(short, long)]
    quiet: bool,
    /// List each image with the platforms that it is for
    #[arg(long, conflicts_with_all = ["quiet", "no_trunc", "format", "digests"])]
    tree: bool,
    /// A name or a pattern
    #[arg(value_name = "REPOSITORY[:TAG]")]
    reference: Option<String>,
}

/// In the place of a name, a tag or a digest.
pub(crate) const NONE: &str = "<none>";
const COLUMNS: &str = "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";
const COLUMNS_DIGESTS: &str = "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";

impl Execute for Images {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let mut given = self.filter.clone();
        given.extend(self.reference.iter().map(|reference| format!("reference={reference}")));
        let filter = ImageFilter::read(&global.engine.images()?, &given)?;
        let now = Timestamp::now();
        let mut rows = Vec::new();
        let images = global.engine.listed_images()?;
        let shown = Shown::of(&images);
        let accepted: Vec<&Image> = images.iter().filter(|image| filter.accepts(image)).collect();
        if self.tree {
            return image_tree::print(global, &accepted, &|name| filter.names(name));
        }
        for image in accepted {
            self.add_rows(image, &filter, (now, &shown), &mut rows);
        }
        let format = match (self.quiet, &self.format) {
            (true, None) => Format::Template("{{.ID}}".into()),
            (_, given) => {
                Format::parse(given.as_deref(), if self.digests { COLUMNS_DIGESTS } else { COLUMNS })
            }
        };
        table::print(&format, &headers(), &rows, &mut std::io::stdout())?;
        Ok(0)
    }
}

/// The titles of all fields.
pub(crate) fn headers() -> Headers {
    Headers::from([
        ("Containers", "CONTAINERS"),
        ("CreatedAt", "CREATED AT"),
        ("CreatedSince", "CREATED"),
        ("Digest", "DIGEST"),
        ("ID", "IMAGE ID"),
        ("Repository", "REPOSITORY"),
        ("SharedSize", "SHARED SIZE"),
        ("Size", "SIZE"),
        ("Tag", "TAG"),
        ("UniqueSize", "UNIQUE SIZE"),
        ("VirtualSize", "SIZE"),
    ])
}

/// The fields of one image that has no name yet. How much of it others have, and what uses it, Docker counts for `system df` only.
pub(crate) fn row(image: &Image, full: bool, now: Timestamp) -> Value {
    json!({
        "Containers": "N/A",
        "CreatedAt": image.created.map_or_else(|| "N/A".to_owned(), created_at),
        "CreatedSince": image.created.map_or_else(|| "N/A".to_owned(), |created| ago(created, now)),
        "Digest": NONE,
        "ID": if full { image.id.to_string() } else { image.id.short() },
        "Repository": NONE,
        "SharedSize": "N/A",
        "Size": human_size(image.size),
        "Tag": NONE,
        "UniqueSize": "N/A",
        "VirtualSize": human_sum(image.size),
    })
}

impl Images {
    /// One row for each tag, or one for an image without.
    fn add_rows(
        &self,
        image: &Image,
        filter: &ImageFilter,
        (now, shown): (Timestamp, &Shown<'_>),
        rows: &mut Vec<Value>,
    ) {
        let digest_of = |repository: &Reference| {
            let same = image.repo_digests.iter().find(|other| other.same_repository(repository));
            same.and_then(Reference::digest).map_or_else(|| NONE.to_owned(), ToString::to_string)
        };
        let mut add = |repository: String, tag: &str, digest: String| {
            let mut row = row(image, self.no_trunc, now);
            if let Some(fields) = row.as_object_mut() {
                fields.insert("Repository".to_owned(), repository.into());
                fields.insert("Tag".to_owned(), tag.into());
                fields.insert("Digest".to_owned(), digest.into());
            }
            rows.push(row);
        };
        let named: Vec<&Reference> = image.references.iter().filter(|name| filter.names(name)).collect();
        let named: Vec<&Reference> = named.into_iter().filter(|name| shown.is_by(name, image)).collect();
        for name in &named {
            add(name.familiar_name(), name.tag().unwrap_or(NONE), digest_of(name));
        }
        if image.references.is_empty() {
            // Pulled by digest, or its tag moved on: the repository may still be known.
            let repository = image.repo_digests.first();
            let digest = repository.map_or_else(|| NONE.to_owned(), digest_of);
            add(repository.map_or_else(|| NONE.to_owned(), Reference::familiar_name), NONE, digest);
        }
    }
}

/// Which image a name is shown with: of several platforms this machine's.
struct Shown<'i>(BTreeMap<&'i Reference, &'i Image>);

impl<'i> Shown<'i> {
    fn of(images: &'i [Image]) -> Self {
        let host = Platform::host();
        let rank = |image: &Image| host.rank(&image.platform).unwrap_or(usize::MAX);
        let mut best: BTreeMap<&Reference, &Image> = BTreeMap::new();
        for image in images {
            for name in &image.references {
                let known = best.entry(name).or_insert(image);
                if rank(image) < rank(known) {
                    *known = image;
                }
            }
        }
        Self(best)
    }

    fn is_by(&self, name: &Reference, image: &Image) -> bool {
        self.0.get(name).is_none_or(|shown| shown.manifest_digest == image.manifest_digest)
    }
}

/// The filters of `images`, checked.
struct ImageFilter {
    filters: Filters,
    dangling: Option<bool>,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl ImageFilter {
    fn read(store: &ImageStore, given: &[String]) -> anyhow::Result<Self> {
        let filters = Filters::parse(given, IMAGE_KEYS)?;
        let created = |key: &str| -> anyhow::Result<Option<Timestamp>> {
            match filters.values(key).last() {
                None => Ok(None),
                Some(name) => Ok(store.get(name)?.created.or(Some(Timestamp::UNIX_EPOCH))),
            }
        };
        for pattern in filters.values("reference") {
            if pattern.is_empty() {
                return Err(bad_input("invalid filter 'reference=': a name or a pattern is wanted"));
            }
        }
        Ok(Self {
            dangling: filters.boolean("dangling")?,
            before: created("before")?,
            since: created("since")?,
            until: filters.until(Timestamp::now())?,
            filters,
        })
    }

    fn accepts(&self, image: &Image) -> bool {
        let created = image.created.unwrap_or(Timestamp::UNIX_EPOCH);
        self.dangling.is_none_or(|wanted| image.references.is_empty() == wanted)
            && self.before.is_none_or(|before| created < before)
            && self.since.is_none_or(|since| created > since)
            && self.until.is_none_or(|until| created < until)
            && self.filters.labels(&image.config.config.labels)
            && (!self.filters.contains("reference")
                || image.references.iter().chain(&image.repo_digests).any(|name| self.names(name)))
    }

    /// Whether a `reference` filter means this name: a pattern for the name, with or without the tag.
    fn names(&self, name: &Reference) -> bool {
        !self.filters.contains("reference")
            || self.filters.values("reference").iter().any(|pattern| {
                let exact = Reference::parse(pattern).is_ok_and(|wanted| {
                    wanted.same_repository(name)
                        && (wanted.tag().is_none() || wanted.tag() == name.tag())
                        && (wanted.digest().is_none() || wanted.digest() == name.digest())
                });
                exact || glob(pattern, &name.familiar()) || glob(pattern, &name.familiar_name())
            })
    }
}

/// Bytes of the image a container was made of; 0 when it is gone.
pub(crate) fn image_size(global: &Global, container: &Container) -> anyhow::Result<u64> {
    let Ok(id) = container.record.image_id.parse() else { return Ok(0) };
    Ok(global.engine.images()?.find_id(&id)?.map_or(0, |image| image.size))
}

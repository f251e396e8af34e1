//! `rbox rmi`, `tag` and `image prune`.

use clap::Parser;
use rbox_engine::image::Removed;
use rbox_engine::image::store::RemoveOptions;
use rbox_engine::listing::filter::{Filters, PRUNE_KEYS};
use rbox_engine::spec::{Kind, Reference};

use crate::args::platform::parse_platforms;
use crate::args::pruning::{Pruning, say_deleted};
use crate::command::each::each;
use crate::command::entry::Execute;
use crate::command::error::{Coded, NOT_DONE, bad_input};
use crate::command::global::Global;
use crate::output::lines::say;
use crate::output::units::human_sum;

/// Remove one or more images
#[derive(Debug, Parser)]
#[command(
    name = "rmi",
    after_help = "Examples:\n  rbox rmi python:3.11-slim\n  rbox rmi -f 0123456789ab                    # by id, with all its tags\n  rbox rmi --platform linux/arm64 debian:12   # one platform of it; the others stay\n  rbox rmi $(rbox images -q --filter dangling=true)"
)]
pub(crate) struct Rmi {
    /// Force removal of the image
    #[arg(short, long)]
    force: bool,
    /// Do not delete untagged parents (rbox keeps none)
    #[arg(long)]
    no_prune: bool,
    /// Remove only the given platform of an image (OS/ARCH[/VARIANT]); others of its name stay
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',')]
    platform: Vec<String>,
    /// Names or ids
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

impl Execute for Rmi {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let store = global.engine.images()?;
        let platforms = parse_platforms(&self.platform)?;
        Ok(each(&self.images, |name| {
            if !store.has(name)? {
                // Docker reports one that is not there, and with -f does not fail.
                let missing = store.get(name).err().map_or_else(String::new, |error| error.to_string());
                if self.force {
                    crate::command::error::report(&anyhow::anyhow!(missing));
                    return Ok(());
                }
                anyhow::bail!(missing);
            }
            let options = RemoveOptions { platforms: &platforms, force: self.force };
            for removed in global.engine.remove_image(name, options)? {
                say(&removed.to_string())?;
            }
            Ok(())
        }))
    }
}

/// Create a tag TARGET that refers to SOURCE
#[derive(Debug, Parser)]
#[command(
    name = "tag",
    after_help = "Examples:\n  rbox tag python:3.11-slim localhost:5000/python:mine\n  rbox tag 0123456789ab app:latest"
)]
pub(crate) struct Tag {
    /// A name or id
    source: String,
    /// The new name
    target: String,
}

impl Execute for Tag {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let target = Reference::parse(&self.target)
            .map_err(|error| bad_input(format!("{} is not a valid repository/tag: {error}", self.target)))?;
        // The words are right, and no tag may be called so: Docker's daemon refuses that, not its client.
        global.engine.tag_named(&self.source, &target).map_err(|error| match error.kind() {
            Kind::Invalid => Coded { message: error.to_string(), code: NOT_DONE }.into(),
            _ => anyhow::Error::from(error),
        })?;
        Ok(0)
    }
}

/// Remove unused images
#[derive(Debug, Parser)]
#[command(
    name = "prune",
    after_help = "Examples:\n  rbox image prune -f              # images without a tag\n  rbox image prune -a -f           # all that no container uses\n  rbox image prune -a --filter until=168h\n  rbox image prune -a --filter last-used=168h   # no container was made of them for a week"
)]
pub(crate) struct Prune {
    /// Remove all unused images, not just dangling ones
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    pruning: Pruning,
}

impl Execute for Prune {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let filters = self.pruning.filters(PRUNE_KEYS)?;
        let all = self.all || filters.boolean("dangling")? == Some(false);
        let warning = if all {
            "WARNING! This will remove all images without at least one container associated to them."
        } else {
            "WARNING! This will remove all dangling images."
        };
        if !self.pruning.agreed(warning)? {
            return Ok(0);
        }
        let reclaimed = prune(global, &filters, all)?;
        say(&format!("Total reclaimed space: {}", human_sum(reclaimed)))?;
        Ok(0)
    }
}

/// Removes unused images, prints which, and gives the bytes that were freed.
pub(crate) fn prune(global: &Global, filters: &Filters, all: bool) -> anyhow::Result<u64> {
    let pruned = global.engine.prune_images(filters, all)?;
    let removed: Vec<String> = pruned
        .removed
        .iter()
        .map(|one| match one {
            Removed::Untagged(name) => format!("untagged: {name}"),
            Removed::Deleted(digest) => format!("deleted: {digest}"),
        })
        .collect();
    say_deleted("Images", removed.iter().map(String::as_str))?;
    Ok(pruned.freed)
}

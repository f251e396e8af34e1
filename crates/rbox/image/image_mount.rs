//! `rbox image mount` and `unmount`: an image's files as a directory of the host.

use clap::{ArgAction, Parser};
use rbox_engine::engine::ImageMount;
use rbox_engine::spec::{Digest, Reference};
use serde_json::{Value, json};

use crate::command::each::each;
use crate::command::entry::Execute;
use crate::command::error::bad_input;
use crate::command::global::Global;
use crate::output::escape;
use crate::output::lines::say;
use crate::output::table::{self, Format, align, write_all};
use crate::output::template::Headers;

const NOT_BOTH: &str = "when using the --all switch, you may not pass any image names or IDs";

/// Mount an image's root filesystem, read-only, and print where; without a name, list what is mounted
#[derive(Debug, Parser)]
#[command(
    name = "mount",
    after_help = "Examples:\n  ls $(rbox image mount python:3.11-slim)/etc\n  rbox image mount                          # what is mounted, and where\n  rbox image unmount python:3.11-slim\n\nAn image that is mounted twice is to be unmounted twice. It cannot be removed meanwhile. No mount survives a reboot."
)]
pub(crate) struct Mount {
    /// Mount all images
    #[arg(short, long)]
    all: bool,
    /// Format output: 'json', as podman has it, 'table', 'table TEMPLATE' or a Go template for each
    #[arg(long)]
    format: Option<String>,
    /// Names or ids
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,
}

impl Execute for Mount {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        if self.all && !self.images.is_empty() {
            return Err(bad_input(NOT_BOTH));
        }
        let engine = &global.engine;
        let names: Vec<String> = if self.all {
            engine.listed_images()?.iter().map(|image| image.id.to_string()).collect()
        } else {
            self.images.clone()
        };
        let mut mounts = Vec::new();
        let code = if names.is_empty() {
            mounts = engine.mounted_images()?;
            0
        } else {
            each(&names, |name| {
                mounts.push(engine.mount_image(name)?);
                Ok(())
            })
        };
        self.print(global, &mounts)?;
        Ok(code)
    }
}

impl Mount {
    fn print(&self, global: &Global, mounts: &[ImageMount]) -> anyhow::Result<()> {
        if let Some(format) = &self.format {
            let store = global.engine.images()?;
            let shown = |mount: &ImageMount| -> Value {
                // One that is damaged, or gone, is mounted all the same.
                let image = store.find_id(&mount.image).ok().flatten();
                let names: Vec<String> =
                    image.iter().flat_map(|image| &image.references).map(Reference::full).collect();
                json!({
                    "id": mount.image.hex(),
                    "Names": [mount.name],
                    "Repositories": names,
                    "mountpoint": mount.path,
                })
            };
            let all: Vec<Value> = mounts.iter().map(shown).collect();
            return match Format::parse(Some(format), "{{.id}}\t{{.mountpoint}}") {
                Format::Json => say(&escape::json(&serde_json::to_string_pretty(&all)?)),
                other => {
                    let headers = Headers::from([
                        ("Names", "NAMES"),
                        ("Repositories", "REPOSITORIES"),
                        ("id", "IMAGE ID"),
                        ("mountpoint", "MOUNTPOINT"),
                    ]);
                    table::print(&other, &headers, &all, &mut std::io::stdout())
                }
            };
        }
        if let (1, false, [only]) = (self.images.len(), self.all, mounts) {
            return say(&only.path.display().to_string());
        }
        let line = |mount: &ImageMount| format!("{}\t{}\n", escape::text(&mount.name), mount.path.display());
        write_all(&mut std::io::stdout(), &align(&mounts.iter().map(line).collect::<String>()))?;
        Ok(())
    }
}

/// Unmount an image's root filesystem
#[derive(Debug, Parser)]
#[command(
    name = "unmount",
    after_help = "Examples:\n  rbox image unmount python:3.11-slim\n  rbox image unmount --force --all      # however often each was mounted"
)]
pub(crate) struct Unmount {
    /// Unmount all of the currently mounted images
    #[arg(short, long)]
    all: bool,
    /// Force the complete unmount, however often the image was mounted
    #[arg(short, long, action = ArgAction::SetTrue)]
    force: bool,
    /// Names or ids
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,
}

impl Execute for Unmount {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let engine = &global.engine;
        let take = |id: &Digest, name: &str| {
            if !engine.unmount_image(id, self.force)? {
                anyhow::bail!("image {name} is not mounted");
            }
            say(&id.hex())
        };
        match (self.all, self.images.is_empty()) {
            (true, false) => Err(bad_input(NOT_BOTH)),
            (false, true) => Err(bad_input("image name or ID must be specified")),
            (true, true) => {
                let mounts = engine.mounted_images()?;
                let names: Vec<String> = mounts.iter().map(|mount| mount.image.to_string()).collect();
                Ok(each(&names, |id| take(&id.parse()?, id)))
            }
            (false, false) => Ok(each(&self.images, |name| match engine.mounted_as(name)? {
                Some(id) => take(&id, name),
                None => anyhow::bail!("image {name} is not mounted"),
            })),
        }
    }
}

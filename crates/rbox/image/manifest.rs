//! `rbox manifest`: lists of manifests, put together here and pushed.

use clap::Parser;
use rbox_engine::image::remote::Annotation;
use rbox_engine::spec::Reference;

use crate::command::each::each;
use crate::command::entry::Execute;
use crate::command::error::bad_input;
use crate::command::global::Global;
use crate::output::lines::say;

fn name(text: &str) -> anyhow::Result<Reference> {
    Reference::parse(text).map(Reference::with_default_tag).map_err(bad_input)
}

/// Create a local manifest list for annotating and pushing to a registry
#[derive(Debug, Parser)]
#[command(
    name = "create",
    after_help = "Examples:\n  rbox manifest create registry.lan:5000/app:1 registry.lan:5000/app:1-amd64 registry.lan:5000/app:1-arm64\n  rbox manifest create --amend registry.lan:5000/app:1 registry.lan:5000/app:1-riscv64\n\nThe images must be in the registry already. The list is kept where Docker's client keeps it, in ~/.docker/manifests."
)]
pub(crate) struct Create {
    /// Amend an existing manifest list
    #[arg(short, long)]
    amend: bool,
    /// Accepted for compatibility with Docker; plain HTTP is set in registries.json
    #[arg(long)]
    insecure: bool,
    /// The list
    #[arg(value_name = "MANIFEST_LIST")]
    list: String,
    /// Images that registries have
    #[arg(required = true, value_name = "MANIFEST")]
    manifests: Vec<String>,
}

impl Execute for Create {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let list = name(&self.list)?;
        let images = self.manifests.iter().map(|text| name(text)).collect::<anyhow::Result<Vec<_>>>()?;
        let (lists, remote) = global.engine.manifest_lists()?;
        lists.create(&remote, &list, &images, self.amend)?;
        say(&format!("Created manifest list {}", list.full()))?;
        Ok(0)
    }
}

/// Add additional information to a local image manifest
#[derive(Debug, Parser)]
#[command(
    name = "annotate",
    after_help = "Examples:\n  rbox manifest annotate --arch arm --variant v7 registry.lan:5000/app:1 registry.lan:5000/app:1-arm"
)]
pub(crate) struct Annotate {
    /// Set architecture
    #[arg(long)]
    arch: Option<String>,
    /// Set operating system
    #[arg(long)]
    os: Option<String>,
    /// Set operating system feature
    #[arg(long, value_delimiter = ',')]
    os_features: Vec<String>,
    /// Set operating system version
    #[arg(long)]
    os_version: Option<String>,
    /// Set architecture variant
    #[arg(long)]
    variant: Option<String>,
    /// The list
    #[arg(value_name = "MANIFEST_LIST")]
    list: String,
    /// An image of it
    manifest: String,
}

impl Execute for Annotate {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let said = Annotation {
            os: self.os.filter(|text| !text.is_empty()),
            architecture: self.arch.filter(|text| !text.is_empty()),
            variant: self.variant.filter(|text| !text.is_empty()),
            os_version: self.os_version.filter(|text| !text.is_empty()),
            os_features: self.os_features,
        };
        let (lists, _) = global.engine.manifest_lists()?;
        if !lists.annotate(&name(&self.list)?, &name(&self.manifest)?, &said)? {
            anyhow::bail!("manifest for image {} does not exist in {}", self.manifest, self.list);
        }
        Ok(0)
    }
}

/// Display an image manifest, or manifest list
#[derive(Debug, Parser)]
#[command(
    name = "inspect",
    after_help = "Examples:\n  rbox manifest inspect debian:bookworm-slim\n  rbox manifest inspect -v registry.lan:5000/app:1 registry.lan:5000/app:1-arm64    # of a list that is kept here"
)]
pub(crate) struct Inspect {
    /// Accepted for compatibility with Docker; plain HTTP is set in registries.json
    #[arg(long)]
    insecure: bool,
    /// Output additional info including layers and platform
    #[arg(short, long)]
    verbose: bool,
    /// A name, or a list and an image of it
    #[arg(required = true, num_args = 1..=2, value_name = "[MANIFEST_LIST] MANIFEST")]
    names: Vec<String>,
}

impl Execute for Inspect {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let (lists, remote) = global.engine.manifest_lists()?;
        let text = match self.names.as_slice() {
            [list, image] => lists.inspect_one(&name(list)?, &name(image)?, self.verbose)?,
            [one, ..] => lists.inspect(&remote, &name(one)?, self.verbose)?,
            [] => return Err(bad_input("manifest inspect needs a name")),
        };
        // Indented by tabs, which stay.
        for line in text.lines() {
            let bare = line.trim_start_matches('\t');
            let tabs = line.len() - bare.len();
            say(&format!("{}{}", "\t".repeat(tabs), crate::output::escape::json(bare)))?;
        }
        Ok(0)
    }
}

/// Push a manifest list to a repository
#[derive(Debug, Parser)]
#[command(
    name = "push",
    after_help = "Examples:\n  rbox manifest push registry.lan:5000/app:1\n  rbox manifest push --purge registry.lan:5000/app:1      # and forget it here"
)]
pub(crate) struct Push {
    /// Accepted for compatibility with Docker; plain HTTP is set in registries.json
    #[arg(long)]
    insecure: bool,
    /// Remove the local manifest list after push
    #[arg(short, long)]
    purge: bool,
    /// The list
    #[arg(value_name = "MANIFEST_LIST")]
    list: String,
}

impl Execute for Push {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let list = name(&self.list)?;
        let (lists, remote) = global.engine.manifest_lists()?;
        let mut copied = |name: &Reference| {
            let digest = name.digest().map(ToString::to_string).unwrap_or_default();
            let _ = say(&format!("Pushed ref {} with digest: {digest}", name.full()));
        };
        let digest = lists.push(&remote, &list, &mut copied)?;
        if self.purge {
            lists.remove(&list)?;
        }
        say(&digest.to_string())?;
        Ok(0)
    }
}

/// Delete one or more manifest lists from local storage
#[derive(Debug, Parser)]
#[command(name = "rm", after_help = "Examples:\n  rbox manifest rm registry.lan:5000/app:1")]
pub(crate) struct Remove {
    /// Lists
    #[arg(required = true, value_name = "MANIFEST_LIST")]
    lists: Vec<String>,
}

impl Execute for Remove {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let (lists, _) = global.engine.manifest_lists()?;
        Ok(each(&self.lists, |text| Ok(lists.remove(&name(text)?)?)))
    }
}

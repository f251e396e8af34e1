//! `rbox compose pull` and `push`.

use std::collections::BTreeSet;
use std::sync::Arc;

use clap::Parser;
use rbox_compose::model::{Project, Service};
use rbox_engine::image::{PullOptions, PushOptions};
use rbox_engine::spec::Reference;

use crate::args::platform::parse_platform;
use crate::command::entry::Execute;
use crate::command::error::{bad_input, report};
use crate::command::global::Global;
use crate::compose::images::is_due;
use crate::compose::progress::Progress;
use crate::compose::project::{load, options};
use crate::image::progress::{Out, Progress as PullProgress};

/// Pull the images of services
#[derive(Debug, Parser)]
#[command(
    name = "pull",
    after_help = "Examples:\n  rbox compose pull\n  rbox compose pull --ignore-buildable --policy missing\n  rbox compose pull --include-deps api"
)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct Pull {
    /// Not those that can be built
    #[arg(long)]
    ignore_buildable: bool,
    /// Go on after one that cannot be pulled
    #[arg(long)]
    ignore_pull_failures: bool,
    /// Also those of what the services depend on
    #[arg(long)]
    include_deps: bool,
    /// always, or missing: only those that are not there
    #[arg(long, value_name = "POLICY", value_parser = ["always", "missing"])]
    policy: Option<String>,
    /// Without progress
    #[arg(short, long)]
    quiet: bool,
    /// Services; all when left out
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

/// The project, and those of its services that are meant.
fn read(
    global: &Global,
    named: &[String],
    dependencies: bool,
) -> anyhow::Result<(Project, BTreeSet<String>)> {
    let mut wanted = options(global)?;
    wanted.services = named.to_vec();
    let project = load(&wanted)?.project;
    let all = project.services.keys().filter(|name| dependencies || named.is_empty() || named.contains(name));
    let all = all.cloned().collect();
    Ok((project, all))
}

/// A service, and the same with the image of each step before its start, which can only be pulled.
fn with_steps(service: &Service) -> impl Iterator<Item = Service> {
    let steps = service.pre_start.iter().filter(|step| !step.image.is_empty());
    let steps = steps.map(|step| {
        let mut with_step = service.clone();
        (with_step.image, with_step.build) = (step.image.clone(), None);
        with_step
    });
    std::iter::once(service.clone()).chain(steps)
}

impl Execute for Pull {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let (project, meant) = read(global, &self.services, self.include_deps)?;
        let mut flags = global.project.clone();
        if self.quiet {
            flags.progress = Some("quiet".into());
        }
        let progress = Progress::new(&flags, "Pulling")?;
        let (mut code, mut pulled) = (0, BTreeSet::new());
        let meant = project.services.values().filter(|service| meant.contains(&service.name));
        for service in meant.flat_map(with_steps) {
            if !pulled.insert(service.image.clone()) {
                continue;
            }
            if let Err(error) = self.pull(global, &service, &progress) {
                if service.build.is_some() {
                    progress.line(
                        "Image",
                        &service.image,
                        "Warning: pull access denied or no such image; it can be built",
                    );
                } else if self.ignore_pull_failures {
                    progress.line("Image", &service.image, "Error");
                    report(&error);
                } else {
                    progress.line("Image", &service.image, "Error");
                    code = code.max(report(&error).min(1));
                }
            }
        }
        Ok(code)
    }
}

impl Pull {
    fn pull(&self, global: &Global, service: &Service, progress: &Progress) -> anyhow::Result<()> {
        let image = &service.image;
        if image.is_empty() {
            progress.line("Service", &service.name, "Skipped - No image to be pulled");
            return Ok(());
        }
        if self.ignore_buildable && service.build.is_some() {
            progress.line("Image", image, "Skipped - Image can be built");
            return Ok(());
        }
        let is_there = global.engine.images()?.find(image)?.is_some();
        if rbox_engine::embedded::is_name(image) {
            return Ok(());
        }
        let missing_only = self.policy.as_deref() == Some("missing")
            || (self.policy.is_none()
                && matches!(service.pull_policy.as_str(), "missing" | "if_not_present"))
            || (self.policy.is_none() && service.refresh_after().is_some() && !is_due(global, service)?);
        if missing_only && is_there {
            progress.line("Image", image, "Skipped - Image is already present locally");
            return Ok(());
        }
        if self.policy.is_none() && service.pull_policy == "never" {
            progress.line("Image", image, "Skipped - pull_policy is never");
            return Ok(());
        }
        let reference = Reference::parse(image).map_err(bad_input)?.with_default_tag();
        let platform = Some(service.platform.as_str()).filter(|platform| !platform.is_empty());
        let platform = platform.map(parse_platform).transpose()?;
        progress.line("Image", image, "Pulling");
        if progress.is_rehearsal() {
            progress.line("Image", image, "Pulled");
            return Ok(());
        }
        progress.leave();
        let engine = global.engine.watched_by(Arc::new(PullProgress::on(Out::Stderr, self.quiet)));
        engine.pull(&reference, &PullOptions { platform, verify: true, ..PullOptions::default() })?;
        progress.line("Image", image, "Pulled");
        Ok(())
    }
}

/// Push the images of services that are built
#[derive(Debug, Parser)]
#[command(
    name = "push",
    after_help = "Examples:\n  rbox compose push\n  rbox compose push --ignore-push-failures api"
)]
pub(crate) struct Push {
    /// Go on after one that cannot be pushed
    #[arg(long)]
    ignore_push_failures: bool,
    /// Also those of what the services depend on
    #[arg(long)]
    include_deps: bool,
    /// Without progress
    #[arg(short, long)]
    quiet: bool,
    /// Services; all when left out
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

impl Execute for Push {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let (project, meant) = read(global, &self.services, self.include_deps)?;
        let mut code = 0;
        let progress = Progress::new(&global.project, "Pushing")?;
        for service in project.services.values().filter(|service| meant.contains(&service.name)) {
            if service.build.is_none() || service.image.is_empty() {
                continue;
            }
            let mut names = vec![service.image.clone()];
            names.extend(service.build.iter().flat_map(|build| build.tags.iter().cloned()));
            for name in names {
                if progress.is_rehearsal() {
                    progress.line("Image", &name, "Pushing");
                    progress.line("Image", &name, "Pushed");
                } else if let Err(error) = push(global, &name, self.quiet) {
                    let failed = report(&error).min(1);
                    code = code.max(if self.ignore_push_failures { 0 } else { failed });
                }
            }
        }
        Ok(code)
    }
}

fn push(global: &Global, name: &str, quiet: bool) -> anyhow::Result<()> {
    let reference = Reference::parse(name).map_err(bad_input)?.with_default_tag();
    let engine = global.engine.watched_by(Arc::new(PullProgress::on(Out::Stderr, quiet)));
    engine.push(&reference, &PushOptions::default())?;
    Ok(())
}

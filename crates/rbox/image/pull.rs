//! `rbox pull`: an image from a registry, with one bar a layer on a terminal and plain lines otherwise.

use clap::Parser;
use rbox_engine::image::{PullOptions, Registries, tags};
use rbox_engine::spec::Reference;
use std::sync::Arc;

use crate::args::accepted::ContentTrust;
use crate::args::platform::default_platform;
use crate::command::entry::Execute;
use crate::command::error::bad_input;
use crate::command::global::Global;
use crate::image::progress::{Out, Progress, status};
use crate::output::lines::say;

/// Download an image from a registry
#[derive(Debug, Parser)]
#[command(
    name = "pull",
    after_help = "Examples:\n  rbox pull python:3.11-slim\n  rbox pull -q localhost:5000/app          # prints only its full name\n  rbox pull -a localhost:5000/app          # every tag\n  rbox pull --platform linux/arm64 debian:bookworm-slim\n  rbox pull debian@sha256:…                # exactly this one\n\nMirrors, plain HTTP and certificates of registries are set in /etc/rbox/registries.json (or $RBOX_REGISTRIES);\ncredentials are read from ~/.docker/config.json."
)]
pub(crate) struct Pull {
    /// Set platform if the registry has several (OS/ARCH[/VARIANT])
    #[arg(long)]
    platform: Option<String>,
    /// Download all tagged images in the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Suppress verbose output: print only the full name
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    _trust: ContentTrust,
    /// Name, with a tag or digest
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    image: String,
}

impl Execute for Pull {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let reference = Reference::parse(&self.image).map_err(bad_input)?;
        let platform = default_platform(self.platform.as_deref())?;
        // Who asks for an image that is there wants it whole.
        let options = PullOptions { platform, verify: true, ..PullOptions::default() };
        if self.all_tags && !reference.is_name_only() {
            return Err(bad_input("tag can't be used with --all-tags/-a"));
        }
        let engine = global.engine.watched_by(Arc::new(Progress::on(Out::Stdout, self.quiet)));
        if self.all_tags {
            let mut newer = false;
            for tag in tags(&Registries::load()?, &reference, &options)? {
                newer |= !engine.pull(&reference.with_tag(&tag)?, &options)?.up_to_date;
            }
            self.tell_status(&reference, !newer)?;
            say(&reference.name())?;
            return Ok(0);
        }
        if reference.is_name_only() && !self.quiet {
            say("Using default tag: latest")?;
        }
        let reference = reference.with_default_tag();
        let pulled = engine.pull(&reference, &options)?;
        self.tell_status(&reference, pulled.up_to_date)?;
        say(&reference.full())?;
        Ok(0)
    }
}

impl Pull {
    fn tell_status(&self, reference: &Reference, up_to_date: bool) -> anyhow::Result<()> {
        if self.quiet { Ok(()) } else { say(&status(reference, up_to_date)) }
    }
}

//! `rbox push`: an image to its registry, with one bar a layer on a terminal and plain lines otherwise.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use clap::{Parser, ValueEnum};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget};
use rbox_engine::engine::{Event, Observer};
use rbox_engine::image::media::Compression;
use rbox_engine::image::{PushError, PushEvent, PushOptions, PushState};
use rbox_engine::spec::{Digest, Reference};

use crate::args::accepted::ContentTrust;
use crate::args::platform::parse_platform;
use crate::command::entry::Execute;
use crate::command::error::bad_input;
use crate::command::global::{Global, Warnings};
use crate::image::progress::{Out, style};
use crate::output::escape;
use crate::output::lines::say;

/// Upload an image to a registry
#[derive(Debug, Parser)]
#[command(
    name = "push",
    after_help = "Examples:\n  rbox tag app registry.lan:5000/team/app:1 && rbox push registry.lan:5000/team/app:1\n  rbox push -a registry.lan:5000/team/app        # every tag that is here\n  rbox push -q registry.lan:5000/team/app:1      # prints only its full name\n\nThe credentials are those of 'rbox login'. Plain HTTP and certificates of registries are set in\n/etc/rbox/registries.json (or $RBOX_REGISTRIES)."
)]
pub(crate) struct Push {
    /// Push all tags of an image to the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Suppress verbose output: print only the full name
    #[arg(short, long)]
    quiet: bool,
    /// Refuse an image that is not for this platform (OS/ARCH[/VARIANT])
    #[arg(long)]
    platform: Option<String>,
    #[command(flatten)]
    _trust: ContentTrust,
    /// How layers that are kept uncompressed are sent
    #[arg(long, value_enum, default_value_t = Format::Gzip)]
    compression: Format,
    /// Name, with a tag
    #[arg(value_name = "NAME[:TAG]")]
    image: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Gzip,
    Zstd,
}

impl Execute for Push {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let reference = Reference::parse(&self.image).map_err(bad_input)?;
        let platform = self.platform.as_deref().map(parse_platform).transpose()?;
        let compression = match self.compression {
            Format::Gzip => Compression::Gzip,
            Format::Zstd => Compression::Zstd,
        };
        let options = PushOptions { platform, compression, ..PushOptions::default() };
        if self.all_tags && !reference.is_name_only() {
            return Err(bad_input("tag can't be used with --all-tags/-a"));
        }
        if !self.all_tags && reference.is_name_only() && !self.quiet {
            say("Using default tag: latest")?;
        }
        if !self.quiet {
            say(&format!("The push refers to repository [{}]", reference.name()))?;
        }
        let engine = global.engine.watched_by(Arc::new(Progress::new(self.quiet)));
        if self.all_tags {
            let tags = engine.tags_of(&reference)?;
            if tags.is_empty() {
                return Err(PushError::NoImage(reference.familiar_name()).into());
            }
            for tag in tags {
                engine.push(&tag, &options)?;
            }
        } else {
            engine.push(&reference.clone().with_default_tag(), &options)?;
        }
        if self.quiet {
            let name = if self.all_tags { reference } else { reference.with_default_tag() };
            say(&name.full())?;
        }
        Ok(0)
    }
}

/// Shows a push. What else happens is for [`Warnings`].
enum Progress {
    Nothing,
    Lines,
    Bars { all: MultiProgress, layers: Mutex<HashMap<Digest, ProgressBar>> },
}

impl Progress {
    fn new(quiet: bool) -> Self {
        if quiet {
            return Self::Nothing;
        }
        if !Out::Stdout.has_cursor() {
            return Self::Lines;
        }
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stdout_with_hz(15));
        Self::Bars { all, layers: Mutex::default() }
    }
}

impl Observer for Progress {
    fn event(&self, event: Event<'_>) {
        let Event::Push(event) = event else { return Warnings.event(event) };
        match (self, event) {
            (Self::Nothing, _) => {}
            // A reader that went away does not end the push.
            (Self::Lines, PushEvent::Message(text)) => drop(say(&escape::text(text))),
            (Self::Lines, PushEvent::Layer { diff_id, state }) => {
                if let Some(text) = line_of(state) {
                    let _ = say(&format!("{}: {text}", diff_id.short()));
                }
            }
            (Self::Bars { all, layers }, PushEvent::Message(text)) => {
                let mut layers = layers.lock().unwrap_or_else(PoisonError::into_inner);
                if layers.is_empty() || !layers.values().all(ProgressBar::is_finished) {
                    let _ = all.println(escape::text(text));
                    return;
                }
                // It belongs below the bars, which are done. Another tag begins anew.
                layers.clear();
                let _ = say(&escape::text(text));
            }
            (Self::Bars { all, layers }, PushEvent::Layer { diff_id, state }) => {
                // A thread that panicked while it held the map left it whole.
                let mut layers = layers.lock().unwrap_or_else(PoisonError::into_inner);
                let bar = layers.entry(*diff_id).or_insert_with(|| {
                    // Dressed before it is added, or its first drawing is a bare bar.
                    let bar = ProgressBar::new(0).with_style(style("{prefix}: {msg}"));
                    all.add(bar.with_prefix(diff_id.short()))
                });
                draw(bar, state);
            }
        }
    }
}

fn line_of(state: PushState<'_>) -> Option<String> {
    match state {
        PushState::Preparing => Some("Preparing".to_owned()),
        PushState::Pushed => Some("Pushed".to_owned()),
        PushState::AlreadyExists => Some("Layer already exists".to_owned()),
        PushState::Mounted(from) => Some(format!("Mounted from {from}")),
        PushState::Pushing { .. } => None,
    }
}

fn draw(bar: &ProgressBar, state: PushState<'_>) {
    if let PushState::Pushing { done, total } = state {
        if bar.length() != Some(total) {
            bar.set_length(total);
            bar.set_message("Pushing");
            bar.set_style(style("{prefix}: {msg} [{bar:50}]  {bytes}/{total_bytes}"));
        }
        bar.set_position(done.min(total));
        return;
    }
    let text = line_of(state).unwrap_or_default();
    bar.set_style(style("{prefix}: {msg}"));
    if state == PushState::Preparing { bar.set_message(text) } else { bar.abandon_with_message(text) }
}

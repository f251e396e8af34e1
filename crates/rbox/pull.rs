//! `rbox pull`: an image from a registry, with one bar a layer on a terminal and plain lines otherwise.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use clap::Parser;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use rbox_engine::image::{
    Image, ImageStore, LayerState, PullEvent, PullOptions, PullProgress, Pulled, Registries, pull,
};
use rbox_engine::spec::{Digest, Platform, Reference};

use crate::cli::{Execute, Global, bad_input, say};
use crate::escape;
use crate::table::write_all;

/// Download an image from a registry
#[derive(Debug, Parser)]
#[command(
    name = "pull",
    after_help = "Examples:\n  rbox pull python:3.11-slim\n  rbox pull -q localhost:5000/app          # prints only the digest\n  rbox pull --platform linux/arm64 debian:bookworm-slim\n  rbox pull debian@sha256:…                # exactly this one\n\nMirrors, plain HTTP and certificates of registries are set in /etc/rbox/registries.json (or $RBOX_REGISTRIES);\ncredentials are read from ~/.docker/config.json."
)]
pub(crate) struct Pull {
    /// Set platform if the registry has several (OS/ARCH[/VARIANT])
    #[arg(long)]
    platform: Option<String>,
    /// Suppress verbose output: print only the digest
    #[arg(short, long)]
    quiet: bool,
    /// Name, with a tag or digest
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    image: String,
}

impl Execute for Pull {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let reference = Reference::parse(&self.image).map_err(bad_input)?;
        let platform = self.platform.as_deref().map(parse_platform).transpose()?;
        if self.quiet {
            let pulled = fetch(&global.images()?, &reference, platform, &Silent)?;
            say(&pulled.digest.to_string())?;
            return Ok(0);
        }
        if reference.is_name_only() {
            say("Using default tag: latest")?;
        }
        let reference = reference.with_default_tag();
        let pulled = fetch_shown(&global.images()?, &reference, platform, Out::Stdout)?;
        say(&format!("Digest: {}", pulled.digest))?;
        let what = if pulled.up_to_date { "Image is up to date for" } else { "Downloaded newer image for" };
        say(&format!("Status: {what} {}", reference.familiar()))?;
        say(&full_name(&reference))?;
        Ok(0)
    }
}

/// `linux/arm64`.
pub(crate) fn parse_platform(text: &str) -> anyhow::Result<Platform> {
    text.parse().map_err(bad_input)
}

/// The name with its registry: `docker.io/library/python:3.11-slim`.
fn full_name(reference: &Reference) -> String {
    reference.full()
}

/// Where the progress is told: `run` keeps standard output for the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Out {
    /// `pull` itself.
    Stdout,
    /// `run` and `create`, which pull what is missing.
    Stderr,
}

/// The image that `run` and `create` want: the one in the store, or pulled as `policy` (`always`, `missing`,
/// `never`) says.
pub(crate) fn obtain(
    store: &ImageStore,
    name: &str,
    policy: &str,
    platform: Option<&str>,
    quiet: bool,
) -> anyhow::Result<Image> {
    let platform = platform.map(parse_platform).transpose()?;
    let fits = |image: &Image| platform.as_ref().is_none_or(|wanted| wanted.rank(&image.platform).is_some());
    if policy != "always" {
        match store.find(name)? {
            Some(image) if fits(&image) && store.is_complete(&image) => return Ok(image),
            Some(image) if policy == "never" && !fits(&image) => {
                anyhow::bail!("image {name} is for {}, which is not the platform asked for", image.platform);
            }
            _ if policy == "never" => return Ok(store.get(name)?),
            _ => {}
        }
    }
    let reference = Reference::parse(name).map_err(bad_input)?.with_default_tag();
    if quiet {
        return Ok(fetch(store, &reference, platform, &Silent)?.image);
    }
    let tell = |line: String| write_all(&mut std::io::stderr(), &format!("{line}\n"));
    if policy != "always" {
        tell(format!("Unable to find image '{}' locally", reference.familiar()))?;
    }
    let pulled = fetch_shown(store, &reference, platform, Out::Stderr)?;
    let what = if pulled.up_to_date { "Image is up to date for" } else { "Downloaded newer image for" };
    tell(format!("Digest: {}", pulled.digest))?;
    tell(format!("Status: {what} {}", reference.familiar()))?;
    Ok(pulled.image)
}

/// Pulls with progress: bars on a terminal, a line for each change otherwise.
pub(crate) fn fetch_shown(
    store: &ImageStore,
    reference: &Reference,
    platform: Option<Platform>,
    out: Out,
) -> anyhow::Result<Pulled> {
    let terminal = match out {
        Out::Stdout => std::io::stdout().is_terminal(),
        Out::Stderr => std::io::stderr().is_terminal(),
    };
    if !terminal {
        return fetch(store, reference, platform, &Lines { out });
    }
    let bars = Bars::new(out);
    let pulled = fetch(store, reference, platform, &bars);
    bars.finish();
    pulled
}

/// Pulls and tells `progress`. Every thread it starts has ended when it returns.
pub(crate) fn fetch(
    store: &ImageStore,
    reference: &Reference,
    platform: Option<Platform>,
    progress: &dyn PullProgress,
) -> anyhow::Result<Pulled> {
    let registries = Registries::load()?;
    let options = PullOptions { platform, ..PullOptions::default() };
    Ok(pull(store, &registries, reference, &options, progress)?)
}

/// Tells nothing.
struct Silent;

impl PullProgress for Silent {
    fn event(&self, _: PullEvent<'_>) {}
}

/// A line when a layer comes to a new state.
struct Lines {
    out: Out,
}

fn line_of(state: LayerState) -> Option<&'static str> {
    match state {
        LayerState::Waiting => Some("Pulling fs layer"),
        LayerState::AlreadyExists => Some("Already exists"),
        LayerState::DownloadComplete => Some("Download complete"),
        LayerState::PullComplete => Some("Pull complete"),
        LayerState::Downloading { .. } | LayerState::Extracting => None,
    }
}

impl PullProgress for Lines {
    fn event(&self, event: PullEvent<'_>) {
        let line = match event {
            PullEvent::Message(text) => escape::text(text).into_owned(),
            PullEvent::Layer { digest, state } => match line_of(state) {
                Some(text) => format!("{}: {text}", digest.short()),
                None => return,
            },
        };
        // A reader that went away does not end the pull.
        let _ = match self.out {
            Out::Stdout => write_all(&mut std::io::stdout(), &format!("{line}\n")),
            Out::Stderr => write_all(&mut std::io::stderr(), &format!("{line}\n")),
        };
    }
}

/// One bar a layer, in the order the layers were first told.
struct Bars {
    all: MultiProgress,
    layers: Mutex<HashMap<Digest, ProgressBar>>,
}

impl Bars {
    fn new(out: Out) -> Self {
        let target = match out {
            Out::Stdout => ProgressDrawTarget::stdout_with_hz(15),
            Out::Stderr => ProgressDrawTarget::stderr_with_hz(15),
        };
        Self { all: MultiProgress::with_draw_target(target), layers: Mutex::new(HashMap::new()) }
    }

    fn bar(&self, digest: &Digest) -> ProgressBar {
        // A thread that panicked while it held the map left it whole.
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        layers
            .entry(*digest)
            .or_insert_with(|| {
                // Dressed before it is added, or its first drawing is a bare bar.
                let bar = ProgressBar::new(0).with_style(style("{prefix}: {msg}"));
                self.all.add(bar.with_prefix(digest.short()).with_message("Waiting"))
            })
            .clone()
    }

    /// Leaves the bars as they stand.
    fn finish(&self) {
        for bar in self.layers.lock().unwrap_or_else(PoisonError::into_inner).values() {
            bar.abandon();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    let plain = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    plain.progress_chars("=> ")
}

impl PullProgress for Bars {
    fn event(&self, event: PullEvent<'_>) {
        let (digest, state) = match event {
            PullEvent::Message(text) => {
                let _ = self.all.println(escape::text(text));
                return;
            }
            PullEvent::Layer { digest, state } => (digest, state),
        };
        let bar = self.bar(digest);
        match state {
            LayerState::Waiting => bar.set_message("Waiting"),
            LayerState::Downloading { done, total } => {
                if bar.length() != Some(total) {
                    bar.set_length(total);
                    bar.set_message("Downloading");
                    bar.set_style(style("{prefix}: {msg} [{bar:50}]  {bytes}/{total_bytes}"));
                }
                bar.set_position(done.min(total));
            }
            LayerState::DownloadComplete => bar.set_message("Download complete"),
            LayerState::Extracting => {
                bar.set_style(style("{prefix}: {msg} {spinner}"));
                bar.set_message("Extracting");
                bar.enable_steady_tick(Duration::from_millis(120));
            }
            LayerState::AlreadyExists | LayerState::PullComplete => {
                bar.disable_steady_tick();
                bar.set_style(style("{prefix}: {msg}"));
                bar.abandon_with_message(line_of(state).unwrap_or_default());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn templates_are_understood() {
        for template in [
            "{prefix}: {msg}",
            "{prefix}: {msg} [{bar:50}]  {bytes}/{total_bytes}",
            "{prefix}: {msg} {spinner}",
        ] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
        // Docker's arrow.
        let _ = style("{bar:10}");
    }

    #[test]
    fn bars_take_every_state_from_several_threads() {
        let bars = Bars {
            all: MultiProgress::with_draw_target(ProgressDrawTarget::hidden()),
            layers: Mutex::new(HashMap::new()),
        };
        let digest =
            |n: u8| -> Digest { format!("sha256:{}", format!("{n:02x}").repeat(32)).parse().unwrap() };
        std::thread::scope(|scope| {
            for n in 0..4 {
                let bars = &bars;
                scope.spawn(move || {
                    for state in [
                        LayerState::Waiting,
                        LayerState::Downloading { done: 5, total: 10 },
                        LayerState::Downloading { done: 50, total: 10 },
                        LayerState::DownloadComplete,
                        LayerState::Extracting,
                        LayerState::PullComplete,
                    ] {
                        bars.event(PullEvent::Layer { digest: &digest(n), state });
                    }
                    bars.event(PullEvent::Message("a line"));
                });
            }
        });
        bars.finish();
        assert_eq!(bars.layers.lock().unwrap().len(), 4);
        assert!(bars.layers.lock().unwrap().values().all(ProgressBar::is_finished));
    }
}

//! What is seen of a pull while it goes on.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use rbox_engine::engine::{Event, Observer};
use rbox_engine::image::{LayerState, PullEvent};
use rbox_engine::spec::{Digest, Reference};

use crate::command::global::Warnings;
use crate::output::escape;
use crate::output::table::write_all;

/// Where progress is shown: `run` keeps standard output for the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Out {
    /// `pull` itself.
    Stdout,
    /// `run` and `create`, which pull what is missing.
    Stderr,
}

impl Out {
    /// Whether it is a terminal on which bars can be drawn.
    pub(crate) fn has_cursor(self) -> bool {
        let terminal = match self {
            Self::Stdout => std::io::stdout().is_terminal(),
            Self::Stderr => std::io::stderr().is_terminal(),
        };
        terminal && std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb")
    }

    fn line(self, line: &str) -> std::io::Result<()> {
        match self {
            Self::Stdout => write_all(&mut std::io::stdout(), &format!("{line}\n")),
            Self::Stderr => write_all(&mut std::io::stderr(), &format!("{line}\n")),
        }
    }
}

/// Shows a pull: bars on a terminal that can move its cursor, a line for each change otherwise, nothing when it is to be quiet.
/// What else happens is for [`Warnings`].
pub(crate) struct Progress {
    out: Out,
    shown: Shown,
}

enum Shown {
    Nothing,
    Lines(Lines),
    Bars(Bars),
}

impl Progress {
    /// A pull that is shown on `out`.
    pub(crate) fn on(out: Out, quiet: bool) -> Self {
        let shown = match quiet {
            true => Shown::Nothing,
            false if out.has_cursor() => Shown::Bars(Bars::new(out)),
            false => Shown::Lines(Lines { out }),
        };
        Self { out, shown }
    }

    /// A reader that went away does not end the pull.
    fn line(&self, line: &str) {
        if !matches!(self.shown, Shown::Nothing) {
            let _ = self.out.line(line);
        }
    }
}

impl Observer for Progress {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::ImageMissing(reference) => {
                self.line(&format!("Unable to find image '{}' locally", reference.familiar()));
            }
            Event::Pull(event) => match &self.shown {
                Shown::Nothing => {}
                Shown::Lines(lines) => lines.event(event),
                Shown::Bars(bars) => bars.event(event),
            },
            Event::Pulled { reference, pulled } => {
                if let Shown::Bars(bars) = &self.shown {
                    bars.finish();
                }
                self.line(&format!("Digest: {}", pulled.digest));
                // `pull` has its own last lines.
                if self.out == Out::Stderr {
                    self.line(&status(reference, pulled.up_to_date));
                }
            }
            other => Warnings.event(other),
        }
    }
}

impl Drop for Progress {
    /// After a pull that failed the bars stay as they are, above the error.
    fn drop(&mut self) {
        if let Shown::Bars(bars) = &self.shown {
            bars.finish();
        }
    }
}

/// Docker's last line about a pull.
pub(crate) fn status(reference: &Reference, up_to_date: bool) -> String {
    let what = if up_to_date { "Image is up to date for" } else { "Downloaded newer image for" };
    format!("Status: {what} {}", reference.familiar())
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

impl Lines {
    fn event(&self, event: PullEvent<'_>) {
        let line = match event {
            PullEvent::Message(text) => escape::text(text).into_owned(),
            PullEvent::Layer { digest, state } => match line_of(state) {
                Some(text) => format!("{}: {text}", digest.short()),
                None => return,
            },
        };
        // A reader that went away does not end the pull.
        let _ = self.out.line(&line);
    }
}

/// One bar a layer, in the order in which the layers came.
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

pub(crate) fn style(template: &str) -> ProgressStyle {
    let plain = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    plain.progress_chars("=> ")
}

impl Bars {
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

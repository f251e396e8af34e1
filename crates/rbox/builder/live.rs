//! A build as a list on a terminal: a line for each step, and below those that go on what their programs wrote last.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rbox_build::{BuildEvent, BuildProgress, Number, Seat};
use rbox_engine::engine::{Event, Observer};
use rbox_engine::image::{LayerState, PullEvent};

use crate::builder::show::{self, Failed, Lines, Show};
use crate::command::global::Warnings;
use crate::output::escape;
use crate::output::live::{Screen, cut, no_colours, paint, size, width};
use crate::output::units::human_size;

/// So many lines of a program are shown below its step.
const SHOWN: usize = 6;
/// What goes on in a layer that is fetched, by its short digest.
type Pulls = BTreeMap<String, String>;

/// Draws a build on standard error.
#[derive(Debug)]
pub(crate) struct Live(Arc<Mutex<List>>);

/// The list. Threads of a pull change it too.
#[derive(Debug)]
struct List {
    /// Whose it is: a process that was cloned has a copy, and leaves the screen alone.
    process: u32,
    begun: Instant,
    steps: BTreeMap<Number, Step>,
    pulls: Pulls,
    warnings: Vec<String>,
    failed: Option<Failed>,
    screen: Screen,
    colours: bool,
}

/// A step.
#[derive(Debug)]
struct Step {
    name: String,
    begun: Instant,
    end: Option<(End, Duration)>,
    /// Why it was carried out, and the last that was said of it.
    told: Option<String>,
    lines: Lines,
}

/// How a step has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Done,
    Cached,
    Failed,
    Canceled,
}

impl End {
    /// Its word before the name, and its colour.
    const fn word(self) -> (&'static str, &'static str) {
        match self {
            Self::Done => ("", "34"),
            Self::Cached => ("CACHED ", "34"),
            Self::Failed => ("ERROR ", "31"),
            Self::Canceled => ("CANCELED ", "33"),
        }
    }
}

impl Live {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(List {
            process: std::process::id(),
            begun: Instant::now(),
            steps: BTreeMap::new(),
            pulls: Pulls::new(),
            warnings: Vec::new(),
            failed: None,
            screen: Screen::default(),
            colours: !no_colours(),
        })))
    }

    /// Shows what is pulled meanwhile.
    pub(crate) fn pulls(&self) -> impl Observer + use<> {
        LivePulls(Arc::clone(&self.0))
    }

    fn list(&self) -> MutexGuard<'_, List> {
        lock(&self.0)
    }
}

fn lock(list: &Mutex<List>) -> MutexGuard<'_, List> {
    // A thread that panicked while it held it left it whole.
    list.lock().unwrap_or_else(PoisonError::into_inner)
}

impl List {
    fn end(&mut self, number: Number, end: End, took: Option<Duration>) {
        let Some(step) = self.steps.get_mut(&number) else { return };
        let _ = step.lines.rest();
        step.end = Some((end, took.unwrap_or_else(|| step.begun.elapsed())));
        if let (End::Failed, None) = (end, &self.failed) {
            let tail = step.lines.tail().map(str::to_owned).collect();
            self.failed = Some(Failed { name: step.name.clone(), tail });
        }
    }

    fn draw(&mut self, over: bool) {
        if std::process::id() == self.process && (over || self.screen.is_due()) {
            let lines = self.lines(size().1, over);
            self.screen.draw(&lines, over);
        }
    }

    /// A head line, and the steps.
    fn lines(&self, width: usize, over: bool) -> Vec<String> {
        let done = self.steps.values().filter(|step| step.end.is_some()).count();
        let took = self.begun.elapsed().as_secs_f64();
        let state = match (&self.failed, over) {
            (_, false) => "",
            (None, true) => " FINISHED",
            (Some(_), true) => " ERROR",
        };
        let head = cut(&format!("[+] Building {took:.1}s ({done}/{}){state}", self.steps.len()), width);
        let mut lines = vec![head];
        for step in self.steps.values() {
            let (word, colour) = step.end.map_or(("", ""), |(end, _)| end.word());
            let took = step.end.map_or_else(|| step.begun.elapsed(), |(_, took)| took);
            lines.push(self.line(&format!("=> {word}{}", step.name), Some(took), colour, width));
            if let Some(told) = &step.told {
                lines.push(self.line(&format!("=> => {told}"), None, "", width));
            }
            if step.end.is_none() {
                let tail: Vec<&str> = step.lines.tail().collect();
                let from = tail.len().saturating_sub(SHOWN);
                let shown = tail.get(from..).unwrap_or_default();
                lines.extend(shown.iter().map(|text| self.line(&format!("=> => # {text}"), None, "", width)));
            }
        }
        for (layer, state) in self.pulls.iter().filter(|_| !over) {
            lines.push(self.line(&format!("=> => {layer} {state}"), None, "", width));
        }
        lines
    }

    /// A line with its time at the right.
    fn line(&self, text: &str, took: Option<Duration>, colour: &str, columns: usize) -> String {
        let time = took.map_or_else(String::new, |took| format!("{:.1}s", took.as_secs_f64()));
        let room = columns.saturating_sub(width(&time) + 3);
        let text = cut(&escape::text(text), room);
        let gap =
            if time.is_empty() { String::new() } else { " ".repeat((room + 1).saturating_sub(width(&text))) };
        paint(&format!(" {text}{gap}{time}"), colour, self.colours)
    }
}

impl BuildProgress for Live {
    fn event(&mut self, event: BuildEvent<'_>) {
        let mut list = self.list();
        match event {
            BuildEvent::Begun { number, name } => {
                let step = Step {
                    name: name.to_owned(),
                    begun: Instant::now(),
                    end: None,
                    told: None,
                    lines: Lines::new(),
                };
                list.steps.insert(number, step);
            }
            BuildEvent::Told { number, line } => {
                if let Some(step) = list.steps.get_mut(&number) {
                    step.told = Some(line.to_owned());
                }
            }
            BuildEvent::NotCached { number, why } => {
                if let Some(step) = list.steps.get_mut(&number) {
                    step.told = Some(format!("not cached: {why}"));
                }
            }
            BuildEvent::Output { number, bytes, .. } => {
                if let Some(step) = list.steps.get_mut(&number) {
                    let _ = step.lines.take(bytes);
                }
            }
            BuildEvent::Cached { number } => list.end(number, End::Cached, None),
            BuildEvent::Done { number, took } => list.end(number, End::Done, Some(took)),
            BuildEvent::Failed { number, why } => {
                if let Some(step) = list.steps.get_mut(&number) {
                    step.told = Some(why.to_owned());
                }
                list.end(number, End::Failed, None);
            }
            BuildEvent::Canceled { number } => list.end(number, End::Canceled, None),
            BuildEvent::Warning(text) => list.warnings.push(text.to_owned()),
            BuildEvent::Tick => {}
        }
        list.draw(false);
    }

    fn seat(&self) -> Option<Seat> {
        Some(show::seat())
    }

    fn attach(&mut self, socket: OwnedFd, seat: Seat) -> Result<(), String> {
        let mut list = self.list();
        list.draw(true);
        // What comes after the shell is drawn below it.
        list.screen = Screen::default();
        drop(list);
        show::attach(socket, seat)
    }
}

impl Show for Live {
    fn finish(&mut self) {
        let mut list = self.list();
        list.pulls.clear();
        list.draw(true);
        let warnings = std::mem::take(&mut list.warnings);
        list.screen = Screen::default();
        let mut text = String::new();
        for warning in &warnings {
            let _ = writeln!(text, "\n[Warning] {}", escape::text(warning));
        }
        list.screen.write_above(&text);
    }

    fn failed(&mut self) -> Option<Failed> {
        self.list().failed.take()
    }
}

/// Shows pulls in the list, and what else happens above it.
struct LivePulls(Arc<Mutex<List>>);

impl Observer for LivePulls {
    fn event(&self, event: Event<'_>) {
        let mut list = lock(&self.0);
        match event {
            Event::Pull(PullEvent::Layer { digest, state }) => {
                let state = match state {
                    LayerState::Waiting => "waiting".to_owned(),
                    LayerState::Downloading { done, total } => {
                        format!("{} / {}", human_size(done), human_size(total))
                    }
                    LayerState::DownloadComplete => "fetched".to_owned(),
                    LayerState::Extracting => "extracting".to_owned(),
                    LayerState::AlreadyExists | LayerState::PullComplete => {
                        list.pulls.remove(&digest.short());
                        return list.draw(false);
                    }
                };
                list.pulls.insert(digest.short(), state);
                list.draw(false);
            }
            Event::Pull(PullEvent::Message(_)) | Event::ImageMissing(_) => {}
            Event::Pulled { .. } => list.pulls.clear(),
            other => {
                list.screen.write_above("");
                Warnings.event(other);
                list.draw(true);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_line_for_each_step_and_the_last_of_its_output() {
        let mut live = Live::new();
        live.list().colours = false;
        let output = |number, text: &'static str| BuildEvent::Output {
            number,
            stream: rbox_engine::engine::Stream::Stdout,
            bytes: text.as_bytes(),
        };
        live.list().process = 0;
        live.event(BuildEvent::Begun { number: 1, name: "[1/3] FROM busybox" });
        live.event(BuildEvent::Cached { number: 1 });
        live.event(BuildEvent::Begun { number: 2, name: "[2/3] RUN make" });
        live.event(BuildEvent::NotCached { number: 2, why: "a.c changed" });
        live.event(output(2, "1\n2\n3\n4\n5\n6\n7\n\x1b[2J8 and"));
        live.event(output(2, " more\n"));
        let lines = live.list().lines(60, false);
        assert!(lines[0].starts_with("[+] Building ") && lines[0].ends_with("s (1/2)"), "{lines:#?}");
        assert_eq!(lines[1], " => CACHED [1/3] FROM busybox                          0.0s");
        assert_eq!(lines[3], " => => not cached: a.c changed");
        assert_eq!(lines.len(), 4 + SHOWN);
        assert!(lines[9].starts_with(" => => # ") && lines[9].ends_with(r"\x1b[2J8 and more"), "{lines:#?}");
        assert!(lines.iter().all(|line| width(line) <= 60), "{lines:#?}");
        live.event(BuildEvent::Failed { number: 2, why: "exit code: 2" });
        let lines = live.list().lines(30, true);
        assert!(
            lines[0].ends_with("ERROR") && lines[2].starts_with(" => ERROR [2/3] RUN make"),
            "{lines:#?}"
        );
        assert_eq!(live.failed().unwrap().tail.len(), 8);
    }
}

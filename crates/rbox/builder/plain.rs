//! A build as lines: `#N …`, as BuildKit's plain progress has them.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rbox_build::{BuildEvent, BuildProgress, Number, Seat};

use crate::builder::held::Held;
use crate::builder::show::{self, Failed, Lines, Show};
use crate::output::escape;
use crate::output::table::write_all;

/// Prints a build on standard error.
#[derive(Debug, Default)]
pub(crate) struct Plain {
    quiet: bool,
    steps: HashMap<Number, Shown>,
    /// What the last lines were about.
    last: Number,
    /// When that step said something last.
    spoke: Option<Instant>,
    /// Lines of other steps that go on beside it.
    held: Held,
    /// The step that failed first, for the end.
    failed: Option<Failed>,
}

/// One step on the screen.
#[derive(Debug)]
struct Shown {
    name: String,
    /// Its name was shown.
    is_known: bool,
    has_ended: bool,
    lines: Lines,
}

/// How long a step is silent before another one that goes on beside it is shown.
const SILENCE: Duration = Duration::from_millis(500);

impl Plain {
    pub(crate) fn new(quiet: bool) -> Self {
        Self { quiet, ..Self::default() }
    }

    /// A line about a step.
    fn line(&mut self, number: Number, text: &str) {
        self.raw(number, &escape::text(text));
    }

    /// A line as it is. What comes from another step than the one before waits until that one has ended or is silent.
    fn raw(&mut self, number: Number, text: &str) {
        if self.quiet {
            return;
        }
        self.held.put(number, text);
        if self.last == number || !self.is_speaking() || self.held.is_full() {
            let lines = self.held.take(number);
            self.write(number, &lines);
        }
    }

    /// Whether the step of the last lines goes on and has said something right before.
    fn is_speaking(&self) -> bool {
        let goes_on = self.steps.get(&self.last).is_some_and(|shown| !shown.has_ended);
        goes_on && self.spoke.is_some_and(|spoke| spoke.elapsed() < SILENCE)
    }

    /// Shows what was held back, as far as it is its turn.
    fn release(&mut self) {
        while !self.is_speaking()
            && let Some((number, lines)) = self.held.take_first()
        {
            self.write(number, &lines);
        }
    }

    fn write_held(&mut self) {
        while let Some((number, lines)) = self.held.take_first() {
            self.write(number, &lines);
        }
    }

    /// Lines of one step. A reader that went away does not end the build.
    fn write(&mut self, number: Number, lines: &[String]) {
        let mut out = String::new();
        if self.last != number {
            if self.steps.get(&self.last).is_some_and(|shown| !shown.has_ended) {
                let _ = writeln!(out, "#{} ...", self.last);
            }
            if self.last != 0 {
                out.push('\n');
            }
            if let Some(shown) = self.steps.get(&number)
                && shown.is_known
            {
                let _ = writeln!(out, "#{number} {}", escape::text(&shown.name));
            }
            self.last = number;
        }
        if let Some(shown) = self.steps.get_mut(&number) {
            shown.is_known = true;
        }
        self.spoke = Some(Instant::now());
        for line in lines {
            let _ = writeln!(out, "#{number} {line}");
        }
        let _ = write_all(&mut std::io::stderr(), &out);
    }

    /// The last line of a step.
    fn end(&mut self, number: Number, text: &str) {
        self.flush(number);
        if let Some(shown) = self.steps.get_mut(&number) {
            shown.has_ended = true;
        }
        self.line(number, text);
        self.release();
    }

    fn output(&mut self, number: Number, bytes: &[u8]) {
        let Some(shown) = self.steps.get_mut(&number) else { return };
        for line in shown.lines.take(bytes) {
            // As the program wrote it, tabs and colours included: it is the user's own.
            self.raw(number, &line);
        }
    }

    /// What was written without an end of line.
    fn flush(&mut self, number: Number) {
        let Some(line) = self.steps.get_mut(&number).and_then(|shown| shown.lines.rest()) else { return };
        self.raw(number, &line);
    }
}

impl BuildProgress for Plain {
    fn event(&mut self, event: BuildEvent<'_>) {
        match event {
            BuildEvent::Begun { number, name } => {
                let shown =
                    Shown { name: name.to_owned(), is_known: false, has_ended: false, lines: Lines::new() };
                self.steps.insert(number, shown);
                self.line(number, name);
            }
            BuildEvent::Told { number, line } => self.line(number, line),
            BuildEvent::NotCached { number, why } => self.line(number, &format!("not cached: {why}")),
            BuildEvent::Output { number, bytes, .. } => self.output(number, bytes),
            BuildEvent::Cached { number } => self.end(number, "CACHED"),
            BuildEvent::Done { number, took } => {
                self.end(number, &format!("DONE {:.1}s", took.as_secs_f64()));
            }
            BuildEvent::Failed { number, why } => {
                self.end(number, &format!("ERROR: {why}"));
                if let (Some(shown), None) = (self.steps.get(&number), &self.failed) {
                    let tail = shown.lines.tail().map(str::to_owned).collect();
                    self.failed = Some(Failed { name: shown.name.clone(), tail });
                }
            }
            BuildEvent::Canceled { number } => self.end(number, "CANCELED"),
            BuildEvent::Warning(text) => {
                if !self.quiet {
                    let _ =
                        write_all(&mut std::io::stderr(), &format!("\n[Warning] {}\n", escape::text(text)));
                }
            }
            BuildEvent::Tick => self.release(),
        }
    }

    fn seat(&self) -> Option<Seat> {
        Some(show::seat())
    }

    fn attach(&mut self, socket: OwnedFd, seat: Seat) -> Result<(), String> {
        self.write_held();
        show::attach(socket, seat)
    }
}

impl Show for Plain {
    fn finish(&mut self) {
        self.write_held();
    }

    fn failed(&mut self) -> Option<Failed> {
        self.failed.take()
    }
}

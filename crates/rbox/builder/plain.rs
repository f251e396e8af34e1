//! A build as lines: `#N …`, as BuildKit's plain progress has them.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Instant;

use rbox_build::{BuildEvent, BuildProgress, Number};

use crate::output::escape;
use crate::output::table::write_all;

/// Prints a build on standard error.
#[derive(Debug, Default)]
pub(crate) struct Plain {
    quiet: bool,
    steps: HashMap<Number, Shown>,
    /// What the last lines were about.
    last: Number,
    /// The step that failed, for the end.
    pub(crate) failed: Option<Failed>,
}

/// One step on the screen.
#[derive(Debug)]
struct Shown {
    name: String,
    begun: Instant,
    /// The beginning of a line.
    line: Vec<u8>,
    /// The last lines, for when it fails.
    tail: Vec<String>,
}

/// A step that failed.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) name: String,
    pub(crate) tail: Vec<String>,
}

/// How many of its last lines are shown again when a step fails.
const TAIL: usize = 10;

impl Plain {
    pub(crate) fn new(quiet: bool) -> Self {
        Self { quiet, ..Self::default() }
    }

    /// A line about a step.
    fn line(&mut self, number: Number, text: &str) {
        self.raw(number, &escape::text(text));
    }

    /// A line as it is. A reader that went away does not end the build.
    fn raw(&mut self, number: Number, text: &str) {
        if self.quiet {
            return;
        }
        let mut out = String::new();
        if self.last != number {
            if self.last != 0 {
                out.push('\n');
            }
            if let Some(shown) = self.steps.get(&number)
                && self.last > number
            {
                let _ = writeln!(out, "#{number} {}", escape::text(&shown.name));
            }
            self.last = number;
        }
        let _ = writeln!(out, "#{number} {text}");
        let _ = write_all(&mut std::io::stderr(), &out);
    }

    fn output(&mut self, number: Number, bytes: &[u8]) {
        let Some(shown) = self.steps.get_mut(&number) else { return };
        shown.line.extend_from_slice(bytes);
        let mut lines = Vec::new();
        while let Some(end) = shown.line.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = shown.line.drain(..=end).collect();
            lines.push(text_of(&line));
        }
        self.lines(number, lines);
    }

    fn lines(&mut self, number: Number, lines: Vec<String>) {
        for line in lines {
            let Some(shown) = self.steps.get_mut(&number) else { return };
            let text = format!("{:.3} {line}", shown.begun.elapsed().as_secs_f64());
            if shown.tail.len() == TAIL {
                shown.tail.remove(0);
            }
            shown.tail.push(text.clone());
            // As the program wrote it, tabs and colours included: it is the user's own.
            self.raw(number, &text);
        }
    }

    /// What was written without an end of line.
    fn flush(&mut self, number: Number) {
        let Some(shown) = self.steps.get_mut(&number) else { return };
        if !shown.line.is_empty() {
            let line = text_of(&std::mem::take(&mut shown.line));
            self.lines(number, vec![line]);
        }
    }
}

/// A line without its end; of one that was written over with carriage returns, the last.
fn text_of(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end_matches(['\n', '\r']);
    text.rsplit('\r').next().unwrap_or(text).to_owned()
}

impl BuildProgress for Plain {
    fn event(&mut self, event: BuildEvent<'_>) {
        match event {
            BuildEvent::Begun { number, name } => {
                let shown = Shown {
                    name: name.to_owned(),
                    begun: Instant::now(),
                    line: Vec::new(),
                    tail: Vec::new(),
                };
                self.steps.insert(number, shown);
                self.line(number, name);
            }
            BuildEvent::Told { number, line } => self.line(number, line),
            BuildEvent::NotCached { number, why } => self.line(number, &format!("not cached: {why}")),
            BuildEvent::Output { number, bytes, .. } => self.output(number, bytes),
            BuildEvent::Cached { number } => self.line(number, "CACHED"),
            BuildEvent::Done { number, took } => {
                self.flush(number);
                self.line(number, &format!("DONE {:.1}s", took.as_secs_f64()));
            }
            BuildEvent::Failed { number, why } => {
                self.flush(number);
                self.line(number, &format!("ERROR: {why}"));
                if let Some(shown) = self.steps.remove(&number) {
                    self.failed = Some(Failed { name: shown.name, tail: shown.tail });
                }
            }
            BuildEvent::Warning(text) => {
                if !self.quiet {
                    let _ =
                        write_all(&mut std::io::stderr(), &format!("\n[Warning] {}\n", escape::text(text)));
                }
            }
        }
    }
}

//! What the engine does with a project, as progress.

use std::fmt::Write as _;

use rbox_compose::plan::Cause;
use rbox_compose::run::{Narrator, Stage, Thing};

use crate::compose::progress::Progress;
use crate::output::escape;
use crate::output::table::write_all;

/// Shows what is done as progress, and why.
#[derive(Debug)]
pub(crate) struct Shown<'a>(pub(crate) &'a Progress);

impl Narrator for Shown<'_> {
    fn tell(&self, thing: Thing, name: &str, stage: Stage) {
        self.0.line(thing.as_str(), name, stage.as_str());
    }

    fn tell_word(&self, thing: Thing, name: &str, word: &str) {
        self.0.line(thing.as_str(), name, word);
    }

    fn because(&self, container: &str, causes: &[Cause]) {
        for cause in causes {
            self.0.message(&format!("   {container}: {cause}"));
        }
    }

    fn said(&self, container: &str, text: &str) {
        self.0.leave();
        let mut shown = String::new();
        for line in text.lines() {
            let _ = writeln!(shown, "{container}  | {}", escape::text(line));
        }
        let _ = write_all(&mut std::io::stderr(), &shown);
    }

    fn warn(&self, text: &str) {
        self.0.leave();
        let text = text.lines().map(escape::text).collect::<Vec<_>>().join("\n");
        let _ = write_all(&mut std::io::stderr(), &format!("rbox: warning: {text}\n"));
    }
}

/// The same for who is attached, who also sees what is written before the services start.
#[derive(Debug)]
pub(crate) struct ShownWithSteps<'a> {
    pub(crate) shown: Shown<'a>,
    /// With the names before the lines.
    pub(crate) prefix: bool,
}

impl Narrator for ShownWithSteps<'_> {
    fn tell(&self, thing: Thing, name: &str, stage: Stage) {
        self.shown.tell(thing, name, stage);
    }

    fn tell_word(&self, thing: Thing, name: &str, word: &str) {
        self.shown.tell_word(thing, name, word);
    }

    fn because(&self, container: &str, causes: &[Cause]) {
        self.shown.because(container, causes);
    }

    fn said(&self, container: &str, text: &str) {
        self.shown.said(container, text);
    }

    fn warn(&self, text: &str) {
        self.shown.warn(text);
    }

    fn shows_steps(&self) -> bool {
        true
    }

    fn step_wrote(&self, source: &str, line: &str) {
        self.shown.0.leave();
        let prefix = if self.prefix { format!("{source} | ") } else { String::new() };
        let _ = write_all(&mut std::io::stdout(), &format!("{prefix}{line}\n"));
    }
}

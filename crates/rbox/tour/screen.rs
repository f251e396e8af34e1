//! What the tour says, and how: in lines that fit a terminal, with colours on one.

use crate::explain::paint::{Paint, WIDTH, wrapped};
use crate::output::live::size;
use crate::output::table::write_all;

/// Standard output.
#[derive(Clone, Copy)]
pub(crate) struct Screen {
    paint: Paint,
    width: usize,
}

impl Screen {
    pub(crate) fn new() -> Self {
        let (_, columns) = size();
        Self { paint: Paint::of_stdout(), width: columns.clamp(40, WIDTH) - 1 }
    }

    fn lines(self, text: &str, paint: impl Fn(&str) -> String) -> anyhow::Result<()> {
        let mut out = String::new();
        for line in wrapped(text, self.width) {
            out.push_str(&paint(&line));
            out.push('\n');
        }
        Ok(write_all(&mut std::io::stdout(), &out)?)
    }

    /// The head of a station.
    pub(crate) fn title(self, text: &str) -> anyhow::Result<()> {
        blank()?;
        self.lines(text, |line| self.paint.name(line))?;
        let rule = "-".repeat(text.chars().count().min(self.width));
        self.lines(&rule, |line| self.paint.quiet(line))
    }

    /// A paragraph.
    pub(crate) fn say(self, text: &str) -> anyhow::Result<()> {
        if text.is_empty() { Ok(()) } else { self.lines(text, str::to_owned) }
    }

    /// What is wanted now.
    pub(crate) fn wanted(self, text: &str) -> anyhow::Result<()> {
        blank()?;
        self.lines(text, |line| self.paint.name(line))
    }

    /// What was seen to be done.
    pub(crate) fn seen(self, text: &str) -> anyhow::Result<()> {
        self.lines(text, |line| self.paint.actor("container", line))
    }

    /// What is still missing.
    pub(crate) fn missing(self, text: &str) -> anyhow::Result<()> {
        self.lines(text, |line| self.paint.failed(line))
    }

    /// What is read second.
    pub(crate) fn aside(self, text: &str) -> anyhow::Result<()> {
        self.lines(text, |line| self.paint.quiet(line))
    }

    /// A line as it is typed: never broken.
    pub(crate) fn typed(self, prompt: &str, line: &str) -> anyhow::Result<()> {
        let text = format!("{}{line}\n", self.paint.quiet(prompt));
        Ok(write_all(&mut std::io::stdout(), &text)?)
    }

    /// Where the learner types.
    pub(crate) fn prompt(self, prompt: &str) -> anyhow::Result<()> {
        Ok(write_all(&mut std::io::stdout(), &self.paint.quiet(prompt))?)
    }
}

/// An empty line.
pub(crate) fn blank() -> anyhow::Result<()> {
    Ok(write_all(&mut std::io::stdout(), "\n")?)
}

//! What several containers write, a line at a time, each with the name of who wrote it before it.

use std::io::{self, IsTerminal as _, Write as _};

use rbox_engine::session::Stream;

use crate::output::escape;

/// Compose's colours, in its order.
const COLOURS: [&str; 10] = ["36", "33", "32", "35", "34", "36;1", "33;1", "32;1", "35;1", "34;1"];

/// Prints lines to standard output.
#[derive(Debug)]
pub(crate) struct Lines {
    colours: bool,
    prefixes: bool,
    terminal: bool,
    sources: Vec<Source>,
}

/// Who writes.
#[derive(Debug)]
struct Source {
    name: String,
    /// Its output drives a terminal, and passes as it is.
    raw: bool,
    /// What of a line has come so far, of each of its two outputs.
    pieces: [String; 2],
}

/// A line that grows longer than this without an end is shown as it is.
const LONGEST: usize = 1024 * 1024;

impl Lines {
    pub(crate) fn new(colours: bool, prefixes: bool) -> Self {
        Self { colours, prefixes, terminal: io::stdout().is_terminal(), sources: Vec::new() }
    }

    /// Takes in one more who writes: its number. All names are padded to the longest.
    pub(crate) fn source(&mut self, name: &str, raw: bool) -> usize {
        self.sources.push(Source {
            name: escape::text(name).into_owned(),
            raw,
            pieces: <[String; 2]>::default(),
        });
        self.sources.len() - 1
    }

    /// What one has written: lines, or a piece of one. `begin` stands before the text of a line.
    pub(crate) fn write(&mut self, number: usize, of: Stream, begin: &str, text: &str) -> io::Result<()> {
        let Some(source) = self.sources.get_mut(number) else { return Ok(()) };
        let pieces = &mut source.pieces[of as usize];
        if pieces.is_empty() {
            pieces.push_str(begin);
        }
        pieces.push_str(text);
        if !pieces.ends_with('\n') && pieces.len() < LONGEST {
            return Ok(());
        }
        let whole = std::mem::take(pieces);
        self.print(number, &whole)
    }

    /// One writes no more: what is left of its last line.
    pub(crate) fn end(&mut self, number: usize) -> io::Result<()> {
        let Some(source) = self.sources.get_mut(number) else { return Ok(()) };
        let left = std::mem::take(&mut source.pieces);
        left.iter().filter(|text| !text.is_empty()).try_for_each(|text| self.print(number, text))
    }

    /// What happened to one: `web-1 exited with code 0`.
    pub(crate) fn happened(&self, number: usize, text: &str) -> io::Result<()> {
        let Some(source) = self.sources.get(number) else { return Ok(()) };
        let line = self.painted(number, &format!("{} {text}", source.name));
        let clear = if self.terminal { "\r\x1b[K" } else { "" };
        put(&format!("{clear}{line}\n"))
    }

    fn print(&self, number: usize, text: &str) -> io::Result<()> {
        let Some(source) = self.sources.get(number) else { return Ok(()) };
        let prefix = if self.prefixes {
            let width = self.sources.iter().map(|one| one.name.chars().count()).max().unwrap_or(0);
            self.painted(number, &format!("{:width$}  | ", source.name))
        } else {
            String::new()
        };
        let mut out = String::new();
        for line in text.trim_end_matches('\n').split('\n') {
            out.push_str(&prefix);
            if self.terminal && !source.raw {
                out.push_str(&escape::coloured(line));
            } else {
                out.push_str(line);
            }
            out.push('\n');
        }
        put(&out)
    }

    fn painted(&self, number: usize, text: &str) -> String {
        match COLOURS.get(number % COLOURS.len()).filter(|_| self.colours) {
            Some(colour) => format!("\x1b[{colour}m{text}\x1b[0m"),
            None => text.to_owned(),
        }
    }
}

fn put(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

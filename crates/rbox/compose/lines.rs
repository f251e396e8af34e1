//! What several containers write, a line at a time, each with the name of who wrote it before it.

use std::io::{self, IsTerminal as _, Write as _};

use rbox_engine::engine::LogEntry;

use crate::container::pieces::Pieces;
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
    pieces: Pieces,
}

impl Lines {
    pub(crate) fn new(colours: bool, prefixes: bool) -> Self {
        Self { colours, prefixes, terminal: io::stdout().is_terminal(), sources: Vec::new() }
    }

    /// Takes in one more who writes: its number. All names are padded to the longest.
    pub(crate) fn source(&mut self, name: &str, raw: bool) -> usize {
        self.sources.push(Source { name: escape::text(name).into_owned(), raw, pieces: Pieces::default() });
        self.sources.len() - 1
    }

    /// What one has written: a line, or a piece of one. `begin` stands before the text of a line.
    pub(crate) fn write(&mut self, number: usize, entry: &LogEntry<'_>, begin: String) -> io::Result<()> {
        let Some(source) = self.sources.get_mut(number) else { return Ok(()) };
        match source.pieces.line(entry, || begin) {
            Some(line) => self.print(number, &line),
            None => Ok(()),
        }
    }

    /// One writes no more: what is left of its last line.
    pub(crate) fn end(&mut self, number: usize) -> io::Result<()> {
        let Some(source) = self.sources.get_mut(number) else { return Ok(()) };
        let left: Vec<_> = source.pieces.rest().collect();
        left.iter().try_for_each(|(_, line)| self.print(number, line))
    }

    /// What happened to one: `web-1 exited with code 0`.
    pub(crate) fn happened(&self, number: usize, text: &str) -> io::Result<()> {
        let Some(source) = self.sources.get(number) else { return Ok(()) };
        let line = self.painted(number, &format!("{} {text}", source.name));
        let clear = if self.terminal { "\r\x1b[K" } else { "" };
        put(format!("{clear}{line}\n").as_bytes())
    }

    fn print(&self, number: usize, line: &[u8]) -> io::Result<()> {
        let Some(source) = self.sources.get(number) else { return Ok(()) };
        let mut out = Vec::new();
        if self.prefixes {
            let width = self.sources.iter().map(|one| one.name.chars().count()).max().unwrap_or(0);
            out.extend(self.painted(number, &format!("{:width$}  | ", source.name)).into_bytes());
        }
        if self.terminal && !source.raw {
            out.extend_from_slice(escape::coloured(&String::from_utf8_lossy(line)).as_bytes());
        } else {
            out.extend_from_slice(line);
        }
        out.push(b'\n');
        put(&out)
    }

    fn painted(&self, number: usize, text: &str) -> String {
        match COLOURS.get(number % COLOURS.len()).filter(|_| self.colours) {
            Some(colour) => format!("\x1b[{colour}m{text}\x1b[0m"),
            None => text.to_owned(),
        }
    }
}

fn put(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}

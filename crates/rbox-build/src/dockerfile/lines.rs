//! The first pass: continued lines are joined, comments left out, heredocs taken in, and each line is divided into its words.

use super::directive::{Directives, Name};
use super::error::DockerfileError;
use super::heredoc::{self, Opening};
use super::instruction::Heredoc;
use super::source::Lines;
use super::words::{self, Arguments};

/// The most bytes of a file.
pub const MAX_BYTES: usize = 4 << 20;

/// The most instructions of a file.
pub const MAX_INSTRUCTIONS: usize = 10_000;

/// An instruction whose words are not looked at yet.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) lines: Lines,
    /// The joined line.
    pub(super) line: String,
    pub(super) keyword: String,
    pub(super) flags: Vec<String>,
    pub(super) arguments: Arguments,
    pub(super) heredocs: Vec<Heredoc>,
    pub(super) comments: Vec<String>,
}

/// What the first pass finds.
#[derive(Debug)]
pub(super) struct Nodes {
    pub(super) all: Vec<Node>,
    pub(super) escape: char,
    /// The last lines of instructions with an empty line inside.
    pub(super) empty_continuations: Vec<usize>,
    /// The directive `extend=rbox` is there.
    pub(super) extends: bool,
    /// The last instruction goes on where the text ends.
    pub(super) is_open: bool,
}

/// The first pass.
pub(super) fn nodes(text: &str) -> Result<Nodes, DockerfileError> {
    let found = found(text, '\\')?;
    if found.all.is_empty() {
        let last = text.split_inclusive('\n').count();
        return Err(DockerfileError::at(Lines::one(last), "file with no instructions"));
    }
    Ok(found)
}

/// The same, of a text that need not have instructions. `escape`: what it has unless it says otherwise.
pub(super) fn found(text: &str, escape: char) -> Result<Nodes, DockerfileError> {
    if text.len() > MAX_BYTES {
        let bytes = text.len();
        return Err(DockerfileError::of_all(format!(
            "the Dockerfile has {bytes} bytes, more than {MAX_BYTES}"
        )));
    }
    let mut reader = Reader {
        rest: text.strip_prefix('\u{feff}').unwrap_or(text),
        number: 0,
        directives: Directives::new(),
        found: Nodes {
            all: Vec::new(),
            escape,
            empty_continuations: Vec::new(),
            extends: false,
            is_open: false,
        },
    };
    let mut comments = Vec::new();
    while let Some(line) = reader.next_line() {
        let line = line.trim_end_matches(['\r', '\n']).trim_start();
        let is_directive = reader.directive(line)?;
        if let Some(comment) = line.strip_prefix('#') {
            match comment.trim() {
                "" => comments.clear(),
                _ if is_directive => {}
                comment => comments.push(comment.to_owned()),
            }
            continue;
        }
        if !line.is_empty() {
            reader.instruction(line, std::mem::take(&mut comments))?;
        }
    }
    Ok(reader.found)
}

struct Reader<'a> {
    rest: &'a str,
    /// That of the last line read.
    number: usize,
    directives: Directives,
    found: Nodes,
}

impl<'a> Reader<'a> {
    /// The next line, with its end.
    fn next_line(&mut self) -> Option<&'a str> {
        if self.rest.is_empty() {
            return None;
        }
        let end = self.rest.find('\n').map_or(self.rest.len(), |at| at + 1);
        let (line, rest) = self.rest.split_at(end);
        self.rest = rest;
        self.number += 1;
        Some(line)
    }

    /// Looks for a parser directive.
    fn directive(&mut self, line: &str) -> Result<bool, DockerfileError> {
        let here = Lines::one(self.number);
        match self.directives.line(line).map_err(|why| DockerfileError::at(here, why))? {
            None => Ok(false),
            Some((Name::Escape, value)) => {
                self.found.escape = match value {
                    "\\" => '\\',
                    "`" => '`',
                    other => {
                        let other = crate::text::shown(other);
                        let message = format!("invalid escape token '{other}' does not match ` or \\");
                        return Err(DockerfileError::at(here, message));
                    }
                };
                Ok(true)
            }
            Some((name, _)) => {
                self.found.extends |= name == Name::Extend;
                Ok(true)
            }
        }
    }

    /// Reads the rest of an instruction that begins with `first`.
    fn instruction(&mut self, first: &str, comments: Vec<String>) -> Result<(), DockerfileError> {
        let start = self.number;
        let escape = self.found.escape;
        if self.found.all.len() == MAX_INSTRUCTIONS {
            let message = format!("the Dockerfile has more than {MAX_INSTRUCTIONS} instructions");
            return Err(DockerfileError::at(Lines::one(start), message));
        }
        let (part, mut continued) = without_continuation(first, escape);
        let mut line = part.to_owned();
        let mut empty = false;
        while continued && let Some(next) = self.next_line() {
            let next = next.trim_end_matches(['\r', '\n']);
            // Comments count even here, and are not part of the instruction.
            if next.trim_start().starts_with('#') {
                continue;
            }
            if next.trim_start().is_empty() {
                empty = true;
                continue;
            }
            let (part, more) = without_continuation(next, escape);
            line.push_str(part);
            continued = more;
        }
        self.found.is_open = continued;
        if empty {
            self.found.empty_continuations.push(self.number);
        }
        let here = Lines { start, end: self.number };
        let fault = |message| DockerfileError::at(here, message);
        let split = words::split(&line, escape).map_err(fault)?;
        let openings = if split.takes_heredocs() && line.contains("<<") {
            heredoc::all(&line).map_err(|why| fault(why.to_string()))?
        } else {
            Vec::new()
        };
        let (keyword, flags, arguments) = (split.keyword.to_owned(), split.flags, split.arguments);
        let mut heredocs = Vec::new();
        for opening in openings {
            heredocs.push(self.heredoc(opening, start)?);
        }
        let lines = Lines { start, end: self.number };
        self.found.all.push(Node { lines, line, keyword, flags, arguments, heredocs, comments });
        Ok(())
    }

    /// Reads lines up to the delimiter.
    fn heredoc(&mut self, opening: Opening, start: usize) -> Result<Heredoc, DockerfileError> {
        let Opening { name, descriptor, expand, chomp } = opening;
        let rest = self.rest;
        let mut length = 0;
        while let Some(line) = self.next_line() {
            let bare = line.trim_end_matches(['\r', '\n']);
            if bare == name || chomp && bare.trim_start_matches('\t') == name {
                return Ok(Heredoc { name, descriptor, expand, chomp, raw: rest[..length].to_owned() });
            }
            length += line.len();
        }
        Err(DockerfileError::at(Lines { start, end: self.number }, "unterminated heredoc"))
    }
}

/// The line without the escape character at its end, and whether there was one: it is none when another one stands before it.
fn without_continuation(line: &str, escape: char) -> (&str, bool) {
    let Some(part) = line.trim_end_matches([' ', '\t']).strip_suffix(escape) else {
        return (line, false);
    };
    if part.ends_with(escape) { (line, false) } else { (part, true) }
}

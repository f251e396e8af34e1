//! Parser directives: comments of the form `# name=value` before everything else.

use super::file::Directive;

/// What is white space to Go's regular expressions.
const SPACE: [char; 5] = ['\t', '\n', '\x0c', '\r', ' '];

/// The names that are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Syntax,
    Escape,
    Check,
    /// rbox's own: `extend=rbox`.
    Extend,
}

impl Name {
    const ALL: [Self; 4] = [Self::Syntax, Self::Escape, Self::Check, Self::Extend];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Syntax => "syntax",
            Self::Escape => "escape",
            Self::Check => "check",
            Self::Extend => "extend",
        }
    }
}

/// The value of `extend` with which a file has instructions that are of rbox alone.
pub(super) const RBOX: &str = "rbox";

/// The name and value of `name=value`, if the name is one of a directive.
pub(crate) fn name_and_value(text: &str) -> Option<(Name, &str)> {
    let (name, value) = text.split_once('=')?;
    let name = name.trim_end_matches(SPACE);
    let name = Name::ALL.into_iter().find(|known| known.as_str().eq_ignore_ascii_case(name))?;
    // Of a value that is nothing but space, the last one is left, and refused by who reads it.
    let last = value.char_indices().next_back().map(|(at, _)| &value[at..]);
    let value = value.trim_matches(SPACE);
    Some((name, if value.is_empty() { last? } else { value }))
}

/// Reads the lines of a file as long as they are directives.
#[derive(Debug)]
pub(super) struct Directives {
    prefix: &'static str,
    seen: Vec<Name>,
    over: bool,
    /// The last one was `extend=rbox`.
    extends: bool,
}

impl Directives {
    pub(super) const fn new() -> Self {
        Self { prefix: "#", seen: Vec::new(), over: false, extends: false }
    }

    /// The directive on this line, if there is one. An error for one that was there before.
    pub(super) fn line<'a>(&mut self, line: &'a str) -> Result<Option<(Name, &'a str)>, String> {
        if self.over && !self.extends {
            return Ok(None);
        }
        let found = line.strip_prefix(self.prefix).and_then(|line| name_and_value(line.trim_start()));
        let Some((name, value)) = found else {
            (self.over, self.extends) = (true, false);
            return Ok(None);
        };
        // BuildKit takes it for a comment, after which there are no directives: what comes next would be one here and none there.
        if self.extends {
            return Err(format!("the {} parser directive has to come before extend={RBOX}", name.as_str()));
        }
        if name == Name::Extend {
            (self.over, self.extends) = (true, value == RBOX);
            return Ok(self.extends.then_some((name, value)));
        }
        if self.seen.contains(&name) {
            return Err(format!("only one {} parser directive can be used", name.as_str()));
        }
        self.seen.push(name);
        Ok(Some((name, value)))
    }
}

/// The directive `name` of a file, which may begin with `#!`. `prefix` is what comments begin with.
pub(super) fn detect(text: &str, name: Name, prefix: &'static str) -> Option<Directive> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let first = usize::from(text.starts_with("#!"));
    let mut directives = Directives { prefix, ..Directives::new() };
    for (number, line) in text.split('\n').enumerate().skip(first) {
        match directives.line(line) {
            Ok(Some((found, value))) if found == name => {
                return Some(Directive { value: value.to_owned(), line: number + 1 });
            }
            Ok(_) if !directives.over => {}
            _ => break,
        }
    }
    None
}

//! The lexer.

use std::collections::BTreeSet;

use rbox_spec::Kind;

use super::environment::Environment;
use super::pattern::{Length, Pattern};
use crate::text;

/// The most `${…}` within each other.
pub const MAX_DEPTH: usize = 100;

/// The most bytes that values of variables add to a word.
pub const MAX_GROWTH: usize = 1 << 20;

/// Why a word has no expansion. The words are BuildKit's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to process {source_text}: {message}")]
pub struct ExpandError {
    /// The word in quotes, shortened.
    source_text: String,
    /// What is wrong in it.
    pub message: String,
    /// Variables it names that are not set.
    pub unmatched: BTreeSet<String>,
}

impl ExpandError {
    pub(super) fn new(word: &str, message: String) -> Self {
        Self { source_text: text::quoted(word), message, unmatched: BTreeSet::new() }
    }

    /// What it means to the caller.
    pub const fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

/// What a word has become.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expanded {
    /// The text.
    pub text: String,
    /// Variables it names that are set.
    pub matched: BTreeSet<String>,
    /// Variables it names that are not set.
    pub unmatched: BTreeSet<String>,
}

/// How quotes are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quotes {
    /// They are taken away.
    Removed,
    /// They are understood, and stay.
    Kept,
    /// They are characters as others.
    Ignored,
}

/// Expands words.
#[derive(Clone, Copy, Debug)]
pub struct Lexer {
    escape: char,
    quotes: Quotes,
    keep_escapes: bool,
    keep_unset: bool,
}

impl Lexer {
    /// For words of a file with this escape character.
    pub const fn new(escape: char) -> Self {
        Self { escape, quotes: Quotes::Removed, keep_escapes: false, keep_unset: false }
    }

    /// For the contents of heredocs, where a quote is a character and a backslash escapes, whatever the file's escape character is.
    pub const fn heredoc() -> Self {
        Self { quotes: Quotes::Ignored, ..Self::new('\\') }
    }

    /// Leaves quotes as they are.
    #[must_use]
    pub const fn keep_quotes(self) -> Self {
        Self { quotes: Quotes::Kept, ..self }
    }

    /// Leaves escape characters as they are.
    #[must_use]
    pub const fn keep_escapes(self) -> Self {
        Self { keep_escapes: true, ..self }
    }

    /// Leaves variables that are not set as they are. For what is only shown.
    #[must_use]
    pub const fn keep_unset(self) -> Self {
        Self { keep_unset: true, ..self }
    }

    /// What `word` becomes as one word.
    pub fn word(self, word: &str, environment: &dyn Environment) -> Result<Expanded, ExpandError> {
        self.run(word, environment).map(|(expanded, _)| expanded)
    }

    /// The words that `word` becomes: split at spaces outside of quotes, those of values included.
    pub fn words(self, word: &str, environment: &dyn Environment) -> Result<Vec<String>, ExpandError> {
        self.run(word, environment).map(|(_, words)| words)
    }

    fn run(self, word: &str, environment: &dyn Environment) -> Result<(Expanded, Vec<String>), ExpandError> {
        let mut pass = Pass {
            lexer: self,
            environment,
            rest: word,
            depth: 0,
            growth: MAX_GROWTH,
            seen: Expanded::default(),
        };
        let mut words = Words::default();
        match pass.until(None, self.keep_escapes, Some(&mut words)) {
            Ok(text) => Ok((Expanded { text, ..pass.seen }, words.finish())),
            Err(message) => {
                Err(ExpandError { source_text: text::quoted(word), message, unmatched: pass.seen.unmatched })
            }
        }
    }
}

/// A text being split.
#[derive(Default)]
struct Words {
    word: String,
    done: Vec<String>,
}

impl Words {
    fn add(&mut self, character: char) {
        if character.is_whitespace() {
            self.end();
        } else {
            self.word.push(character);
        }
    }

    fn end(&mut self) {
        if !self.word.is_empty() {
            self.done.push(std::mem::take(&mut self.word));
        }
    }

    fn finish(mut self) -> Vec<String> {
        self.end();
        self.done
    }
}

/// One pass through a word.
struct Pass<'a> {
    lexer: Lexer,
    environment: &'a dyn Environment,
    rest: &'a str,
    depth: usize,
    growth: usize,
    seen: Expanded,
}

impl<'a> Pass<'a> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let character = chars.next();
        self.rest = chars.as_str();
        character
    }

    fn skip(&mut self, character: char) -> bool {
        let found = self.peek() == Some(character);
        if found {
            self.next();
        }
        found
    }

    /// Reads up to `stop`, or to the end.
    fn until(
        &mut self,
        stop: Option<char>,
        keep_escapes: bool,
        mut words: Option<&mut Words>,
    ) -> Result<String, String> {
        let mut result = String::new();
        let quotes = self.lexer.quotes != Quotes::Ignored;
        while let Some(character) = self.peek() {
            if Some(character) == stop {
                self.next();
                return Ok(result);
            }
            let special = match character {
                '$' => Some(self.dollar()?),
                '<' => Some(self.heredoc()),
                '\'' if quotes => Some(self.single_quoted()?),
                '"' if quotes => Some(self.double_quoted(keep_escapes)?),
                _ => None,
            };
            if let Some(text) = special {
                if let Some(words) = &mut words {
                    if character == '$' {
                        text.chars().for_each(|character| words.add(character));
                    } else {
                        words.word.push_str(&text);
                    }
                }
                result.push_str(&text);
                continue;
            }
            self.next();
            if character != self.lexer.escape {
                if let Some(words) = &mut words {
                    words.add(character);
                }
                result.push(character);
                continue;
            }
            let kept = keep_escapes.then_some(character);
            // An escape character at the very end is left out.
            let escaped = self.next();
            for literal in kept.into_iter().chain(escaped) {
                if let Some(words) = &mut words {
                    words.word.push(literal);
                }
                result.push(literal);
            }
        }
        match stop {
            Some(stop) => Err(format!("unexpected end of statement while looking for matching {stop}")),
            None => Ok(result),
        }
    }

    /// Nothing within single quotes is special.
    fn single_quoted(&mut self) -> Result<String, String> {
        self.next();
        let Some((quoted, rest)) = self.rest.split_once('\'') else {
            self.rest = "";
            return Err("unexpected end of statement while looking for matching single-quote".to_owned());
        };
        self.rest = rest;
        Ok(if self.lexer.quotes == Quotes::Kept { format!("'{quoted}'") } else { quoted.to_owned() })
    }

    /// Within double quotes variables count, and an escape character before one of `"`, `$` and itself.
    fn double_quoted(&mut self, keep_escapes: bool) -> Result<String, String> {
        let quote = if self.lexer.quotes == Quotes::Kept { "\"" } else { "" };
        let mut result = quote.to_owned();
        self.next();
        loop {
            match self.peek() {
                None => {
                    return Err(
                        "unexpected end of statement while looking for matching double-quote".to_owned()
                    );
                }
                Some('"') => {
                    self.next();
                    result.push_str(quote);
                    return Ok(result);
                }
                Some('$') => result.push_str(&self.dollar()?),
                Some(character) if character == self.lexer.escape => {
                    self.next();
                    if keep_escapes {
                        result.push(character);
                    }
                    match self.peek() {
                        None => {}
                        Some(escaped) if escaped == '"' || escaped == '$' || escaped == self.lexer.escape => {
                            self.next();
                            result.push(escaped);
                        }
                        Some(_) => result.push(character),
                    }
                }
                Some(character) => {
                    self.next();
                    result.push(character);
                }
            }
        }
    }

    /// `<<`, with the spaces behind it: a heredoc's delimiter may follow after some.
    fn heredoc(&mut self) -> String {
        self.next();
        if !self.skip('<') {
            return "<".to_owned();
        }
        let mut text = "<<".to_owned();
        while let Some(space @ ('\t' | '\r' | ' ')) = self.peek() {
            self.next();
            text.push(space);
        }
        text
    }

    /// `$name` or `${…}`.
    fn dollar(&mut self) -> Result<String, String> {
        self.next();
        if !self.skip('{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".to_owned());
            }
            return match self.value(name)? {
                None if self.lexer.keep_unset => Ok(format!("${name}")),
                value => Ok(value.unwrap_or_default().to_owned()),
            };
        }
        match self.peek() {
            None => return Err("syntax error: missing '}'".to_owned()),
            Some('{' | '}' | ':') => return Err("syntax error: bad substitution".to_owned()),
            Some(_) => {}
        }
        if self.depth == MAX_DEPTH {
            return Err(format!("more than {MAX_DEPTH} substitutions within each other"));
        }
        self.depth += 1;
        let name = self.name();
        let result = match self.next() {
            None => Err("syntax error: missing '}'".to_owned()),
            Some('}') => match self.value(name)? {
                None if self.lexer.keep_unset => Ok(format!("${{{name}}}")),
                value => Ok(value.unwrap_or_default().to_owned()),
            },
            Some(':') => match self.next() {
                None => Err("syntax error: missing '}'".to_owned()),
                Some(operator) => self.modified(name, operator, true),
            },
            Some(operator @ ('+' | '-' | '?' | '#' | '%')) => self.modified(name, operator, false),
            Some('/') => self.replaced(name),
            Some(other) => Err(unsupported(&other.to_string())),
        };
        self.depth -= 1;
        result
    }

    /// What follows an operator up to `}`, and what comes of it and the variable's value.
    fn modified(&mut self, name: &'a str, operator: char, or_empty: bool) -> Result<String, String> {
        let written = if or_empty { format!(":{operator}") } else { operator.to_string() };
        let is_pattern = matches!(operator, '#' | '%');
        if or_empty && is_pattern {
            return Err(unsupported(&written));
        }
        let word = self.part('}', is_pattern, "syntax error: missing '}'")?;
        let value = self.value(name)?;
        if value.is_none() && self.lexer.keep_unset {
            return Ok(format!("${{{name}{written}{word}}}"));
        }
        let usable = value.filter(|value| !(or_empty && value.is_empty()));
        match operator {
            '-' => Ok(usable.map_or(word, str::to_owned)),
            '+' => Ok(usable.map_or_else(String::new, |_| word)),
            '?' => match usable {
                Some(value) => Ok(value.to_owned()),
                None if !word.is_empty() => Err(format!("{name}: {word}")),
                None if value.is_some() => Err(format!("{name}: is not allowed to be empty")),
                None => Err(format!("{name}: is not allowed to be unset")),
            },
            '#' | '%' => {
                let (pattern, length) = match word.strip_prefix(operator) {
                    Some(pattern) => (pattern, Length::Longest),
                    None => (word.as_str(), Length::Shortest),
                };
                let value = value.unwrap_or_default();
                let trimmed = Pattern::parse(pattern).and_then(|pattern| match operator {
                    '#' => pattern.without_prefix(value, length),
                    _ => pattern.without_suffix(value, length),
                });
                trimmed.map_err(|why| invalid_pattern(pattern, &why))
            }
            _ => Err(unsupported(&written)),
        }
    }

    /// `/pattern/replacement}` or `//pattern/replacement}`, the first slash read already.
    fn replaced(&mut self, name: &'a str) -> Result<String, String> {
        let all = self.skip('/');
        let pattern = self.part('/', true, "syntax error: missing '/' in ${}")?;
        let replacement = self.part('}', true, "syntax error: missing '}'")?;
        let value = self.value(name)?;
        if value.is_none() && self.lexer.keep_unset {
            return Ok(format!("${{{name}/{pattern}/{replacement}}}"));
        }
        let value = value.unwrap_or_default();
        let most = value.len() + self.growth;
        let result = Pattern::parse(&pattern)
            .and_then(|pattern| pattern.replaced(value, &replacement, all, most))
            .map_err(|why| invalid_pattern(&pattern, &why))?;
        self.grow(result.len().saturating_sub(value.len()))?;
        Ok(result)
    }

    /// A text within braces. At the end of all, it is what is missing that counts.
    fn part(&mut self, stop: char, keep_escapes: bool, missing: &str) -> Result<String, String> {
        self.until(Some(stop), keep_escapes, None)
            .map_err(|why| if self.rest.is_empty() { missing.to_owned() } else { why })
    }

    /// A name: a special parameter, a number, or letters, digits and underscores.
    fn name(&mut self) -> &'a str {
        let word = |character: char| character.is_alphabetic() || character.is_numeric() || character == '_';
        let length = match self.peek() {
            Some(first) if first.is_ascii_digit() => {
                self.rest.find(|character: char| !character.is_ascii_digit()).unwrap_or(self.rest.len())
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => 1,
            _ => self.rest.find(|character: char| !word(character)).unwrap_or(self.rest.len()),
        };
        let (name, rest) = self.rest.split_at(length);
        self.rest = rest;
        name
    }

    /// The value of a variable, and a note of whether it has one.
    fn value(&mut self, name: &str) -> Result<Option<&'a str>, String> {
        let value = self.environment.value(name);
        let seen = if value.is_some() { &mut self.seen.matched } else { &mut self.seen.unmatched };
        if !seen.contains(name) {
            seen.insert(name.to_owned());
        }
        self.grow(value.map_or(0, str::len))?;
        Ok(value)
    }

    fn grow(&mut self, bytes: usize) -> Result<(), String> {
        self.growth = self
            .growth
            .checked_sub(bytes)
            .ok_or_else(|| format!("the result is more than {MAX_GROWTH} bytes longer than the word"))?;
        Ok(())
    }
}

fn unsupported(operator: &str) -> String {
    format!("unsupported modifier ({operator}) in substitution")
}

fn invalid_pattern(pattern: &str, why: &str) -> String {
    format!("invalid pattern ({}) in substitution: {why}", text::shown(pattern))
}

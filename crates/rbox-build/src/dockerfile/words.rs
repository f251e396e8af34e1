//! From the line of an instruction to its words: keyword, flags, and arguments as each instruction divides them.

use serde_json::Value;

use super::keyword::Keyword;
use crate::text::quoted;

/// What divides words, to Go's parser: a newline does not.
const BLANK: [char; 5] = ['\t', '\x0b', '\x0c', '\r', ' '];

/// A line in its parts.
#[derive(Debug)]
pub(super) struct Split<'a> {
    /// The first word.
    pub(super) keyword: &'a str,
    /// Words that begin with `--`, up to the first one that does not, without their quotes.
    pub(super) flags: Vec<String>,
    /// The rest.
    pub(super) arguments: Arguments,
}

/// What follows the flags.
#[derive(Debug)]
pub(super) enum Arguments {
    /// Words.
    Words {
        /// The words: one for each element of a JSON array, one for all of a line that is not divided.
        words: Vec<String>,
        /// Whether it was a JSON array.
        json: bool,
    },
    /// The names and values of ENV and LABEL.
    Pairs(Vec<Pair>),
    /// The instruction behind ONBUILD, if there is one.
    Trigger(Option<Trigger>),
}

/// A name and a value.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) name: String,
    pub(super) value: String,
    /// Written without `=`.
    pub(super) legacy: bool,
}

/// What has to be known of the instruction behind ONBUILD.
#[derive(Debug)]
pub(super) struct Trigger {
    pub(super) keyword: String,
    pub(super) takes_heredocs: bool,
}

impl Split<'_> {
    /// Whether heredocs may follow: not when it is a JSON array.
    pub(super) fn takes_heredocs(&self) -> bool {
        match &self.arguments {
            Arguments::Words { json, .. } => {
                !json && Keyword::of(self.keyword).is_some_and(Keyword::takes_heredocs)
            }
            Arguments::Trigger(trigger) => trigger.as_ref().is_some_and(|trigger| trigger.takes_heredocs),
            Arguments::Pairs(_) => false,
        }
    }
}

/// Divides a line, or says what is wrong in BuildKit's words.
pub(super) fn split(line: &str, escape: char) -> Result<Split<'_>, String> {
    let (keyword, rest) = first_word(line.trim());
    let (flags, rest) = flags(rest, escape);
    let rest = rest.trim();
    let arguments = match Keyword::of(keyword) {
        Some(Keyword::Env) => Arguments::Pairs(pairs(rest, "ENV", escape)?),
        Some(Keyword::Label) => Arguments::Pairs(pairs(rest, "LABEL", escape)?),
        Some(Keyword::Arg) => Arguments::Words { words: quoted_words(rest, escape), json: false },
        Some(Keyword::Expose | Keyword::From) => Arguments::Words { words: plain_words(rest), json: false },
        Some(Keyword::Maintainer | Keyword::Stopsignal | Keyword::User | Keyword::Workdir) => {
            Arguments::Words { words: whole(rest), json: false }
        }
        Some(Keyword::Cmd | Keyword::Entrypoint | Keyword::Run | Keyword::Shell) => maybe_json(rest, whole)?,
        Some(Keyword::Add | Keyword::Copy | Keyword::Volume) => maybe_json(rest, plain_words)?,
        Some(Keyword::Healthcheck) => healthcheck(rest)?,
        Some(Keyword::Onbuild) => Arguments::Trigger(trigger(rest, escape)?),
        None => Arguments::Words { words: Vec::new(), json: false },
    };
    Ok(Split { keyword, flags, arguments })
}

/// The flags and words of an instruction that is none of a Dockerfile's own.
pub(super) fn of_unknown(line: &str, escape: char) -> (Vec<String>, Vec<String>) {
    let (_, rest) = first_word(line.trim());
    let (flags, rest) = flags(rest, escape);
    (flags, plain_words(rest))
}

fn first_word(line: &str) -> (&str, &str) {
    match line.find(BLANK) {
        Some(at) => (&line[..at], line[at..].trim_start_matches(BLANK)),
        None => (line, ""),
    }
}

/// What ONBUILD is followed by. Another ONBUILD is refused later: it is not gone into, however many there are.
fn trigger(rest: &str, escape: char) -> Result<Option<Trigger>, String> {
    if rest.is_empty() {
        return Ok(None);
    }
    let (keyword, _) = first_word(rest);
    let takes_heredocs = match Keyword::of(keyword) {
        Some(Keyword::Onbuild) => false,
        _ => split(rest, escape)?.takes_heredocs(),
    };
    Ok(Some(Trigger { keyword: keyword.to_owned(), takes_heredocs }))
}

/// The words at the beginning that are flags, and what follows them. `--` ends them.
fn flags(line: &str, escape: char) -> (Vec<String>, &str) {
    let (mut flags, mut rest) = (Vec::new(), line);
    loop {
        rest = rest.trim_start();
        if !rest.starts_with("--") {
            return (flags, rest);
        }
        let (flag, behind) = flag(rest, escape);
        if flag == "--" {
            return (flags, behind);
        }
        flags.push(flag);
        rest = behind;
    }
}

/// One flag, without quotes and escape characters.
fn flag(line: &str, escape: char) -> (String, &str) {
    let (mut flag, mut quote) = (String::new(), None);
    let mut chars = line.char_indices();
    while let Some((at, character)) = chars.next() {
        match quote {
            None if character.is_whitespace() => return (flag, &line[at..]),
            None if character == '\'' || character == '"' => quote = Some(character),
            Some(open) if character == open => quote = None,
            // An escape character at the end is left out.
            _ if character == escape => flag.extend(chars.next().map(|(_, escaped)| escaped)),
            _ => flag.push(character),
        }
    }
    (flag, "")
}

fn plain_words(rest: &str) -> Vec<String> {
    rest.split(BLANK).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn whole(rest: &str) -> Vec<String> {
    if rest.is_empty() { Vec::new() } else { vec![rest.to_owned()] }
}

/// Words divided by space outside of quotes, with their quotes and escape characters.
fn quoted_words(rest: &str, escape: char) -> Vec<String> {
    let (mut words, mut word) = (Vec::new(), String::new());
    let mut quote = None;
    let mut chars = rest.chars();
    while let Some(character) = chars.next() {
        if quote.is_none() && character.is_whitespace() {
            if !word.is_empty() {
                words.push(std::mem::take(&mut word));
            }
            continue;
        }
        match quote {
            None if character == '\'' || character == '"' => quote = Some(character),
            Some(open) if character == open => quote = None,
            // Within single quotes it is a character as others; at the end it is left out.
            _ if character == escape && quote != Some('\'') => {
                if let Some(escaped) = chars.next() {
                    word.extend([character, escaped]);
                }
                continue;
            }
            _ => {}
        }
        word.push(character);
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// `name=value …`, or `name value` when there is no `=` in the first word.
fn pairs(rest: &str, keyword: &str, escape: char) -> Result<Vec<Pair>, String> {
    let words = quoted_words(rest, escape);
    let Some(first) = words.first() else { return Ok(Vec::new()) };
    if !first.contains('=') {
        let (name, value) = first_word(rest);
        if value.is_empty() {
            return Err(format!("{keyword} must have two arguments"));
        }
        return Ok(vec![Pair { name: name.to_owned(), value: value.to_owned(), legacy: true }]);
    }
    words
        .iter()
        .map(|word| match word.split_once('=') {
            Some((name, value)) => Ok(Pair { name: name.to_owned(), value: value.to_owned(), legacy: false }),
            None => Err(format!(
                "Syntax error - can't find = in {}. Must be of the form: name=value",
                quoted(word)
            )),
        })
        .collect()
}

/// A JSON array of strings, or what `otherwise` makes of it: what is no JSON is no error, but an array of something else is one.
fn maybe_json(rest: &str, otherwise: fn(&str) -> Vec<String>) -> Result<Arguments, String> {
    let array = rest.trim_start();
    if array.starts_with('[')
        && let Ok(values) = rbox_spec::json::from_slice::<Vec<Value>>(array.as_bytes())
    {
        let words = values.into_iter().map(|value| match value {
            Value::String(word) => Ok(word),
            _ => Err("when using JSON array syntax, arrays must be comprised of strings only".to_owned()),
        });
        return Ok(Arguments::Words { words: words.collect::<Result<_, _>>()?, json: true });
    }
    Ok(Arguments::Words { words: otherwise(rest), json: false })
}

/// The kind of check, and then its command.
fn healthcheck(rest: &str) -> Result<Arguments, String> {
    let (kind, command) = match rest.find(char::is_whitespace) {
        Some(at) => (&rest[..at], rest[at..].trim_start()),
        None => (rest, ""),
    };
    let Arguments::Words { mut words, json } = maybe_json(command, whole)? else {
        return Ok(Arguments::Words { words: Vec::new(), json: false });
    };
    if !kind.is_empty() {
        words.insert(0, kind.to_owned());
    }
    Ok(Arguments::Words { words, json })
}

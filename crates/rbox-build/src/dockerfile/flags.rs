//! The flags of an instruction.

use super::suggestion::suggest;
use crate::text::shown;

/// What a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    /// `true`, `false` or nothing, once.
    Truth,
    /// A text, once.
    Text,
    /// A text, any number of times.
    Texts,
}

/// The flags that were given.
#[derive(Debug)]
pub(super) struct Flags<'a> {
    given: Vec<(&'static str, &'a str)>,
}

impl<'a> Flags<'a> {
    /// Reads `words`, each of which begins with `--`. `known` are the flags there are, in the order of the alphabet.
    pub(super) fn parse(words: &'a [String], known: &[(&'static str, Takes)]) -> Result<Self, String> {
        let mut given: Vec<(&'static str, &'a str)> = Vec::new();
        for word in words {
            let word = word.strip_prefix("--").unwrap_or(word);
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (word, None),
            };
            let Some((flag, takes)) = known.iter().find(|(flag, _)| *flag == name) else {
                let unknown = format!("unknown flag: --{}", shown(name));
                return Err(suggest(unknown, name, known.iter().map(|(flag, _)| *flag)));
            };
            if *takes != Takes::Texts && given.iter().any(|(other, _)| other == flag) {
                return Err(format!("duplicate flag specified: --{flag}"));
            }
            let missing = || format!("missing a value on flag: --{flag}");
            let value = match (takes, value) {
                (Takes::Truth, None) => "true",
                (Takes::Truth, Some("")) | (_, None) => return Err(missing()),
                (Takes::Truth, Some(value)) => match value.to_lowercase().as_str() {
                    "true" => "true",
                    "false" => "false",
                    _ => {
                        let value = shown(value);
                        return Err(format!("expecting boolean value for flag --{flag}, not: {value}"));
                    }
                },
                (_, Some(value)) => value,
            };
            given.push((flag, value));
        }
        Ok(Self { given })
    }

    /// The text of a flag, empty if it was not given.
    pub(super) fn text(&self, flag: &str) -> &'a str {
        self.texts(flag).next().unwrap_or_default()
    }

    /// All texts of a flag.
    pub(super) fn texts<'b>(&'b self, flag: &'b str) -> impl Iterator<Item = &'a str> + 'b {
        self.given.iter().filter(move |(name, _)| *name == flag).map(|(_, value)| *value)
    }

    /// What a flag says, if it was given.
    pub(super) fn truth(&self, flag: &str) -> Option<bool> {
        self.texts(flag).next().map(|value| value == "true")
    }
}

//! Which rules count: `skip=A,B;error=true;experimental=C`.

use std::collections::BTreeSet;

use rbox_spec::Kind;

use super::rule::Rule;
use crate::dockerfile::{DirectiveName, boolean, name_and_value};
use crate::text::quoted;

/// Why options cannot be read. The words are BuildKit's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// No such option, or no `=` in it.
    #[error("invalid check option {0}")]
    Unknown(String),
    /// `error` is neither true nor false.
    #[error("failed to parse check option {0}: strconv.ParseBool: parsing {1}: invalid syntax")]
    NotBoolean(String, String),
}

impl OptionsError {
    /// What it means to the caller.
    pub const fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

/// All rules, or some by name. Names that no rule has are no error.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Rules {
    All,
    Named(BTreeSet<String>),
}

impl Default for Rules {
    fn default() -> Self {
        Self::Named(BTreeSet::new())
    }
}

impl Rules {
    fn parse(text: &str) -> Self {
        match text.trim() {
            "all" => Self::All,
            names => Self::Named(names.split(',').map(|name| name.trim().to_owned()).collect()),
        }
    }

    fn has(&self, rule: Rule) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => names.contains(rule.name()),
        }
    }

    fn add(&mut self, other: Self) {
        match (&mut *self, other) {
            (Self::Named(names), Self::Named(more)) => names.extend(more),
            (Self::Named(_), Self::All) => *self = Self::All,
            (Self::All, _) => {}
        }
    }
}

/// Which rules count, and whether a warning is an error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    skipped: Rules,
    experimental: Rules,
    /// A warning fails the build.
    pub error: bool,
}

impl Options {
    /// Reads the value of a `check` directive, or of the build argument `BUILDKIT_DOCKERFILE_CHECK`.
    ///
    /// # Errors
    /// In BuildKit's words.
    pub fn parse(text: &str) -> Result<Self, OptionsError> {
        let mut options = Self::default();
        let text = text.trim();
        if text.is_empty() {
            return Ok(options);
        }
        for part in text.splitn(3, ';') {
            let Some((key, value)) = part.split_once('=') else {
                return Err(OptionsError::Unknown(quoted(part)));
            };
            match key.trim() {
                "skip" => options.skipped = Rules::parse(value),
                "experimental" => options.experimental = Rules::parse(value),
                "error" => {
                    let value = value.trim();
                    options.error = boolean(value)
                        .ok_or_else(|| OptionsError::NotBoolean(quoted(part), quoted(value)))?;
                }
                other => return Err(OptionsError::Unknown(quoted(other))),
            }
        }
        Ok(options)
    }

    /// Whether a rule counts.
    pub fn has(&self, rule: Rule) -> bool {
        if rule.is_experimental() { self.experimental.has(rule) } else { !self.skipped.has(rule) }
    }

    /// These, and what the comments above an instruction say: `# check=skip=A // why`. The first such comment counts; one that cannot
    /// be read is a comment as others, and its `error` says nothing.
    #[must_use]
    pub fn with_comments(&self, comments: &[String]) -> Self {
        let mut merged = self.clone();
        let options = comments.iter().find_map(|comment| match name_and_value(comment) {
            Some((DirectiveName::Check, value)) => Some(Self::parse(first_word(value))),
            _ => None,
        });
        if let Some(Ok(options)) = options {
            merged.skipped.add(options.skipped);
            merged.experimental.add(options.experimental);
        }
        merged
    }
}

/// What follows a space is for people.
pub(super) fn first_word(value: &str) -> &str {
    value.split(' ').next().unwrap_or_default()
}

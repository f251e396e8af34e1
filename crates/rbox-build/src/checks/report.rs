//! Warnings, and what becomes of them.

use std::collections::BTreeSet;
use std::fmt;

use super::options::Options;
use super::rule::Rule;
use crate::dockerfile::{DockerfileError, Lines};

/// One warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The rule.
    pub rule: Rule,
    /// What is wrong here.
    pub detail: String,
    /// The lines of the instruction.
    pub lines: Lines,
}

impl Warning {
    /// The base image `image` was pulled for `actual`, and not for `expected`. Whoever pulls knows; [`check`](super::check) does not.
    pub fn base_image_platform(image: &str, expected: &str, actual: &str, lines: Lines) -> Self {
        Self {
            rule: Rule::InvalidBaseImagePlatform,
            detail: format!(
                "Base image {image} was pulled with platform \"{actual}\", expected \"{expected}\" for current \
                 build"
            ),
            lines,
        }
    }
}

/// In one line, as BuildKit's progress shows it.
impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} (line {})", self.rule.name(), self.detail, self.lines.start)
    }
}

/// What the checks have found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The warnings, by their lines.
    pub warnings: Vec<Warning>,
    /// What would make the build fail: in the file, or warnings where `error=true`.
    pub error: Option<DockerfileError>,
}

/// The most warnings that are kept: more are not read by anybody.
const MOST: usize = 10_000;

/// Collects warnings of the rules that count.
#[derive(Debug)]
pub(super) struct Linter {
    options: Options,
    /// The options, and what the comments above the instruction say.
    here: Options,
    warnings: Vec<Warning>,
}

impl Linter {
    pub(super) fn new(options: Options) -> Self {
        Self { here: options.clone(), options, warnings: Vec::new() }
    }

    /// Goes on with an instruction that has these comments above it, or with the whole file if there are none.
    pub(super) fn enter(&mut self, comments: &[String]) {
        self.here = self.options.with_comments(comments);
    }

    /// Warns, if the rule counts here.
    pub(super) fn warn(&mut self, rule: Rule, lines: Lines, detail: impl FnOnce() -> String) {
        if self.here.has(rule) && self.warnings.len() < MOST {
            self.warnings.push(Warning { rule, detail: detail(), lines });
        }
    }

    /// All of it, with an error if there was one, or if there are warnings and those are errors.
    pub(super) fn report(mut self, error: Option<DockerfileError>) -> Report {
        self.warnings.sort_by_key(|warning| warning.lines.start);
        let violation = || {
            let rules: BTreeSet<&str> = self.warnings.iter().map(|warning| warning.rule.name()).collect();
            let rules = rules.into_iter().collect::<Vec<_>>().join(", ");
            (self.options.error && !rules.is_empty())
                .then(|| DockerfileError::of_all(format!("lint violation found for rules: {rules}")))
        };
        Report { error: error.or_else(violation), warnings: self.warnings }
    }
}

//! Wildcards of one name: Go's filepath.Match, a segment at a time.

use super::tokens::{self, PatternError, Token};

/// A pattern for a name: `*`, `?`, `[a-z]`, `[^a-z]`, and `\` before one of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    tokens: Vec<Token>,
}

/// A part of the path of a source, between slashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// A name.
    Name(String),
    /// A pattern for names.
    Glob(Glob),
}

impl Glob {
    /// Reads a pattern.
    ///
    /// # Errors
    /// It does not follow the grammar.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        Ok(Self { tokens: tokens::parse(text, false)? })
    }

    /// Whether the whole `name` is matched. With slashes in both it may be a path.
    pub fn matches(&self, name: &str) -> bool {
        tokens::matches(&self.tokens, name)
    }

    /// Whether a path has a wildcard.
    pub fn is_in(path: &str) -> bool {
        let mut chars = path.chars();
        while let Some(character) = chars.next() {
            match character {
                '*' | '?' | '[' => return true,
                '\\' => drop(chars.next()),
                _ => {}
            }
        }
        false
    }

    /// The parts of a path. Those before the first one with a wildcard are names as they are written, backslashes included.
    ///
    /// # Errors
    /// A part does not follow the grammar.
    pub fn segments(path: &str) -> Result<Vec<Segment>, PatternError> {
        let mut wild = false;
        path.split('/')
            .filter(|part| !part.is_empty())
            .map(|part| {
                wild = wild || Self::is_in(part);
                if wild { Self::parse(part).map(Segment::Glob) } else { Ok(Segment::Name(part.to_owned())) }
            })
            .collect()
    }
}

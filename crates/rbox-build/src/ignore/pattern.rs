//! One pattern of a list.

use super::tokens::{self, PatternError, Token};

/// A pattern in the form that is quickest to match.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    /// This path.
    Exact(String),
    /// What begins so: `dir/**`.
    Prefix(String),
    /// What ends so: `**.txt`. With a slash in front, also the rest alone: `**/file`.
    Suffix(String),
    /// All others.
    Tokens(Vec<Token>),
}

/// A pattern that takes paths in, or out again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    /// `!`: what it matches is taken back.
    pub(super) exception: bool,
    form: Form,
}

impl Pattern {
    /// Reads a clean pattern without its `!`.
    pub(super) fn parse(text: &str, exception: bool) -> Result<Self, PatternError> {
        let tokens = tokens::parse(text, true)?;
        let plain = |text: &str| !text.contains(['*', '?', '[', ']', '\\']);
        let form = if plain(text) {
            Form::Exact(text.to_owned())
        } else if let Some(suffix) = text.strip_prefix("**").filter(|suffix| plain(suffix)) {
            Form::Suffix(suffix.to_owned())
        } else if let Some(prefix) = text.strip_suffix("**").filter(|prefix| plain(prefix)) {
            Form::Prefix(prefix.to_owned())
        } else {
            Form::Tokens(tokens)
        };
        Ok(Self { exception, form })
    }

    /// Whether it is this very path that it matches.
    pub(super) fn matches(&self, path: &str) -> bool {
        match &self.form {
            Form::Exact(exact) => path == exact,
            Form::Prefix(prefix) => path.starts_with(prefix),
            Form::Suffix(suffix) => path.ends_with(suffix) || suffix.strip_prefix('/') == Some(path),
            Form::Tokens(tokens) => tokens::matches(tokens, path),
        }
    }

    /// Whether it may match something below `directory`.
    pub(super) fn reaches_below(&self, directory: &str) -> bool {
        let inside = |path: &str| path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'));
        match &self.form {
            Form::Exact(exact) => inside(exact),
            Form::Prefix(prefix) => {
                directory.starts_with(prefix) || inside(prefix) || prefix.strip_suffix('/') == Some(directory)
            }
            Form::Suffix(_) => true,
            Form::Tokens(tokens) => tokens::begins(tokens, &format!("{directory}/")),
        }
    }

    /// Whether it matches whatever stands at the top.
    pub(super) fn takes_everything(&self) -> bool {
        let star = [Token::Star];
        match &self.form {
            Form::Suffix(suffix) => suffix.is_empty(),
            Form::Tokens(tokens) => {
                tokens.strip_prefix(&[Token::Directories]).unwrap_or(tokens) == star.as_slice()
            }
            _ => false,
        }
    }
}

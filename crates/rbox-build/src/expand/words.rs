//! The words of one file together: what they may come to.

use std::cell::Cell;

use super::environment::Environment;
use super::lexer::{ExpandError, Lexer};

/// Bytes that the words of one file may come to.
const MOST_EXPANDED: usize = 64 << 20;

/// Expands the words of one file, which has a bound: an instruction may name a long variable many times.
#[derive(Debug)]
pub(crate) struct Words {
    lexer: Lexer,
    /// Bytes that words have come to so far.
    expanded: Cell<usize>,
}

impl Words {
    pub(crate) const fn new(escape: char) -> Self {
        Self { lexer: Lexer::new(escape), expanded: Cell::new(0) }
    }

    /// For what is only shown.
    pub(crate) const fn lexer(&self) -> Lexer {
        self.lexer
    }

    /// What a word becomes.
    pub(crate) fn word(&self, word: &str, environment: &dyn Environment) -> Result<String, ExpandError> {
        let text = self.lexer.word(word, environment)?.text;
        self.take(word, text.len())?;
        Ok(text)
    }

    /// The words that a word becomes.
    pub(crate) fn words(
        &self,
        word: &str,
        environment: &dyn Environment,
    ) -> Result<Vec<String>, ExpandError> {
        let words = self.lexer.words(word, environment)?;
        self.take(word, words.iter().map(String::len).sum())?;
        Ok(words)
    }

    fn take(&self, word: &str, length: usize) -> Result<(), ExpandError> {
        self.expanded.set(self.expanded.get().saturating_add(length));
        if self.expanded.get() <= MOST_EXPANDED {
            return Ok(());
        }
        let most = MOST_EXPANDED >> 20;
        Err(ExpandError::new(
            word,
            format!("the words of the Dockerfile come to more than {most} MiB once variables are expanded"),
        ))
    }
}

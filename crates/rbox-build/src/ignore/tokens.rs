//! Patterns in pieces, and matching all of them at once: the time is the product of the lengths at worst.

use std::iter::Peekable;
use std::str::Chars;

use rbox_spec::Kind;

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It does not follow the grammar of Go's filepath.Match.
    #[error("syntax error in pattern")]
    Syntax,
    /// `!` and nothing behind it.
    #[error("illegal exclusion pattern: \"!\"")]
    Bare,
    /// More or longer patterns than anybody writes.
    #[error("{0}")]
    TooMuch(String),
}

impl PatternError {
    /// What it means to the caller.
    pub const fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

/// The most characters of a pattern.
pub(super) const MAX_PATTERN: usize = 8192;

/// A piece of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// This character.
    One(char),
    /// Any character but a slash.
    Any,
    /// Any number of characters, none of which is a slash.
    Star,
    /// Nothing, or anything up to and with a slash: `**/`.
    Directories,
    /// Anything.
    All,
    /// One of these ranges, or none of them. A slash is a character as others.
    Class { ranges: Vec<(char, char)>, negated: bool },
}

impl Token {
    fn takes(&self, character: char) -> bool {
        match self {
            Self::One(one) => *one == character,
            Self::Any | Self::Star => character != '/',
            Self::Directories | Self::All => true,
            Self::Class { ranges, negated } => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&character)) != *negated
            }
        }
    }
}

/// Reads a pattern. With `doubled`, `**` stands for any number of directories; without, for what `*` does.
pub(super) fn parse(text: &str, doubled: bool) -> Result<Vec<Token>, PatternError> {
    if text.len() > MAX_PATTERN {
        let bytes = text.len();
        return Err(PatternError::TooMuch(format!("a pattern has {bytes} bytes, more than {MAX_PATTERN}")));
    }
    let mut tokens = Vec::new();
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        tokens.push(match character {
            '*' if doubled && rest.peek() == Some(&'*') => {
                rest.next();
                // The slash is part of it.
                if rest.peek() == Some(&'/') {
                    rest.next();
                }
                if rest.peek().is_none() { Token::All } else { Token::Directories }
            }
            '*' => Token::Star,
            '?' => Token::Any,
            '\\' => Token::One(rest.next().ok_or(PatternError::Syntax)?),
            '[' => class(&mut rest, doubled)?,
            other => Token::One(other),
        });
    }
    // What matches anything matches it once.
    tokens.dedup_by(|a, b| a == b && matches!(a, Token::Star | Token::Directories | Token::All));
    Ok(tokens)
}

/// What stands in brackets: `^` first negates, and there is at least one range. One from high to low has nothing in it, or is an error.
fn class(rest: &mut Peekable<Chars<'_>>, strict: bool) -> Result<Token, PatternError> {
    let negated = rest.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    while ranges.is_empty() || rest.next_if_eq(&']').is_none() {
        let low = class_character(rest)?;
        let high = if rest.next_if_eq(&'-').is_some() { class_character(rest)? } else { low };
        if high < low && strict {
            return Err(PatternError::Syntax);
        }
        ranges.push((low, high));
    }
    Ok(Token::Class { ranges, negated })
}

fn class_character(rest: &mut Peekable<Chars<'_>>) -> Result<char, PatternError> {
    let character = rest.next().filter(|character| !matches!(character, '-' | ']'));
    let character = if character == Some('\\') { rest.next() } else { character };
    // Go wants a character behind it, were it only the bracket.
    character.filter(|_| rest.peek().is_some()).ok_or(PatternError::Syntax)
}

/// Whether `text` is all matched by `tokens`.
pub(super) fn matches(tokens: &[Token], text: &str) -> bool {
    if tokens.len() < 128 {
        Run::<u128>::new(tokens).all(text)
    } else {
        Run::<Vec<bool>>::new(tokens).all(text)
    }
}

/// Whether a text that begins with `text` and is longer may be matched.
pub(super) fn begins(tokens: &[Token], text: &str) -> bool {
    if tokens.len() < 128 {
        Run::<u128>::new(tokens).begins(text)
    } else {
        Run::<Vec<bool>>::new(tokens).begins(text)
    }
}

/// A set of small numbers.
trait Set {
    fn empty(len: usize) -> Self;
    fn insert(&mut self, number: usize);
    fn contains(&self, number: usize) -> bool;
    fn clear(&mut self);
}

impl Set for u128 {
    fn empty(_: usize) -> Self {
        0
    }
    fn insert(&mut self, number: usize) {
        *self |= 1 << number;
    }
    fn contains(&self, number: usize) -> bool {
        *self >> number & 1 == 1
    }
    fn clear(&mut self) {
        *self = 0;
    }
}

impl Set for Vec<bool> {
    fn empty(len: usize) -> Self {
        vec![false; len]
    }
    fn insert(&mut self, number: usize) {
        self[number] = true;
    }
    fn contains(&self, number: usize) -> bool {
        self[number]
    }
    fn clear(&mut self) {
        self.fill(false);
    }
}

/// The tokens that may come next: each at its own number, and the number behind the last one for the end.
struct Run<'a, S> {
    tokens: &'a [Token],
    now: S,
    next: S,
}

impl<'a, S: Set> Run<'a, S> {
    fn new(tokens: &'a [Token]) -> Self {
        let len = tokens.len() + 1;
        Self { tokens, now: S::empty(len), next: S::empty(len) }
    }

    /// Adds a token, and those behind it if it may match nothing.
    fn reach(tokens: &[Token], set: &mut S, mut token: usize) {
        set.insert(token);
        while let Some(Token::Star | Token::Directories | Token::All) = tokens.get(token) {
            token += 1;
            set.insert(token);
        }
    }

    fn all(mut self, text: &str) -> bool {
        self.feed(text) && self.now.contains(self.tokens.len())
    }

    /// Whether something that begins with `text` and goes on is matched.
    fn begins(mut self, text: &str) -> bool {
        self.feed(text) && (0..self.tokens.len()).any(|token| self.now.contains(token))
    }

    /// Takes all of `text`, unless nothing that begins so is matched.
    fn feed(&mut self, text: &str) -> bool {
        Self::reach(self.tokens, &mut self.now, 0);
        for character in text.chars() {
            self.next.clear();
            let mut alive = false;
            for (number, token) in self.tokens.iter().enumerate() {
                if !self.now.contains(number) || !token.takes(character) {
                    continue;
                }
                alive = true;
                match token {
                    Token::Star | Token::All => Self::reach(self.tokens, &mut self.next, number),
                    // Only behind a slash may it end.
                    Token::Directories => {
                        self.next.insert(number);
                        if character == '/' {
                            Self::reach(self.tokens, &mut self.next, number + 1);
                        }
                    }
                    _ => Self::reach(self.tokens, &mut self.next, number + 1),
                }
            }
            if !alive {
                return false;
            }
            std::mem::swap(&mut self.now, &mut self.next);
        }
        true
    }
}

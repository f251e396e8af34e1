//! The patterns of `${v#p}`, `${v%p}` and `${v/p/r}`: `*` and `?`, which match no newline, and `\` before one of them.

/// The most steps that matching takes: the characters of a value times those of a pattern, or so.
const MOST_STEPS: usize = 1 << 24;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    One(char),
    Any,
    Star,
}

/// A pattern.
#[derive(Debug)]
pub(super) struct Pattern {
    tokens: Vec<Token>,
}

/// Whether the longest or the shortest match is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    Shortest,
    Longest,
}

impl Pattern {
    /// Reads it, or says why it is none.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut tokens = Vec::new();
        let mut rest = text.chars().peekable();
        while let Some(character) = rest.next() {
            tokens.push(match character {
                '*' => Token::Star,
                '?' => Token::Any,
                // A brace or slash is escaped so that it does not end the pattern: the escape is no part of it.
                '\\' if matches!(rest.peek(), Some('}' | '/')) => continue,
                '\\' => match rest.next() {
                    Some(escaped @ ('*' | '?' | '\\')) => Token::One(escaped),
                    other => return Err(format!("invalid escape '\\{}'", other.unwrap_or('\u{fffd}'))),
                },
                other => Token::One(other),
            });
        }
        // Two stars in a row match what one does.
        tokens.dedup_by(|a, b| *a == Token::Star && *b == Token::Star);
        Ok(Self { tokens })
    }

    /// `value` without what the pattern matches at its beginning.
    pub(super) fn without_prefix(&self, value: &str, length: Length) -> Result<String, String> {
        let chars: Vec<char> = value.chars().collect();
        let end = Matcher::new(&self.tokens).end(&chars, length)?.unwrap_or(0);
        Ok(chars[end..].iter().collect())
    }

    /// `value` without what the pattern matches at its end.
    pub(super) fn without_suffix(&self, value: &str, length: Length) -> Result<String, String> {
        let chars: Vec<char> = value.chars().rev().collect();
        let tokens: Vec<Token> = self.tokens.iter().rev().copied().collect();
        let end = Matcher::new(&tokens).end(&chars, length)?.unwrap_or(0);
        Ok(chars[end..].iter().rev().collect())
    }

    /// `value` with the first match, or every one, replaced: the leftmost, as long as it can be. No more than `most` bytes.
    pub(super) fn replaced(
        &self,
        value: &str,
        replacement: &str,
        all: bool,
        most: usize,
    ) -> Result<String, String> {
        let chars: Vec<char> = value.chars().collect();
        let mut matcher = Matcher::new(&self.tokens);
        let (mut result, mut at, mut last_end) = (String::new(), 0, None);
        while at <= chars.len() {
            let end = matcher.end(&chars[at..], Length::Longest)?.map(|length| at + length);
            // A match of nothing right behind another match is none.
            if let Some(end) = end.filter(|end| *end > at || last_end != Some(at)) {
                if result.len().saturating_add(replacement.len()) > most {
                    return Err(format!("the result is longer than {most} bytes"));
                }
                result.push_str(replacement);
                if !all {
                    result.extend(&chars[end..]);
                    return Ok(result);
                }
                last_end = Some(end);
                if end == at {
                    result.extend(chars.get(at));
                    at += 1;
                } else {
                    at = end;
                }
            } else {
                result.extend(chars.get(at));
                at += 1;
            }
        }
        Ok(result)
    }
}

/// Runs a pattern's tokens side by side: one step for each of them and each character.
struct Matcher<'a> {
    tokens: &'a [Token],
    now: Vec<bool>,
    next: Vec<bool>,
    steps: usize,
}

impl<'a> Matcher<'a> {
    fn new(tokens: &'a [Token]) -> Self {
        Self { tokens, now: vec![false; tokens.len() + 1], next: vec![false; tokens.len() + 1], steps: 0 }
    }

    /// How many characters match at the beginning of `chars`.
    fn end(&mut self, chars: &[char], length: Length) -> Result<Option<usize>, String> {
        // What most patterns begin with, and most places do not.
        if let Some(Token::One(first)) = self.tokens.first()
            && chars.first() != Some(first)
        {
            return Ok(None);
        }
        let accept = self.tokens.len();
        self.now.fill(false);
        self.reach(0, false);
        let mut found = self.now[accept].then_some(0);
        for (at, character) in chars.iter().enumerate() {
            if found.is_some() && length == Length::Shortest {
                break;
            }
            self.steps += self.tokens.len() + 1;
            if self.steps > MOST_STEPS {
                return Err("value and pattern are too long to be compared".to_owned());
            }
            self.next.fill(false);
            let mut alive = false;
            for token in 0..accept {
                if !self.now[token] {
                    continue;
                }
                let reached = match self.tokens[token] {
                    Token::One(one) if one == *character => token + 1,
                    Token::Any if *character != '\n' => token + 1,
                    Token::Star if *character != '\n' => token,
                    _ => continue,
                };
                alive = true;
                self.reach(reached, true);
            }
            std::mem::swap(&mut self.now, &mut self.next);
            if self.now[accept] {
                found = Some(at + 1);
            }
            if !alive {
                break;
            }
        }
        Ok(found)
    }

    /// Marks a token as reached, and those behind stars, which match nothing too.
    fn reach(&mut self, mut token: usize, next: bool) {
        let set = if next { &mut self.next } else { &mut self.now };
        set[token] = true;
        while self.tokens.get(token) == Some(&Token::Star) {
            token += 1;
            set[token] = true;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    #[test]
    fn trims_at_both_ends() {
        use Length::{Longest, Shortest};
        for (value, text, length, prefix, suffix) in [
            ("xxyy", "*x", Shortest, "xyy", "xxyy"),
            ("xxyy", "*x", Longest, "yy", "xxyy"),
            ("xxyy", "y*", Shortest, "xxyy", "xxy"),
            ("xxyy", "y*", Longest, "xxyy", "xx"),
            ("xxyy", "*", Shortest, "xxyy", "xxyy"),
            ("xxyy", "*", Longest, "", ""),
            ("xxyy", "?", Shortest, "xyy", "xxy"),
            ("xxyy", "??", Longest, "yy", "xx"),
            ("a*b*c", "a\\*", Shortest, "b*c", "a*b*c"),
            ("a*b*c", "\\*c", Shortest, "a*b*c", "a*b"),
            ("한국어", "한", Shortest, "국어", "한국어"),
            ("한국어", "?", Shortest, "국어", "한국"),
            ("a\nb", "*", Longest, "\nb", "a\n"),
            ("a\nb", "?", Shortest, "\nb", "a\n"),
            ("", "*", Longest, "", ""),
            ("", "a", Longest, "", ""),
            ("abc", "", Longest, "abc", "abc"),
            ("abc", "abcd", Longest, "abc", "abc"),
            ("axbxc", "a*b*c", Longest, "", ""),
            ("a/b/c.tar.gz", "*.", Shortest, "tar.gz", "a/b/c.tar.gz"),
            ("a/b/c.tar.gz", ".*", Longest, "a/b/c.tar.gz", "a/b/c"),
        ] {
            let pattern = pattern(text);
            assert_eq!(pattern.without_prefix(value, length).unwrap(), prefix, "{value} # {text} {length:?}");
            assert_eq!(pattern.without_suffix(value, length).unwrap(), suffix, "{value} % {text} {length:?}");
        }
    }

    #[test]
    fn replaces() {
        for (value, text, with, first, all) in [
            ("a-b-c", "-", "_", "a_b-c", "a_b_c"),
            ("a-b-c", "", "_", "_a-b-c", "_a_-_b_-_c_"),
            ("aaa", "a*", "x", "x", "x"),
            ("baab", "a*", "x", "bx", "bx"),
            ("abab", "?b", "x", "xab", "xx"),
            ("abab", "b", "", "aab", "aa"),
            ("한국어", "국", "k", "한k어", "한k어"),
            ("a\nb", "*", "x", "x\nb", "x\nx"),
            ("", "*", "x", "x", "x"),
            ("abc", "d", "x", "abc", "abc"),
            ("a.b", ".", "$1", "a$1b", "a$1b"),
        ] {
            let pattern = pattern(text);
            assert_eq!(pattern.replaced(value, with, false, 99).unwrap(), first, "{value} / {text}");
            assert_eq!(pattern.replaced(value, with, true, 99).unwrap(), all, "{value} // {text}");
        }
        assert!(pattern("").replaced("aaaa", "xxxx", true, 10).is_err());
    }

    #[test]
    fn refuses_other_escapes() {
        for (text, wrong) in [("\\", "'\\\u{fffd}'"), ("\\x", "'\\x'"), ("\\\\\\", "'\\\u{fffd}'")] {
            assert_eq!(Pattern::parse(text).unwrap_err(), format!("invalid escape {wrong}"));
        }
        for text in ["\\*", "\\?", "\\\\", "\\}", "\\/", "(()[]{\\}^$.\\*\\?|\\\\"] {
            assert!(Pattern::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn ends_in_time() {
        let (value, stars) = ("a".repeat(100_000), "a*".repeat(10_000));
        assert!(pattern(&stars).without_prefix(&value, Length::Longest).is_err());
        assert!(pattern("*b").replaced(&value, "", true, 9).is_err());
        assert_eq!(pattern("*a").without_prefix(&value, Length::Longest).unwrap(), "");
    }
}

//! Words of a file in a message: quoted as Go's `%q` does, and short.

use std::fmt::Write as _;

/// The most characters of somebody else's text in a message.
const MOST: usize = 200;

/// The text without control characters, and at most [`MOST`] characters of it.
pub(crate) fn shown(text: &str) -> String {
    let mut short: String =
        text.chars().take(MOST).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(MOST).is_some() {
        short.push('…');
    }
    short
}

/// The text in double quotes with Go's escapes, and at most [`MOST`] characters of it.
pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for character in text.chars().take(MOST) {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\x07' => quoted.push_str("\\a"),
            '\x08' => quoted.push_str("\\b"),
            '\x0b' => quoted.push_str("\\v"),
            '\x0c' => quoted.push_str("\\f"),
            '\0'..=' ' if character != ' ' => drop(write!(quoted, "\\x{:02x}", u32::from(character))),
            '\x7f' => quoted.push_str("\\x7f"),
            other if other.is_control() => drop(write!(quoted, "\\u{:04x}", u32::from(other))),
            other => quoted.push(other),
        }
    }
    if text.chars().nth(MOST).is_some() {
        quoted.push('…');
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_as_go_does() {
        for (text, want) in [
            ("", r#""""#),
            ("a b", r#""a b""#),
            ("a\"b\\", r#""a\"b\\""#),
            ("\n\r\t\x07\x08\x0b\x0c", r#""\n\r\t\a\b\v\f""#),
            ("\0\x1b\x7f", r#""\x00\x1b\x7f""#),
            ("\u{85}é", r#""\u0085é""#),
        ] {
            assert_eq!(quoted(text), want);
        }
        assert_eq!(quoted(&"é".repeat(201)), format!("\"{}…\"", "é".repeat(200)));
    }

    #[test]
    fn shows_no_control_characters() {
        assert_eq!(shown("a\x1b[2J\nb"), "a\u{fffd}[2J\u{fffd}b");
        assert_eq!(shown(&"a".repeat(201)), format!("{}…", "a".repeat(200)));
    }
}

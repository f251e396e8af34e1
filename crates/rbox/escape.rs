//! Text from images, containers and other users, made safe to print on a terminal.
//!
//! C0 and C1 controls and DEL can drive a terminal (OSC, CSI, carriage return); bidi controls can make a line
//! read as what it is not. They are shown, not sent.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether a terminal would act on `char` or display its neighbours out of order.
fn dangerous(char: char) -> bool {
    char.is_control()
        || matches!(char,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}')
}

fn escape(text: &str, keep: impl Fn(char) -> bool) -> Cow<'_, str> {
    let harmful = |c: char| dangerous(c) && !keep(c);
    if !text.contains(harmful) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for char in text.chars() {
        match char {
            _ if !harmful(char) => out.push(char),
            '\n' => out.push_str(r"\n"),
            '\r' => out.push_str(r"\r"),
            '\t' => out.push_str(r"\t"),
            '\0'..='\u{ff}' => {
                let _ = write!(out, "\\x{:02x}", char as u32);
            }
            _ => {
                let _ = write!(out, "\\u{{{:x}}}", char as u32);
            }
        }
    }
    Cow::Owned(out)
}

/// `text` for a table's cell or an error: one line, nothing a terminal acts on.
pub(crate) fn text(text: &str) -> Cow<'_, str> {
    escape(text, |_| false)
}

/// `text` where lines and tabs are wanted.
pub(crate) fn multiline(text: &str) -> Cow<'_, str> {
    escape(text, |c| c == '\n' || c == '\t')
}

/// A JSON document with the characters JSON leaves alone (DEL, C1, bidi) as `\u` escapes, so that it still
/// means the same.
pub(crate) fn json(document: &str) -> Cow<'_, str> {
    let harmful = |c: char| dangerous(c) && c != '\n';
    if !document.contains(harmful) {
        return Cow::Borrowed(document);
    }
    let mut out = String::with_capacity(document.len() + 16);
    for char in document.chars() {
        if harmful(char) {
            let _ = write!(out, "\\u{:04x}", char as u32);
        } else {
            out.push(char);
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn controls_are_shown() {
        assert_eq!(text("plain ünïcode 漢"), "plain ünïcode 漢");
        assert!(matches!(text("plain"), Cow::Borrowed(_)));
        assert_eq!(text("a\u{1b}[31mb\r\n\t\u{7f}\u{85}\u{2066}"), r"a\x1b[31mb\r\n\t\x7f\x85\u{2066}");
        assert_eq!(multiline("a\nb\tc\r"), "a\nb\tc\\r");
    }

    #[test]
    fn json_still_means_the_same() {
        let value = serde_json::json!({"a\u{9b}": "x\u{7f}\u{202e}\u{1b}"});
        let safe = json(&value.to_string()).into_owned();
        assert!(!safe.chars().any(dangerous), "{safe}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).unwrap(), value);
    }
}

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

/// Output of a program for a terminal: lines, tabs and colours (`ESC [ … m`) pass, other controls are shown.
pub(crate) fn coloured(text: &str) -> Cow<'_, str> {
    let plain = |c: char| matches!(c, '\n' | '\t') || !dangerous(c);
    if text.chars().all(plain) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(at) = rest.find('\u{1b}') {
        let (before, sequence) = rest.split_at(at);
        out.push_str(&progress(before));
        let length = colour_length(sequence).unwrap_or(0);
        out.push_str(&sequence[..length]);
        let shown = usize::from(length == 0);
        out.push_str(&escape(&sequence[length..length + shown], |_| false));
        rest = &sequence[length + shown..];
    }
    out.push_str(&progress(rest));
    Cow::Owned(out)
}

/// A carriage return right before a line feed is only how some programs end lines.
fn progress(text: &str) -> String {
    multiline(&text.replace("\r\n", "\n")).into_owned()
}

/// The length of the colour sequence that `text` begins with.
fn colour_length(text: &str) -> Option<usize> {
    let parameters = text.strip_prefix("\u{1b}[")?;
    let end = parameters.find(|c: char| !c.is_ascii_digit() && c != ';' && c != ':')?;
    (parameters[end..].starts_with('m') && end <= 64).then_some(end + 3)
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

/// A word as a POSIX shell reads it back: in quotes unless it is plain.
pub(crate) fn shell(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
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
    fn colours_pass_and_the_rest_does_not() {
        assert!(matches!(coloured("plain\n"), Cow::Borrowed(_)));
        assert_eq!(coloured("\u{1b}[1;31mred\u{1b}[0m\r\n"), "\u{1b}[1;31mred\u{1b}[0m\n");
        assert_eq!(coloured("a\u{1b}]0;x\u{7}b\u{1b}[2Jc\rd\u{9b}m"), r"a\x1b]0;x\x07b\x1b[2Jc\rd\x9bm");
        assert_eq!(coloured("cut\u{1b}"), r"cut\x1b");
        assert_eq!(coloured("cut\u{1b}[3"), r"cut\x1b[3");
    }

    #[test]
    fn json_still_means_the_same() {
        let value = serde_json::json!({"a\u{9b}": "x\u{7f}\u{202e}\u{1b}"});
        let safe = json(&value.to_string()).into_owned();
        assert!(!safe.chars().any(dangerous), "{safe}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).unwrap(), value);
    }
}

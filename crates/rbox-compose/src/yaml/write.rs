//! YAML and JSON as Go's encoders lay them out, for `config`.

use std::cmp::Ordering;
use std::fmt::Write as _;

use super::node::go_float;
use super::out::Out;
use super::scalar::is_plain_text;

/// Keys as go-yaml sorts them: numbers in them by their value, letters after what is none.
pub(crate) fn natural(a: &str, b: &str) -> Ordering {
    let (left, right): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let digit = |chars: &[char], at: usize| chars.get(at).and_then(|c| c.to_digit(10)).map(u64::from);
    let mut digits = false;
    for at in 0..left.len().min(right.len()) {
        let (l, r) = (left[at], right[at]);
        if l == r {
            digits = l.is_numeric();
            continue;
        }
        match (l.is_alphabetic(), r.is_alphabetic()) {
            (true, true) => return l.cmp(&r),
            (true, false) => return if digits { Ordering::Less } else { Ordering::Greater },
            (false, true) => return if digits { Ordering::Greater } else { Ordering::Less },
            (false, false) => {}
        }
        let start = if l == '0' || r == '0' {
            let before = (0..at).rev().take_while(|&i| left[i].is_numeric()).any(|i| left[i] != '0');
            u64::from(before)
        } else {
            0
        };
        let run = |chars: &[char]| {
            let (mut end, mut number) = (at, start);
            while let Some(next) = digit(chars, end) {
                number = number.wrapping_mul(10).wrapping_add(next);
                end += 1;
            }
            (number, end)
        };
        let (left_run, right_run) = (run(&left), run(&right));
        return left_run.cmp(&right_run).then(l.cmp(&r));
    }
    left.len().cmp(&right.len())
}

/// A document in YAML.
pub(crate) fn yaml(out: &Out) -> String {
    let mut text = String::new();
    match out {
        Out::Fields(fields) if fields.is_empty() => text.push_str("{}\n"),
        Out::Sorted(map) if map.is_empty() => text.push_str("{}\n"),
        _ => block(out, 0, &mut text),
    }
    text
}

/// The entries of a mapping, in the order of what it is.
fn entries(out: &Out) -> Option<Vec<(&str, &Out)>> {
    match out {
        Out::Fields(fields) => Some(fields.iter().map(|(key, value)| (key.as_str(), value)).collect()),
        Out::Sorted(map) => {
            let mut entries: Vec<_> = map.iter().map(|(key, value)| (key.as_str(), value)).collect();
            entries.sort_by(|a, b| natural(a.0, b.0));
            Some(entries)
        }
        _ => None,
    }
}

/// A node where a line begins; the indent of its first line is written.
fn block(out: &Out, indent: usize, text: &mut String) {
    if let Some(entries) = entries(out) {
        for (index, (key, value)) in entries.into_iter().enumerate() {
            if index > 0 {
                pad(indent, text);
            }
            scalar_text(key, indent, true, text);
            text.push(':');
            after_key(value, indent, text);
        }
    } else if let Out::List(list) = out {
        for (index, value) in list.iter().enumerate() {
            if index > 0 {
                pad(indent, text);
            }
            text.push('-');
            match value {
                Out::Fields(fields) if !fields.is_empty() => nested(value, indent, text),
                Out::Sorted(map) if !map.is_empty() => nested(value, indent, text),
                Out::List(list) if !list.is_empty() => nested(value, indent, text),
                _ => leaf(value, indent, text),
            }
        }
    } else {
        leaf(out, indent, text);
    }
}

/// A collection that begins on the line of its dash.
fn nested(value: &Out, indent: usize, text: &mut String) {
    text.push(' ');
    block(value, indent + 2, text);
}

fn after_key(value: &Out, indent: usize, text: &mut String) {
    let empty = match value {
        Out::Fields(fields) => fields.is_empty(),
        Out::Sorted(map) => map.is_empty(),
        Out::List(list) => list.is_empty(),
        _ => true,
    };
    if empty {
        leaf(value, indent, text);
    } else {
        text.push('\n');
        pad(indent + 2, text);
        block(value, indent + 2, text);
    }
}

fn pad(indent: usize, text: &mut String) {
    text.extend(std::iter::repeat_n(' ', indent));
}

/// What stands behind a key or a dash on its line, and the end of it.
fn leaf(value: &Out, indent: usize, text: &mut String) {
    text.push(' ');
    match value {
        Out::Null => text.push_str("null"),
        Out::Bool(value) => text.push_str(if *value { "true" } else { "false" }),
        Out::Int(value) => text.push_str(&value.to_string()),
        Out::Float(value) => {
            let float = match go_float(*value, 6).as_str() {
                "+Inf" => ".inf".to_owned(),
                "-Inf" => "-.inf".to_owned(),
                "NaN" => ".nan".to_owned(),
                float => float.to_owned(),
            };
            text.push_str(&float);
        }
        Out::Text(value) => scalar_text(value, indent, false, text),
        Out::List(_) => text.push_str("[]"),
        Out::Fields(_) | Out::Sorted(_) => text.push_str("{}"),
    }
    text.push('\n');
}

/// What libyaml's emitter finds out about a text before it chooses how to write it.
#[allow(clippy::struct_excessive_bools, reason = "they are libyaml's")]
struct Looks {
    multiline: bool,
    block_plain: bool,
    single_quoted: bool,
    block: bool,
}

/// Where a text has spaces and line breaks.
#[derive(Default)]
#[allow(clippy::struct_excessive_bools, reason = "they are libyaml's")]
struct Blanks {
    leading_space: bool,
    leading_break: bool,
    trailing_space: bool,
    trailing_break: bool,
    /// A space after a break.
    break_space: bool,
    /// A break after a space.
    space_break: bool,
    breaks: bool,
}

fn is_break(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t') || is_break(c)
}

fn blanks(chars: &[char]) -> Blanks {
    let mut blanks = Blanks::default();
    let (mut previous_space, mut previous_break) = (false, false);
    for (index, &c) in chars.iter().enumerate() {
        let (first, last) = (index == 0, index + 1 == chars.len());
        let (space, line) = (c == ' ', is_break(c));
        blanks.breaks |= line;
        blanks.leading_space |= space && first;
        blanks.trailing_space |= space && last;
        blanks.break_space |= space && previous_break;
        blanks.leading_break |= line && first;
        blanks.trailing_break |= line && last;
        blanks.space_break |= line && previous_space;
        (previous_space, previous_break) = (space, line);
    }
    blanks
}

/// Whether a text has what means something to YAML.
fn has_indicators(value: &str, chars: &[char]) -> bool {
    let mut preceded_by_space = true;
    let mut found = value.starts_with("---") || value.starts_with("...");
    for (index, &c) in chars.iter().enumerate() {
        let followed_by_space = chars.get(index + 1).is_none_or(|&c| is_blank(c));
        found |= match c {
            '#' | ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@'
            | '`'
                if index == 0 =>
            {
                true
            }
            '?' | '-' => index == 0 && followed_by_space,
            ':' => followed_by_space,
            '#' => preceded_by_space,
            _ => false,
        };
        preceded_by_space = is_blank(c);
    }
    found
}

fn looks(value: &str) -> Looks {
    if value.is_empty() {
        return Looks { multiline: false, block_plain: true, single_quoted: true, block: false };
    }
    let chars: Vec<char> = value.chars().collect();
    let blanks = blanks(&chars);
    let special = chars.iter().any(|&c| c != '\t' && !printable(c));
    let at_ends =
        blanks.leading_space || blanks.leading_break || blanks.trailing_space || blanks.trailing_break;
    let single_quoted = !(blanks.break_space || blanks.space_break || special || chars.contains(&'\t'));
    Looks {
        multiline: blanks.breaks,
        block_plain: single_quoted && !at_ends && !blanks.breaks && !has_indicators(value, &chars),
        single_quoted,
        block: !(blanks.trailing_space || blanks.space_break || special),
    }
}

fn printable(c: char) -> bool {
    matches!(c, '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}')
}

/// A text as a scalar. `key`: as the key of a mapping, which stands on one line.
fn scalar_text(value: &str, indent: usize, key: bool, text: &mut String) {
    let looks = looks(value);
    if value.contains('\n') {
        if looks.block && !key {
            return literal(value, indent, text);
        }
        return double_quoted(value, text);
    }
    if !is_plain_text(value) {
        return double_quoted(value, text);
    }
    if looks.block_plain && !looks.multiline {
        text.push_str(value);
    } else if looks.single_quoted && !(looks.multiline && key) {
        let _ = write!(text, "'{}'", value.replace('\'', "''"));
    } else {
        double_quoted(value, text);
    }
}

fn literal(value: &str, indent: usize, text: &mut String) {
    text.push('|');
    if value.starts_with([' ', '\n']) {
        text.push('2');
    }
    let body = match value.strip_suffix('\n') {
        None => {
            text.push('-');
            value
        }
        Some("") => {
            text.push('+');
            ""
        }
        Some(body) if body.ends_with('\n') => {
            text.push('+');
            body
        }
        Some(body) => body,
    };
    for line in body.split('\n') {
        text.push('\n');
        if !line.is_empty() {
            pad(indent + 2, text);
            text.push_str(line);
        }
    }
}

fn double_quoted(value: &str, text: &mut String) {
    text.push('"');
    for c in value.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\0' => text.push_str("\\0"),
            '\u{7}' => text.push_str("\\a"),
            '\u{8}' => text.push_str("\\b"),
            '\t' => text.push_str("\\t"),
            '\n' => text.push_str("\\n"),
            '\u{b}' => text.push_str("\\v"),
            '\u{c}' => text.push_str("\\f"),
            '\r' => text.push_str("\\r"),
            '\u{1b}' => text.push_str("\\e"),
            '\u{85}' => text.push_str("\\N"),
            '\u{a0}' => text.push(c),
            '\u{2028}' => text.push_str("\\L"),
            '\u{2029}' => text.push_str("\\P"),
            c if printable(c) && c != '\u{feff}' => text.push(c),
            c if (c as u32) < 0x100 => {
                let _ = write!(text, "\\x{:02X}", c as u32);
            }
            c if (c as u32) < 0x1_0000 => {
                let _ = write!(text, "\\u{:04X}", c as u32);
            }
            c => {
                let _ = write!(text, "\\U{:08X}", c as u32);
            }
        }
    }
    text.push('"');
}

/// JSON as `encoding/json` writes it, compact or indented by two spaces.
pub(crate) fn json(out: &Out, indented: bool) -> String {
    let mut text = String::new();
    json_value(out, indented.then_some(0), &mut text);
    text
}

fn json_value(out: &Out, indent: Option<usize>, text: &mut String) {
    let fields: Vec<(&str, &Out)> = match out {
        Out::Null => return text.push_str("null"),
        Out::Bool(value) => return text.push_str(if *value { "true" } else { "false" }),
        Out::Int(value) => return text.push_str(&value.to_string()),
        Out::Float(value) => return text.push_str(&json_float(*value)),
        Out::Text(value) => return json_text(value, text),
        Out::List(list) => {
            if list.is_empty() {
                return text.push_str("[]");
            }
            text.push('[');
            for (index, value) in list.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                json_line(indent.map(|indent| indent + 2), text);
                json_value(value, indent.map(|indent| indent + 2), text);
            }
            json_line(indent, text);
            return text.push(']');
        }
        Out::Fields(fields) => fields.iter().map(|(key, value)| (key.as_str(), value)).collect(),
        Out::Sorted(map) => map.iter().map(|(key, value)| (key.as_str(), value)).collect(),
    };
    if fields.is_empty() {
        return text.push_str("{}");
    }
    text.push('{');
    for (index, (key, value)) in fields.into_iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        json_line(indent.map(|indent| indent + 2), text);
        json_text(key, text);
        text.push(':');
        if indent.is_some() {
            text.push(' ');
        }
        json_value(value, indent.map(|indent| indent + 2), text);
    }
    json_line(indent, text);
    text.push('}');
}

fn json_line(indent: Option<usize>, text: &mut String) {
    if let Some(indent) = indent {
        text.push('\n');
        pad(indent, text);
    }
}

fn json_float(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let scientific = go_float(value, -5);
        return scientific.replace("e-0", "e-");
    }
    format!("{value}")
}

fn json_text(value: &str, text: &mut String) {
    text.push('"');
    for c in value.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\u{8}' => text.push_str("\\b"),
            '\u{c}' => text.push_str("\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                let _ = write!(text, "\\u{:04x}", c as u32);
            }
            c => text.push(c),
        }
    }
    text.push('"');
}

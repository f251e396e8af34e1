//! Texts.

use regex::Regex;
use unicode_segmentation::UnicodeSegmentation as _;

use super::super::value::{MOST, TOO_LARGE, Value};
use super::given::{ANY, Entry, Given, Outcome};

pub(super) const ALL: &[Entry] = &[
    Entry("upper", 1, 1, false, |given| Ok(Value::text(Given(given).text(0)?.to_uppercase()))),
    Entry("lower", 1, 1, false, |given| Ok(Value::text(Given(given).text(0)?.to_lowercase()))),
    Entry("title", 1, 1, false, title),
    Entry("trim", 2, 2, false, |given| {
        let (text, set) = (Given(given).text(0)?, Given(given).text(1)?);
        Ok(Value::text(text.trim_matches(|one| set.contains(one))))
    }),
    Entry("trimspace", 1, 1, false, |given| Ok(Value::text(Given(given).text(0)?.trim()))),
    Entry("trimprefix", 2, 2, false, |given| {
        let (text, prefix) = (Given(given).text(0)?, Given(given).text(1)?);
        Ok(Value::text(text.strip_prefix(&*prefix).unwrap_or(&text)))
    }),
    Entry("trimsuffix", 2, 2, false, |given| {
        let (text, suffix) = (Given(given).text(0)?, Given(given).text(1)?);
        Ok(Value::text(text.strip_suffix(&*suffix).unwrap_or(&text)))
    }),
    Entry("chomp", 1, 1, false, |given| {
        Ok(Value::text(Given(given).text(0)?.trim_end_matches(['\n', '\r'])))
    }),
    Entry("replace", 3, 3, false, replace),
    Entry("split", 2, 2, false, |given| {
        let (separator, text) = (Given(given).text(0)?, Given(given).text(1)?);
        if separator.is_empty() {
            return Value::texts(text.chars().map(String::from));
        }
        Value::texts(text.split(&*separator))
    }),
    Entry("join", 2, ANY, false, join),
    Entry("indent", 2, 2, false, indent),
    Entry("strlen", 1, 1, false, |given| {
        Ok(Value::int(Given(given).text(0)?.graphemes(true).count() as i64))
    }),
    Entry("substr", 3, 3, false, substr),
    Entry("reverse", 1, 1, false, |given| {
        Ok(Value::text(Given(given).text(0)?.graphemes(true).rev().collect::<String>()))
    }),
    Entry("sanitize", 1, 1, false, |given| {
        let plain =
            |one: char| if one.is_ascii_alphanumeric() || matches!(one, '_' | '-') { one } else { '_' };
        Ok(Value::text(Given(given).text(0)?.chars().map(plain).collect::<String>()))
    }),
    Entry("basename", 1, 1, false, |given| Ok(Value::text(basename(&Given(given).text(0)?)))),
    Entry("dirname", 1, 1, false, |given| Ok(Value::text(dirname(&Given(given).text(0)?)))),
    Entry("homedir", 0, 0, false, |_| {
        let home = std::env::var("HOME").ok().filter(|home| !home.is_empty());
        home.map(Value::text).ok_or_else(|| "HOME is not set".to_owned())
    }),
    Entry("regex", 2, 2, false, |given| {
        let (pattern, text) = (pattern(&Given(given).text(0)?)?, Given(given).text(1)?);
        match pattern.captures(&text) {
            Some(found) => captured(&pattern, &found),
            None => Err("pattern did not match any part of the given string".to_owned()),
        }
    }),
    Entry("regexall", 2, 2, false, |given| {
        let (pattern, text) = (pattern(&Given(given).text(0)?)?, Given(given).text(1)?);
        Value::list(
            pattern.captures_iter(&text).map(|found| captured(&pattern, &found)).collect::<Result<_, _>>()?,
        )
    }),
    Entry("regex_replace", 3, 3, false, |given| {
        let (text, with) = (Given(given).text(0)?, Given(given).text(2)?);
        let pattern = pattern(&Given(given).text(1)?)?;
        let (mut made, mut end) = (String::new(), 0);
        for found in pattern.captures_iter(&text) {
            let Some(whole) = found.get(0) else { continue };
            made.push_str(text.get(end..whole.start()).unwrap_or_default());
            found.expand(&with, &mut made);
            end = whole.end();
            fits(made.len())?;
        }
        made.push_str(text.get(end..).unwrap_or_default());
        Ok(Value::text(made))
    }),
];

fn fits(size: usize) -> Result<(), String> {
    if size > MOST { Err(TOO_LARGE.to_owned()) } else { Ok(()) }
}

fn title(given: &[Value]) -> Outcome {
    let text = Given(given).text(0)?;
    let mut made = String::with_capacity(text.len());
    let mut begins = true;
    for one in text.chars() {
        if begins {
            made.extend(one.to_uppercase());
        } else {
            made.push(one);
        }
        begins = !(one.is_alphanumeric() || matches!(one, '_' | '\''));
    }
    Ok(Value::text(made))
}

fn replace(given: &[Value]) -> Outcome {
    let (text, what, with) = (Given(given).text(0)?, Given(given).text(1)?, Given(given).text(2)?);
    let count = text.matches(&*what).count();
    fits(text.len() + count.saturating_mul(with.len()))?;
    Ok(Value::text(text.replace(&*what, &with)))
}

fn join(given: &[Value]) -> Outcome {
    let separator = Given(given).text(0)?;
    let mut made = String::new();
    let mut is_first = true;
    for place in 1..given.len() {
        for text in Given(given).texts(place)? {
            if !is_first {
                made.push_str(&separator);
            }
            is_first = false;
            made.push_str(&text);
            fits(made.len())?;
        }
    }
    Ok(Value::text(made))
}

fn indent(given: &[Value]) -> Outcome {
    let spaces = usize::try_from(Given(given).whole(0, 0, 10_000)?).unwrap_or_default();
    let text = Given(given).text(1)?;
    fits(text.len() + text.matches('\n').count().saturating_mul(spaces))?;
    Ok(Value::text(text.replace('\n', &format!("\n{}", " ".repeat(spaces)))))
}

fn substr(given: &[Value]) -> Outcome {
    let text = Given(given).text(0)?;
    let letters: Vec<&str> = text.graphemes(true).collect();
    let most = i64::from(u32::MAX);
    let (offset, length) = (Given(given).whole(1, -most, most)?, Given(given).whole(2, -most, most)?);
    let count = letters.len() as i64;
    let start = if offset < 0 { (count + offset).max(0) } else { offset.min(count) };
    let end = if length < 0 { count } else { (start + length).min(count) };
    let range = usize::try_from(start).unwrap_or_default()..usize::try_from(end).unwrap_or_default();
    Ok(Value::text(letters.get(range).unwrap_or_default().concat()))
}

/// The last element of a path, as Go's `path.Base` has it.
fn basename(path: &str) -> String {
    if path.is_empty() {
        return ".".to_owned();
    }
    let trimmed = path.trim_end_matches('/');
    if trimmed.is_empty() {
        "/".to_owned()
    } else {
        trimmed.rsplit('/').next().unwrap_or_default().to_owned()
    }
}

/// All but the last element, cleaned, as Go's `path.Dir` has it.
fn dirname(path: &str) -> String {
    let dir = path.rfind('/').and_then(|end| path.get(..=end)).unwrap_or_default();
    let mut parts: Vec<&str> = Vec::new();
    for part in dir.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if dir.starts_with('/') => {}
            other => parts.push(other),
        }
    }
    let joined = parts.join("/");
    match (dir.starts_with('/'), joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

/// A pattern in RE2's words, whose classes by letters are those of ASCII.
fn pattern(text: &str) -> Result<Regex, String> {
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(one) = letters.next() {
        if one != '\\' {
            plain.push(one);
            continue;
        }
        match letters.next() {
            Some('d') => plain.push_str("[0-9]"),
            Some('D') => plain.push_str("[^0-9]"),
            Some('w') => plain.push_str("[0-9A-Za-z_]"),
            Some('W') => plain.push_str("[^0-9A-Za-z_]"),
            Some('s') => plain.push_str("[\\t\\n\\f\\r ]"),
            Some('S') => plain.push_str("[^\\t\\n\\f\\r ]"),
            Some('b') => plain.push_str("(?-u:\\b)"),
            Some(other) => plain.extend(['\\', other]),
            None => plain.push('\\'),
        }
    }
    let built =
        regex::RegexBuilder::new(&plain).size_limit(1 << 20).dfa_size_limit(1 << 20).nest_limit(50).build();
    built.map_err(|error| {
        let why = error.to_string();
        let why = why.rsplit("error: ").next().unwrap_or_default();
        format!("invalid regexp pattern {text:?}: {}", why.split_whitespace().collect::<Vec<_>>().join(" "))
    })
}

/// What matched: the whole, a list of the groups, or an object of those that have names.
fn captured(pattern: &Regex, found: &regex::Captures<'_>) -> Outcome {
    let value = |one: Option<regex::Match<'_>>| one.map_or(Value::Null, |one| Value::text(one.as_str()));
    let names: Vec<Option<&str>> = pattern.capture_names().skip(1).collect();
    if names.is_empty() {
        return Ok(value(found.get(0)));
    }
    if names.iter().all(Option::is_none) {
        return Value::list((1..=names.len()).map(|place| value(found.get(place))).collect());
    }
    if names.iter().any(Option::is_none) {
        return Err("either all capture groups of a pattern have names or none".to_owned());
    }
    Value::map(names.into_iter().flatten().map(|name| (name.to_owned(), value(found.name(name)))).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_go() {
        for (path, base, dir) in [
            ("", ".", "."),
            ("/", "/", "/"),
            ("a", "a", "."),
            ("a/b/", "b", "a/b"),
            ("/a/../b/c", "c", "/b"),
            ("../x", "x", ".."),
            ("a//b", "b", "a"),
        ] {
            assert_eq!((basename(path).as_str(), dirname(path).as_str()), (base, dir), "{path}");
        }
    }

    #[test]
    fn classes_of_patterns_are_those_of_ascii() {
        assert!(pattern(r"^\w+$").unwrap().is_match("ab_1") && !pattern(r"^\w+$").unwrap().is_match("ü"));
        assert!(pattern(r"^[\d.]+$").unwrap().is_match("1.2") && pattern(r"^[^\s]$").unwrap().is_match("ü"));
        assert!(pattern(r"\\d").unwrap().is_match(r"\d"));
        assert!(
            pattern("(").is_err()
                && pattern(&"(".repeat(1000)).is_err()
                && pattern("a{1000}{1000}{1000}").is_err()
        );
    }
}

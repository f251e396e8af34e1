//! `$NAME`, `${NAME}`, and with a word: `:-` `-` `:?` `?` `:+` `+`; `$$` is a dollar. A dollar before anything else stays.

/// How deep defaults may stand in defaults.
const MAX_DEPTH: usize = 50;

/// Why a text cannot be filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TemplateError {
    /// It is no template; the whole of it.
    Invalid(String),
    /// A `:?` or `?` without a value.
    Required { name: String, reason: String },
}

impl std::fmt::Display for TemplateError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Invalid(text) => write!(f, "Invalid template: {text:?}"),
            Self::Required { name, reason } if reason.is_empty() => {
                write!(f, "required variable {name} is missing a value")
            }
            Self::Required { name, reason } => {
                write!(f, "required variable {name} is missing a value: {reason}")
            }
        }
    }
}

/// Where values come from.
pub(crate) trait Missing {
    fn lookup(&mut self, name: &str) -> Option<String>;
    /// It has no value and no default: an empty text takes its place.
    fn missing(&mut self, name: &str);
}

/// What follows a text without variables.
#[derive(Debug, PartialEq, Eq)]
enum Piece<'a> {
    Dollar,
    Name(&'a str),
    Word { name: &'a str, operator: &'a str, word: &'a str },
    Invalid,
}

/// Cuts a text before its first variable: what is before it, what it is, and what is behind it.
fn cut(text: &str) -> Option<(&str, Piece<'_>, &str)> {
    let mut from = 0;
    loop {
        let at = from + text.get(from..)?.find('$')?;
        let (before, rest) = (&text[..at], &text[at + 1..]);
        if let Some(behind) = rest.strip_prefix('$') {
            return Some((before, Piece::Dollar, behind));
        }
        if let Some(inner) = rest.strip_prefix('{') {
            let (piece, behind) = braced(inner);
            return Some((before, piece, behind));
        }
        let end = name_end(rest);
        if end > 0 {
            return Some((before, Piece::Name(&rest[..end]), &rest[end..]));
        }
        from = at + 1;
    }
}

fn name_end(text: &str) -> usize {
    let starts = text.starts_with(|c: char| c == '_' || c.is_ascii_alphabetic());
    if !starts {
        return 0;
    }
    text.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(text.len())
}

/// What stands behind `${`.
fn braced(inner: &str) -> (Piece<'_>, &str) {
    let end = name_end(inner);
    let (name, rest) = inner.split_at(end);
    if end == 0 {
        return (Piece::Invalid, inner);
    }
    if let Some(behind) = rest.strip_prefix('}') {
        return (Piece::Name(name), behind);
    }
    let operator = [":-", ":?", ":+", "-", "?", "+"].into_iter().find(|operator| rest.starts_with(operator));
    let Some(operator) = operator else { return (Piece::Invalid, inner) };
    let rest = &rest[operator.len()..];
    // The word ends in the line, at the brace that closes, or at the last one where none does.
    let line = rest.find('\n').map_or(rest, |at| &rest[..at]);
    let Some(last) = line.rfind('}') else { return (Piece::Invalid, inner) };
    let end = closing(&line[..=last]).unwrap_or(last);
    (Piece::Word { name, operator, word: &rest[..end] }, &rest[end + 1..])
}

/// Where the brace closes that was opened before. As Compose counts: what follows an opening brace is skipped.
fn closing(text: &str) -> Option<usize> {
    let mut open = 1;
    let mut skip = false;
    for (at, byte) in text.bytes().enumerate() {
        if std::mem::take(&mut skip) {
            continue;
        }
        match byte {
            b'}' => {
                open -= 1;
                if open == 0 {
                    return Some(at);
                }
            }
            b'{' => {
                open += 1;
                skip = true;
            }
            _ => {}
        }
    }
    None
}

/// Puts the values of variables into a text.
pub(crate) fn substitute(text: &str, values: &mut dyn Missing) -> Result<String, TemplateError> {
    fill(text, values, 0)
}

fn fill(text: &str, values: &mut dyn Missing, depth: usize) -> Result<String, TemplateError> {
    if depth > MAX_DEPTH {
        return Err(TemplateError::Invalid(text.to_owned()));
    }
    let mut filled = String::with_capacity(text.len());
    let mut left = text;
    while let Some((before, piece, behind)) = cut(left) {
        filled.push_str(before);
        match piece {
            Piece::Dollar => filled.push('$'),
            Piece::Name(name) => match values.lookup(name) {
                Some(value) => filled.push_str(&value),
                None => values.missing(name),
            },
            Piece::Word { name, operator, word } => {
                let word = fill(word, values, depth + 1)?;
                filled.push_str(&choose(name, operator, word, values)?);
            }
            Piece::Invalid => return Err(TemplateError::Invalid(text.to_owned())),
        }
        left = behind;
    }
    filled.push_str(left);
    Ok(filled)
}

fn choose(
    name: &str,
    operator: &str,
    word: String,
    values: &mut dyn Missing,
) -> Result<String, TemplateError> {
    let value = values.lookup(name);
    let full = value.as_ref().is_some_and(|value| !value.is_empty());
    let there = if operator.starts_with(':') { full } else { value.is_some() };
    match operator.trim_start_matches(':') {
        "-" if there => Ok(value.unwrap_or_default()),
        "+" if !there => Ok(value.unwrap_or_default()),
        "-" | "+" => Ok(word),
        _ if there => Ok(value.unwrap_or_default()),
        _ => Err(TemplateError::Required { name: name.to_owned(), reason: word }),
    }
}

/// A variable that a text names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mention {
    pub(crate) name: String,
    pub(crate) default: String,
    pub(crate) alternate: String,
    pub(crate) required: bool,
}

/// The variables that a text names, those in words of others behind these.
pub(crate) fn mentions(text: &str, all: &mut Vec<Mention>) {
    mention(text, all, 0);
}

fn mention(text: &str, all: &mut Vec<Mention>, depth: usize) {
    let mut left = text;
    while let Some((_, piece, behind)) = cut(left) {
        left = behind;
        let mut found = Mention {
            name: String::new(),
            default: String::new(),
            alternate: String::new(),
            required: false,
        };
        match piece {
            Piece::Name(name) => name.clone_into(&mut found.name),
            Piece::Word { name, operator, word } => {
                name.clone_into(&mut found.name);
                match operator.trim_start_matches(':') {
                    "-" => word.clone_into(&mut found.default),
                    "+" => word.clone_into(&mut found.alternate),
                    _ => found.required = true,
                }
            }
            Piece::Dollar | Piece::Invalid => continue,
        }
        let inner = format!("{}{}", found.default, found.alternate);
        all.push(found);
        if depth < MAX_DEPTH {
            mention(&inner, all, depth + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[derive(Default)]
    struct Given(Vec<String>);

    impl Missing for Given {
        fn lookup(&mut self, name: &str) -> Option<String> {
            match name {
                "SET" => Some("value".into()),
                "EMPTY" => Some(String::new()),
                "dollar" => Some("$SET".into()),
                _ => None,
            }
        }

        fn missing(&mut self, name: &str) {
            self.0.push(name.into());
        }
    }

    fn filled(text: &str) -> Result<String, String> {
        substitute(text, &mut Given::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn variables_are_put_in() {
        let table = [
            ("a$SET", "avalue"),
            ("${SET}b", "valueb"),
            ("$$SET", "$SET"),
            ("$", "$"),
            ("$1 $ x", "$1 $ x"),
            ("${SET:-x}", "value"),
            ("${EMPTY:-x}", "x"),
            ("${EMPTY-x}", ""),
            ("${NONE-x}", "x"),
            ("${NONE:-}", ""),
            ("${NONE:-${SET}}", "value"),
            ("${NONE:-${EMPTY:-deep}}-y", "deep-y"),
            ("${SET:+x}", "x"),
            ("${EMPTY:+x}", ""),
            ("${EMPTY+x}", "x"),
            ("${NONE+x}", ""),
            ("${SET:?no}", "value"),
            ("${EMPTY?no}", ""),
            ("$dollar", "$SET"),
            ("${NONE:-a:-b}", "a:-b"),
            ("${NONE:-{}", "{"),
            ("${NONE:-a?b}", "a?b"),
            ("$SET_", ""),
            ("${NONE:-http://x:80/$SET}/${SET}", "http://x:80/value/value"),
        ];
        for (given, wanted) in table {
            assert_eq!(filled(given).as_deref(), Ok(wanted), "{given}");
        }
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for bad in ["${", "${}", "${1}", "${SET", "${SET!}", "${SET:}", "${ SET}", "${NONE:-x\n}"] {
            assert_eq!(filled(bad), Err(format!("Invalid template: {bad:?}")), "{bad}");
        }
        assert_eq!(
            filled("${NONE:?set it to $SET}"),
            Err("required variable NONE is missing a value: set it to value".into())
        );
        assert_eq!(filled("${EMPTY:?}"), Err("required variable EMPTY is missing a value".into()));
        assert!(filled(&"${NONE:-".repeat(100_000)).is_err());
        assert!(filled(&format!("{}{}", "${N:-".repeat(1000), "}".repeat(1000))).is_err());
    }

    #[test]
    fn what_has_no_value_is_told() {
        let mut given = Given::default();
        substitute("$ONE ${TWO} ${THREE:-x} $SET", &mut given).unwrap();
        assert_eq!(given.0, ["ONE", "TWO"]);
    }

    #[test]
    fn variables_are_found() {
        let mut all = Vec::new();
        mentions("$A ${B:-x${C}} ${D:?must} ${E+y} $$F", &mut all);
        let shown: Vec<String> = all
            .iter()
            .map(|found| format!("{} {} {} {}", found.name, found.required, found.default, found.alternate))
            .collect();
        assert_eq!(shown, ["A false  ", "B false x${C} ", "C false  ", "D true  ", "E false  y"]);
    }
}

//! One line of comma-separated values, as Go's encoding/csv reads it: a field in quotes may have commas, and quotes doubled.

use crate::kind::Kind;

/// What is wrong with a line, in Go's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("parse error on line 1, column {column}: {why}")]
pub struct CsvError {
    /// Where, in bytes from 1.
    pub column: usize,
    /// What.
    pub why: &'static str,
}

impl CsvError {
    /// What it means to the caller.
    pub const fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

const BARE: &str = "bare \" in non-quoted field";
const UNCLOSED: &str = "extraneous or missing \" in quoted-field";

/// The fields of a line; of an empty one a single, empty field.
///
/// # Errors
/// Quotes stand where none can.
pub fn fields(line: &str) -> Result<Vec<String>, CsvError> {
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let column = |rest: &str| line.len() - rest.len() + 1;
        let unclosed = |column| CsvError { column, why: UNCLOSED };
        let (field, behind) = if let Some(quoted) = rest.strip_prefix('"') {
            let (field, behind) = quoted_field(quoted).ok_or_else(|| unclosed(line.len() + 1))?;
            if !behind.is_empty() && !behind.starts_with(',') {
                return Err(unclosed(column(behind) - 1));
            }
            (field, behind)
        } else {
            let (field, behind) = rest.split_at(rest.find(',').unwrap_or(rest.len()));
            if let Some(quote) = field.find('"') {
                return Err(CsvError { column: column(&rest[quote..]), why: BARE });
            }
            (field.to_owned(), behind)
        };
        fields.push(field);
        match behind.strip_prefix(',') {
            Some(next) => rest = next,
            None => return Ok(fields),
        }
    }
}

/// A field as it stands in a line.
pub fn field(text: &str) -> String {
    if text.contains([',', '"']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

/// What stands up to the closing quote, two of which are one, and what follows; none without a closing one.
fn quoted_field(text: &str) -> Option<(String, &str)> {
    let (mut field, mut rest) = (String::new(), text);
    loop {
        let (part, behind) = rest.split_once('"')?;
        field.push_str(part);
        match behind.strip_prefix('"') {
            Some(behind) => {
                field.push('"');
                rest = behind;
            }
            None => return Some((field, behind)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn of_a_line() {
        for (line, want) in [
            ("a", &["a"][..]),
            ("a,b", &["a", "b"]),
            ("a,", &["a", ""]),
            (",", &["", ""]),
            ("\"a,b\",c", &["a,b", "c"]),
            ("\"a\"\"b\"", &["a\"b"]),
            ("\"\"", &[""]),
            ("type=bind,\"target=/a,b\"", &["type=bind", "target=/a,b"]),
        ] {
            assert_eq!(fields(line).unwrap(), want, "{line}");
        }
        assert_eq!(fields("").unwrap(), [""]);
        assert_eq!(fields("ä,\"ö,ü\"").unwrap(), ["ä", "ö,ü"]);
        for (line, want) in [
            ("a\"b", "column 2: bare \" in non-quoted field"),
            ("\"a", "column 3: extraneous or missing \" in quoted-field"),
            ("\"a\"b", "column 3: extraneous or missing \" in quoted-field"),
            ("\"a\"\"", "column 5: extraneous or missing \" in quoted-field"),
            ("a,\"", "column 4: extraneous or missing \" in quoted-field"),
        ] {
            assert_eq!(
                fields(line).unwrap_err().to_string(),
                format!("parse error on line 1, {want}"),
                "{line}"
            );
        }
        for text in ["a", "a,b", "a\"b", "\""] {
            assert_eq!(fields(&format!("x,{}", field(text))).unwrap(), ["x", text]);
        }
    }
}

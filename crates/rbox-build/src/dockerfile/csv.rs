//! The fields of `--mount` and `--device`: one line of comma-separated values, as Go's encoding/csv reads it.

/// The fields, or what is wrong in Go's words.
pub(super) fn fields(line: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = line;
    if line.is_empty() {
        return Err("EOF".to_owned());
    }
    loop {
        let column = |rest: &str| line.len() - rest.len() + 1;
        let (field, behind) = if let Some(quoted) = rest.strip_prefix('"') {
            let unclosed =
                |at| format!("parse error on line 1, column {at}: extraneous or missing \" in quoted-field");
            let (field, behind) = quoted_field(quoted).map_err(|rest| unclosed(column(rest)))?;
            if !behind.is_empty() && !behind.starts_with(',') {
                return Err(unclosed(column(behind) - 1));
            }
            (field, behind)
        } else {
            let (field, behind) = rest.split_at(rest.find(',').unwrap_or(rest.len()));
            if let Some(quote) = field.find('"') {
                let at = column(&rest[quote..]);
                return Err(format!("parse error on line 1, column {at}: bare \" in non-quoted-field"));
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

/// What stands up to the closing quote, two of which are one, and what follows; without a closing one, what was not read.
fn quoted_field(text: &str) -> Result<(String, &str), &str> {
    let (mut field, mut rest) = (String::new(), text);
    loop {
        let (part, behind) = rest.split_once('"').ok_or(rest)?;
        field.push_str(part);
        match behind.strip_prefix('"') {
            Some(behind) => {
                field.push('"');
                rest = behind;
            }
            None => return Ok((field, behind)),
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
        assert_eq!(fields("").unwrap_err(), "EOF");
        for (line, want) in [
            ("a\"b", "column 2: bare \" in non-quoted-field"),
            ("\"a", "column 2: extraneous or missing \" in quoted-field"),
            ("\"a\"b", "column 3: extraneous or missing \" in quoted-field"),
            ("\"a\"\"", "column 5: extraneous or missing \" in quoted-field"),
            ("a,\"", "column 4: extraneous or missing \" in quoted-field"),
        ] {
            assert_eq!(fields(line).unwrap_err(), format!("parse error on line 1, {want}"), "{line}");
        }
    }
}

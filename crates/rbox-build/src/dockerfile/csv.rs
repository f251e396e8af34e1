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
            let (field, behind) = quoted_field(quoted).ok_or_else(|| {
                format!(
                    "parse error on line 1, column {}: extraneous or missing \" in quoted-field",
                    column("")
                )
            })?;
            if !behind.is_empty() && !behind.starts_with(',') {
                let at = column(behind);
                return Err(format!(
                    "parse error on line 1, column {at}: extraneous or missing \" in quoted-field"
                ));
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

/// What stands up to the closing quote, two of which are one, and what follows.
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
        assert_eq!(fields("").unwrap_err(), "EOF");
        for (line, want) in [
            ("a\"b", "column 2: bare \" in non-quoted-field"),
            ("\"a", "column 3: extraneous or missing \" in quoted-field"),
            ("\"a\"b", "column 4: extraneous or missing \" in quoted-field"),
            ("a,\"", "column 4: extraneous or missing \" in quoted-field"),
        ] {
            assert_eq!(fields(line).unwrap_err(), format!("parse error on line 1, {want}"), "{line}");
        }
    }
}

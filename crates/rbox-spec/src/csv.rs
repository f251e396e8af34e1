//! Values with commas between them: what `--mount` and `--gpus` take.

/// One line of comma-separated values, as Go's encoding/csv reads it: a field in quotes may have commas, and quotes
/// doubled. What is wrong comes with its column, counted in bytes from 1.
pub(crate) fn fields(line: &str) -> Result<Vec<String>, (usize, &'static str)> {
    let mut fields = Vec::new();
    let mut at = 0;
    loop {
        let rest = &line[at..];
        if rest.starts_with('"') {
            let mut field = String::new();
            at += 1;
            loop {
                let wrong = "extraneous or missing \" in quoted-field";
                let Some(quote) = line[at..].find('"') else { return Err((line.len() + 1, wrong)) };
                field.push_str(&line[at..at + quote]);
                at += quote + 1;
                match line.as_bytes().get(at) {
                    Some(b'"') => {
                        field.push('"');
                        at += 1;
                    }
                    None | Some(b',') => break,
                    Some(_) => return Err((at, wrong)),
                }
            }
            fields.push(field);
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            if let Some(quote) = rest[..end].find('"') {
                return Err((at + quote + 1, "bare \" in non-quoted field"));
            }
            fields.push(rest[..end].to_owned());
            at += end;
        }
        if at >= line.len() {
            return Ok(fields);
        }
        at += 1;
    }
}

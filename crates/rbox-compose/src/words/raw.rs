//! `format: raw` of an `env_file`: lines of `KEY=VALUE` as they are, as `docker run --env-file` reads them.

use std::collections::BTreeMap;

/// Reads a file into `values`. A key without a value takes the one outside.
pub(crate) fn parse(
    text: &str,
    values: &mut BTreeMap<String, String>,
    outside: &mut dyn FnMut(&str) -> Option<String>,
) -> Result<(), String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, value) = match line.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (line, None),
        };
        if key.is_empty() {
            return Err(format!("line {}: no variable name on line '{line}'", index + 1));
        }
        if key.contains(char::is_whitespace) {
            return Err(format!("line {}: variable '{key}' contains whitespaces", index + 1));
        }
        match value {
            Some(value) => {
                values.insert(key.to_owned(), value.to_owned());
            }
            None => {
                if let Some(value) = outside(key) {
                    values.insert(key.to_owned(), value);
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn values_are_as_they_stand() {
        let mut values = BTreeMap::new();
        let text = "# c\nA=\"$X\" # d\n  B='y'\nHOME\nNONE\n";
        parse(text, &mut values, &mut |name| (name == "HOME").then(|| "/root".into())).unwrap();
        let shown: Vec<String> = values.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(shown, ["A=\"$X\" # d", "B='y'", "HOME=/root"]);
        assert!(parse("A B=1", &mut values, &mut |_| None).unwrap_err().contains("whitespaces"));
        assert!(parse("=1", &mut values, &mut |_| None).unwrap_err().contains("no variable name"));
    }
}

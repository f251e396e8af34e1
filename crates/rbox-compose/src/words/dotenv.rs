//! `.env` files as Compose reads them: `KEY=VALUE` and `KEY: VALUE`, quotes over several lines, `export`, comments, and variables
//! that stand before them or come from outside.

use std::collections::BTreeMap;

use super::template::{Missing, substitute};

/// Reads a file into `values`. `outside` is asked first for what a value names.
pub(crate) fn parse(
    text: &str,
    values: &mut BTreeMap<String, String>,
    outside: &mut dyn Missing,
) -> Result<(), String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader { left: text, line: 1 };
    while reader.find_statement() {
        let (key, inherited) = reader.key()?;
        if key.contains(' ') {
            return Err(format!("line {}: key cannot contain a space", reader.line));
        }
        if inherited {
            if let Some(value) = outside.lookup(&key) {
                values.insert(key, value);
            }
            continue;
        }
        let value = reader.value(values, outside)?;
        values.insert(key, value);
    }
    Ok(())
}

/// A space that ends no line.
fn is_blank(c: char) -> bool {
    matches!(c, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ' | '\u{85}' | '\u{a0}')
}

struct Reader<'a> {
    left: &'a str,
    line: usize,
}

impl Reader<'_> {
    fn skip(&mut self, bytes: usize) {
        self.line += self.left[..bytes].matches('\n').count();
        self.left = &self.left[bytes..];
    }

    /// To the next key; false at the end.
    fn find_statement(&mut self) -> bool {
        loop {
            let Some(at) = self.left.find(|c: char| !c.is_whitespace()) else { return false };
            self.skip(at);
            if !self.left.starts_with('#') {
                return true;
            }
            let Some(at) = self.left.find('\n') else { return false };
            self.skip(at);
        }
    }

    /// A key, and whether its value is the one outside.
    fn key(&mut self) -> Result<(String, bool), String> {
        if let Some(rest) = self.left.strip_prefix("export")
            && rest.starts_with(char::is_whitespace)
        {
            self.left = rest.trim_start_matches(is_blank);
        }
        for (at, c) in self.left.char_indices() {
            match c {
                '=' | ':' | '\n' => {
                    let key = self.left[..at].trim_end().to_owned();
                    self.skip(at + 1);
                    self.left = self.left.trim_start_matches(is_blank);
                    return Ok((key, c == '\n'));
                }
                '_' | '.' | '-' | '[' | ']' => {}
                c if is_blank(c) || c.is_alphanumeric() => {}
                c => {
                    let line = self.left.lines().next().unwrap_or("");
                    let at = self.line;
                    return Err(format!(
                        "line {at}: unexpected character {:?} in variable name {line:?}",
                        c.to_string()
                    ));
                }
            }
        }
        // The last line, without an end: Compose takes no key from it.
        let key = self.left.trim_end().to_owned();
        self.left = "";
        Ok((key, true))
    }

    fn value(
        &mut self,
        values: &BTreeMap<String, String>,
        outside: &mut dyn Missing,
    ) -> Result<String, String> {
        let mut known = Known { values, outside };
        let Some(quote) = self.left.chars().next().filter(|quote| matches!(quote, '"' | '\'')) else {
            let (value, rest) = self.left.split_once('\n').unwrap_or((self.left, ""));
            self.left = rest;
            self.line += 1;
            let value = value.split_once(" #").map_or(value, |(value, _)| value);
            return substitute(value.trim_end(), &mut known).map_err(|error| error.to_string());
        };
        let mut value = String::new();
        let mut escaped = false;
        for (at, c) in self.left.char_indices().skip(1) {
            if c != quote {
                if !escaped && c == '\\' {
                    escaped = true;
                    continue;
                }
                if std::mem::take(&mut escaped) {
                    value.push('\\');
                }
                value.push(c);
                continue;
            }
            if std::mem::take(&mut escaped) {
                value.push(c);
                continue;
            }
            self.skip(at + 1);
            if quote == '\'' {
                return Ok(value);
            }
            return substitute(&unescaped(&value), &mut known).map_err(|error| error.to_string());
        }
        let line = self.left.lines().next().unwrap_or("");
        Err(format!("line {}: unterminated quoted value {line}", self.line))
    }
}

/// What a value may name: what comes from outside, then what stands before it.
struct Known<'a> {
    values: &'a BTreeMap<String, String>,
    outside: &'a mut dyn Missing,
}

impl Missing for Known<'_> {
    fn lookup(&mut self, name: &str) -> Option<String> {
        self.outside.lookup(name).or_else(|| self.values.get(name).cloned())
    }

    fn missing(&mut self, name: &str) {
        self.outside.missing(name);
    }
}

/// The escapes of a value in double quotes; `\$` becomes `$$`, which is a dollar.
fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut left = text;
    while let Some(at) = left.find('\\') {
        out.push_str(&left[..at]);
        left = &left[at + 1..];
        let Some(c) = left.chars().next() else {
            out.push('\\');
            break;
        };
        let simple = match c {
            'a' => Some("\u{7}"),
            'b' => Some("\u{8}"),
            'f' => Some("\u{c}"),
            'n' => Some("\n"),
            'r' => Some("\r"),
            't' => Some("\t"),
            'v' => Some("\u{b}"),
            '"' => Some("\""),
            '\\' => Some("\\"),
            '$' => Some("$$"),
            _ => None,
        };
        if let Some(simple) = simple {
            out.push_str(simple);
            left = &left[1..];
            continue;
        }
        let octal =
            left.get(1..4).filter(|_| c == '0').and_then(|digits| u32::from_str_radix(digits, 8).ok());
        match octal.filter(|code| *code < 256).and_then(char::from_u32) {
            Some(c) => {
                out.push(c);
                left = &left[4..];
            }
            None => out.push('\\'),
        }
    }
    out.push_str(left);
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    struct Outside;

    impl Missing for Outside {
        fn lookup(&mut self, name: &str) -> Option<String> {
            (name == "SHELL_SET").then(|| "outside".into())
        }

        fn missing(&mut self, _: &str) {}
    }

    fn read(text: &str) -> Result<String, String> {
        let mut values = BTreeMap::new();
        parse(text, &mut values, &mut Outside)?;
        let shown: Vec<String> = values.iter().map(|(key, value)| format!("{key}={value}")).collect();
        Ok(shown.join("|"))
    }

    #[test]
    fn files_are_read_as_compose_reads_them() {
        let table = [
            ("A=1\nB=2\n", "A=1|B=2"),
            ("A: yaml\n", "A=yaml"),
            ("export A=1", "A=1"),
            ("# c\n\n A = spaced  # comment\nB=no#comment\n", "A=spaced|B=no#comment"),
            ("A='single $X \\n'\n", "A=single $X \\n"),
            ("A=\"tab\\tdollar \\$X $SHELL_SET\"\n", "A=tab\tdollar $X outside"),
            ("A=\"two\nlines\"\nB=1\n", "A=two\nlines|B=1"),
            ("A='two\nlines'\n", "A=two\nlines"),
            ("A=1\nB=$A${A}\n", "A=1|B=11"),
            ("SHELL_SET=inside\nB=$SHELL_SET\n", "B=outside|SHELL_SET=inside"),
            ("B=${NONE:-default}\n", "B=default"),
            ("SHELL_SET\nNONE\n", "SHELL_SET=outside"),
            ("A=\nB=''\n", "A=|B="),
            ("\u{feff}A=1\r\nB=2\r\n", "A=1|B=2"),
            ("A=\"say \\\"hi\\\"\"\n", "A=say \"hi\""),
            ("A='it\\'s'\n", "A=it's"),
            ("A=a\\nb\n", "A=a\\nb"),
            ("A=\"\\0101\"\n", "A=A"),
            ("a.b-c[0]=x\n", "a.b-c[0]=x"),
        ];
        for (given, wanted) in table {
            assert_eq!(read(given).as_deref(), Ok(wanted), "{given:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let table = [
            ("A=1\nB!=2\n", "line 2: unexpected character \"!\" in variable name \"B!=2\""),
            ("A='open\n", "line 1: unterminated quoted value 'open"),
            ("A B=1\n", "line 1: key cannot contain a space"),
            ("A=${X:?needed}\n", "required variable X is missing a value: needed"),
            ("A=${X\n", "Invalid template: \"${X\""),
        ];
        for (given, wanted) in table {
            assert_eq!(read(given).unwrap_err(), wanted, "{given:?}");
        }
    }
}

//! Colours and widths of what is explained.

use std::fmt::Write as _;
use std::io::IsTerminal as _;

/// Columns of the lines that are made to fit.
pub(crate) const WIDTH: usize = 80;

/// Colours on a terminal, and none elsewhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint {
    colours: bool,
}

impl Paint {
    /// For standard error. `NO_COLOR` is heeded (no-color.org).
    pub(crate) fn of_stderr() -> Self {
        Self::on(std::io::stderr().is_terminal())
    }

    /// The same for standard output.
    pub(crate) fn of_stdout() -> Self {
        Self::on(std::io::stdout().is_terminal())
    }

    fn on(is_terminal: bool) -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { colours: is_terminal && !refused }
    }

    /// For a file.
    pub(crate) fn plain() -> Self {
        Self { colours: false }
    }

    /// What is looked for: names.
    pub(crate) fn name(self, text: &str) -> String {
        self.with("1", text)
    }

    /// What is read second: reasons, times.
    pub(crate) fn quiet(self, text: &str) -> String {
        self.with("2", text)
    }

    /// What did not work.
    pub(crate) fn failed(self, text: &str) -> String {
        self.with("31", text)
    }

    /// Who does it.
    pub(crate) fn actor(self, actor: &str, text: &str) -> String {
        let code = match actor {
            "container" => "32",
            "monitor" => "36",
            _ => "35",
        };
        self.with(code, text)
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.colours && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// `text` in lines of at most `width` columns, broken between words. A longer word has a line of its own.
pub(crate) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let Some(line) = lines.last_mut() else { break };
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            let _ = write!(line, " {word}");
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

/// Microseconds as milliseconds.
pub(crate) fn millis(us: u64) -> String {
    format!("{:.3} ms", us as f64 / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words() {
        assert_eq!(wrapped("one two  three", 7), ["one two", "three"]);
        assert_eq!(wrapped("extraordinary it is", 5), ["extraordinary", "it is"]);
        assert_eq!(wrapped("", 5), [""]);
    }
}

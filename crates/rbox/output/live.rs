//! A list on a terminal that is drawn over itself.

use std::fmt::Write as _;
use std::io;
use std::time::{Duration, Instant};

use rbox_engine::session::terminal_size;
use unicode_width::UnicodeWidthStr as _;

use crate::output::table::write_all;

/// A list is drawn anew for the time alone no more often than this.
const BETWEEN_DRAWINGS: Duration = Duration::from_millis(100);

/// What of it is on the screen.
#[derive(Debug, Default)]
pub(crate) struct Screen {
    /// So many lines.
    drawn: usize,
    last: Option<Instant>,
}

impl Screen {
    /// Whether it is time to draw it anew.
    pub(crate) fn is_due(&self) -> bool {
        self.last.is_none_or(|last| last.elapsed() >= BETWEEN_DRAWINGS)
    }

    /// Whether fewer lines are on the screen than there are.
    pub(crate) const fn has_left_out(&self, lines: usize) -> bool {
        self.drawn > 0 && self.drawn < lines
    }

    /// Draws lines over what was drawn before; with `whole` also those that the screen has no place for. The first one stays
    /// in any case, and of too many others the last ones. No line may be wider than the screen.
    pub(crate) fn draw(&mut self, lines: &[String], whole: bool) {
        let fits = if whole { lines.len() } else { size().0.saturating_sub(1).max(2) };
        let left_out = lines.len().saturating_sub(fits);
        let mut text = String::from("\x1b[?25l");
        self.go_back(&mut text);
        for line in lines.iter().take(1).chain(lines.iter().skip(1 + left_out)) {
            let _ = writeln!(text, "{line}\x1b[K");
        }
        text.push_str("\x1b[J\x1b[?25h");
        self.drawn = lines.len() - left_out;
        self.last = Some(Instant::now());
        tell(&text);
    }

    /// Writes something above the list, which has to be drawn anew then.
    pub(crate) fn write_above(&mut self, above: &str) {
        let mut text = String::new();
        self.go_back(&mut text);
        let _ = write!(text, "\x1b[J{above}");
        self.drawn = 0;
        tell(&text);
    }

    fn go_back(&self, text: &mut String) {
        text.push('\r');
        if self.drawn > 0 {
            let _ = write!(text, "\x1b[{}A", self.drawn);
        }
    }
}

/// Rows and columns of the terminal that standard error is.
pub(crate) fn size() -> (usize, usize) {
    terminal_size(io::stderr())
        // A serial console may not know.
        .filter(|(rows, columns)| *rows > 0 && *columns > 0)
        .map_or((24, 80), |(rows, columns)| (usize::from(rows), usize::from(columns)))
}

/// Columns that a text takes.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// As much of a text as has room in so many columns.
pub(crate) fn cut(text: &str, most: usize) -> String {
    // Some letters are wider together than each by itself, so that the whole is measured. Some have no width at all.
    let mut out = String::new();
    for char in text.chars().take(most.saturating_mul(4)) {
        out.push(char);
        if out.width() > most {
            out.pop();
            break;
        }
    }
    out
}

/// A text in a colour, or as it is.
pub(crate) fn paint(text: &str, colour: &str, colours: bool) -> String {
    if colours && !colour.is_empty() { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
}

/// Whether the user wants no colours.
pub(crate) fn no_colours() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

fn tell(text: &str) {
    // Nobody reads: nothing to be done about it.
    let _ = write_all(&mut io::stderr(), text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_letters_take_two_columns() {
        assert_eq!((width("ab"), width("日本"), width("é")), (2, 4, 1));
        assert_eq!(
            (cut("日本語", 5).as_str(), cut("abc", 2).as_str(), cut("abc", 9).as_str()),
            ("日本", "ab", "abc")
        );
        assert!(width(&cut(&"⚠️".repeat(9), 7)) <= 7);
    }
}

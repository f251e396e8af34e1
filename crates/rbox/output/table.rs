//! Tables as Docker lays them out, and the `--format` that every listing command takes.
//!
//! Columns are as wide as their widest cell plus three spaces, and at least ten; the last one is not padded.
//! `--format` takes `table`, `table TEMPLATE`, `json` or a Go template, and shows one record a line.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde_json::Value;

use crate::output::escape;
use crate::output::template::{self, Headers, Template};

/// Columns are never narrower than this, padding included.
const MIN_WIDTH: usize = 10;
/// Spaces between a column's widest cell and the next column.
const PADDING: usize = 3;

/// How a listing is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Format {
    /// A header and columns; the template's columns are parted by tabs.
    Table(String),
    /// One JSON object a line.
    Json,
    /// A template for each record.
    Template(String),
}

impl Format {
    /// Reads `--format`; `default` is the template of the command's own table.
    pub(crate) fn parse(given: Option<&str>, default: &str) -> Self {
        match given.map(str::trim) {
            None | Some("" | "table") => Self::Table(default.to_owned()),
            Some("json") => Self::Json,
            Some(text) => match text.strip_prefix("table ").or_else(|| text.strip_prefix("table\t")) {
                Some(columns) => Self::Table(unescape(columns.trim())),
                None => Self::Template(unescape(text)),
            },
        }
    }
}

/// On a command line a tab is hard to type: `\t` and `\n` may be written as two characters.
fn unescape(text: &str) -> String {
    text.replace(r"\t", "\t").replace(r"\n", "\n")
}

/// Prints `rows` (JSON objects with the fields that `headers` names) as `format` says.
pub(crate) fn print(
    format: &Format,
    headers: &Headers,
    rows: &[Value],
    out: &mut impl Stream,
) -> anyhow::Result<()> {
    let text = render(format, headers, rows)?;
    write_all(out, &text)?;
    Ok(())
}

/// For `--format` of a command that draws: one of `words`, or a Go template.
///
/// # Errors
///
/// Any other word: Docker's own commands print it as a template without actions, and here it is a slip of the pen.
pub(crate) fn word_or_template(given: &str, words: &[&str]) -> Result<String, String> {
    if given.is_empty() || words.contains(&given) || given.contains("{{") {
        return Ok(given.to_owned());
    }
    Err(format!("neither {} nor a template with {{{{…}}}}", words.join(", ")))
}

/// One document as `--format` has it: `json`, or a template that is carried out for it.
pub(crate) fn document(format: &str, value: &Value) -> anyhow::Result<String> {
    Ok(match Format::parse(Some(format), "{{json .}}") {
        Format::Json => format!("{}\n", escape::json(&serde_json::to_string_pretty(value)?)),
        Format::Table(source) | Format::Template(source) => {
            format!("{}\n", Template::parse(&source)?.render(value)?)
        }
    })
}

fn render(format: &Format, headers: &Headers, rows: &[Value]) -> Result<String, template::Error> {
    let mut text = String::new();
    match format {
        Format::Json => {
            for row in rows {
                // In the order of the keys, as Go writes maps.
                let sorted: BTreeMap<&String, &Value> = row.as_object().into_iter().flatten().collect();
                text.push_str(&escape::json(&serde_json::to_string(&sorted).unwrap_or_default()));
                text.push('\n');
            }
        }
        Format::Template(source) => {
            let template = Template::parse(source)?;
            for row in rows {
                text.push_str(&template.render(row)?);
                text.push('\n');
            }
        }
        Format::Table(source) => {
            let header: Value =
                headers.iter().map(|(key, title)| ((*key).to_owned(), Value::from(*title))).collect();
            let mut cells = Template::parse_header(source)?.render(&header)?;
            cells.push('\n');
            let template = Template::parse(source)?;
            for row in rows {
                cells.push_str(&template.render(&one_line(row))?);
                cells.push('\n');
            }
            text = align(&cells);
        }
    }
    Ok(text)
}

/// A record whose texts hold no tab or line break of their own: those would move the columns.
fn one_line(row: &Value) -> Value {
    match row {
        Value::String(text) => Value::String(escape::text(text).into_owned()),
        Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), one_line(value))).collect(),
        Value::Array(items) => items.iter().map(one_line).collect(),
        other => other.clone(),
    }
}

/// Writes to standard output or standard error, which the error names; a reader that went away (`| head`) is no error.
pub(crate) fn write_all<S: Stream>(out: &mut S, text: &str) -> io::Result<()> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(unwritten(S::NAME, &error)),
        Ok(()) => Ok(()),
    }
}

/// One of the caller's streams.
pub(crate) trait Stream: Write {
    /// As in messages.
    const NAME: &'static str;
}

impl Stream for io::Stdout {
    const NAME: &'static str = STDOUT;
}

impl Stream for io::StdoutLock<'_> {
    const NAME: &'static str = STDOUT;
}

impl Stream for io::Stderr {
    const NAME: &'static str = STDERR;
}

/// Standard output, as in messages.
pub(crate) const STDOUT: &str = "standard output";
/// Standard error.
pub(crate) const STDERR: &str = "standard error";

/// An error of one of the caller's streams, with its name: one that is full is not a full disk of rbox's.
pub(crate) fn unwritten(stream: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("write to {stream}: {}", rbox_engine::plain(error)))
}

/// Aligns tab-parted cells. A column is a run of neighbouring lines that all have the cell; so lines with
/// fewer cells do not widen others (as Go's text/tabwriter does it).
pub(crate) fn align(text: &str) -> String {
    align_wide(text, MIN_WIDTH)
}

/// [`align`] with columns of at least `min_width`.
pub(crate) fn align_wide(text: &str, min_width: usize) -> String {
    align_with(text, min_width, PADDING)
}

/// [`align`] with columns of at least `min_width`, and `padding` spaces behind the widest cell.
pub(crate) fn align_with(text: &str, min_width: usize, padding: usize) -> String {
    let mut lines: Vec<&str> = text.split('\n').collect();
    if lines.last() == Some(&"") {
        lines.pop();
    }
    let lines: Vec<Vec<&str>> = lines.iter().map(|line| line.split('\t').collect()).collect();
    let mut widths: Vec<Vec<usize>> = lines.iter().map(|cells| vec![0; cells.len() - 1]).collect();
    let most = widths.iter().map(Vec::len).max().unwrap_or(0);
    for column in 0..most {
        let mut at = 0;
        while at < lines.len() {
            let run = widths[at..].iter().take_while(|line| line.len() > column).count();
            let block = at..at + run;
            let cells = lines[block.clone()].iter().map(|cells| cells[column].chars().count());
            let width = cells.max().map_or(0, |widest| (widest + padding).max(min_width));
            for line in &mut widths[block] {
                line[column] = width;
            }
            at += run.max(1);
        }
    }
    let mut out = String::with_capacity(text.len() * 2);
    for (cells, widths) in lines.iter().zip(&widths) {
        for (at, cell) in cells.iter().enumerate() {
            out.push_str(cell);
            if let Some(width) = widths.get(at) {
                out.extend(std::iter::repeat_n(' ', width - cell.chars().count()));
            }
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn shown(format: Option<&str>, rows: &[Value]) -> String {
        let headers =
            Headers::from([("ID", "CONTAINER ID"), ("Names", "NAMES"), ("Tag", "TAG"), ("Labels", "LABELS")]);
        let format = Format::parse(format, "{{.ID}}\t{{.Tag}}\t{{.Names}}");
        render(&format, &headers, rows).unwrap_or_else(|error| format!("ERROR {error}"))
    }

    #[test]
    fn columns_as_docker_lays_them_out() {
        let rows = [
            json!({"ID": "0123456789ab", "Names": "web", "Tag": "1", "Labels": ""}),
            json!({"ID": "ba9876543210", "Names": "a_longer_name", "Tag": "3.11-slim-bookworm", "Labels": "a=b"}),
        ];
        assert_eq!(
            shown(None, &rows),
            "CONTAINER ID   TAG                  NAMES\n\
             0123456789ab   1                    web\n\
             ba9876543210   3.11-slim-bookworm   a_longer_name\n"
        );
        assert_eq!(shown(None, &[]), "CONTAINER ID   TAG       NAMES\n");
        assert_eq!(
            shown(Some(r"table {{.Tag}}\t{{.Names | upper}}"), &rows[..1]),
            "TAG       NAMES\n1         WEB\n"
        );
        assert_eq!(shown(Some("{{.Names}}"), &rows), "web\na_longer_name\n");
        assert_eq!(shown(Some(r"{{.Names}}\t{{.Tag}}"), &rows[..1]), "web\t1\n");
        assert_eq!(
            shown(Some("json"), &rows[..1]),
            "{\"ID\":\"0123456789ab\",\"Labels\":\"\",\"Names\":\"web\",\"Tag\":\"1\"}\n"
        );
        assert!(shown(Some("{{.None}}"), &rows).starts_with("ERROR template parsing error: template: "));
        assert!(shown(Some("table {{.None}}"), &[]).starts_with("ERROR template parsing error: template: "));
    }

    #[test]
    fn hostile_cells_stay_in_their_cell() {
        let rows = [json!({"ID": "x\ty\nz", "Names": "\u{1b}[2J", "Tag": "\u{9b}1m", "Labels": ""})];
        let text = shown(None, &rows);
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains(r"x\ty\nz") && text.contains(r"\x1b[2J") && text.contains(r"\x9b1m"), "{text}");
    }

    #[test]
    fn ragged_lines_do_not_widen_others() {
        assert_eq!(align("a\tb\nlong_cell_here\nc\td\n"), "a         b\nlong_cell_here\nc         d\n");
        assert_eq!(align(""), "");
    }
}

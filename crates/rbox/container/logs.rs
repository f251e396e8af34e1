//! `rbox logs`: what a container has written.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};

use clap::{Parser, ValueEnum};
use jiff::Timestamp;
use rbox_engine::engine::{Container, LogEntry, LogGap, LogQuery, LogSink};
use rbox_engine::error::EngineError;
use rbox_engine::listing::moment;
use rbox_engine::session::Stream;

use crate::command::each::each;
use crate::command::entry::Execute;
use crate::command::error::bad_input;
use crate::command::global::Global;
use crate::container::merge::{merged, tell};
use crate::container::pieces::Pieces;
use crate::output::escape;
use crate::output::lines::say;

/// Fetch the logs of a container
#[derive(Debug, Parser)]
#[command(
    name = "logs",
    after_help = "Examples:\n  rbox logs web                    # all of it\n  rbox logs -f --tail 20 web       # the last 20 lines, and what comes\n  rbox logs -t --since 10m web     # the last ten minutes, with times\n  rbox logs --stream stderr web    # only what it wrote to standard error\n  rbox logs -f web db              # of both, by time, each line with its container's name\n  rbox logs --clear web            # empty it\n\nOn a terminal, control sequences other than colours are shown, not sent; through a pipe or into a file the\nbytes are the container's."
)]
#[allow(clippy::struct_excessive_bools, reason = "each is an option of the command line")]
pub(crate) struct Logs {
    /// Follow log output
    #[arg(short, long)]
    follow: bool,
    /// Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)
    #[arg(long)]
    since: Option<String>,
    /// Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)
    #[arg(long)]
    until: Option<String>,
    /// Number of lines to show from the end of the logs
    #[arg(short = 'n', long, default_value = "all", allow_negative_numbers = true)]
    tail: String,
    /// Show timestamps
    #[arg(short, long)]
    timestamps: bool,
    /// Show extra details provided to logs
    #[arg(long)]
    details: bool,
    /// Only this of its two outputs
    #[arg(long, value_enum)]
    stream: Option<Output>,
    /// Empty the log instead of printing it
    #[arg(long, conflicts_with_all = ["follow", "since", "until", "timestamps", "details", "stream"])]
    clear: bool,
    /// Names or ids; the logs of several are merged by time
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// One of a container's two outputs.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Output {
    Stdout,
    Stderr,
}

impl From<Output> for Stream {
    fn from(output: Output) -> Self {
        match output {
            Output::Stdout => Self::Stdout,
            Output::Stderr => Self::Stderr,
        }
    }
}

impl Execute for Logs {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let query = self.query()?;
        if self.clear {
            return Ok(each(&self.containers, |name| {
                global.engine.clear_log(&global.engine.container(name)?)?;
                say(name)
            }));
        }
        let found: Result<Vec<_>, _> =
            self.containers.iter().map(|name| global.engine.container(name)).collect();
        let containers = found?;
        let mut printers: Vec<Printer> = self
            .prefixes()
            .into_iter()
            .zip(&containers)
            .map(|(prefix, one)| self.printer(prefix, one))
            .collect();
        let read = match (&containers[..], &mut printers[..]) {
            ([container], [printer]) => {
                let mut sink = One { printer, name: container.record.name.as_str() };
                global.engine.logs(container, &query, self.follow, &mut sink)
            }
            _ => merged(&global.engine, &containers, &query, self.follow, &mut |number, entry| {
                printers.get_mut(number).map_or(Ok(()), |printer| printer.print(entry))
            })
            .and_then(|()| {
                let rest = printers.iter_mut().try_for_each(Printer::rest);
                rest.map_err(EngineError::file("write", "standard output"))
            }),
        };
        match read {
            // `rbox logs … | head`: the reader has what it wanted.
            Err(EngineError::File { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => Ok(0),
            other => Ok(other.map(|()| 0)?),
        }
    }
}

impl Logs {
    /// What stands before the lines of each of several containers: its name, in a colour of its own on a terminal.
    fn prefixes(&self) -> Vec<String> {
        const COLOURS: [u8; 6] = [36, 33, 32, 35, 34, 31];
        let names = &self.containers;
        if names.len() < 2 {
            return vec![String::new(); names.len()];
        }
        let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
        let shown = names.iter().map(|name| format!("{:width$} | ", escape::text(name)));
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if no_colour || !io::stdout().is_terminal() {
            return shown.collect();
        }
        shown
            .zip(COLOURS.iter().cycle())
            .map(|(name, colour)| format!("\u{1b}[{colour}m{name}\u{1b}[0m"))
            .collect()
    }

    fn printer(&self, prefix: String, container: &Container) -> Printer {
        // A terminal inside drives the one outside, as when it was attached.
        let tty = container.record.config.tty;
        Printer {
            timestamps: self.timestamps,
            details: self.details,
            prefix,
            pieces: Pieces::default(),
            inside_line: [false; 2],
            raw: [tty || !io::stdout().is_terminal(), tty || !io::stderr().is_terminal()],
        }
    }

    fn query(&self) -> anyhow::Result<LogQuery> {
        let query = query(&self.tail, self.since.as_deref(), self.until.as_deref())?;
        Ok(LogQuery { stream: self.stream.map(Into::into), ..query })
    }
}

/// What `--tail`, `--since` and `--until` ask for.
pub(crate) fn query(tail: &str, since: Option<&str>, until: Option<&str>) -> anyhow::Result<LogQuery> {
    let now = Timestamp::now();
    let moment = |name: &str, text: Option<&str>| {
        text.map(|text| moment::parse(text, now))
            .transpose()
            .map_err(|error| bad_input(format!("invalid value for \"{name}\": {error}")))
    };
    let tail = match tail {
        "all" => None,
        // Below zero means all, as Docker reads it.
        number if number.starts_with('-') && number[1..].parse::<u64>().is_ok() => None,
        number => Some(number.parse().map_err(|_| {
            bad_input(format!(
                "invalid value for \"tail\": expected a number or all, not '{}'",
                escape::text(number)
            ))
        })?),
    };
    Ok(LogQuery { tail, since: moment("since", since)?, until: moment("until", until)?, stream: None })
}

/// How entries are printed.
struct Printer {
    timestamps: bool,
    details: bool,
    /// What stands before each line, when there are several containers.
    prefix: String,
    pieces: Pieces,
    /// Whether the last entry of each stream was the beginning of a long line, which is logged in pieces.
    inside_line: [bool; 2],
    /// Whether bytes for standard output and standard error go out as they are.
    raw: [bool; 2],
}

/// Prints the log of one container.
struct One<'a> {
    printer: &'a mut Printer,
    name: &'a str,
}

impl LogSink for One<'_> {
    fn entry(&mut self, entry: &LogEntry<'_>) -> io::Result<()> {
        self.printer.print(entry)
    }

    fn gap(&mut self, gap: LogGap) -> io::Result<()> {
        tell(self.name, gap);
        Ok(())
    }
}

impl Printer {
    fn print(&mut self, entry: &LogEntry<'_>) -> io::Result<()> {
        if !self.prefix.is_empty() {
            let mut pieces = std::mem::take(&mut self.pieces);
            let line = pieces.line(entry, || self.begin(entry));
            self.pieces = pieces;
            return line.map_or(Ok(()), |line| self.line(entry.stream, &line));
        }
        let stream = entry.stream;
        let inside = std::mem::replace(&mut self.inside_line[stream as usize], entry.goes_on());
        let begin = if inside { String::new() } else { self.begin(entry) };
        put(stream, &[begin.as_bytes(), &self.shown(stream, &entry.text)].concat())
    }

    /// One line of several containers: it ends, also where the container ended without.
    fn line(&self, stream: Stream, line: &[u8]) -> io::Result<()> {
        put(stream, &[self.prefix.as_bytes(), &self.shown(stream, line), b"\n"].concat())
    }

    /// Nothing comes any more.
    fn rest(&mut self) -> io::Result<()> {
        let mut pieces = std::mem::take(&mut self.pieces);
        pieces.rest().try_for_each(|(stream, line)| self.line(stream, &line))
    }

    /// What stands before the text of a line.
    fn begin(&self, entry: &LogEntry<'_>) -> String {
        let mut begin = String::new();
        if self.timestamps {
            begin.push_str(&fixed_time(entry.time));
            begin.push(' ');
        }
        if self.details {
            begin.push_str(&escape::text(&attributes(&entry.attributes)));
            begin.push(' ');
        }
        begin
    }

    fn shown<'a>(&self, stream: Stream, text: &'a [u8]) -> Cow<'a, [u8]> {
        if self.raw[stream as usize] {
            return Cow::Borrowed(text);
        }
        Cow::Owned(escape::coloured(&String::from_utf8_lossy(text)).into_owned().into_bytes())
    }
}

fn put(stream: Stream, bytes: &[u8]) -> io::Result<()> {
    match stream {
        Stream::Stdout => {
            let mut out = io::stdout().lock();
            out.write_all(bytes)?;
            out.flush()
        }
        Stream::Stderr => io::stderr().lock().write_all(bytes),
    }
}

/// What an entry tells beside its text, as Docker prints it: `name=value` joined by commas, encoded as in a query.
fn attributes(attributes: &BTreeMap<String, String>) -> String {
    let encoded = |text: &str| -> String {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
        let each = text.bytes().map(|byte| match byte {
            b' ' => "+".to_owned(),
            byte if plain(byte) => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        });
        each.collect()
    };
    let pairs: Vec<String> =
        attributes.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
    pairs.join(",")
}

/// RFC 3339 with all nine digits of the second, so that lines stay aligned.
pub(crate) fn fixed_time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%9fZ").to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn times_are_aligned() {
        let time: Timestamp = "2026-01-02T03:04:05.1Z".parse().unwrap();
        assert_eq!(fixed_time(time), "2026-01-02T03:04:05.100000000Z");
    }

    #[test]
    fn attributes_are_encoded() {
        let pairs = [("b", "x y,z=1"), ("a", "é")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(attributes(&pairs.into()), "a=%C3%A9,b=x+y%2Cz%3D1");
    }

    #[test]
    fn tails() {
        let tail = |text: &str| {
            let logs = Logs::try_parse_from(["logs", "--tail", text, "x"]).unwrap();
            logs.query().map(|query| query.tail)
        };
        assert_eq!(tail("all").unwrap(), None);
        assert_eq!(tail("-1").unwrap(), None);
        assert_eq!(tail("0").unwrap(), Some(0));
        assert_eq!(tail("12").unwrap(), Some(12));
        assert!(tail("many").is_err());
    }
}

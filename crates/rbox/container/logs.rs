//! `rbox logs`: what a container has written.

use std::io::{self, IsTerminal, Write};

use clap::Parser;
use jiff::Timestamp;
use rbox_engine::engine::{LogEntry, LogQuery, MAX_ENTRY};
use rbox_engine::error::EngineError;
use rbox_engine::listing::moment;
use rbox_engine::session::Stream;

use crate::command::entry::Execute;
use crate::command::error::bad_input;
use crate::command::global::Global;
use crate::output::escape;

/// Fetch the logs of a container
#[derive(Debug, Parser)]
#[command(
    name = "logs",
    after_help = "Examples:\n  rbox logs web                    # all of it\n  rbox logs -f --tail 20 web       # the last 20 lines, and what comes\n  rbox logs -t --since 10m web     # the last ten minutes, with times\n  rbox logs web 2>/dev/null        # only standard output\n\nOn a terminal, control sequences other than colours are shown, not sent; through a pipe or into a file the\nbytes are the container's."
)]
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
    /// The container's name or id
    container: String,
}

impl Execute for Logs {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let query = self.query()?;
        let container = global.engine.container(&self.container)?;
        let mut printer = Printer {
            timestamps: self.timestamps,
            inside_line: [false; 2],
            // A terminal inside drives the one outside, as when it was attached.
            raw: [
                container.record.config.tty || !io::stdout().is_terminal(),
                container.record.config.tty || !io::stderr().is_terminal(),
            ],
        };
        let mut sink = |entry: &LogEntry<'_>| printer.print(entry);
        match global.engine.logs(&container, &query, self.follow, &mut sink) {
            // `rbox logs … | head`: the reader has what it wanted.
            Err(EngineError::File { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => Ok(0),
            other => Ok(other.map(|()| 0)?),
        }
    }
}

impl Logs {
    fn query(&self) -> anyhow::Result<LogQuery> {
        let now = Timestamp::now();
        let moment = |name: &str, text: &Option<String>| {
            let read = |text: &String| moment::parse(text, now);
            text.as_ref()
                .map(read)
                .transpose()
                .map_err(|error| bad_input(format!("invalid value for \"{name}\": {error}")))
        };
        let tail = match self.tail.as_str() {
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
        Ok(LogQuery { tail, since: moment("since", &self.since)?, until: moment("until", &self.until)? })
    }
}

struct Printer {
    timestamps: bool,
    /// Whether the last entry of each stream was the beginning of a long line, which is logged in pieces.
    inside_line: [bool; 2],
    /// Whether bytes for standard output and standard error go out as they are.
    raw: [bool; 2],
}

impl Printer {
    fn print(&mut self, entry: &LogEntry<'_>) -> io::Result<()> {
        let mut line = String::new();
        let inside = std::mem::replace(
            &mut self.inside_line[entry.stream as usize],
            // Pieces are cut between characters; a last line without its end is shorter.
            !entry.text.ends_with('\n') && entry.text.len() + 4 > MAX_ENTRY,
        );
        if self.timestamps && !inside {
            line.push_str(&fixed_time(entry.time));
            line.push(' ');
        }
        if self.raw[entry.stream as usize] {
            line.push_str(&entry.text);
        } else {
            line.push_str(&escape::coloured(&entry.text));
        }
        match entry.stream {
            Stream::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(line.as_bytes())?;
                out.flush()
            }
            Stream::Stderr => io::stderr().lock().write_all(line.as_bytes()),
        }
    }
}

/// RFC 3339 with all nine digits of the second, so that lines stay aligned.
fn fixed_time(time: Timestamp) -> String {
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

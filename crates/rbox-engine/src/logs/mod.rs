//! A container's output on disk, in the format of Docker's json-file driver, so that what reads one reads both.
//!
//! One JSON object a line: `{"log":"text\n","stream":"stdout","time":"2026-01-02T03:04:05.000000006Z"}`. A line
//! of output longer than 16 KiB becomes several objects; only the last one's text ends in `\n`. At `max-size`
//! the file is renamed to `….1`, the older ones move up, and the oldest of `max-file` files goes.

mod number;
mod reader;
mod writer;

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;

pub use crate::logs::reader::LogQuery;
pub(crate) use crate::logs::reader::{Ended, LogReader};
pub(crate) use crate::logs::writer::LogWriter;

/// A descriptor that becomes readable when the monitor that writes a container's log ends; none when it is gone.
pub(crate) fn monitor_fd(live: &crate::record::container::LiveState) -> Option<std::os::fd::OwnedFd> {
    rbox_sys::process::pidfd_open(live.monitor).ok()
}

/// Longest text of one entry, in bytes; a longer line is parted.
pub const MAX_ENTRY: usize = 16 * 1024;

/// Which of the two outputs a line came from. With a terminal there is only one: stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Descriptor 1.
    Stdout,
    /// Descriptor 2.
    Stderr,
}

impl Stream {
    /// As the log spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry<'a> {
    /// Where it came from.
    pub stream: Stream,
    /// When it was read from the container.
    pub time: Timestamp,
    /// The text, with its line feed when the line ends here.
    pub text: Cow<'a, str>,
}

#[derive(Deserialize)]
struct RawEntry<'a> {
    #[serde(borrow, default)]
    log: Cow<'a, str>,
    #[serde(borrow, default)]
    stream: Cow<'a, str>,
    time: Timestamp,
}

impl<'a> LogEntry<'a> {
    /// Reads one line of the file. None for what is not an entry: a line torn by a kill or a full disk.
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let raw: RawEntry<'a> = serde_json::from_slice(line).ok()?;
        let stream = if raw.stream == "stderr" { Stream::Stderr } else { Stream::Stdout };
        Some(Self { stream, time: raw.time, text: raw.log })
    }
}

/// How large the files of one container may grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogOptions {
    /// Bytes of one file; none for no limit.
    pub max_size: Option<u64>,
    /// Files kept, the current one included; at least 1.
    pub max_files: u32,
}

impl Default for LogOptions {
    /// 20 MiB in each of 5 files.
    fn default() -> Self {
        Self { max_size: Some(20 << 20), max_files: 5 }
    }
}

/// A `--log-opt` that was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidLogOption {
    /// A key the driver does not know.
    #[error("unknown log opt '{0}' for json-file log driver")]
    Unknown(String),
    /// A size that is none.
    #[error("invalid value for max-size: {0}: expected a size such as 10m, or -1 for no limit")]
    Size(String),
    /// A count that is none.
    #[error("max-file must be a number greater than 0, not {0}")]
    Files(String),
}

impl LogOptions {
    /// Reads `--log-opt` pairs: `max-size` (`10m`, `-1` for no limit) and `max-file`. Keys that only decorate
    /// Docker's entries are taken and have no effect.
    pub(crate) fn from_options(options: &BTreeMap<String, String>) -> Result<Self, InvalidLogOption> {
        let mut out = Self::default();
        for (key, value) in options {
            let shown = || value.escape_debug().to_string();
            match key.as_str() {
                "max-size" if value == "-1" => out.max_size = None,
                "max-size" => {
                    let bytes = size(value).filter(|bytes| *bytes > 0);
                    out.max_size = Some(bytes.ok_or_else(|| InvalidLogOption::Size(shown()))?);
                }
                "max-file" => {
                    let files = value.parse().ok().filter(|files| (1..=1000).contains(files));
                    out.max_files = files.ok_or_else(|| InvalidLogOption::Files(shown()))?;
                }
                "labels" | "labels-regex" | "env" | "env-regex" | "tag" | "compress" | "mode"
                | "max-buffer-size" => {}
                other => return Err(InvalidLogOption::Unknown(other.escape_debug().to_string())),
            }
        }
        Ok(out)
    }
}

/// `512`, `10k`, `20m`, `1g`, with an optional `b` or `ib`: binary units, as the driver reads them.
fn size(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.find(|c: char| !c.is_ascii_digit()).unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let shift = match unit {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn options() {
        let read = |pairs: &[(&str, &str)]| {
            LogOptions::from_options(&pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
        };
        assert_eq!(read(&[]), Ok(LogOptions { max_size: Some(20 << 20), max_files: 5 }));
        assert_eq!(
            read(&[("max-size", "10k"), ("max-file", "3")]),
            Ok(LogOptions { max_size: Some(10 << 10), max_files: 3 })
        );
        assert_eq!(read(&[("max-size", "-1")]).map(|o| o.max_size), Ok(None));
        assert_eq!(read(&[("max-size", "5MiB")]).map(|o| o.max_size), Ok(Some(5 << 20)));
        for bad in [
            ("max-size", "0"),
            ("max-size", "x"),
            ("max-size", "10q"),
            ("max-file", "0"),
            ("max-file", "-1"),
            ("x", "1"),
        ] {
            assert!(read(&[bad]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn entries_of_docker_are_read_and_torn_ones_are_not() {
        let line = br#"{"log":"a\u001b[0m\n","stream":"stderr","attrs":{"x":"y"},"time":"2026-01-02T03:04:05.123456789Z"}"#;
        let entry = LogEntry::parse(line).unwrap();
        assert_eq!((entry.stream, &*entry.text), (Stream::Stderr, "a\u{1b}[0m\n"));
        assert_eq!(entry.time.subsec_nanosecond(), 123_456_789);
        for torn in [&b""[..], b"{", br#"{"log":"x"}"#, b"\xff", b"null"] {
            assert_eq!(LogEntry::parse(torn), None);
        }
    }
}

//! A container's output on disk, in the format of Docker's json-file driver, so that what reads one reads both.
//!
//! One JSON object a line: `{"log":"text\n","stream":"stdout","time":"2026-01-02T03:04:05.000000006Z"}`. A line
//! of output longer than 16 KiB becomes several objects; only the last one's text ends in `\n`. At `max-size`
//! the file is renamed to `….1`, the older ones move up, and the oldest of `max-file` files goes.

mod attributes;
mod clear;
mod collect;
mod forward;
mod number;
mod reader;
mod writer;

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::Timestamp;
use rbox_spec::container::LogDriver;
use serde::Deserialize;

use crate::record::container::ContainerRecord;

pub(crate) use crate::logs::clear::clear;
pub(crate) use crate::logs::forward::Forward;
pub(crate) use crate::logs::reader::{Ended, LogReader};
pub use crate::logs::reader::{LogQuery, LogSink};
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
    /// What `--log-opt labels`, `env` and `tag` add to each entry, by name.
    pub attributes: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct RawEntry<'a> {
    #[serde(borrow, default)]
    log: Cow<'a, str>,
    #[serde(borrow, default)]
    stream: Cow<'a, str>,
    #[serde(default)]
    attrs: BTreeMap<String, String>,
    time: Timestamp,
}

impl<'a> LogEntry<'a> {
    /// Reads one line of the file. None for what is not an entry: a line torn by a kill or a full disk.
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let raw: RawEntry<'a> = serde_json::from_slice(line).ok()?;
        let stream = if raw.stream == "stderr" { Stream::Stderr } else { Stream::Stdout };
        Some(Self { stream, time: raw.time, text: raw.log, attributes: raw.attrs })
    }

    /// The same, without the line that it was read from.
    pub fn to_static(&self) -> LogEntry<'static> {
        let text = Cow::Owned(self.text.clone().into_owned());
        LogEntry { stream: self.stream, time: self.time, text, attributes: self.attributes.clone() }
    }
}

/// How large the files of one container may grow, and what stands in each entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogOptions {
    /// Bytes of one file; none for no limit.
    pub max_size: Option<u64>,
    /// Files kept, the current one included; at least 1.
    pub max_files: u32,
    /// What each entry tells beside its text.
    pub attributes: BTreeMap<String, String>,
}

impl Default for LogOptions {
    /// 20 MiB in each of 5 files.
    fn default() -> Self {
        Self { max_size: Some(20 << 20), max_files: 5, attributes: BTreeMap::new() }
    }
}

/// A `--log-opt` that was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidLogOption {
    /// A key the driver does not know.
    #[error("unknown log opt '{key}' for {driver} log driver")]
    Unknown {
        /// The key.
        key: String,
        /// The driver.
        driver: &'static str,
    },
    /// A size that is none.
    #[error("invalid value for max-size: {0}: expected a size such as 10m, or -1 for no limit")]
    Size(String),
    /// A count that is none.
    #[error("max-file must be a number greater than 0, not {0}")]
    Files(String),
    /// What its entries are to tell cannot be found out.
    #[error(transparent)]
    Attribute(#[from] attributes::BadAttribute),
    /// An option of syslog that is none.
    #[error("{0}")]
    Syslog(String),
    /// Neither blocking nor non-blocking.
    #[error("logger: logging mode not supported: {0}")]
    Mode(String),
}

impl LogOptions {
    /// Reads the `--log-opt` pairs of a container: `max-size` (`10m`, `-1` for no limit), `max-file`, and what its entries tell.
    /// The log never keeps the program waiting, so `mode` makes no difference.
    pub(crate) fn of(record: &ContainerRecord) -> Result<Self, InvalidLogOption> {
        let out = Self::from_options(record.host.log_driver, &record.host.log_opts)?;
        let attributes = attributes::attributes(record)?;
        // Of those that are collected the collector gets them.
        let is_kept = record.host.log_driver == LogDriver::JsonFile;
        Ok(Self { attributes: if is_kept { attributes } else { BTreeMap::new() }, ..out })
    }

    fn from_options(driver: LogDriver, options: &BTreeMap<String, String>) -> Result<Self, InvalidLogOption> {
        let mut out = Self::default();
        let is_file = matches!(driver, LogDriver::JsonFile | LogDriver::Local);
        let tells = matches!(driver, LogDriver::JsonFile | LogDriver::Syslog | LogDriver::Journald);
        for (key, value) in options {
            let shown = || value.escape_debug().to_string();
            match key.as_str() {
                "max-size" if is_file && value == "-1" => out.max_size = None,
                "max-size" | "cache-max-size" if is_file == (key == "max-size") => {
                    let bytes = size(value).filter(|bytes| *bytes > 0);
                    out.max_size = Some(bytes.ok_or_else(|| InvalidLogOption::Size(shown()))?);
                }
                "max-file" | "cache-max-file" if is_file == (key == "max-file") => {
                    let files = value.parse().ok().filter(|files| (1..=1000).contains(files));
                    out.max_files = files.ok_or_else(|| InvalidLogOption::Files(shown()))?;
                }
                "mode" if !matches!(value.as_str(), "" | "blocking" | "non-blocking") => {
                    return Err(InvalidLogOption::Mode(shown()));
                }
                "mode" | "max-buffer-size" => {}
                "compress" if is_file => {}
                "cache-compress" if !is_file => {}
                "syslog-address" | "syslog-facility" | "syslog-format" if driver == LogDriver::Syslog => {}
                "labels" | "labels-regex" | "env" | "env-regex" | "tag" if tells => {}
                other => {
                    let key = other.escape_debug().to_string();
                    return Err(InvalidLogOption::Unknown { key, driver: driver.as_str() });
                }
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
            let pairs = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            LogOptions::from_options(LogDriver::JsonFile, &pairs)
        };
        assert_eq!(read(&[]), Ok(LogOptions::default()));
        let small = LogOptions { max_size: Some(10 << 10), max_files: 3, ..LogOptions::default() };
        assert_eq!(read(&[("max-size", "10k"), ("max-file", "3")]), Ok(small));
        let labels = [("labels".to_owned(), "app".to_owned())].into();
        assert!(LogOptions::from_options(LogDriver::Local, &labels).is_err(), "it writes no attributes");
        assert_eq!(read(&[("max-size", "-1")]).map(|o| o.max_size), Ok(None));
        assert_eq!(read(&[("max-size", "5MiB")]).map(|o| o.max_size), Ok(Some(5 << 20)));
        for bad in [
            ("max-size", "0"),
            ("max-size", "x"),
            ("max-size", "10q"),
            ("max-file", "0"),
            ("max-file", "-1"),
            ("x", "1"),
            ("mode", "sometimes"),
        ] {
            assert!(read(&[bad]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn entries_of_docker_are_read_and_torn_ones_are_not() {
        let line = br#"{"log":"a\u001b[0m\n","stream":"stderr","attrs":{"x":"y"},"time":"2026-01-02T03:04:05.123456789Z"}"#;
        let entry = LogEntry::parse(line).unwrap();
        assert_eq!((entry.stream, &*entry.text), (Stream::Stderr, "a\u{1b}[0m\n"));
        assert_eq!(entry.attributes["x"], "y");
        assert_eq!(entry.time.subsec_nanosecond(), 123_456_789);
        for torn in [&b""[..], b"{", br#"{"log":"x"}"#, b"\xff", b"null"] {
            assert_eq!(LogEntry::parse(torn), None);
        }
    }
}

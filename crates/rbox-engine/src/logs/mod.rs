//! A container's output on disk.
//!
//! One entry a line, in one of two forms: see [`entry`]. A line of output longer than 16 KiB becomes several entries; only the last
//! one's text ends in `\n`. At `max-size` the file is renamed to `….1`, the older ones move up, and the oldest of `max-file` files goes.

mod aside;
mod attributes;
mod clear;
mod collect;
mod entry;
mod file;
mod forward;
mod number;
mod reader;
mod writer;

use std::collections::BTreeMap;

use rbox_spec::container::LogDriver;

use crate::record::container::ContainerRecord;

pub(crate) use crate::logs::clear::clear;
use crate::logs::entry::Form;
pub use crate::logs::entry::{LogEntry, MAX_ENTRY, Stream};
pub(crate) use crate::logs::forward::Forward;
pub(crate) use crate::logs::reader::{Ended, LogReader};
pub use crate::logs::reader::{LogGap, LogQuery, LogSink};
pub(crate) use crate::logs::writer::LogWriter;

/// A descriptor that becomes readable when the monitor that writes a container's log ends; none when it is gone.
pub(crate) fn monitor_fd(live: &crate::record::container::LiveState) -> Option<std::os::fd::OwnedFd> {
    rbox_sys::process::pidfd_open(live.monitor).ok()
}

/// The most bytes that an entry tells beside its text, as they are written.
const MAX_ATTRIBUTES: usize = 1 << 20;
/// So much waits with `mode=non-blocking`, unless `max-buffer-size` says otherwise.
const BUFFER: u64 = 1 << 20;

/// How large the files of one container may grow, and what stands in each entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogOptions {
    /// Bytes of one file; none for no limit.
    pub max_size: Option<u64>,
    /// Files kept, the current one included; at least 1.
    pub max_files: u32,
    /// What each entry tells beside its text.
    pub attributes: BTreeMap<String, String>,
    /// How entries are written.
    pub form: Form,
    /// The program never waits for the log: so many bytes may wait for the disk, and what does not fit is dropped.
    pub buffer: Option<usize>,
}

impl Default for LogOptions {
    /// 20 MiB in each of 5 files.
    fn default() -> Self {
        Self {
            max_size: Some(20 << 20),
            max_files: 5,
            attributes: BTreeMap::new(),
            form: Form::default(),
            buffer: None,
        }
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
    /// A buffer where nothing waits.
    #[error("logger: max-buffer-size option is only supported with 'mode=non-blocking'")]
    Buffer,
    /// A buffer of no size.
    #[error("error parsing option max-buffer-size: invalid size: '{0}'")]
    BufferSize(String),
    /// More than an entry can have.
    #[error(
        "the labels and variables that each entry of the log is to have (--log-opt labels, env, tag) are {0} bytes: {MAX_ATTRIBUTES} are the most"
    )]
    TooMuch(usize),
}

impl LogOptions {
    /// Reads the `--log-opt` pairs of a container: `max-size` (`10m`, `-1` for no limit), `max-file`, `mode`, and what its entries tell.
    pub(crate) fn of(record: &ContainerRecord) -> Result<Self, InvalidLogOption> {
        let out = Self::from_options(record.host.log_driver, &record.host.log_opts)?;
        let attributes = attributes::attributes(record)?;
        let length = entry::encode_attributes(&attributes).map_or(0, |encoded| encoded.len());
        if length > MAX_ATTRIBUTES {
            return Err(InvalidLogOption::TooMuch(length));
        }
        // Of those that are collected the collector gets them.
        let is_kept = record.host.log_driver == LogDriver::JsonFile;
        Ok(Self { attributes: if is_kept { attributes } else { BTreeMap::new() }, ..out })
    }

    fn from_options(driver: LogDriver, options: &BTreeMap<String, String>) -> Result<Self, InvalidLogOption> {
        let form = if driver == LogDriver::JsonFile { Form::Json } else { Form::Plain };
        let mut out = Self { form, buffer: buffer(driver, options)?, ..Self::default() };
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

/// How much may wait with `mode=non-blocking`.
fn buffer(driver: LogDriver, options: &BTreeMap<String, String>) -> Result<Option<usize>, InvalidLogOption> {
    let shown = |value: &str| value.escape_debug().to_string();
    let is_blocking = match options.get("mode").map_or("", String::as_str) {
        "" | "blocking" => true,
        "non-blocking" => false,
        other => return Err(InvalidLogOption::Mode(shown(other))),
    };
    let bytes = match options.get("max-buffer-size") {
        // Those who collect never keep a program waiting: for them it is of use in both modes.
        Some(_) if is_blocking && matches!(driver, LogDriver::JsonFile | LogDriver::Local) => {
            return Err(InvalidLogOption::Buffer);
        }
        Some(value) => size(value).ok_or_else(|| InvalidLogOption::BufferSize(shown(value)))?,
        None => BUFFER,
    };
    Ok((!is_blocking).then_some(usize::try_from(bytes).unwrap_or(usize::MAX)))
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
            ("max-buffer-size", "1m"),
        ] {
            assert!(read(&[bad]).is_err(), "{bad:?}");
        }
        assert_eq!(read(&[("mode", "blocking")]).map(|o| o.buffer), Ok(None));
        let quick = ("mode", "non-blocking");
        assert_eq!(read(&[quick]).map(|o| o.buffer), Ok(Some(1 << 20)));
        assert_eq!(read(&[quick, ("max-buffer-size", "4k")]).map(|o| o.buffer), Ok(Some(4096)));
        assert!(read(&[quick, ("max-buffer-size", "x")]).is_err());
    }
}

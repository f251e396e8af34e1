//! Durations and sizes in the words Docker uses for them (docker/go-units).

use std::time::Duration;

use jiff::{Timestamp, Zoned};

const HOUR: u64 = 3600;

/// A span of time as `ps` and `images` tell it: "Less than a second", "About a minute", "2 weeks".
pub(crate) fn human_duration(span: Duration) -> String {
    let seconds = span.as_secs();
    let minutes = seconds / 60;
    // Hours are rounded, not cut: 89 minutes are "About an hour", 90 are "2 hours".
    let hours = (seconds + HOUR / 2) / HOUR;
    match (seconds, minutes, hours) {
        (0, ..) => "Less than a second".into(),
        (1, ..) => "1 second".into(),
        (2..60, ..) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".into(),
        (_, 2..60, _) => format!("{minutes} minutes"),
        (_, _, 1) => "About an hour".into(),
        (_, _, 0..48) => format!("{hours} hours"),
        (_, _, 48..336) => format!("{} days", hours / 24),
        (_, _, 336..1440) => format!("{} weeks", hours / 24 / 7),
        (_, _, 1440..17_520) => format!("{} months", hours / 24 / 30),
        // Years are cut from whole hours.
        _ => format!("{} years", seconds / HOUR / 24 / 365),
    }
}

/// Bytes in decimal units with three significant digits: `4.26MB`, `0B`, `101MB`.
pub(crate) fn human_size(bytes: u64) -> String {
    scaled(bytes, 1000.0, 3, &["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"])
}

/// The same with four digits, as Docker prints sums and the sizes of volumes: `4.262MB`.
pub(crate) fn human_sum(bytes: u64) -> String {
    scaled(bytes, 1000.0, 4, &["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"])
}

/// Bytes in binary units with four significant digits, as memory is printed: `7.656MiB`.
pub(crate) fn bytes_size(bytes: u64) -> String {
    scaled(bytes, 1024.0, 4, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"])
}

fn scaled(bytes: u64, base: f64, digits: usize, units: &[&str]) -> String {
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= base && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    format!("{}{}", general(value, digits), units[unit])
}

/// C's `%.{digits}g` for a value that is not negative: significant digits, no trailing zeros, an exponent
/// when the rounded value has more whole digits than that (Docker prints `1e+03kB` for 999999 bytes).
fn general(value: f64, digits: usize) -> String {
    let scientific = format!("{value:.*e}", digits - 1);
    let exponent: i32 = scientific.rsplit_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(0);
    let trim = |text: &str| {
        let whole = !text.contains('.');
        if whole { text.to_owned() } else { text.trim_end_matches('0').trim_end_matches('.').to_owned() }
    };
    if exponent >= digits as i32 {
        let mantissa = scientific.split('e').next().unwrap_or("0");
        return format!("{}e+{exponent:02}", trim(mantissa));
    }
    let decimals = (digits as i32 - 1 - exponent).max(0) as usize;
    trim(&format!("{value:.decimals$}"))
}

/// `2 weeks ago`.
pub(crate) fn ago(then: Timestamp, now: Timestamp) -> String {
    format!("{} ago", human_duration(since(then, now)))
}

pub(crate) fn since(then: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(then)).unwrap_or_default()
}

/// As Go prints a moment: `2026-01-02 03:04:05 +0000 UTC`, in the local zone.
pub(crate) fn created_at(time: Timestamp) -> String {
    let zoned: Zoned = time.to_zoned(jiff::tz::TimeZone::system());
    zoned.strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string()
}

/// At most `most` characters, the last one an ellipsis when some are left out.
pub(crate) fn ellipsis(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(most.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let day = 24 * HOUR;
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (45, "45 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (59 * 60 + 59, "59 minutes"),
            (HOUR, "About an hour"),
            (HOUR + 29 * 60, "About an hour"),
            (HOUR + 30 * 60, "2 hours"),
            (47 * HOUR, "47 hours"),
            (48 * HOUR, "2 days"),
            (13 * day, "13 days"),
            (14 * day, "2 weeks"),
            (59 * day, "8 weeks"),
            (60 * day, "2 months"),
            (365 * day, "12 months"),
            (729 * day, "24 months"),
            (730 * day, "2 years"),
            (1100 * day, "3 years"),
        ] {
            assert_eq!(human_duration(Duration::from_secs(seconds)), text, "{seconds}");
        }
    }

    #[test]
    fn sizes() {
        for (bytes, text) in [
            (0, "0B"),
            (32, "32B"),
            (999, "999B"),
            (1000, "1kB"),
            (1024, "1.02kB"),
            (4_261_550, "4.26MB"),
            (101_000_000, "101MB"),
            (146_800_640, "147MB"),
            (999_999, "1e+03kB"),
            (1_000_000, "1MB"),
            (2_500_000_000_000, "2.5TB"),
        ] {
            assert_eq!(human_size(bytes), text, "{bytes}");
        }
        assert_eq!(bytes_size(8_027_750), "7.656MiB");
        assert_eq!(bytes_size(1 << 30), "1GiB");
        assert_eq!(bytes_size(u64::MAX), "16EiB");
    }
}

//! Points in time as the command line names them: `--since`, `--until` and the `until` filter.
//!
//! As Docker reads them: a Go duration before now (`10m`, `1h30m`), a date or RFC 3339 time (local when it names
//! no zone), or Unix seconds with a fraction.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use rbox_spec::Kind;

/// A point in time that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to parse value as time or duration: \"{0}\"")]
pub struct InvalidMoment(String);

impl InvalidMoment {
    /// What it means to the caller.
    pub const fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

/// Reads a point in time; durations count back from `now`.
pub fn parse(text: &str, now: Timestamp) -> Result<Timestamp, InvalidMoment> {
    let bad = || InvalidMoment(text.escape_debug().to_string());
    let text = text.trim();
    // A bare 0 is the beginning of 1970, not now, as with Docker.
    if text != "0"
        && let Some(span) = go_duration(text)
    {
        return now.checked_sub(span).map_err(|_| bad());
    }
    unix(text).or_else(|| calendar(text)).ok_or_else(bad)
}

/// Go's `time.ParseDuration`: `300ms`, `-1.5h`, `2h45m`. None for anything else, a bare number included.
pub fn go_duration(text: &str) -> Option<SignedDuration> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(SignedDuration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut nanos: i128 = 0;
    while !rest.is_empty() {
        let whole_end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (whole, after) = rest.split_at(whole_end);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => after.split_at(after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len())),
            None => ("", after),
        };
        if (whole.is_empty() && fraction.is_empty()) || whole.len() > 18 {
            return None;
        }
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let scale: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        nanos += whole * scale;
        let mut place = scale;
        for digit in fraction.bytes() {
            place /= 10;
            nanos += i128::from(digit - b'0') * place;
        }
        rest = after;
    }
    let nanos = if negative { -nanos } else { nanos };
    // Go's durations are 64 bits of nanoseconds.
    i64::try_from(nanos).ok().map(SignedDuration::from_nanos)
}

/// `1136073600` or `1136073600.000000001`.
fn unix(text: &str) -> Option<Timestamp> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if seconds.is_empty() || !digits(seconds.strip_prefix('-').unwrap_or(seconds)) || !digits(fraction) {
        return None;
    }
    let nanos: i32 = format!("{fraction:0<9.9}").parse().ok()?;
    Timestamp::new(seconds.parse().ok()?, nanos).ok()
}

/// RFC 3339 in full, or cut short: `2006-01-02`, `2006-01-02T15:04`, each with or without a zone.
fn calendar(text: &str) -> Option<Timestamp> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time);
    }
    let (text, zone) = match text.strip_suffix('Z') {
        Some(text) => (text, TimeZone::UTC),
        None => split_offset(text),
    };
    let (date, time) = text.split_once(['T', ' ']).unwrap_or((text, ""));
    if date.len() != 10 {
        return None;
    }
    let date: Date = date.parse().ok()?;
    let time = match time.len() {
        0 => "00:00:00".to_owned(),
        2 => format!("{time}:00:00"),
        5 => format!("{time}:00"),
        _ => time.to_owned(),
    };
    let moment: DateTime = format!("{date}T{time}").parse().ok()?;
    zone.to_timestamp(moment).ok()
}

/// `…+02:00` apart from its zone; the local zone when there is none.
fn split_offset(text: &str) -> (&str, TimeZone) {
    let at = text.len().checked_sub(6).filter(|at| text.is_char_boundary(*at) && *at >= 10);
    let offset = at.and_then(|at| {
        let (rest, offset) = text.split_at(at);
        let sign = match offset.as_bytes()[0] {
            b'+' => 1,
            b'-' => -1,
            _ => return None,
        };
        let (hours, minutes) = offset[1..].split_once(':')?;
        let seconds = sign * (hours.parse::<i32>().ok()? * 3600 + minutes.parse::<i32>().ok()? * 60);
        Some((rest, TimeZone::fixed(jiff::tz::Offset::from_seconds(seconds).ok()?)))
    });
    offset.unwrap_or_else(|| (text, TimeZone::system()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn durations_as_go_reads_them() {
        for (text, nanos) in [
            ("0", 0),
            ("10m", 600_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1.5h", 5_400_000_000_000),
            ("300ms", 300_000_000),
            ("-5s", -5_000_000_000),
            (".5s", 500_000_000),
            ("1us", 1_000),
            ("1µs2ns", 1_002),
        ] {
            assert_eq!(go_duration(text), Some(SignedDuration::from_nanos(nanos)), "{text}");
        }
        for bad in ["", "10", "m", "1x", "1h30", "-", ".s", "99999999999999999999h", "9999999999h", "1 h"] {
            assert_eq!(go_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn moments_as_docker_reads_them() {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        for (text, expected) in [
            ("5s", "2026-01-02T03:04:00Z"),
            ("1136073600", "2006-01-01T00:00:00Z"),
            ("1136073600.5", "2006-01-01T00:00:00.5Z"),
            ("2006-01-02T15:04:05Z", "2006-01-02T15:04:05Z"),
            ("2006-01-02T15:04:05.123456789+02:00", "2006-01-02T13:04:05.123456789Z"),
            ("2006-01-02Z", "2006-01-02T00:00:00Z"),
            ("2006-01-02T15Z", "2006-01-02T15:00:00Z"),
            ("2006-01-02T15:04-01:00", "2006-01-02T16:04:00Z"),
        ] {
            assert_eq!(parse(text, now).map(|t| t.to_string()), Ok(expected.to_owned()), "{text}");
        }
        assert!(parse("2006-01-02", now).is_ok() && parse("2006-01-02T15:04:05", now).is_ok());
        assert_eq!(parse("0", now), Ok(Timestamp::UNIX_EPOCH));
        assert_eq!(parse("0s", now), Ok(now));
        for bad in
            ["", "yesterday", "2006-13-01", "12:00", "2006-01-02T", "9999999999999999", "1.x", "é2006-01-02"]
        {
            let expected_error = !matches!(bad, "2006-01-02T");
            assert_eq!(parse(bad, now).is_err(), expected_error, "{bad}");
        }
    }
}

//! Sizes in bytes: `64m`, `1.5g` as Docker's command line reads them, and Docker's two ways to print them.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

use crate::kind::Kind;

/// Why a size was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// No digit, a negative number, or no number at all.
    #[error("invalid size: '{0}'")]
    Invalid(String),
    /// Something after the number that is no unit.
    #[error("invalid suffix: '{0}'")]
    Suffix(String),
    /// More than 2^63 - 1 bytes, the most any kernel interface takes.
    #[error("invalid size: '{0}' is more than 8 EiB")]
    TooLarge(String),
}

impl SizeError {
    /// What it means to the caller.
    pub const fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

/// A number of bytes. Parsed with binary units (`1k` = `1kb` = `1KiB` = 1024), as Docker's `RAMInBytes`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Size(pub u64);

impl Size {
    /// Bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// Parses with decimal units (`1k` = 1000), as Docker's `FromHumanSize`.
    pub fn parse_decimal(text: &str) -> Result<Self, SizeError> {
        parse(text, 1000)
    }
}

impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        parse(text, 1024)
    }
}

fn parse(text: &str, base: u64) -> Result<Size, SizeError> {
    let invalid = || SizeError::Invalid(text.escape_debug().to_string());
    // The last character of the number decides where the unit starts; one space may stand between them.
    let last = text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ').ok_or_else(invalid)?;
    let (number, suffix) = text.split_at(last + 1);
    let number = number.strip_suffix(' ').unwrap_or(number);
    // Rust's floats also read "inf", "nan" and exponents; digits and one point are all a size has.
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err(invalid());
    }
    let power =
        power(suffix).ok_or_else(|| SizeError::Suffix(suffix.to_lowercase().escape_debug().to_string()))?;
    let unit = base.pow(power);
    // Whole numbers stay exact beyond the 53 bits of a float.
    let bytes = if let Ok(whole) = number.parse::<u64>() {
        whole.checked_mul(unit).filter(|bytes| i64::try_from(*bytes).is_ok())
    } else {
        let bytes = number.parse::<f64>().map_err(|_| invalid())? * unit as f64;
        (bytes < i64::MAX as f64).then_some(bytes as u64)
    };
    bytes.map(Size).ok_or_else(|| SizeError::TooLarge(text.to_owned()))
}

/// The power of the base that `suffix` stands for: `""`, `b`, `k`, `kb`, `kib` and so on to `p`, in any case.
fn power(suffix: &str) -> Option<u32> {
    let lower = suffix.to_ascii_lowercase();
    if lower.is_empty() || lower == "b" {
        return Some(0);
    }
    let mut chars = lower.chars();
    let unit = chars.next()?;
    if !matches!(chars.as_str(), "" | "b" | "ib") {
        return None;
    }
    "kmgtp".find(unit).map(|at| at as u32 + 1)
}

const DECIMAL: [&str; 9] = ["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];
const BINARY: [&str; 9] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"];

/// As Docker's `units.HumanSize`: decimal, four digits: `43.18MB`.
pub fn human_size(bytes: f64) -> String {
    human_size_with_precision(bytes, 4)
}

/// As Docker's `units.HumanSizeWithPrecision`; tables use three digits: `43.2MB`.
pub fn human_size_with_precision(bytes: f64, precision: usize) -> String {
    scaled(bytes, 1000.0, &DECIMAL, precision)
}

/// As Docker's `units.BytesSize`: binary, four digits: `41.18MiB`.
pub fn bytes_size(bytes: f64) -> String {
    scaled(bytes, 1024.0, &BINARY, 4)
}

fn scaled(mut value: f64, base: f64, units: &[&str], precision: usize) -> String {
    let mut at = 0;
    while value >= base && at + 1 < units.len() {
        value /= base;
        at += 1;
    }
    format!("{}{}", general(value, precision), units.get(at).copied().unwrap_or_default())
}

/// C's and Go's `%.*g`: so many significant digits, no trailing zeros, an exponent when the number needs more.
fn general(value: f64, precision: usize) -> String {
    let precision = precision.max(1);
    let scientific = format!("{value:.*e}", precision - 1);
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if exponent < -4 || exponent >= precision as i32 {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trimmed(mantissa), exponent.abs());
    }
    let decimals = (precision as i32 - 1 - exponent).max(0) as usize;
    trimmed(&format!("{value:.decimals$}")).to_owned()
}

fn trimmed(number: &str) -> &str {
    if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number }
}

impl fmt::Display for Size {
    /// Binary, as Docker prints memory: `64MiB`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&bytes_size(self.0 as f64))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn reads_what_docker_reads() {
        for (text, bytes) in [
            ("0", 0),
            ("64m", 64 << 20),
            ("64M", 64 << 20),
            ("64mb", 64 << 20),
            ("64MiB", 64 << 20),
            ("1g", 1 << 30),
            ("1.5g", 3 << 29),
            ("32", 32),
            ("32b", 32),
            ("32 kb", 32 << 10),
            (".5k", 512),
            ("2p", 2 << 50),
            ("9223372036854775807", i64::MAX as u64),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        assert_eq!(Size::parse_decimal("1.5kB"), Ok(Size(1500)));
    }

    #[test]
    fn refuses_what_docker_refuses() {
        for bad in ["", "m", "-1m", "1..2m", "1.2.3", "inf", "1e3", " ", ".", "١m", "1 2m"] {
            assert!(
                matches!(bad.parse::<Size>(), Err(SizeError::Invalid(_) | SizeError::Suffix(_))),
                "{bad}"
            );
        }
        assert_eq!("5x".parse::<Size>().unwrap_err().to_string(), "invalid suffix: 'x'");
        for bad in ["5kbb", "5bb", "5ki", "5mx", "5 m b"] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
        assert!(matches!("9223372036854775808".parse::<Size>(), Err(SizeError::TooLarge(_))));
        assert!(matches!("9000p".parse::<Size>(), Err(SizeError::TooLarge(_))));
    }

    #[test]
    fn prints_as_docker_prints() {
        assert_eq!(human_size(1000.0), "1kB");
        assert_eq!(human_size(1024.0), "1.024kB");
        assert_eq!(human_size(43_178_123.0), "43.18MB");
        assert_eq!(human_size_with_precision(43_178_123.0, 3), "43.2MB");
        assert_eq!(human_size_with_precision(0.0, 3), "0B");
        assert_eq!(human_size_with_precision(999_999.0, 3), "1e+03kB");
        assert_eq!(bytes_size(1024.0), "1KiB");
        assert_eq!(bytes_size(1023.0), "1023B");
        assert_eq!(bytes_size(1_572_864.0), "1.5MiB");
        assert_eq!(bytes_size(1.0e8), "95.37MiB");
        assert_eq!(Size(64 << 20).to_string(), "64MiB");
    }
}

//! Durations as Go writes them: `1m30s`, `1.5h`, `250ms`.

use crate::text::quoted;

const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Nanoseconds, or what is wrong in the words of Go's time.ParseDuration.
pub(super) fn nanoseconds(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {}", quoted(text));
    let negative = text.starts_with('-');
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (whole, behind) = digits(rest);
        let (fraction, behind) = behind.strip_prefix('.').map_or(("", behind), digits);
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let end = behind.find(|character: char| character == '.' || character.is_ascii_digit());
        let (unit, behind) = behind.split_at(end.unwrap_or(behind.len()));
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {}", quoted(text)));
        }
        let Some((_, unit)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(format!("time: unknown unit {} in duration {}", quoted(unit), quoted(text)));
        };
        let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| invalid())? };
        // Digits behind the ninth are less than a nanosecond of any unit but hours, and of those less than three.
        let fraction = &fraction[..fraction.len().min(15)];
        let parts = fraction.bytes().fold(0, |sum, digit| sum * 10 + u128::from(digit - b'0'));
        let part = parts * u128::from(*unit) / 10_u128.pow(fraction.len() as u32);
        let part = u64::try_from(part).map_err(|_| invalid())?;
        let sum = whole.checked_mul(*unit).and_then(|whole| whole.checked_add(part));
        total = sum.and_then(|sum| total.checked_add(sum)).ok_or_else(invalid)?;
        rest = behind;
    }
    let total = i64::try_from(total).map_err(|_| invalid())?;
    Ok(if negative { -total } else { total })
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_go_reads_them() {
        const SECOND: i64 = 1_000_000_000;
        for (text, want) in [
            ("0", Ok(0)),
            ("5s", Ok(5 * SECOND)),
            ("1m30s", Ok(90 * SECOND)),
            ("1.5h", Ok(5400 * SECOND)),
            ("250ms", Ok(SECOND / 4)),
            ("1us", Ok(1000)),
            ("1µs", Ok(1000)),
            ("1μs", Ok(1000)),
            (".5s", Ok(SECOND / 2)),
            ("1.s", Ok(SECOND)),
            ("1.1s", Ok(SECOND + SECOND / 10)),
            ("0.3s", Ok(300_000_000)),
            ("-1s", Ok(-SECOND)),
            ("+1s", Ok(SECOND)),
            ("1h1h", Ok(7200 * SECOND)),
            ("", Err("time: invalid duration \"\"")),
            ("-", Err("time: invalid duration \"-\"")),
            ("s", Err("time: invalid duration \"s\"")),
            (".s", Err("time: invalid duration \".s\"")),
            ("5", Err("time: missing unit in duration \"5\"")),
            ("5 s", Err("time: unknown unit \" s\" in duration \"5 s\"")),
            ("5d", Err("time: unknown unit \"d\" in duration \"5d\"")),
            ("9999999999999999999h", Err("time: invalid duration \"9999999999999999999h\"")),
            ("99999999999999h", Err("time: invalid duration \"99999999999999h\"")),
        ] {
            assert_eq!(nanoseconds(text), want.map_err(str::to_owned), "{text}");
        }
    }
}

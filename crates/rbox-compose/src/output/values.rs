//! Values with a notation of their own: durations, sizes, modes, words of a command.

use std::time::Duration;

use crate::yaml::{Node, Value};

/// The nearest number of 32 bits, in the digits that show it.
pub(crate) fn float_32(value: f64) -> f64 {
    (value as f32).to_string().parse().unwrap_or(value)
}

/// A size as `docker run -m` takes it: a number and b, k, m, g, t or p, of 1024.
pub(crate) fn bytes(text: &str) -> Option<i64> {
    let end = text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ')?;
    let (number, suffix) = text.split_at(end + 1);
    let number = number.strip_suffix(' ').unwrap_or(number);
    if !number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return None;
    }
    let size: f64 = number.parse().ok()?;
    let suffix = suffix.to_lowercase();
    let power = match suffix.as_str() {
        "" | "b" => 0,
        _ => {
            let (unit, rest) = suffix.split_at(suffix.chars().next().map_or(0, char::len_utf8));
            if !matches!(rest, "" | "b" | "ib") {
                return None;
            }
            i32::try_from("kmgtp".find(unit)?).ok()? + 1
        }
    };
    let size = size * 1024_f64.powi(power);
    (size < 9e18).then_some(size as i64)
}

/// Nanoseconds of `1w2d3h4m5.5s6ms7us8ns`.
pub(crate) fn parse_duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && part.is_empty() || part.contains('.') || number.len() > 40 {
            return Err(invalid());
        }
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let scale: i128 = match unit {
            "" => return Err(format!("time: missing unit in duration {text:?}")),
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "d" => 86_400_000_000_000,
            "w" => 604_800_000_000_000,
            _ => return Err(format!("time: unknown unit {unit:?} in duration {text:?}")),
        };
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| invalid())? };
        total = whole.checked_mul(scale).and_then(|more| total.checked_add(more)).ok_or_else(invalid)?;
        if !part.is_empty() {
            let part = &part[..part.len().min(18)];
            let fraction: i128 = part.parse().map_err(|_| invalid())?;
            total += fraction * scale / 10_i128.pow(u32::try_from(part.len()).unwrap_or(18));
        }
        rest = after;
    }
    let total = if negative { -total } else { total };
    i64::try_from(total).map_err(|_| invalid())
}

/// A duration in Go's notation: `1m30s`, `1.5s`, `0s`.
pub(crate) fn duration(text: &str) -> Result<String, String> {
    let nanos = parse_duration(text)?;
    let sign = if nanos < 0 { "-" } else { "" };
    let length = Duration::from_nanos(nanos.unsigned_abs());
    Ok(format!("{sign}{}", go_duration(length)))
}

fn go_duration(length: Duration) -> String {
    let nanos = length.as_nanos();
    if nanos == 0 {
        return "0s".into();
    }
    if nanos < 1_000_000_000 {
        let (unit, scale) = match nanos {
            0..1_000 => return format!("{nanos}ns"),
            1_000..1_000_000 => ("µs", 1_000),
            _ => ("ms", 1_000_000),
        };
        return format!("{}{}{unit}", nanos / scale, fraction(nanos % scale, scale));
    }
    let seconds = length.as_secs();
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let mut text = String::new();
    if hours > 0 {
        text = format!("{hours}h");
    }
    if seconds >= 60 {
        text = format!("{text}{minutes}m");
    }
    let part = fraction(u128::from(length.subsec_nanos()), 1_000_000_000);
    format!("{text}{}{part}s", seconds % 60)
}

/// `.5` of 500 of 1000.
fn fraction(part: u128, scale: u128) -> String {
    if part == 0 {
        return String::new();
    }
    let digits = scale.to_string().len() - 1;
    format!(".{part:0digits$}").trim_end_matches('0').to_owned()
}

/// The mode of a file: a number as it is, a text in octal.
pub(crate) fn octal(node: &Node) -> Result<String, String> {
    let mode = match &node.value {
        Value::Int(mode) if (0..=0o7777).contains(mode) => *mode,
        Value::Text(text) => i64::from_str_radix(text, 8)
            .ok()
            .filter(|mode| (0..=0o7777).contains(mode))
            .ok_or_else(|| format!("{text:?} is no mode of a file, such as \"0440\""))?
            .into(),
        value => return Err(format!("{value} is no mode of a file, such as \"0440\"")),
    };
    Ok(format!("0{mode:o}"))
}

/// Cuts a text into words as a shell does, without expanding anything.
pub(crate) fn shell_words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let (mut inside, mut single, mut double, mut escaped) = (false, false, false, false);
    for c in text.chars() {
        if escaped {
            word.push(c);
            inside = true;
            escaped = false;
        } else if c == '\\' && !single {
            escaped = true;
        } else if c == '\'' && !double {
            single = !single;
            inside = true;
        } else if c == '"' && !single {
            double = !double;
            inside = true;
        } else if matches!(c, ' ' | '\t' | '\r' | '\n') && !single && !double {
            if inside {
                words.push(std::mem::take(&mut word));
                inside = false;
            }
        } else if matches!(c, ';' | '&' | '|' | '<' | '>') && !single && !double {
            // go-shellwords reads no further.
            break;
        } else {
            word.push(c);
            inside = true;
        }
    }
    if single || double || escaped {
        return Err("invalid command line string".into());
    }
    if inside {
        words.push(word);
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn durations_are_read_and_written_as_go_does() {
        let table = [
            ("30s", "30s"),
            ("90s", "1m30s"),
            ("1h", "1h0m0s"),
            ("1d", "24h0m0s"),
            ("1.5s", "1.5s"),
            ("100ms", "100ms"),
            ("1500us", "1.5ms"),
            ("5ns", "5ns"),
            ("0", "0s"),
            ("1w", "168h0m0s"),
            ("-1m", "-1m0s"),
        ];
        for (given, wanted) in table {
            assert_eq!(duration(given).as_deref(), Ok(wanted), "{given}");
        }
        for bad in ["", "30", "s", "1x", "1.2.3s", "999999999999999h", "1s2"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_read_as_docker_does() {
        let table = [
            ("50M", Some(52_428_800)),
            ("1g", Some(1 << 30)),
            ("1.5k", Some(1536)),
            ("64 mb", Some(64 << 20)),
            ("1GiB", Some(1 << 30)),
            ("10b", Some(10)),
            ("7", Some(7)),
            ("-1", None),
            ("1x", None),
            ("", None),
            ("1kk", None),
            ("m", None),
        ];
        for (given, wanted) in table {
            assert_eq!(bytes(given), wanted, "{given:?}");
        }
    }

    #[test]
    fn commands_are_cut_into_words() {
        let words = |text: &str| shell_words(text).map(|words| words.join("|"));
        assert_eq!(words("a 'b c' \"d e\" f\\ g ''").as_deref(), Ok("a|b c|d e|f g|"));
        assert_eq!(words("").as_deref(), Ok(""));
        assert!(words("a 'b").is_err());
    }
}

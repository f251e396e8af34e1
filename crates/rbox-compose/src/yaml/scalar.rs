//! What a plain scalar is, by go-yaml v3: YAML 1.2's words, with 1.1's octal numbers and underscores.

use super::node::Value;

/// Reads a plain scalar.
pub(crate) fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Value::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Value::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Value::Float(f64::NEG_INFINITY),
        _ => {}
    }
    let first = text.as_bytes().first().copied().unwrap_or(b' ');
    if first == b'.' {
        return float(text).map_or_else(|| Value::Text(text.into()), Value::Float);
    }
    if !(first.is_ascii_digit() || first == b'+' || first == b'-') || is_timestamp(text) {
        return Value::Text(text.into());
    }
    let plain = text.replace('_', "");
    if let Some(int) = int(&plain) {
        return Value::Int(int);
    }
    match float(&plain) {
        Some(float) => Value::Float(float),
        None => Value::Text(text.into()),
    }
}

/// Whether a text that is written without quotes would be read as this text again.
pub(crate) fn is_plain_text(text: &str) -> bool {
    if is_timestamp(text) || is_base_60(text) || is_old_bool(text) || text == "<<" {
        return false;
    }
    matches!(resolve(text), Value::Text(_))
}

/// An integer as Go's `strconv.ParseInt(text, 0, 64)` reads it, or `ParseUint`, or go-yaml's `0b` and `0o`.
fn int(text: &str) -> Option<i128> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = if let Some(hex) = lower.strip_prefix("0x") {
        (16, hex)
    } else if let Some(binary) = lower.strip_prefix("0b") {
        (2, binary)
    } else if let Some(octal) = lower.strip_prefix("0o") {
        (8, octal)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (8, &lower[1..])
    } else {
        (10, lower.as_str())
    };
    if digits.is_empty() || digits.len() > 70 || !digits.chars().all(|digit| digit.is_digit(radix)) {
        return None;
    }
    let value = i128::from_str_radix(digits, radix).ok()?;
    let value = if negative { -value } else { value };
    (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&value).then_some(value)
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn float(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], Some(&unsigned[at + 1..])),
        None => (unsigned, None),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if !digits(whole) || !digits(part) || whole.is_empty() && part.is_empty() {
        return None;
    }
    if let Some(exponent) = exponent {
        let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        if exponent.is_empty() || !digits(exponent) {
            return None;
        }
    }
    let value: f64 = text.parse().ok()?;
    value.is_finite().then_some(value)
}

/// A date, with or without a time, which go-yaml takes for one.
fn is_timestamp(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digits =
        |from: usize, to: usize| bytes.get(from..to).is_some_and(|part| part.iter().all(u8::is_ascii_digit));
    if !digits(0, 4) || bytes.get(4) != Some(&b'-') {
        return false;
    }
    let Some(rest) = text.get(5..) else { return false };
    let mut parts = rest.splitn(2, '-');
    let short = |part: &str| (1..=2).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    let Some(month) = parts.next().filter(|part| short(part)) else { return false };
    let Some(day) = parts.next() else { return false };
    let end = day.bytes().take_while(u8::is_ascii_digit).count();
    let (day, time) = day.split_at(end);
    let range = |part: &str, high: u32| part.parse::<u32>().is_ok_and(|number| (1..=high).contains(&number));
    if !short(day) || !range(month, 12) || !range(day, 31) {
        return false;
    }
    if time.is_empty() {
        return true;
    }
    is_time(time)
}

/// `T15:4:5.9Z`, `t15:04:05+01:00` or ` 15:04:05`.
fn is_time(text: &str) -> bool {
    let (zoned, text) = match text.as_bytes().first() {
        Some(b'T' | b't') => (true, &text[1..]),
        Some(b' ') => (false, &text[1..]),
        _ => return false,
    };
    let end = text.find(|c: char| !c.is_ascii_digit() && c != ':' && c != '.').unwrap_or(text.len());
    let (clock, zone) = text.split_at(end);
    let fields: Vec<&str> = clock.split(':').collect();
    let [hour, minute, second] = fields.as_slice() else { return false };
    let short = |part: &str| (1..=2).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    let second = second.split_once('.').map_or(*second, |(second, _)| second);
    short(hour) && short(minute) && short(second) && zoned != zone.is_empty()
}

/// `1:20:30.5`, a number to the base of 60 in YAML 1.1.
fn is_base_60(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let mut parts = unsigned.split(':');
    let Some(first) = parts.next() else { return false };
    let digits =
        |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_');
    if !digits(first) || !first.as_bytes()[0].is_ascii_digit() {
        return false;
    }
    let rest: Vec<&str> = parts.collect();
    let Some((last, middle)) = rest.split_last() else { return false };
    let sixty = |text: &str| match text.as_bytes() {
        [one] => one.is_ascii_digit(),
        [ten, one] => (b'0'..=b'5').contains(ten) && one.is_ascii_digit(),
        _ => false,
    };
    let last = last.split_once('.').map_or(*last, |(whole, part)| {
        if part.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_') { whole } else { "x" }
    });
    sixty(last) && middle.iter().all(|part| sixty(part))
}

/// What YAML 1.1 takes for true or false.
fn is_old_bool(text: &str) -> bool {
    matches!(
        text,
        "y" | "Y"
            | "yes"
            | "Yes"
            | "YES"
            | "on"
            | "On"
            | "ON"
            | "n"
            | "N"
            | "no"
            | "No"
            | "NO"
            | "off"
            | "Off"
            | "OFF"
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn scalars_are_read_as_go_yaml_reads_them() {
        let int = Value::Int;
        let text = |text: &str| Value::Text(text.into());
        let table = [
            ("0644", int(420)),
            ("0o644", int(420)),
            ("1_000", int(1000)),
            ("0x1F", int(31)),
            ("0b101", int(5)),
            ("-5", int(-5)),
            ("+5", int(5)),
            ("08", Value::Float(8.0)),
            ("18446744073709551615", int(18_446_744_073_709_551_615)),
            ("1.5", Value::Float(1.5)),
            (".5", Value::Float(0.5)),
            ("1e3", Value::Float(1000.0)),
            ("yes", text("yes")),
            ("on", text("on")),
            ("y", text("y")),
            ("True", Value::Bool(true)),
            ("tRue", text("tRue")),
            ("~", Value::Null),
            ("", Value::Null),
            ("null", Value::Null),
            ("1:20", text("1:20")),
            ("22:22", text("22:22")),
            ("2024-01-01", text("2024-01-01")),
            ("1.2.3", text("1.2.3")),
            ("0xZZ", text("0xZZ")),
            ("-", text("-")),
            ("1_", int(1)),
            ("512m", text("512m")),
        ];
        for (given, wanted) in table {
            assert_eq!(resolve(given), wanted, "{given:?}");
        }
    }

    #[test]
    fn what_would_be_read_as_something_else_is_quoted() {
        for quoted in
            ["8080", "1.5", "true", "null", "~", "", "yes", "n", "22:22", "1:20:30", "2024-01-01", "<<"]
        {
            assert!(!is_plain_text(quoted), "{quoted:?}");
        }
        for plain in ["web", "8080:80", "512m", "1.2.3", "61:99", "truely", "2024-13-01", "a b"] {
            assert!(is_plain_text(plain), "{plain:?}");
        }
    }
}

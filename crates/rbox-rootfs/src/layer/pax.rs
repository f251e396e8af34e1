//! PAX extended headers (POSIX.1-2017, pax, "pax Extended Header") as far as a layer's entries need them.

/// One `keyword=value` record.
#[derive(Debug)]
pub(super) struct Record<'a> {
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
}

/// Splits an extended header into its records: `length SP keyword=value LF`, length counting itself.
pub(super) fn records(mut data: &[u8]) -> Result<Vec<Record<'_>>, &'static str> {
    let mut all = Vec::new();
    while !data.is_empty() {
        // Some writers pad the header to its block with NULs and count them in its size.
        if data.iter().all(|byte| *byte == 0) {
            break;
        }
        let space =
            data.iter().take(20).position(|byte| *byte == b' ').ok_or("a PAX record without a length")?;
        let (digits, _) = data.split_at(space);
        let length =
            unsigned(digits).and_then(|n| usize::try_from(n).ok()).ok_or("a PAX record with a bad length")?;
        if length <= space + 1 || length > data.len() {
            return Err("a PAX record whose length does not fit its header");
        }
        let (record, rest) = data.split_at(length);
        let body = record
            .get(space + 1..)
            .and_then(|body| body.strip_suffix(b"\n"))
            .ok_or("a PAX record that does not end in a newline")?;
        let equals = body.iter().position(|byte| *byte == b'=').ok_or("a PAX record without a value")?;
        let (key, value) = body.split_at(equals);
        if key.is_empty() {
            return Err("a PAX record without a keyword");
        }
        all.push(Record { key, value: value.get(1..).unwrap_or_default() });
        data = rest;
    }
    Ok(all)
}

/// A number of decimal digits only: no sign, no space, nothing else.
pub(super) fn unsigned(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// A time: seconds with an optional sign and fraction, as seconds and 0..=999,999,999 nanoseconds.
/// Digits beyond nanoseconds are dropped.
pub(super) fn time(value: &[u8]) -> Option<(i64, u32)> {
    let (negative, value) = match value.split_first()? {
        (b'-', rest) => (true, rest),
        _ => (false, value),
    };
    let dot = value.iter().position(|byte| *byte == b'.').unwrap_or(value.len());
    let (whole, fraction) = value.split_at(dot);
    let fraction = fraction.get(1..).unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let seconds = i64::try_from(unsigned(whole)?).ok()?;
    let nanoseconds = (0..9)
        .fold(0_u32, |sum, place| sum * 10 + fraction.get(place).map_or(0, |digit| u32::from(*digit - b'0')));
    match (negative, nanoseconds) {
        (false, _) => Some((seconds, nanoseconds)),
        (true, 0) => Some((-seconds, 0)),
        (true, _) => Some((-seconds - 1, 1_000_000_000 - nanoseconds)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn records_split_where_their_lengths_say() {
        let all = records(b"11 path=a\nb\n6 a==\n\0\0").unwrap_err();
        assert!(all.contains("newline"), "{all}");
        let all = records(b"12 path=a\nb\n7 a=b=\n6 k==\n5 e=\n\0\0").unwrap();
        let flat: Vec<_> = all.iter().map(|record| (record.key, record.value)).collect();
        assert_eq!(flat, [(&b"path"[..], &b"a\nb"[..]), (b"a", b"b="), (b"k", b"="), (b"e", b"")]);
    }

    #[test]
    fn bad_records_are_refused() {
        for bad in [
            "5 a=b\n",
            "x a=b\n",
            "99 a=b\n",
            "0 a=b\n",
            "6 =ab\n",
            "6 abc\n",
            "-6 a=\n",
            "99999999999999999999999 a=b\n",
        ] {
            assert!(records(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn times_before_1970_keep_their_fraction() {
        assert_eq!(time(b"1.5"), Some((1, 500_000_000)));
        assert_eq!(time(b"-1.5"), Some((-2, 500_000_000)));
        assert_eq!(time(b"-3"), Some((-3, 0)));
        assert_eq!(time(b"12.1234567899"), Some((12, 123_456_789)));
        assert_eq!(time(b"12."), Some((12, 0)));
        for bad in ["", "-", ".5", "1.x", "1e5", " 1", "99999999999999999999"] {
            assert_eq!(time(bad.as_bytes()), None, "{bad:?}");
        }
    }
}

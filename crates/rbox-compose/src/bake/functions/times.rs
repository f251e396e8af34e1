//! Moments: texts as RFC 3339 has them, or seconds since 1970.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};

use super::super::value::Value;
use super::given::{Entry, Given, Outcome};

pub(super) const ALL: &[Entry] = &[
    Entry("timestamp", 0, 0, false, |_| {
        let now = Timestamp::now();
        let now = Timestamp::from_second(now.as_second()).map_err(|error| error.to_string())?;
        Ok(Value::text(now.to_string()))
    }),
    Entry("timeadd", 2, 2, false, |given| {
        let (moment, offset) = moment(&Given(given).text(0)?)?;
        let duration = duration(&Given(given).text(1)?)?;
        let later = moment
            .checked_add(jiff::SignedDuration::from_nanos_i128(duration))
            .map_err(|error| error.to_string())?;
        Ok(Value::text(rfc3339(later, offset)))
    }),
    Entry("formatdate", 2, 2, false, |given| {
        let (moment, offset) = moment(&Given(given).text(1)?)?;
        formatted(&Given(given).text(0)?, moment, offset)
    }),
    Entry("formattimestamp", 2, 2, false, |given| {
        let format = Given(given).text(0)?;
        let (moment, offset) = match Given(given).value(1) {
            Value::Text(text) => moment(text)?,
            _ => (of_seconds(given, 1)?, Offset::UTC),
        };
        if &*format == "X" {
            return Ok(Value::int(moment.as_second())).map(|value| Value::text(value.to_string()));
        }
        formatted(&format, moment, offset)
    }),
    Entry("unixtimestampparse", 1, 1, false, |given| {
        let moment = of_seconds(given, 0)?;
        let date = Offset::UTC.to_datetime(moment);
        let week = date.date().iso_week_date();
        let number = |number: i64| Value::int(number);
        Value::map(
            [
                ("year", number(date.year().into())),
                ("year_day", number(date.day_of_year().into())),
                ("day", number(date.day().into())),
                ("month", number(date.month().into())),
                ("month_name", Value::text(name(MONTHS, date.month() - 1))),
                ("weekday", number(date.weekday().to_sunday_zero_offset().into())),
                ("weekday_name", Value::text(name(DAYS, date.weekday().to_sunday_zero_offset()))),
                ("hour", number(date.hour().into())),
                ("minute", number(date.minute().into())),
                ("second", number(date.second().into())),
                ("rfc3339", Value::text(rfc3339(moment, Offset::UTC))),
                ("iso_year", number(week.year().into())),
                ("iso_week", number(week.week().into())),
            ]
            .map(|(key, value)| (key.to_owned(), value))
            .into(),
        )
    }),
];

const MONTHS: &[&str] = &[
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: &[&str] = &["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

fn name(names: &'static [&'static str], place: i8) -> &'static str {
    usize::try_from(place).ok().and_then(|place| names.get(place)).copied().unwrap_or_default()
}

fn of_seconds(given: &[Value], place: usize) -> Result<Timestamp, String> {
    let seconds = Given(given).whole(place, i64::MIN, i64::MAX)?;
    Timestamp::from_second(seconds).map_err(|_| format!("{seconds} is no timestamp"))
}

fn moment(text: &str) -> Result<(Timestamp, Offset), String> {
    let refused = || format!("not a valid RFC3339 timestamp: {text:?}");
    if text.as_bytes().get(10) != Some(&b'T') {
        return Err(refused());
    }
    let pieces = jiff::fmt::temporal::Pieces::parse(text).map_err(|_| refused())?;
    let offset = pieces.to_numeric_offset().ok_or_else(refused)?;
    Ok((text.parse().map_err(|_| refused())?, offset))
}

fn rfc3339(moment: Timestamp, offset: Offset) -> String {
    if offset == Offset::UTC {
        return moment.to_string();
    }
    moment.display_with_offset(offset).to_string()
}

/// Go's durations: `1h30m`, `-1.5h`, in nanoseconds.
fn duration(text: &str) -> Result<i128, String> {
    let refused = || format!("not a valid duration: {text:?}");
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    let mut whole = 0_f64;
    while !rest.is_empty() || whole == 0.0 {
        let end = rest.find(|one: char| !one.is_ascii_digit() && one != '.').ok_or_else(refused)?;
        let (number, after) = rest.split_at(end);
        let number: f64 = number.parse().map_err(|_| refused())?;
        let end = after.find(|one: char| one.is_ascii_digit() || one == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let unit = match unit {
            "h" => 3_600e9,
            "m" => 60e9,
            "s" => 1e9,
            "ms" => 1e6,
            "us" | "µs" | "μs" => 1e3,
            "ns" => 1.0,
            _ => return Err(refused()),
        };
        whole += number * unit;
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    if whole > i64::MAX as f64 {
        return Err(refused());
    }
    Ok(whole as i128 * sign)
}

/// `YYYY-MM-DD'T'hh:mm:ssZ`.
fn formatted(format: &str, moment: Timestamp, offset: Offset) -> Outcome {
    let date = offset.to_datetime(moment);
    let zone = TimeZone::fixed(offset);
    let mut made = String::new();
    let letters: Vec<char> = format.chars().collect();
    let mut place = 0;
    while let Some(&one) = letters.get(place) {
        if one == '\'' {
            let (text, next) = quoted(&letters, place + 1)?;
            made.push_str(&text);
            place = next;
            continue;
        }
        let count = letters.iter().skip(place).take_while(|other| **other == one).count();
        place += count;
        if one.is_ascii_alphabetic() {
            let verb: String = std::iter::repeat_n(one, count).collect();
            let offset = zone.to_offset(moment);
            made.push_str(
                &part(&verb, date, offset).ok_or_else(|| format!("invalid date format verb {verb:?}"))?,
            );
        } else {
            made.extend(std::iter::repeat_n(one, count));
        }
    }
    Ok(Value::text(made))
}

/// The text up to the next quote, and what comes after that; two quotes are one.
fn quoted(letters: &[char], mut place: usize) -> Result<(String, usize), String> {
    let mut text = String::new();
    loop {
        match (letters.get(place), letters.get(place + 1)) {
            (Some('\''), Some('\'')) => {
                text.push('\'');
                place += 2;
            }
            (Some('\''), _) => return Ok((text, place + 1)),
            (Some(other), _) => {
                text.push(*other);
                place += 1;
            }
            (None, _) => return Err("unterminated literal '".to_owned()),
        }
    }
}

fn part(verb: &str, date: DateTime, offset: Offset) -> Option<String> {
    let short = |name: &str| name.chars().take(3).collect::<String>();
    let month = name(MONTHS, date.month() - 1);
    let day = name(DAYS, date.weekday().to_sunday_zero_offset());
    let hour = date.hour();
    let half = if hour % 12 == 0 { 12 } else { hour % 12 };
    let seconds = offset.seconds();
    let sign = if seconds < 0 { '-' } else { '+' };
    let (hours, minutes) = (seconds.abs() / 3600, seconds.abs() / 60 % 60);
    Some(match verb {
        "YYYY" => format!("{:04}", date.year()),
        "YY" => format!("{:02}", date.year().rem_euclid(100)),
        "MMMM" => month.to_owned(),
        "MMM" => short(month),
        "MM" => format!("{:02}", date.month()),
        "M" => date.month().to_string(),
        "DD" => format!("{:02}", date.day()),
        "D" => date.day().to_string(),
        "EEEE" => day.to_owned(),
        "EEE" => short(day),
        "hh" => format!("{hour:02}"),
        "h" => hour.to_string(),
        "HH" => format!("{half:02}"),
        "H" => half.to_string(),
        "AA" => if hour < 12 { "AM" } else { "PM" }.to_owned(),
        "aa" => if hour < 12 { "am" } else { "pm" }.to_owned(),
        "mm" => format!("{:02}", date.minute()),
        "m" => date.minute().to_string(),
        "ss" => format!("{:02}", date.second()),
        "s" => date.second().to_string(),
        "ZZZ" if seconds == 0 => "UTC".to_owned(),
        "Z" if seconds == 0 => "Z".to_owned(),
        "ZZZZZ" | "Z" => format!("{sign}{hours:02}:{minutes:02}"),
        "ZZZZ" | "ZZZ" => format!("{sign}{hours:02}{minutes:02}"),
        _ => return None,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_they_are_asked_for() {
        let (at, offset) = moment("2018-01-02T23:12:01+01:00").unwrap();
        for (format, shown) in [
            ("DD MMM YYYY hh:mm ZZZ", "02 Jan 2018 23:12 +0100"),
            ("EEEE, DD-MMM-YY hh:mm:ss ZZZ", "Tuesday, 02-Jan-18 23:12:01 +0100"),
            ("YYYY-MM-DD'T'hh:mm:ssZ", "2018-01-02T23:12:01+01:00"),
            ("H:mmaa 'o''clock'", "11:12pm o'clock"),
        ] {
            assert_eq!(formatted(format, at, offset).unwrap().to_string(), shown, "{format}");
        }
        assert!(formatted("YYY", at, offset).is_err() && formatted("'x", at, offset).is_err());
        for text in ["2018-01-02", "x", "2018-13-02T00:00:00Z", "2018-01-02 23:12:01Z", ""] {
            assert!(moment(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_those_of_go() {
        assert_eq!(duration("1h30m").unwrap(), 5_400_000_000_000);
        assert_eq!(duration("-1.5s").unwrap(), -1_500_000_000);
        for text in ["", "1", "h", "1x", "1h ", "99999999999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}

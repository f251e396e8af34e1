//! `format` and `formatlist`: Go's verbs.

use super::super::number::Number;
use super::super::value::{MOST, TOO_LARGE, Value};
use super::given::{ANY, Entry, Given, Outcome};

pub(super) const ALL: &[Entry] = &[
    Entry("format", 1, ANY, true, |given| {
        Ok(Value::text(format(&Given(given).text(0)?, given.get(1..).unwrap_or_default())?))
    }),
    Entry("formatlist", 1, ANY, true, format_list),
];

fn format_list(given: &[Value]) -> Outcome {
    let format_text = Given(given).text(0)?;
    let arguments = given.get(1..).unwrap_or_default();
    let lengths: Vec<usize> = arguments.iter().filter_map(Value::as_list).map(<[Value]>::len).collect();
    let Some(&count) = lengths.first() else {
        return Value::list(vec![Value::text(format(&format_text, arguments)?)]);
    };
    if lengths.iter().any(|length| *length != count) {
        return Err(format!("its lists have {lengths:?} elements: all have to be of one length"));
    }
    let mut all = Vec::with_capacity(count);
    let mut size = 0;
    for place in 0..count {
        let row: Vec<Value> = arguments
            .iter()
            .map(|one| {
                one.as_list()
                    .map_or_else(|| one.clone(), |list| list.get(place).cloned().unwrap_or(Value::Null))
            })
            .collect();
        let text = format(&format_text, &row)?;
        size += text.len();
        if size > MOST {
            return Err(TOO_LARGE.to_owned());
        }
        all.push(Value::text(text));
    }
    Value::list(all)
}

/// Between the percent sign and the letter.
#[derive(Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of a verb")]
struct Verb {
    left: bool,
    plus: bool,
    space: bool,
    zero: bool,
    sharp: bool,
    width: Option<usize>,
    precision: Option<usize>,
    argument: Option<usize>,
    letter: char,
}

/// No field is wider.
const WIDEST: usize = 10_000;

fn format(text: &str, arguments: &[Value]) -> Result<String, String> {
    let mut made = String::new();
    let mut letters = text.chars().peekable();
    let (mut next, mut highest) = (0, 0);
    while let Some(one) = letters.next() {
        if made.len() > MOST {
            return Err(TOO_LARGE.to_owned());
        }
        if one != '%' {
            made.push(one);
            continue;
        }
        if letters.next_if_eq(&'%').is_some() {
            made.push('%');
            continue;
        }
        let verb = verb(&mut letters)?;
        let place = verb.argument.unwrap_or(next);
        next = place + 1;
        highest = highest.max(next);
        let Some(value) = arguments.get(place) else {
            return Err(format!(
                "not enough arguments for %{}: there is no number {}",
                verb.letter,
                place + 1
            ));
        };
        made.push_str(&shown(&verb, value)?);
    }
    if highest < arguments.len() {
        return Err(format!("too many arguments: only {highest} of {} are used", arguments.len()));
    }
    Ok(made)
}

fn verb(letters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Verb, String> {
    let mut verb = Verb::default();
    while let Some(flag) = letters.next_if(|one| "-+ 0#".contains(*one)) {
        match flag {
            '-' => verb.left = true,
            '+' => verb.plus = true,
            ' ' => verb.space = true,
            '0' => verb.zero = true,
            _ => verb.sharp = true,
        }
    }
    let number = |letters: &mut std::iter::Peekable<std::str::Chars<'_>>| -> Result<Option<usize>, String> {
        let mut digits = String::new();
        while let Some(digit) = letters.next_if(char::is_ascii_digit) {
            digits.push(digit);
        }
        if digits.is_empty() {
            return Ok(None);
        }
        let number = digits.parse().ok().filter(|number| *number <= WIDEST);
        number.map(Some).ok_or_else(|| format!("{digits} is too much: at most {WIDEST}"))
    };
    verb.width = number(letters)?;
    if letters.next_if_eq(&'.').is_some() {
        verb.precision = Some(number(letters)?.unwrap_or_default());
    }
    if letters.next_if_eq(&'[').is_some() {
        let place = number(letters)?.and_then(|place| place.checked_sub(1));
        verb.argument = Some(place.ok_or("an argument's number is from 1 on")?);
        letters.next_if_eq(&']').ok_or("] is missing after an argument's number")?;
    }
    verb.letter = letters.next().ok_or("the format ends in the middle of a verb")?;
    Ok(verb)
}

fn shown(verb: &Verb, value: &Value) -> Result<String, String> {
    let quoted = |text: &str| serde_json::to_string(text).unwrap_or_default();
    let text = match (verb.letter, value) {
        ('v', Value::Null) => "null".to_owned(),
        ('v', value) if verb.sharp => super::coding::escape_html(&value.to_json().to_string()),
        ('v', Value::Number(number)) => {
            return Ok(padded(verb, &signed(verb, *number, &number.to_string()), true));
        }
        ('v', Value::List(_) | Value::Map(_)) => super::coding::escape_html(&value.to_json().to_string()),
        ('v', value) => value.to_string(),
        (letter, Value::Null) => return Err(format!("a null value cannot be shown by %{letter}")),
        ('t', value) => value.to_bool()?.to_string(),
        ('s' | 'q', value) => {
            let text = value.to_text()?;
            let cut: String = match verb.precision {
                Some(most) => text.chars().take(most).collect(),
                None => text.to_string(),
            };
            if verb.letter == 'q' { quoted(&cut) } else { cut }
        }
        ('b' | 'd' | 'o' | 'x' | 'X', value) => return whole(verb, value.to_number()?),
        ('e' | 'E' | 'f' | 'F' | 'g' | 'G', value) => return Ok(float(verb, value.to_number()?)),
        (other, _) => return Err(format!("unsupported format verb %{other}")),
    };
    Ok(padded(verb, &text, false))
}

fn whole(verb: &Verb, number: Number) -> Result<String, String> {
    let whole = number.truncated().int().ok_or_else(|| format!("{number} is too large"))?;
    let digits = whole.unsigned_abs();
    let digits = match verb.letter {
        'b' => format!("{digits:b}"),
        'o' if verb.sharp => format!("0{digits:o}"),
        'o' => format!("{digits:o}"),
        'x' if verb.sharp => format!("0x{digits:x}"),
        'x' => format!("{digits:x}"),
        'X' if verb.sharp => format!("0X{digits:X}"),
        'X' => format!("{digits:X}"),
        _ => digits.to_string(),
    };
    let digits = format!("{digits:0>width$}", width = verb.precision.unwrap_or_default());
    let text = if whole < 0 { format!("-{digits}") } else { signed(verb, number, &digits) };
    Ok(padded(verb, &text, verb.precision.is_none()))
}

fn float(verb: &Verb, number: Number) -> String {
    let float = number.float();
    let text = match verb.letter {
        'f' | 'F' => format!("{float:.*}", verb.precision.unwrap_or(6)),
        'e' | 'E' => exponent(&format!("{float:.*e}", verb.precision.unwrap_or(6))),
        _ => general(float, verb.precision),
    };
    let text = if verb.letter.is_ascii_uppercase() { text.to_uppercase() } else { text };
    padded(verb, &signed(verb, number, &text), true)
}

/// Go writes the exponent with a sign and two digits.
fn exponent(text: &str) -> String {
    let Some((digits, exponent)) = text.split_once('e') else { return text.to_owned() };
    match exponent.strip_prefix('-') {
        Some(exponent) => format!("{digits}e-{exponent:0>2}"),
        None => format!("{digits}e+{exponent:0>2}"),
    }
}

fn general(float: f64, precision: Option<usize>) -> String {
    let short =
        precision.map_or_else(|| format!("{float:e}"), |most| format!("{float:.*e}", most.max(1) - 1));
    let power: i32 = short.split_once('e').and_then(|(_, power)| power.parse().ok()).unwrap_or_default();
    let most = precision.map_or(21, |most| i32::try_from(most.max(1)).unwrap_or(i32::MAX));
    if power < -4 || power >= most {
        let (digits, power) = short.split_once('e').unwrap_or((&short, "0"));
        let digits =
            if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits };
        return exponent(&format!("{digits}e{power}"));
    }
    if precision.is_none() {
        return float.to_string();
    }
    let places = usize::try_from(most - 1 - power).unwrap_or_default();
    let text = format!("{float:.places$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

fn signed(verb: &Verb, number: Number, text: &str) -> String {
    match (verb.plus, verb.space) {
        _ if number < Number::Int(0) => text.to_owned(),
        (true, _) => format!("+{text}"),
        (false, true) => format!(" {text}"),
        _ => text.to_owned(),
    }
}

fn padded(verb: &Verb, text: &str, is_number: bool) -> String {
    let width = verb.width.unwrap_or_default();
    let missing = width.saturating_sub(text.chars().count());
    if verb.left {
        return format!("{text}{}", " ".repeat(missing));
    }
    if verb.zero && is_number {
        let digits = text.trim_start_matches(['-', '+', ' ']);
        let (sign, digits) = text.split_at(text.len() - digits.len());
        return format!("{sign}{}{digits}", "0".repeat(missing));
    }
    format!("{}{text}", " ".repeat(missing))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn verbs_are_those_of_go() {
        let number = |text: &str| Value::Number(Number::parse(text).unwrap());
        for (text, value, shown) in [
            ("<%s>", Value::text("a"), "<a>"),
            ("%5s|", Value::text("ab"), "   ab|"),
            ("%-5s|", Value::text("ab"), "ab   |"),
            ("%.1s", Value::text("ab"), "a"),
            ("%q", Value::text("a\"b"), "\"a\\\"b\""),
            ("%05d", number("-42"), "-0042"),
            ("%x", number("255"), "ff"),
            ("%+d", number("3"), "+3"),
            ("%.2f", number("1.005"), "1.00"),
            ("%e", number("1234.5"), "1.234500e+03"),
            ("%g", number("0.00001"), "1e-05"),
            ("%v", number("1.50"), "1.5"),
            ("%v", Value::Bool(true), "true"),
            ("%#v", Value::text("<"), "\"\\u003c\""),
            ("%v", Value::texts(["a", "b"]).unwrap(), "[\"a\",\"b\"]"),
            ("100%% %s", number("7"), "100% 7"),
            ("%[1]s%[1]s", Value::text("a"), "aa"),
        ] {
            assert_eq!(format(text, &[value]).unwrap(), shown, "{text}");
        }
        for text in ["%d", "%", "%z", "%[0]s", "%[x]s", "%99999999999d", "none", "%s%s", "%5"] {
            assert!(format(text, &[Value::text("x")]).is_err(), "{text}");
        }
    }
}

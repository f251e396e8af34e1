//! All functions by their names.

use super::super::value::Value;
use super::given::{ANY, Entry, Outcome};
use super::{coding, format, lists, net, numbers, sets, texts, times, versions};

/// Those of buildx that are not here, with the reason.
const LACKING: &[(&str, &str)] = &[
    ("bcrypt", "its result is another one each time"),
    ("rsadecrypt", "keys and secrets do not belong in a bake file: use a target's secret"),
    ("byteslen", "there are no values of bytes"),
    ("bytesslice", "there are no values of bytes"),
];

/// Carries a function out. None: there is none of this name here.
pub(crate) fn call(name: &str, arguments: &[Value]) -> Option<Outcome> {
    let Entry(_, least, most, takes_null, function) = entries().find(|entry| entry.0 == name)?;
    let count = arguments.len();
    if count < *least || count > *most {
        let takes = match (*least, *most) {
            (least, ANY) => format!("{least} arguments or more"),
            (least, most) if least == most => format!("{least} arguments"),
            (least, most) => format!("{least} to {most} arguments"),
        };
        return Some(Err(format!("it takes {takes}, not {count}")));
    }
    if !takes_null && let Some(place) = arguments.iter().position(Value::is_null) {
        return Some(Err(format!("argument {} must not be null", place + 1)));
    }
    Some(function(arguments))
}

fn entries() -> impl Iterator<Item = &'static Entry> {
    [
        coding::ALL,
        format::ALL,
        lists::ALL,
        net::ALL,
        numbers::ALL,
        sets::ALL,
        texts::ALL,
        times::ALL,
        versions::ALL,
    ]
    .into_iter()
    .flatten()
}

/// Whether there is a function of this name.
pub(crate) fn is_known(name: &str) -> bool {
    matches!(name, "try" | "can" | "convert") || entries().any(|entry| entry.0 == name)
}

/// What is said of a function that is not there.
pub(crate) fn unknown(name: &str) -> String {
    if let Some((_, why)) = LACKING.iter().find(|(lacking, _)| *lacking == name) {
        return format!("function {name:?} is not supported: {why}");
    }
    let near = entries().map(|entry| entry.0).find(|known| strsim::damerau_levenshtein(known, name) == 1);
    match near {
        Some(near) => format!("function {name:?} does not exist: did you mean {near}?"),
        None => format!("function {name:?} does not exist"),
    }
}

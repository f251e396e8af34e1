//! Lists and objects.

use std::collections::BTreeMap;

use unicode_segmentation::UnicodeSegmentation as _;

use super::super::value::Value;
use super::given::{ANY, Entry, Given, Outcome};

pub(super) const ALL: &[Entry] = &[
    Entry("length", 1, 1, false, |given| match Given(given).value(0) {
        Value::Text(text) => Ok(Value::int(text.graphemes(true).count() as i64)),
        value => Ok(Value::int(value.elements()?.len() as i64)),
    }),
    Entry("concat", 1, ANY, false, |given| {
        let mut all = Vec::new();
        for place in 0..given.len() {
            all.extend(Given(given).list(place)?.iter().cloned());
        }
        Value::list(all)
    }),
    Entry("contains", 2, 2, true, |given| {
        Ok(Value::Bool(Given(given).list(0)?.contains(Given(given).value(1))))
    }),
    Entry("indexof", 2, 2, true, |given| {
        let place = Given(given).list(0)?.iter().position(|one| one == Given(given).value(1));
        place.map(|place| Value::int(place as i64)).ok_or_else(|| "item not found".to_owned())
    }),
    Entry("element", 2, 2, false, |given| {
        let list = Given(given).list(0)?;
        let place = Given(given).whole(1, i64::MIN, i64::MAX)?;
        if list.is_empty() {
            return Err("cannot use it with an empty list".to_owned());
        }
        let place = place.rem_euclid(list.len() as i64);
        Ok(list.get(usize::try_from(place).unwrap_or_default()).cloned().unwrap_or(Value::Null))
    }),
    Entry("index", 2, 2, false, |given| index(Given(given).value(0), Given(given).value(1))),
    Entry("hasindex", 2, 2, false, |given| {
        Ok(Value::Bool(index(Given(given).value(0), Given(given).value(1)).is_ok()))
    }),
    Entry("lookup", 2, 3, true, |given| {
        let (from, key) = (Given(given).value(0), Given(given).text(1)?);
        let fields =
            from.as_map().ok_or_else(|| format!("argument 1: object required, not {}", from.kind()))?;
        match (fields.get(&*key), given.get(2)) {
            (Some(found), _) => Ok(found.clone()),
            (None, Some(default)) => Ok(default.clone()),
            (None, None) => Err(format!("there is no key {key:?}, and no default was given")),
        }
    }),
    Entry("keys", 1, 1, false, |given| {
        let value = Given(given).value(0);
        let fields = value.as_map().ok_or_else(|| format!("object required, not {}", value.kind()))?;
        Value::texts(fields.keys().map(String::as_str))
    }),
    Entry("values", 1, 1, false, |given| {
        let value = Given(given).value(0);
        let fields = value.as_map().ok_or_else(|| format!("object required, not {}", value.kind()))?;
        Value::list(fields.values().cloned().collect())
    }),
    Entry("merge", 0, ANY, true, |given| {
        let mut all = BTreeMap::new();
        for value in given.iter().filter(|value| !value.is_null()) {
            let fields = value.as_map().ok_or_else(|| format!("object required, not {}", value.kind()))?;
            all.extend(fields.iter().map(|(key, one)| (key.clone(), one.clone())));
        }
        Value::map(all)
    }),
    Entry("zipmap", 2, 2, false, |given| {
        let (keys, values) = (Given(given).texts(0)?, Given(given).list(1)?);
        if keys.len() != values.len() {
            return Err(format!("there are {} keys for {} values", keys.len(), values.len()));
        }
        Value::map(keys.iter().map(ToString::to_string).zip(values.iter().cloned()).collect())
    }),
    Entry("flatten", 1, 1, false, |given| {
        let mut all = Vec::new();
        flatten(Given(given).list(0)?, &mut all);
        Value::list(all)
    }),
    Entry("compact", 1, 1, false, |given| {
        let list = Given(given).list(0)?.iter().filter(|one| !one.is_null());
        let texts = list.map(Value::to_text).collect::<Result<Vec<_>, _>>()?;
        Value::texts(texts.into_iter().filter(|text| !text.is_empty()))
    }),
    Entry("distinct", 1, 1, false, |given| {
        let mut seen = std::collections::HashSet::new();
        let list = Given(given).list(0)?.iter();
        // A text and a number are two, even when they are written the same.
        Value::list(list.filter(|one| seen.insert((one.kind(), one.to_string()))).cloned().collect())
    }),
    Entry("reverselist", 1, 1, false, |given| {
        Value::list(Given(given).list(0)?.iter().rev().cloned().collect())
    }),
    Entry("sort", 1, 1, false, |given| {
        let mut texts = Given(given).texts(0)?;
        texts.sort();
        Value::texts(texts)
    }),
    Entry("slice", 3, 3, false, |given| {
        let list = Given(given).list(0)?;
        let count = list.len() as i64;
        let start = Given(given).whole(1, 0, count)?;
        let end = Given(given).whole(2, start, count)?;
        let range = usize::try_from(start).unwrap_or_default()..usize::try_from(end).unwrap_or_default();
        Value::list(list.get(range).unwrap_or_default().to_vec())
    }),
    Entry("chunklist", 2, 2, false, |given| {
        let (list, size) = (Given(given).list(0)?, Given(given).whole(1, 0, i64::MAX)?);
        let size = usize::try_from(size).ok().filter(|size| *size > 0).unwrap_or(list.len().max(1));
        Value::list(list.chunks(size).map(|chunk| Value::list(chunk.to_vec())).collect::<Result<_, _>>()?)
    }),
    Entry("range", 1, 3, false, range),
    Entry("coalesce", 1, ANY, true, |given| {
        let found = given.iter().find(|one| !one.is_null()).ok_or("no non-null arguments")?;
        let kinds = given.iter().filter(|one| !one.is_null()).map(Value::kind);
        let is_mixed = kinds.collect::<std::collections::BTreeSet<_>>().len() > 1;
        if is_mixed && given.iter().all(|one| one.is_null() || one.is_primitive()) {
            return found.to_text().map(Value::Text);
        }
        Ok(found.clone())
    }),
    Entry("coalescelist", 1, ANY, true, |given| {
        for place in (0..given.len()).filter(|place| !Given(given).value(*place).is_null()) {
            if !Given(given).list(place)?.is_empty() {
                return Ok(Given(given).value(place).clone());
            }
        }
        Err("no non-null arguments".to_owned())
    }),
    Entry("setproduct", 1, ANY, false, product),
];

fn flatten(list: &[Value], to: &mut Vec<Value>) {
    for one in list {
        match one.as_list() {
            Some(inner) => flatten(inner, to),
            None => to.push(one.clone()),
        }
    }
}

/// The element of a list or an object.
pub(crate) fn index(value: &Value, key: &Value) -> Outcome {
    match value {
        Value::List(nest) => {
            let number = key.to_number()?;
            let place = number.int().and_then(|place| usize::try_from(place).ok());
            place
                .and_then(|place| nest.items.get(place))
                .cloned()
                .ok_or_else(|| format!("there is no element {number} in a list of {}", nest.items.len()))
        }
        Value::Map(nest) => {
            let key = key.to_text()?;
            nest.items
                .get(&*key)
                .cloned()
                .ok_or_else(|| format!("there is no element {key:?} in this object"))
        }
        Value::Null => Err("the value is null: it has no elements".to_owned()),
        other => Err(format!("a {} has no elements", other.kind())),
    }
}

/// As many as Terraform's.
const MOST_STEPS: usize = 1024;

fn range(given: &[Value]) -> Outcome {
    let zero = super::super::number::Number::Int(0);
    let one = super::super::number::Number::Int(1);
    let (start, end) = match given.len() {
        1 => (zero, Given(given).number(0)?),
        _ => (Given(given).number(0)?, Given(given).number(1)?),
    };
    let step = if given.len() == 3 {
        Given(given).number(2)?
    } else if end < start {
        one.negated()?
    } else {
        one
    };
    if step == zero || (end > start && step < zero) || (end < start && step > zero) {
        return Err(format!("with a step of {step} there is no way from {start} to {end}"));
    }
    let (mut all, mut at) = (Vec::new(), start);
    while if step > zero { at < end } else { at > end } {
        if all.len() == MOST_STEPS {
            return Err(format!("more than {MOST_STEPS} values were generated"));
        }
        all.push(Value::Number(at));
        at = at.plus(step)?;
    }
    Value::list(all)
}

fn product(given: &[Value]) -> Outcome {
    const MOST: usize = 100_000;
    let mut all: Vec<Vec<Value>> = vec![Vec::new()];
    for place in 0..given.len() {
        let list = Given(given).list(place)?;
        if all.len().saturating_mul(list.len()) > MOST {
            return Err(format!("more than {MOST} combinations"));
        }
        all = all
            .iter()
            .flat_map(|head| {
                list.iter().map(move |one| [head.as_slice(), std::slice::from_ref(one)].concat())
            })
            .collect();
    }
    Value::list(all.into_iter().map(Value::list).collect::<Result<_, _>>()?)
}

//! Sets: lists in which each value is once, in order.

use super::super::types::as_set;
use super::super::value::Value;
use super::given::{ANY, Entry, Given, Outcome};

pub(super) const ALL: &[Entry] = &[
    Entry("sethaselement", 2, 2, false, |given| {
        Ok(Value::Bool(Given(given).list(0)?.contains(Given(given).value(1))))
    }),
    Entry("setunion", 1, ANY, false, |given| {
        let mut all = Vec::new();
        for place in 0..given.len() {
            all.extend(Given(given).list(place)?.iter().cloned());
        }
        Value::list(as_set(all))
    }),
    Entry("setintersection", 1, ANY, false, |given| {
        let mut all = as_set(Given(given).list(0)?.to_vec());
        for place in 1..given.len() {
            all = only(all, Given(given).list(place)?, true)?;
        }
        Value::list(all)
    }),
    Entry("setsubtract", 2, 2, false, |given| {
        Value::list(only(as_set(Given(given).list(0)?.to_vec()), Given(given).list(1)?, false)?)
    }),
    Entry("setsymmetricdifference", 1, ANY, false, difference),
];

/// Those that are in another list, or that are not.
fn only(list: Vec<Value>, other: &[Value], wanted: bool) -> Result<Vec<Value>, String> {
    let other = as_set(other.to_vec());
    if list.len().saturating_mul(other.len()) > 10_000_000 {
        return Err("the sets are too large".to_owned());
    }
    Ok(list.into_iter().filter(|one| other.contains(one) == wanted).collect())
}

fn difference(given: &[Value]) -> Outcome {
    let mut all = as_set(Given(given).list(0)?.to_vec());
    for place in 1..given.len() {
        let other = as_set(Given(given).list(place)?.to_vec());
        let mut left = only(all.clone(), &other, false)?;
        left.extend(only(other, &all, false)?);
        all = as_set(left);
    }
    Value::list(all)
}

//! What functions are given.

use std::rc::Rc;

use super::super::number::Number;
use super::super::value::Value;

/// What a function comes to.
pub(crate) type Outcome = Result<Value, String>;

/// A function: its name, how many arguments it takes at least and at most, whether these may be null, and what it does.
pub(super) struct Entry(
    pub(super) &'static str,
    pub(super) usize,
    pub(super) usize,
    pub(super) bool,
    pub(super) fn(&[Value]) -> Outcome,
);

/// Any number of arguments.
pub(super) const ANY: usize = usize::MAX;

/// The arguments, by what they have to be.
pub(super) struct Given<'a>(pub(super) &'a [Value]);

impl<'a> Given<'a> {
    pub(super) fn value(&self, place: usize) -> &'a Value {
        self.0.get(place).unwrap_or(&Value::Null)
    }

    pub(super) fn text(&self, place: usize) -> Result<Rc<str>, String> {
        self.value(place).to_text().map_err(|error| format!("argument {}: {error}", place + 1))
    }

    pub(super) fn number(&self, place: usize) -> Result<Number, String> {
        self.value(place).to_number().map_err(|error| format!("argument {}: {error}", place + 1))
    }

    /// A whole number, within these.
    pub(super) fn whole(&self, place: usize, least: i64, most: i64) -> Result<i64, String> {
        let number = self.number(place)?;
        let whole = number.int().and_then(|number| i64::try_from(number).ok());
        whole.filter(|number| (least..=most).contains(number)).ok_or_else(|| {
            format!("argument {}: {number} is no whole number from {least} to {most}", place + 1)
        })
    }

    pub(super) fn truth(&self, place: usize) -> Result<bool, String> {
        self.value(place).to_bool().map_err(|error| format!("argument {}: {error}", place + 1))
    }

    pub(super) fn list(&self, place: usize) -> Result<&'a [Value], String> {
        let value = self.value(place);
        value.as_list().ok_or_else(|| format!("argument {}: list required, not {}", place + 1, value.kind()))
    }

    pub(super) fn texts(&self, place: usize) -> Result<Vec<Rc<str>>, String> {
        let of = |one: &Value| one.to_text().map_err(|error| format!("argument {}: {error}", place + 1));
        self.list(place)?.iter().map(of).collect()
    }
}

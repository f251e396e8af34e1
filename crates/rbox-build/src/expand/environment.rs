//! Where the values of variables come from.

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;

/// Variables and their values.
pub trait Environment {
    /// The value of the variable `name`, if it is set.
    fn value(&self, name: &str) -> Option<&str>;
}

impl Environment for BTreeMap<String, String> {
    fn value(&self, name: &str) -> Option<&str> {
        self.get(name).map(String::as_str)
    }
}

impl<S: BuildHasher> Environment for HashMap<String, String, S> {
    fn value(&self, name: &str) -> Option<&str> {
        self.get(name).map(String::as_str)
    }
}

/// The last one of a name counts.
impl<K: AsRef<str>, V: AsRef<str>> Environment for [(K, V)] {
    fn value(&self, name: &str) -> Option<&str> {
        self.iter().rev().find(|(key, _)| key.as_ref() == name).map(|(_, value)| value.as_ref())
    }
}

/// The last one of a name counts.
impl<K: AsRef<str>, V: AsRef<str>> Environment for Vec<(K, V)> {
    fn value(&self, name: &str) -> Option<&str> {
        self.as_slice().value(name)
    }
}

/// None is set.
impl Environment for () {
    fn value(&self, _: &str) -> Option<&str> {
        None
    }
}

impl<E: Environment + ?Sized> Environment for &E {
    fn value(&self, name: &str) -> Option<&str> {
        (**self).value(name)
    }
}

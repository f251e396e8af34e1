//! What may stand at a place, and the words for what may not.

use crate::yaml::{At, Map, Node, Value};

/// A type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    Text,
    Bool,
    Int,
    Number,
    Null,
}

/// What may stand at a place.
pub(crate) enum Rule {
    Any,
    /// Another rule.
    Ref(&'static Rule),
    /// A value of one of these types.
    Of(&'static [Type]),
    /// One of these words.
    Word(&'static [&'static str]),
    /// An integer in these bounds, or a text.
    Bounded(i64, i64),
    /// A text that passes; the pattern is for the message.
    Text(fn(&str) -> bool, &'static str),
    /// One of these, which differ in whether they are mappings, lists or neither.
    Either(&'static [Rule]),
    List {
        of: &'static Rule,
        unique: bool,
    },
    /// A mapping of known keys; `x-…` go with `extensible`.
    Keys {
        keys: &'static [(&'static str, &'static Rule)],
        required: &'static [&'static str],
        extensible: bool,
        nullable: bool,
    },
    /// A mapping of names that the user chooses.
    Named {
        of: &'static Rule,
        name: fn(&str) -> bool,
        nullable: bool,
    },
}

type Fault = (At, String);

impl Rule {
    /// Holds a value against the rule.
    pub(crate) fn check(&self, node: &Node, path: &mut Vec<String>) -> Result<(), Fault> {
        match self {
            Self::Any => Ok(()),
            Self::Ref(rule) => rule.check(node, path),
            Self::Of(types) if types.iter().any(|kind| kind.holds(&node.value)) => Ok(()),
            Self::Of(_) => self.wrong(node, path),
            Self::Word(words) => match node.as_text() {
                Some(text) if words.contains(&text) => Ok(()),
                Some(text) => {
                    let list: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
                    let hint = near(text, words.iter().copied());
                    Err((node.at, format!("{} value must be one of {}{hint}", shown(path), list.join(", "))))
                }
                None => self.wrong(node, path),
            },
            Self::Bounded(low, high) => bounded(node, *low, *high, path),
            Self::Text(passes, pattern) => match node.as_text() {
                Some(text) if passes(text) => Ok(()),
                Some(text) => {
                    Err((node.at, format!("{} '{text}' does not match pattern '{pattern}'", shown(path))))
                }
                None => self.wrong(node, path),
            },
            Self::Either(rules) => either(self, rules, node, path),
            Self::List { of, unique } => self.list(of, *unique, node, path),
            Self::Keys { keys, required, extensible, nullable } => match &node.value {
                Value::Null if *nullable => Ok(()),
                Value::Map(map) => keyed(map, keys, required, *extensible, node.at, path),
                _ => self.wrong(node, path),
            },
            Self::Named { of, name, nullable } => match &node.value {
                Value::Null if *nullable => Ok(()),
                Value::Map(map) => {
                    for (key, node) in map {
                        if !name(key) {
                            let message =
                                format!("{} additional properties '{key}' not allowed", shown(path));
                            return Err((node.key, message.trim_start().to_owned()));
                        }
                        path.push(key.clone());
                        of.check(node, path)?;
                        path.pop();
                    }
                    Ok(())
                }
                _ => self.wrong(node, path),
            },
        }
    }

    fn list(&self, of: &Self, unique: bool, node: &Node, path: &mut Vec<String>) -> Result<(), Fault> {
        let Some(list) = node.as_list() else { return self.wrong(node, path) };
        for (index, node) in list.iter().enumerate() {
            path.push(index.to_string());
            of.check(node, path)?;
            path.pop();
        }
        // Who writes a thousand entries has a program that does not repeat itself; comparing all of them takes too long.
        if unique && list.len() <= 1000 {
            for (index, node) in list.iter().enumerate() {
                if let Some(before) = list[..index].iter().position(|other| other == node) {
                    let message = format!("{} items at {before} and {index} are equal", shown(path));
                    return Err((node.at, message));
                }
            }
        }
        Ok(())
    }

    fn wrong(&self, node: &Node, path: &[String]) -> Result<(), Fault> {
        let mut names = Vec::new();
        self.names(&mut names);
        names.sort_unstable();
        names.dedup();
        let list = match names.split_last() {
            Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
            _ => names.concat(),
        };
        let place = if path.is_empty() { "top-level".to_owned() } else { shown(path) };
        Err((node.at, format!("{place} must be a {list}")))
    }

    fn names(&self, names: &mut Vec<&'static str>) {
        match self {
            Self::Any => {}
            Self::Ref(rule) => rule.names(names),
            Self::Of(types) => names.extend(types.iter().map(|kind| kind.name())),
            Self::Word(_) | Self::Text(..) => names.push("string"),
            Self::Bounded(..) => names.extend(["integer", "string"]),
            Self::Either(rules) => rules.iter().for_each(|rule| rule.names(names)),
            Self::List { .. } => names.push("array"),
            Self::Keys { .. } | Self::Named { .. } => names.push("mapping"),
        }
    }

    fn fits(&self, value: &Value) -> bool {
        match self {
            Self::Any => true,
            Self::Ref(rule) => rule.fits(value),
            Self::Of(types) => types.iter().any(|kind| kind.holds(value)),
            Self::Word(_) | Self::Text(..) => matches!(value, Value::Text(_)),
            Self::Bounded(..) => matches!(value, Value::Text(_) | Value::Int(_) | Value::Float(_)),
            Self::Either(rules) => rules.iter().any(|rule| rule.fits(value)),
            Self::List { .. } => matches!(value, Value::List(_)),
            Self::Keys { .. } | Self::Named { .. } => matches!(value, Value::Map(_)),
        }
    }
}

impl Type {
    fn holds(self, value: &Value) -> bool {
        match (self, value) {
            (Self::Text, Value::Text(_))
            | (Self::Bool, Value::Bool(_))
            | (Self::Int | Self::Number, Value::Int(_))
            | (Self::Number, Value::Float(_))
            | (Self::Null, Value::Null) => true,
            (Self::Int, Value::Float(float)) => float.fract() == 0.0,
            _ => false,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Text => "string",
            Self::Bool => "boolean",
            Self::Int => "integer",
            Self::Number => "number",
            Self::Null => "null",
        }
    }
}

fn shown(path: &[String]) -> String {
    path.join(".")
}

fn bounded(node: &Node, low: i64, high: i64, path: &[String]) -> Result<(), Fault> {
    let number = match &node.value {
        Value::Text(_) => return Ok(()),
        Value::Int(int) => *int as f64,
        Value::Float(float) if float.fract() == 0.0 => *float,
        _ => return Err((node.at, format!("{} must be a integer or string", shown(path)))),
    };
    if number < low as f64 {
        return Err((node.at, format!("{} must be greater than or equal to {low}", shown(path))));
    }
    if number > high as f64 {
        return Err((node.at, format!("{} must be less than or equal to {high}", shown(path))));
    }
    Ok(())
}

fn either(rule: &Rule, rules: &[Rule], node: &Node, path: &mut Vec<String>) -> Result<(), Fault> {
    match rules.iter().find(|rule| rule.fits(&node.value)) {
        Some(rule) => rule.check(node, path),
        None => rule.wrong(node, path),
    }
}

fn keyed(
    map: &Map,
    keys: &[(&'static str, &'static Rule)],
    required: &[&str],
    extensible: bool,
    at: At,
    path: &mut Vec<String>,
) -> Result<(), Fault> {
    for (key, node) in map {
        let rule = keys.iter().find(|(name, _)| name == key);
        match rule {
            Some((_, rule)) => {
                path.push(key.clone());
                rule.check(node, path)?;
                path.pop();
            }
            None if extensible && key.starts_with("x-") => {}
            None => {
                let hint = near(key, keys.iter().map(|(name, _)| *name));
                let message = format!("{} additional properties '{key}' not allowed{hint}", shown(path));
                return Err((node.key, message.trim_start().to_owned()));
            }
        }
    }
    if let Some(missing) = required.iter().find(|key| !map.contains_key(**key)) {
        return Err((at, format!("{} missing property '{missing}'", shown(path))));
    }
    Ok(())
}

/// ` (did you mean 'image'?)`, of what is near.
fn near<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> String {
    let plain = |text: &str| text.to_lowercase().replace('-', "_");
    let wanted = plain(word);
    let best = names
        .map(|name| (strsim::damerau_levenshtein(&wanted, &plain(name)), name))
        .filter(|(distance, name)| *distance <= 1 + name.len() / 4)
        .min_by_key(|(distance, _)| *distance);
    best.map_or_else(String::new, |(_, name)| format!(" (did you mean '{name}'?)"))
}

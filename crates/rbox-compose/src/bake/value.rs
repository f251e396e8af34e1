//! What expressions of bake files come to. Each value knows how much it is and how deep, so that nothing that works on one runs away.

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use super::number::Number;

/// No value is larger: bytes of its texts and the number of its elements, those that are shared counted each time.
pub(crate) const MOST: usize = 2 << 20;
/// No value has more lists and objects in one another.
const DEEPEST: u16 = 100;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Number(Number),
    Text(Rc<str>),
    List(Rc<Nest<Vec<Value>>>),
    Map(Rc<Nest<BTreeMap<String, Value>>>),
}

/// The elements of a list or an object.
#[derive(Debug, PartialEq)]
pub(crate) struct Nest<T> {
    pub(crate) items: T,
    weight: usize,
    depth: u16,
}

/// A value that is too large.
pub(crate) const TOO_LARGE: &str =
    "the value is too large: a bake file makes no more than 2 MiB, in 100 levels";

impl Value {
    pub(crate) fn text(text: impl Into<Rc<str>>) -> Self {
        Self::Text(text.into())
    }

    pub(crate) fn int(number: impl Into<i128>) -> Self {
        Self::Number(Number::Int(number.into()))
    }

    /// A list.
    pub(crate) fn list(items: Vec<Self>) -> Result<Self, String> {
        let (weight, depth) = measure(items.iter())?;
        Ok(Self::List(Rc::new(Nest { items, weight, depth })))
    }

    /// An object.
    pub(crate) fn map(items: BTreeMap<String, Self>) -> Result<Self, String> {
        let keys: usize = items.keys().map(String::len).sum();
        let (weight, depth) = measure(items.values())?;
        if weight + keys > MOST {
            return Err(TOO_LARGE.to_owned());
        }
        Ok(Self::Map(Rc::new(Nest { items, weight: weight + keys, depth })))
    }

    /// A list of texts.
    pub(crate) fn texts<T: Into<Rc<str>>>(texts: impl IntoIterator<Item = T>) -> Result<Self, String> {
        Self::list(texts.into_iter().map(Self::text).collect())
    }

    /// How much it is.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Text(text) => 1 + text.len(),
            Self::List(nest) => nest.weight,
            Self::Map(nest) => nest.weight,
            _ => 1,
        }
    }

    fn depth(&self) -> u16 {
        match self {
            Self::List(nest) => nest.depth,
            Self::Map(nest) => nest.depth,
            _ => 0,
        }
    }

    pub(crate) const fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    pub(crate) fn as_list(&self) -> Option<&[Self]> {
        match self {
            Self::List(nest) => Some(&nest.items),
            _ => None,
        }
    }

    pub(crate) fn as_map(&self) -> Option<&BTreeMap<String, Self>> {
        match self {
            Self::Map(nest) => Some(&nest.items),
            _ => None,
        }
    }

    /// What its kind is called.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "bool",
            Self::Number(_) => "number",
            Self::Text(_) => "string",
            Self::List(_) => "list",
            Self::Map(_) => "object",
        }
    }

    pub(crate) const fn is_primitive(&self) -> bool {
        matches!(self, Self::Bool(_) | Self::Number(_) | Self::Text(_))
    }

    /// As a text: numbers and truths are written out.
    pub(crate) fn to_text(&self) -> Result<Rc<str>, String> {
        match self {
            Self::Text(text) => Ok(Rc::clone(text)),
            Self::Number(number) => Ok(number.to_string().into()),
            Self::Bool(truth) => Ok(if *truth { "true" } else { "false" }.into()),
            other => Err(format!("string required, not {}", other.kind())),
        }
    }

    /// As a truth: the words are those of HCL.
    pub(crate) fn to_bool(&self) -> Result<bool, String> {
        match self {
            Self::Bool(truth) => Ok(*truth),
            Self::Text(text) => match &**text {
                "true" | "1" => Ok(true),
                "false" | "0" => Ok(false),
                _ => Err(format!("a bool is required, not {text:?}")),
            },
            other => Err(format!("bool required, not {}", other.kind())),
        }
    }

    /// As a number.
    pub(crate) fn to_number(&self) -> Result<Number, String> {
        match self {
            Self::Number(number) => Ok(*number),
            Self::Text(text) => {
                Number::parse(text).ok_or_else(|| format!("a number is required, not {text:?}"))
            }
            other => Err(format!("number required, not {}", other.kind())),
        }
    }

    /// The elements of a list, or the values of an object in the order of its keys.
    pub(crate) fn elements(&self) -> Result<Vec<Self>, String> {
        match self {
            Self::List(nest) => Ok(nest.items.clone()),
            Self::Map(nest) => Ok(nest.items.values().cloned().collect()),
            other => Err(format!("a list or an object is required, not {}", other.kind())),
        }
    }

    /// As JSON.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Null => serde_json::Value::Null,
            Self::Bool(truth) => (*truth).into(),
            Self::Number(number) => number.to_json(),
            Self::Text(text) => text.to_string().into(),
            Self::List(nest) => nest.items.iter().map(Self::to_json).collect(),
            Self::Map(nest) => serde_json::Value::Object(
                nest.items.iter().map(|(key, one)| (key.clone(), one.to_json())).collect(),
            ),
        }
    }

    /// From JSON.
    pub(crate) fn of_json(json: &serde_json::Value) -> Result<Self, String> {
        Ok(match json {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Bool(truth) => Self::Bool(*truth),
            serde_json::Value::Number(number) => {
                Self::Number(Number::parse(&number.to_string()).ok_or("a number is out of range")?)
            }
            serde_json::Value::String(text) => Self::text(text.as_str()),
            serde_json::Value::Array(items) => {
                Self::list(items.iter().map(Self::of_json).collect::<Result<_, _>>()?)?
            }
            serde_json::Value::Object(fields) => Self::map(
                fields
                    .iter()
                    .map(|(key, one)| Ok((key.clone(), Self::of_json(one)?)))
                    .collect::<Result<_, String>>()?,
            )?,
        })
    }
}

fn measure<'a>(items: impl Iterator<Item = &'a Value>) -> Result<(usize, u16), String> {
    let (mut weight, mut depth) = (1_usize, 0_u16);
    for item in items {
        weight = weight.saturating_add(item.weight());
        depth = depth.max(item.depth());
    }
    if weight > MOST || depth >= DEEPEST {
        return Err(TOO_LARGE.to_owned());
    }
    Ok((weight, depth + 1))
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_text() {
            Ok(text) => f.write_str(&text),
            Err(_) => write!(f, "{}", self.to_json()),
        }
    }
}

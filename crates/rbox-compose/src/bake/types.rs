//! Types of variables: `list(string)`, `object({a = number})` and their kin, and what it takes to be of one.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use super::syntax::{Expr, Kind};
use super::value::Value;

/// A type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    Any,
    Text,
    Number,
    Bool,
    List(Box<Self>),
    Set(Box<Self>),
    Map(Box<Self>),
    Tuple(Vec<Self>),
    /// Each with whether it may be left out.
    Object(BTreeMap<String, (Self, bool)>),
}

impl Type {
    /// Reads what stands after `type =`. The error has the expression it is about.
    pub(crate) fn of(expr: &Expr) -> Result<Self, (Expr, String)> {
        let fault = |message: String| (expr.clone(), message);
        if let Some(word) = expr.keyword() {
            return match word {
                "any" => Ok(Self::Any),
                "string" => Ok(Self::Text),
                "number" => Ok(Self::Number),
                "bool" => Ok(Self::Bool),
                "list" | "set" | "map" | "tuple" | "object" => {
                    Err(fault(format!("the type {word} needs one in parentheses: {word}(…)")))
                }
                _ => match super::hcl::expression(word, expr.at) {
                    // JSON has it as a text.
                    Ok(inner) if matches!(inner.kind, Kind::Call(_)) => Self::of(&inner),
                    _ => Err(fault(format!("{word:?} is no type"))),
                },
            };
        }
        let Kind::Call(call) = &expr.kind else { return Err(fault("a type is required here".to_owned())) };
        let [inner] = call.arguments.as_slice() else {
            return Err(fault(format!("the type {} takes one argument", call.name)));
        };
        match (call.name.as_str(), &inner.kind) {
            ("list", _) => Ok(Self::List(Box::new(Self::of(inner)?))),
            ("set", _) => Ok(Self::Set(Box::new(Self::of(inner)?))),
            ("map", _) => Ok(Self::Map(Box::new(Self::of(inner)?))),
            ("tuple", Kind::List(items)) => {
                Ok(Self::Tuple(items.iter().map(Self::of).collect::<Result<_, _>>()?))
            }
            ("object", Kind::Object(fields)) => {
                let field = |(key, of): &(Expr, Expr)| {
                    let name =
                        key.keyword().ok_or_else(|| (key.clone(), "a name is required here".to_owned()))?;
                    Ok((name.to_owned(), Self::optional(of)?))
                };
                Ok(Self::Object(fields.iter().map(field).collect::<Result<_, (Expr, String)>>()?))
            }
            (name, _) => Err(fault(format!("{name}(…) is no type here"))),
        }
    }

    /// `optional(T)`, in an object.
    fn optional(expr: &Expr) -> Result<(Self, bool), (Expr, String)> {
        match &expr.kind {
            Kind::Call(call) if call.name == "optional" => match call.arguments.as_slice() {
                [inner] => Ok((Self::of(inner)?, true)),
                _ => Err((expr.clone(), "optional takes one type".to_owned())),
            },
            _ => Ok((Self::of(expr)?, false)),
        }
    }

    pub(crate) const fn is_primitive(&self) -> bool {
        matches!(self, Self::Text | Self::Number | Self::Bool)
    }

    /// The value as one of this type.
    pub(crate) fn convert(&self, value: &Value) -> Result<Value, String> {
        if value.is_null() {
            return Ok(Value::Null);
        }
        Ok(match self {
            Self::Any => value.clone(),
            Self::Text => Value::Text(value.to_text()?),
            Self::Number => Value::Number(value.to_number()?),
            Self::Bool => Value::Bool(value.to_bool()?),
            Self::List(of) => Value::list(Self::all(of, value)?)?,
            Self::Set(of) => Value::list(as_set(Self::all(of, value)?))?,
            Self::Map(of) => {
                let fields = value.as_map().ok_or_else(|| format!("map required, not {}", value.kind()))?;
                let field = |(key, one): (&String, &Value)| Ok((key.clone(), of.convert(one)?));
                Value::map(fields.iter().map(field).collect::<Result<_, String>>()?)?
            }
            Self::Tuple(of) => {
                let items = value.as_list().ok_or_else(|| format!("tuple required, not {}", value.kind()))?;
                if items.len() != of.len() {
                    return Err(format!(
                        "a tuple of {} elements is required, not of {}",
                        of.len(),
                        items.len()
                    ));
                }
                Value::list(of.iter().zip(items).map(|(of, one)| of.convert(one)).collect::<Result<_, _>>()?)?
            }
            Self::Object(of) => {
                let fields =
                    value.as_map().ok_or_else(|| format!("object required, not {}", value.kind()))?;
                let field = |(key, (of, is_optional)): (&String, &(Self, bool))| match fields.get(key) {
                    Some(one) => Ok((key.clone(), of.convert(one)?)),
                    None if *is_optional => Ok((key.clone(), Value::Null)),
                    None => Err(format!("attribute {key:?} is required")),
                };
                Value::map(of.iter().map(field).collect::<Result<_, String>>()?)?
            }
        })
    }

    fn all(of: &Self, value: &Value) -> Result<Vec<Value>, String> {
        let items = value.as_list().ok_or_else(|| format!("list required, not {}", value.kind()))?;
        items.iter().map(|one| of.convert(one)).collect()
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any type"),
            Self::Text => f.write_str("string"),
            Self::Number => f.write_str("number"),
            Self::Bool => f.write_str("bool"),
            Self::List(of) => write!(f, "list of {of}"),
            Self::Set(of) => write!(f, "set of {of}"),
            Self::Map(of) => write!(f, "map of {of}"),
            Self::Tuple(_) => f.write_str("tuple"),
            Self::Object(_) => f.write_str("object"),
        }
    }
}

/// Each value once, in an order: numbers by what they are, all else by how it is written.
pub(crate) fn as_set(items: Vec<Value>) -> Vec<Value> {
    let mut keyed: Vec<(String, Value)> = items.into_iter().map(|one| (one.to_string(), one)).collect();
    keyed.sort_by(|(left_text, left), (right_text, right)| {
        let by_text = left_text.cmp(right_text);
        match (left, right) {
            (Value::Number(left), Value::Number(right)) => left.partial_cmp(right).unwrap_or(by_text),
            (Value::Number(_), _) => Ordering::Less,
            (_, Value::Number(_)) => Ordering::Greater,
            _ => by_text,
        }
    });
    keyed.dedup_by(|left, right| left.1 == right.1);
    keyed.into_iter().map(|(_, one)| one).collect()
}

//! Variables that are set from outside: from a text to a value of the variable's type.

use std::collections::BTreeMap;

use super::entries::truth;
use super::functions::fields;
use super::number::Number;
use super::types::{Type, as_set};
use super::value::Value;

/// What a text from outside means for a variable of this type, or with this default.
pub(crate) fn overridden(
    name: &str,
    text: &str,
    is_json: bool,
    of: Option<&Type>,
    default: Option<&Value>,
) -> Result<Value, String> {
    if is_json && let Some(of) = of {
        let from_json = rbox_spec::json::from_slice(text.as_bytes()).map_err(|error| error.to_string());
        let value = from_json.and_then(|json| of.convert(&Value::of_json(&json)?));
        return value.map_err(|error| format!("failed to convert variable {name} from JSON: {error}"));
    }
    match of {
        Some(of @ (Type::List(_) | Type::Set(_) | Type::Tuple(_) | Type::Map(_))) => {
            of_fields(name, text, of)
                .map_err(|error| format!("failed to convert variable {name} from CSV: {error}"))
        }
        Some(of) if of.is_primitive() => primitive(name, text, of),
        Some(of) => Err(format!("unsupported type {of} for variable {name}: {name}_JSON takes one as JSON")),
        None => match default {
            None | Some(Value::Null | Value::Text(_)) => Ok(Value::text(text)),
            Some(Value::Bool(_)) => primitive(name, text, &Type::Bool),
            Some(Value::Number(_)) => primitive(name, text, &Type::Number),
            Some(other) => Err(format!(
                "unsupported type {} for variable {name}: with a type, such as list(string), it can be set from outside",
                other.kind()
            )),
        },
    }
}

fn primitive(name: &str, text: &str, of: &Type) -> Result<Value, String> {
    match of {
        Type::Bool => truth(text)
            .map(Value::Bool)
            .map_err(|_| format!("failed to parse {name} as bool: invalid value {text:?}")),
        Type::Number => {
            let plain = text.strip_prefix('+').unwrap_or(text);
            let number = Number::parse(plain).or_else(|| Number::of(plain.parse().ok()?).ok());
            number
                .map(Value::Number)
                .ok_or_else(|| format!("failed to parse {name} as number: invalid value {text:?}"))
        }
        Type::Text => Ok(Value::text(text)),
        other => Err(format!("unsupported type {other} for CSV specification")),
    }
}

fn of_fields(name: &str, text: &str, of: &Type) -> Result<Value, String> {
    let fields = fields(text)?;
    let all =
        |of: &Type| fields.iter().map(|field| primitive(name, field, of)).collect::<Result<Vec<_>, _>>();
    match of {
        Type::List(of) => Value::list(all(of)?),
        Type::Set(of) => Value::list(as_set(all(of)?)),
        Type::Tuple(of) if of.len() != fields.len() => {
            Err(format!("tuple expects {} elements but {} are given", of.len(), fields.len()))
        }
        Type::Tuple(of) => Value::list(
            of.iter().zip(&fields).map(|(of, field)| primitive(name, field, of)).collect::<Result<_, _>>()?,
        ),
        Type::Map(of) => {
            let mut all = BTreeMap::new();
            for field in &fields {
                let (key, value) =
                    field.split_once(':').ok_or_else(|| format!("{field:?} is no pair of key:value"))?;
                all.insert(key.to_owned(), primitive(name, value, of)?);
            }
            Value::map(all)
        }
        other => Err(format!("unsupported type {other} for CSV specification")),
    }
}

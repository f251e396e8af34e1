//! From a canonical tree to the values of structs, as mapstructure binds it and Go writes it.

use std::collections::BTreeMap;

use super::shapes::{Field, Keep, Shape};
use super::values::{bytes, duration, float_32, octal, shell_words};
use crate::yaml::{At, Map, Node, Out, Value};

/// Whom it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Yaml,
    /// Without `x-…`.
    Json,
    /// JSON with all there is, for the typed model.
    Model,
}

/// What is wrong with a value, and where.
pub(crate) type Fault = (At, String);

/// Binds the entries of a mapping to fields.
pub(crate) fn bind(map: &Map, fields: &[Field], form: Form, path: &str) -> Result<Out, Fault> {
    let mut out = Vec::new();
    for field in fields {
        let path = format!("{path}.{}", field.key);
        let name = match (form, field.json) {
            (Form::Json, Some(json)) => json,
            _ => field.key,
        };
        if field.keep == Keep::Yaml && form == Form::Json {
            continue;
        }
        let null = Node::default();
        let node = map.get(field.key).unwrap_or(&null);
        let value = shaped(node, &field.shape, form, &path)?;
        let shown = match field.keep {
            Keep::Set | Keep::Yaml => value,
            Keep::Always => Some(value.unwrap_or_else(|| zero(&field.shape))),
            Keep::Json if form == Form::Yaml => value,
            Keep::Json => Some(value.unwrap_or(Out::Null)),
        };
        if let Some(value) = shown {
            out.push((name.to_owned(), value));
        }
    }
    if form != Form::Json {
        let mut extensions: Vec<_> = map.iter().filter(|(key, _)| key.starts_with("x-")).collect();
        extensions.sort_by(|a, b| crate::yaml::natural(a.0, b.0));
        out.extend(extensions.into_iter().map(|(key, node)| (key.clone(), Out::from(node))));
    }
    Ok(Out::Fields(out))
}

fn zero(shape: &Shape) -> Out {
    match shape {
        Shape::Bool => Out::Bool(false),
        Shape::Int => Out::Int(0),
        Shape::Bytes => Out::Text("0".into()),
        Shape::Map(_) => Out::Sorted(BTreeMap::new()),
        _ => Out::Text(String::new()),
    }
}

fn wrong(node: &Node, path: &str, wanted: &str) -> Fault {
    (node.at, format!("{path} must be a {wanted}, not {}", node.value.go_type()))
}

/// The value of a field; none when it is zero and Go would leave it out.
fn shaped(node: &Node, shape: &Shape, form: Form, path: &str) -> Result<Option<Out>, Fault> {
    if node.is_null() {
        return Ok(match shape {
            Shape::Struct(fields) if form != Form::Yaml => Some(bind(&Map::new(), fields, form, path)?),
            _ => None,
        });
    }
    let some = |out: Out| Ok(Some(out));
    match shape {
        Shape::Text => {
            let text = text(node, path)?;
            Ok((!text.is_empty()).then_some(Out::Text(text)))
        }
        Shape::Bool => Ok(boolean(node, path)?.then_some(Out::Bool(true))),
        Shape::MaybeBool => some(Out::Bool(boolean(node, path)?)),
        Shape::Int => Ok(Some(integer(node, path)?).filter(|int| *int != 0).map(Out::Int)),
        Shape::MaybeInt => some(Out::Int(integer(node, path)?)),
        Shape::Float | Shape::Cpus => {
            let float = float(node, path)?;
            Ok((float != 0.0).then_some(Out::Float(float)))
        }
        Shape::Bytes => {
            let size = size(node, path)?;
            Ok((size != 0).then(|| Out::Text(size.to_string())))
        }
        Shape::Duration | Shape::MaybeDuration => {
            let text =
                duration(&node.value.to_string()).map_err(|error| (node.at, format!("{path}: {error}")))?;
            let is_shown = text != "0s" || matches!(shape, Shape::MaybeDuration);
            Ok(is_shown.then_some(Out::Text(text)))
        }
        Shape::Texts | Shape::Numbers => {
            let texts = texts(node, path, matches!(shape, Shape::Numbers))?;
            Ok((!texts.is_empty()).then_some(Out::List(texts)))
        }
        Shape::Command => some(command(node, path)?),
        Shape::HealthTest => {
            if let Value::Text(text) = &node.value {
                return some(Out::List(vec![Out::Text("CMD-SHELL".into()), Out::Text(text.clone())]));
            }
            let texts = texts(node, path, false)?;
            Ok((!texts.is_empty()).then_some(Out::List(texts)))
        }
        Shape::Env => env(node, path),
        Shape::Mapping | Shape::Labels | Shape::Options => mapping(node, path),
        Shape::MultiOptions => multi_options(node, path),
        Shape::Hosts => hosts(node, path),
        Shape::Ssh => ssh(node, form),
        Shape::Ulimits => ulimits(node, form, path),
        Shape::EnvFiles => env_files(node, form, path),
        Shape::Mode => some(Out::Text(octal(node).map_err(|error| (node.at, format!("{path}: {error}")))?)),
        Shape::Count => count(node, path),
        Shape::Struct(fields) => {
            let out = bind(struct_of(node, path)?, fields, form, path)?;
            let empty = matches!(&out, Out::Fields(fields) if fields.is_empty());
            Ok((form != Form::Yaml || !empty).then_some(out))
        }
        Shape::Maybe(fields) => some(bind(struct_of(node, path)?, fields, form, path)?),
        Shape::List(fields) => list_of(node, fields, form, path),
        Shape::Map(fields) => map_of(node, fields, form, path, false),
        Shape::MaybeMap(fields) => map_of(node, fields, form, path, true),
    }
}

/// A list of structs.
fn list_of(node: &Node, fields: &[Field], form: Form, path: &str) -> Result<Option<Out>, Fault> {
    let Some(list) = node.as_list() else { return Err(wrong(node, path, "array")) };
    let mut out = Vec::with_capacity(list.len());
    for (index, node) in list.iter().enumerate() {
        let path = format!("{path}.{index}");
        out.push(bind(struct_of(node, &path)?, fields, form, &path)?);
    }
    Ok((!out.is_empty()).then_some(Out::List(out)))
}

/// Structs by names. `nullable`: one that is empty stays so.
fn map_of(
    node: &Node,
    fields: &[Field],
    form: Form,
    path: &str,
    nullable: bool,
) -> Result<Option<Out>, Fault> {
    let mut out = BTreeMap::new();
    for (key, node) in struct_of(node, path)? {
        let path = format!("{path}.{key}");
        let value = if node.is_null() && nullable {
            Out::Null
        } else if node.is_null() {
            bind(&Map::new(), fields, form, &path)?
        } else {
            bind(struct_of(node, &path)?, fields, form, &path)?
        };
        out.insert(key.clone(), value);
    }
    Ok((!out.is_empty()).then_some(Out::Sorted(out)))
}

fn struct_of<'a>(node: &'a Node, path: &str) -> Result<&'a Map, Fault> {
    node.as_map().ok_or_else(|| wrong(node, path, "mapping"))
}

fn text(node: &Node, path: &str) -> Result<String, Fault> {
    match &node.value {
        Value::Text(text) => Ok(text.clone()),
        Value::Int(_) | Value::Float(_) | Value::Bool(_) => Ok(node.value.to_string()),
        _ => Err(wrong(node, path, "string")),
    }
}

fn boolean(node: &Node, path: &str) -> Result<bool, Fault> {
    match &node.value {
        Value::Bool(value) => Ok(*value),
        Value::Text(text) => match text.to_lowercase().as_str() {
            "true" | "y" | "yes" | "on" => Ok(true),
            "false" | "n" | "no" | "off" => Ok(false),
            _ => Err((node.at, format!("{path}: invalid boolean: {text}"))),
        },
        _ => Err(wrong(node, path, "boolean")),
    }
}

fn integer(node: &Node, path: &str) -> Result<i128, Fault> {
    match &node.value {
        Value::Int(int) if i64::try_from(*int).is_ok() => Ok(*int),
        Value::Float(float) if float.abs() < 9e18 => Ok(float.trunc() as i128),
        Value::Text(text) => match text.parse::<i64>() {
            Ok(int) => Ok(int.into()),
            Err(_) => Err((node.at, format!("{path}: {text:?} is not an integer"))),
        },
        _ => Err(wrong(node, path, "integer")),
    }
}

fn float(node: &Node, path: &str) -> Result<f64, Fault> {
    let float = match &node.value {
        Value::Float(float) => *float,
        Value::Int(int) => *int as f64,
        Value::Text(text) => match text.parse::<f64>() {
            Ok(float) if float.is_finite() => float,
            _ => return Err((node.at, format!("{path}: {text:?} is not a number"))),
        },
        _ => return Err(wrong(node, path, "number")),
    };
    Ok(float_32(float))
}

fn size(node: &Node, path: &str) -> Result<i128, Fault> {
    match &node.value {
        Value::Int(int) if i64::try_from(*int).is_ok() => Ok(*int),
        Value::Float(float) if float.abs() < 9e18 => Ok(float.trunc() as i128),
        Value::Text(text) => {
            let size = bytes(text).ok_or_else(|| (node.at, format!("{path}: invalid size: '{text}'")))?;
            Ok(size.into())
        }
        _ => Err(wrong(node, path, "size such as 512m")),
    }
}

fn texts(node: &Node, path: &str, numbers: bool) -> Result<Vec<Out>, Fault> {
    match &node.value {
        Value::Text(text) => Ok(vec![Out::Text(text.clone())]),
        Value::List(list) => list
            .iter()
            .enumerate()
            .map(|(index, node)| {
                if numbers {
                    return Ok(Out::Text(node.value.to_string()));
                }
                text(node, &format!("{path}.{index}")).map(Out::Text)
            })
            .collect(),
        _ => Err(wrong(node, path, "string or array")),
    }
}

fn command(node: &Node, path: &str) -> Result<Out, Fault> {
    match &node.value {
        Value::Text(text) => {
            let words = shell_words(text).map_err(|error| (node.at, format!("{path}: {error}")))?;
            Ok(Out::List(words.into_iter().map(Out::Text).collect()))
        }
        _ => Ok(Out::List(texts(node, path, false)?)),
    }
}

/// Cuts `key=value`.
fn pairs(node: &Node, path: &str) -> Result<Vec<(String, Option<String>)>, Fault> {
    let shown = |node: &Node| match &node.value {
        Value::Null => None,
        value => Some(value.to_string()),
    };
    match &node.value {
        Value::Map(map) => Ok(map.iter().map(|(key, node)| (key.clone(), shown(node))).collect()),
        Value::List(list) => Ok(list
            .iter()
            .map(|node| {
                let text = node.value.to_string();
                match text.split_once('=') {
                    Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                    None => (text, None),
                }
            })
            .collect()),
        _ => Err(wrong(node, path, "mapping or array")),
    }
}

fn env(node: &Node, path: &str) -> Result<Option<Out>, Fault> {
    let mut out = BTreeMap::new();
    for (key, value) in pairs(node, path)? {
        if node.as_list().is_some() && key.ends_with(char::is_whitespace) {
            return Err((
                node.at,
                format!("{path}: environment variable {key} is declared with a trailing space"),
            ));
        }
        out.insert(key, value.map_or(Out::Null, Out::Text));
    }
    Ok((!out.is_empty()).then_some(Out::Sorted(out)))
}

fn mapping(node: &Node, path: &str) -> Result<Option<Out>, Fault> {
    let pairs = pairs(node, path)?;
    let out: BTreeMap<_, _> =
        pairs.into_iter().map(|(key, value)| (key, Out::Text(value.unwrap_or_default()))).collect();
    Ok((!out.is_empty()).then_some(Out::Sorted(out)))
}

fn multi_options(node: &Node, path: &str) -> Result<Option<Out>, Fault> {
    let mut out = BTreeMap::new();
    for (key, node) in struct_of(node, path)? {
        let values = match &node.value {
            Value::List(list) => list.iter().map(|node| Out::Text(node.value.to_string())).collect(),
            value => vec![Out::Text(value.to_string())],
        };
        out.insert(key.clone(), Out::List(values));
    }
    Ok((!out.is_empty()).then_some(Out::Sorted(out)))
}

fn hosts(node: &Node, path: &str) -> Result<Option<Out>, Fault> {
    let mut lines = Vec::new();
    let mut add = |host: &str, address: &str| {
        if host.is_empty() || host.contains([':', '=']) {
            return Err((node.at, format!("{path}: bad host name '{host}'")));
        }
        let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let address = bare.filter(|bare| !bare.is_empty()).unwrap_or(address);
        lines.push(format!("{host}={address}"));
        Ok(())
    };
    match &node.value {
        Value::Map(map) => {
            for (host, node) in map {
                match &node.value {
                    Value::Null => add(host, "")?,
                    Value::Text(address) => add(host, address)?,
                    Value::List(list) => {
                        for node in list {
                            add(host, &node.value.to_string())?;
                        }
                    }
                    _ => return Err(wrong(node, path, "string or array")),
                }
            }
        }
        Value::List(list) => {
            for entry in list {
                let text = entry.value.to_string();
                let pair = text.split_once('=').or_else(|| text.split_once(':'));
                let Some((host, addresses)) = pair else {
                    let message = format!("{path}: invalid additional host, missing IP: {text}");
                    return Err((entry.at, message));
                };
                for address in addresses.split(',') {
                    add(host, address)?;
                }
            }
        }
        _ => return Err(wrong(node, path, "mapping or array")),
    }
    lines.sort_unstable();
    Ok((!lines.is_empty()).then(|| Out::List(lines.into_iter().map(Out::Text).collect())))
}

fn ssh(node: &Node, form: Form) -> Result<Option<Out>, Fault> {
    let Some(map) = node.as_map() else { return Ok(None) };
    if form == Form::Model {
        return mapping(node, "ssh");
    }
    let keys: Vec<Out> = map
        .iter()
        .map(|(id, node)| match &node.value {
            Value::Null => Out::Text(id.clone()),
            value if value.to_string().is_empty() => Out::Text(id.clone()),
            value => Out::Text(format!("{id}: {value}")),
        })
        .collect();
    Ok((!keys.is_empty()).then_some(Out::List(keys)))
}

fn ulimits(node: &Node, form: Form, path: &str) -> Result<Option<Out>, Fault> {
    let mut out = BTreeMap::new();
    for (key, node) in struct_of(node, path)? {
        let path = format!("{path}.{key}");
        let value = match &node.value {
            Value::Null => Out::Null,
            Value::Map(map) => {
                let limit =
                    |name: &str| map.get(name).map_or(Ok(0), |node| integer(node, &format!("{path}.{name}")));
                let mut fields =
                    vec![("soft".to_owned(), limit("soft")?), ("hard".to_owned(), limit("hard")?)];
                if form == Form::Json {
                    fields.retain(|(_, value)| *value != 0);
                }
                Out::Fields(fields.into_iter().map(|(key, value)| (key, Out::Int(value))).collect())
            }
            _ => Out::Int(integer(node, &path)?),
        };
        out.insert(key.clone(), value);
    }
    Ok((!out.is_empty()).then_some(Out::Sorted(out)))
}

fn env_files(node: &Node, form: Form, path: &str) -> Result<Option<Out>, Fault> {
    let Some(list) = node.as_list() else { return Err(wrong(node, path, "array")) };
    let mut out = Vec::new();
    for node in list {
        let map = struct_of(node, path)?;
        let file = map.get("path").map_or(Ok(String::new()), |node| text(node, path))?;
        let required = map.get("required").map_or(Ok(false), |node| boolean(node, path))?;
        let format = map.get("format").map_or(Ok(String::new()), |node| text(node, path))?;
        if required && form != Form::Model {
            out.push(Out::Text(file));
            continue;
        }
        let mut fields =
            vec![("path".to_owned(), Out::Text(file)), ("required".to_owned(), Out::Bool(required))];
        if !format.is_empty() && form != Form::Yaml {
            fields.push(("format".to_owned(), Out::Text(format)));
        }
        out.push(Out::Fields(fields));
    }
    Ok((!out.is_empty()).then_some(Out::List(out)))
}

fn count(node: &Node, path: &str) -> Result<Option<Out>, Fault> {
    let count = match &node.value {
        Value::Text(text) if text.eq_ignore_ascii_case("all") => -1,
        Value::Text(text) => {
            let message =
                || format!("{path}: invalid value {text:?}, the only value allowed is 'all' or a number");
            text.parse::<i64>().map_err(|_| (node.at, message()))?.into()
        }
        _ => integer(node, path)?,
    };
    Ok((count != 0).then_some(Out::Int(count)))
}

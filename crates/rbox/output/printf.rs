//! `printf` of templates, with what the engine's own lacks: lists, the types of values, and a limit of widths.

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::{Template as Engine, TemplateError, Value};

use crate::output::typed;

/// Go prints no wider field: `%!(BADWIDTH)`.
const WIDEST: u64 = 1_000_000;

/// The engine's `printf`, after each list or structure was put in as the text that Go makes of it.
pub(super) fn printf(args: &[Value]) -> Result<Value, TemplateError> {
    let failed = |message: &str| Err(TemplateError::Exec(message.to_owned()));
    let Some((format, values)) = args.split_first() else {
        return failed("wrong number of args for printf: want at least 1 got 0");
    };
    let Value::String(format) = format else { return failed("printf takes a text first") };
    let mut values = values.to_vec();
    let Some(format) = rewritten(format, &mut values) else {
        return failed("printf: a field is 1000000 wide at most");
    };
    let mut data = BTreeMap::from([(Arc::<str>::from("F"), Value::String(Arc::from(format)))]);
    let mut source = String::from("{{printf .F");
    for (at, value) in values.into_iter().enumerate() {
        let name = format!("A{at}");
        source.push_str(" .");
        source.push_str(&name);
        data.insert(name.into(), value);
    }
    source.push_str("}}");
    let text = Engine::new("").parse(&source)?.execute_to_string(&Value::Map(Arc::new(data)))?;
    Ok(Value::String(Arc::from(text)))
}

/// The format with `%s` where a value was made a text; none if a field is too wide.
fn rewritten(format: &str, values: &mut [Value]) -> Option<String> {
    let mut out = String::with_capacity(format.len());
    let mut chars = format.chars().peekable();
    let mut at = 0;
    while let Some(char) = chars.next() {
        out.push(char);
        if char != '%' {
            continue;
        }
        let mut number = 0_u64;
        while let Some(next) = chars.next_if(|next| "+-# 0123456789.".contains(*next)) {
            number = next.to_digit(10).map_or(0, |digit| number.saturating_mul(10) + u64::from(digit));
            if number > WIDEST {
                return None;
            }
            out.push(next);
        }
        let Some(verb) = chars.next() else { break };
        if verb == '%' {
            out.push(verb);
            continue;
        }
        let text = values.get(at).and_then(|value| as_text(verb, value));
        out.push(if text.is_some() { 's' } else { verb });
        if let (Some(text), Some(value)) = (text, values.get_mut(at)) {
            *value = Value::String(Arc::from(text));
        }
        at += 1;
    }
    Some(out)
}

/// What Go prints where the engine does not know how to.
fn as_text(verb: char, value: &Value) -> Option<String> {
    let is_many = matches!(value, Value::List(_) | Value::Map(_));
    match verb {
        'T' => Some(type_of(value).to_owned()),
        's' | 'v' if is_many => Some(typed::shown(value).to_string()),
        'q' if is_many => Some(quoted(value)),
        _ => None,
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Nil => "<nil>",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int",
        Value::Uint(_) => "uint64",
        Value::Float(_) => "float64",
        Value::String(_) => "string",
        Value::List(_) => "[]string",
        _ => "map[string]string",
    }
}

/// `["a" "b"]`, as Go's `%q` has lists.
fn quoted(value: &Value) -> String {
    match value {
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(quoted).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Map(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|(key, value)| format!("{key:?}:{}", quoted(value))).collect();
            format!("map[{}]", fields.join(" "))
        }
        Value::String(text) => format!("{text:?}"),
        other => other.to_string(),
    }
}

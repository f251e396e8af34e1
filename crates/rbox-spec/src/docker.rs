//! Pieces of the JSON that Docker's API has, for those who show themselves in it (`as_docker`).

use serde_json::{Map, Value, json};

/// A list, or `null` where Docker shows that for an empty one.
pub fn list(items: &[String]) -> Value {
    if items.is_empty() { Value::Null } else { items.into() }
}

/// A set: each of its members is a key of nothing. `null` for an empty one.
pub fn set(keys: &[String]) -> Value {
    if keys.is_empty() {
        return Value::Null;
    }
    keys.iter().map(|key| (key.clone(), json!({}))).collect::<Map<_, _>>().into()
}

/// The fields of what was written as an object.
pub(crate) fn fields(object: Value) -> Map<String, Value> {
    match object {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

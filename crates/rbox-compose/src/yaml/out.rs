//! What is to be written.

use std::collections::BTreeMap;

use super::node::{Node, Value};

/// A tree to be written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Out {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    List(Vec<Out>),
    /// A struct of Go's: its fields have an order.
    Fields(Vec<(String, Out)>),
    /// A map of Go's: written in the order of its keys.
    Sorted(BTreeMap<String, Out>),
}

impl From<&Node> for Out {
    fn from(node: &Node) -> Self {
        match &node.value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Int(value) => Self::Int(*value),
            Value::Float(value) => Self::Float(*value),
            Value::Text(text) => Self::Text(text.clone()),
            Value::List(list) => Self::List(list.iter().map(Self::from).collect()),
            Value::Map(map) => {
                Self::Sorted(map.iter().map(|(key, node)| (key.clone(), node.into())).collect())
            }
        }
    }
}

impl Out {
    pub(crate) fn without(mut self, keys: &[&str]) -> Self {
        if let Self::Fields(fields) = &mut self {
            fields.retain(|(key, _)| !keys.contains(&key.as_str()));
        }
        self
    }

    pub(crate) fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match self {
            Self::Null => Json::Null,
            Self::Bool(value) => Json::Bool(*value),
            Self::Int(value) => match (i64::try_from(*value), u64::try_from(*value)) {
                (Ok(value), _) => value.into(),
                (_, Ok(value)) => value.into(),
                _ => Json::Null,
            },
            Self::Float(value) => (*value).into(),
            Self::Text(text) => Json::String(text.clone()),
            Self::List(list) => list.iter().map(Self::to_json).collect(),
            Self::Fields(fields) => {
                Json::Object(fields.iter().map(|(key, value)| (key.clone(), value.to_json())).collect())
            }
            Self::Sorted(map) => {
                Json::Object(map.iter().map(|(key, value)| (key.clone(), value.to_json())).collect())
            }
        }
    }
}

//! What stands at `x-…` keys.

use std::collections::BTreeMap;

/// What stands at `x-…` keys.
pub type Extensions = BTreeMap<String, serde_json::Value>;

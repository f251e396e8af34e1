//! Durations and sizes out of canonical texts.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error};

use crate::output::parse_duration;

/// A duration in Go's notation.
pub(crate) fn of<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    let nanos = parse_duration(&text).map_err(D::Error::custom)?;
    let nanos = u64::try_from(nanos)
        .map_err(|_| D::Error::custom(format!("{text}: a duration must not be negative")))?;
    Ok(Duration::from_nanos(nanos))
}

/// The same, where there may be none.
pub(crate) fn maybe<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    of(from).map(Some)
}

/// A size in bytes.
pub(crate) fn bytes<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let text = String::deserialize(from)?;
    text.parse().map_err(|_| D::Error::custom(format!("{text}: a size must not be negative")))
}

/// A size in bytes, where -1 is none.
pub(crate) fn signed<'de, D: Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
    String::deserialize(from)?.parse().map_err(D::Error::custom)
}

/// A mode in octal.
pub(crate) fn mode<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    let text = String::deserialize(from)?;
    u32::from_str_radix(&text, 8).map(Some).map_err(D::Error::custom)
}

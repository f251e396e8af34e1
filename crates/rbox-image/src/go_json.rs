//! JSON as Go writes it.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

/// Go writes an absent list or map as `null`; both mean the empty value.
pub(crate) fn nullable<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

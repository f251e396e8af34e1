//! What a loaded project looks like when it is written: the values of Go's structs in their order, for `config`, for hashes, and for
//! the typed model, which is read from the same.

mod bind;
mod shapes;
mod values;

pub(crate) use bind::{Form, bind};
pub(crate) use shapes::{PROJECT, SERVICE};
pub(crate) use values::parse_duration;

/// The fields of a service, in their order.
#[cfg(test)]
pub(crate) fn service_fields() -> Vec<&'static str> {
    SERVICE.iter().map(|field| field.key).collect()
}

//! What `inspect` shows: Docker's JSON for containers, images and networks, with its keys and their order.
//!
//! Keys that stand for things rbox does not have (swarm, Windows, storage drivers) hold what Docker shows when
//! they are not used, so that programs that read them go on.

mod container;
pub(crate) mod create_command;
mod endpoint;
mod image;
mod network;

pub use crate::inspect::container::container;
pub use crate::inspect::image::image;
pub use crate::inspect::network::network;

use jiff::Timestamp;

/// What Docker writes for a moment that has not come.
pub const NEVER: &str = "0001-01-01T00:00:00Z";

/// RFC 3339 with the nanoseconds there are.
fn time(time: Option<Timestamp>) -> String {
    time.map_or_else(|| NEVER.to_owned(), |time| time.to_string())
}

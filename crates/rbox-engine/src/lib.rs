//! Containers as users know them: records, monitor, logs, volumes, networks, images.
#![forbid(unsafe_code)]

pub mod caller;
pub mod cleanup;
pub mod containers;
pub mod control;
pub mod create;
pub mod embedded;
pub mod engine;
pub mod error;
pub mod explain;
pub mod host;
pub mod inspect;
pub mod listing;
pub mod logs;
pub mod monitor;
pub mod networks;
pub mod oci;
pub mod own_file;
pub mod packet;
pub mod record;
pub mod volume;

// What a command line needs of the crates below, so that it has one door.
pub use crate::containers::images::image_store;
pub use rbox_image as image;
pub use rbox_network as network;
pub use rbox_spec as spec;
pub use rbox_sys::plain;

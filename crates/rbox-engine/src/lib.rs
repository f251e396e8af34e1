//! Containers as users know them: records, monitor, logs, volumes, networks, images.
#![forbid(unsafe_code)]

pub mod caller;
mod cdi;
mod changes;
mod check;
mod cleanup;
mod containers;
mod control;
mod copy;
mod create;
pub mod embedded;
pub mod engine;
pub mod error;
pub mod explain;
pub mod file_watch;
pub mod host;
pub mod inspect;
mod journal;
pub mod kind;
pub mod listing;
mod logs;
mod monitor;
mod networks;
mod oci;
pub mod own_file;
pub mod packet;
mod record;
pub mod session;
pub mod settings;
mod steps;
mod volume;
mod watch;
mod why;

// What a command line needs of the crates below, so that it has one door.
pub use crate::containers::images::image_store;
pub use rbox_image as image;
pub use rbox_network as network;
pub use rbox_spec as spec;
pub use rbox_sys::plain;

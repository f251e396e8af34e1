//! Containers as users know them: records, monitor, logs, volumes, networks, images.
#![forbid(unsafe_code)]

pub mod filter;
pub mod logs;
pub mod moment;
pub mod host;
pub mod inspect;
pub mod names;
pub mod processes;
pub mod volume;
pub mod containers;
pub mod control;
pub mod create;
pub mod error;
pub mod exec;
pub mod explain;
pub mod hello;
mod launch;
pub mod lock;
pub mod monitor;
pub mod paths;
pub mod protocol;
pub mod reaper;
pub mod record;
mod config;
pub mod teardown;
mod user;
pub mod attach;

// What a command line needs of the crates below, so that it has one door.
pub use rbox_image as image;
pub use rbox_network as network;
pub use rbox_spec as spec;

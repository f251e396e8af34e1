//! Containers as users know them: records, monitor, logs, volumes, networks, images.
#![forbid(unsafe_code)]

pub mod attach;
mod attachments;
pub mod boot;
pub mod caller;
mod clients;
mod config;
pub mod connect;
pub mod containers;
pub mod control;
pub mod create;
pub mod error;
pub mod exec;
pub mod explain;
pub mod filter;
pub mod hello;
pub mod host;
mod image_users;
pub mod inspect;
mod launch;
mod links;
pub mod lock;
pub mod logs;
pub mod moment;
pub mod monitor;
pub mod names;
pub mod net;
mod oom;
pub mod own_file;
pub mod paths;
pub mod processes;
pub mod protocol;
pub mod reaper;
pub mod record;
mod restart;
mod served;
pub mod start;
mod streams;
pub mod teardown;
pub mod update;
mod user;
pub mod volume;
pub mod wiring;

// What a command line needs of the crates below, so that it has one door.
pub use image_users::image_store;
pub use rbox_image as image;
pub use rbox_network as network;
pub use rbox_spec as spec;
pub use rbox_sys::plain;

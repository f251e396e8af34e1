//! From layers to a root filesystem: unpack, whiteouts, overlay, /proc /dev /sys, masks, `pivot_root`.
#![forbid(unsafe_code)]

pub mod changes;
pub mod compare;
pub mod dev;
mod file_capability;
pub mod hide;
pub mod layer;
pub mod overlay;
pub mod put;
pub mod tree;

pub use rbox_sys::{lock, own, plain, removal, waiting};

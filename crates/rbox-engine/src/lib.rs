//! Containers as users know them: records, monitor, logs, volumes, networks, images.
#![forbid(unsafe_code)]

pub mod filter;
pub mod logs;
pub mod moment;
pub mod names;
pub mod volume;

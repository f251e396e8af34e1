//! What is done to containers that exist.

pub(crate) mod boot;
mod boot_order;
pub(crate) mod exec;
pub(crate) mod mounts;
pub(crate) mod remove;
pub(crate) mod rename;
pub(crate) mod signal;
pub(crate) mod start;
pub(crate) mod stats;
pub(crate) mod update;

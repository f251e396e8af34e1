//! What is done to containers that exist.

pub mod attach;
pub mod boot;
pub mod exec;
pub mod remove;
pub mod rename;
pub mod signal;
pub mod start;
pub mod stats;
pub mod update;

//! Volumes: directories of the host that outlive containers.

pub(crate) mod populate;
pub mod store;

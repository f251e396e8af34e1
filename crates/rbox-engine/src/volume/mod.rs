//! Volumes: directories of the host that outlive containers.

pub(crate) mod populate;
pub(crate) mod store;

//! Volumes: directories of the host, and file systems, that outlive containers.

pub(crate) mod error;
pub(crate) mod file_system;
pub(crate) mod holders;
pub(crate) mod populate;
pub(crate) mod record;
pub(crate) mod store;
pub(crate) mod transfer;

//! From a record to what the runtime carries out: the OCI configuration, user, capabilities, control group.

pub mod cgroup;
pub(crate) mod config;
pub mod security;
pub(crate) mod user;

//! From a record to what the runtime carries out: the OCI configuration, user, capabilities, control group.

pub(crate) mod cgroup;
pub(crate) mod config;
pub(crate) mod security;
pub(crate) mod user;

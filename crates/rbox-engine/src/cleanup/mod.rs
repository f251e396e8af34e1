//! Giving back what containers held, and making records true after kills.

pub(crate) mod free;
pub(crate) mod tidy;

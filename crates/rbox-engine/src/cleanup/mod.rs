//! Giving back what containers held, and making records true after kills.

pub mod free;
pub mod tidy;

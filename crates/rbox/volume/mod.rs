//! Commands on volumes.

pub(crate) mod volumes;

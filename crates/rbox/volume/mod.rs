//! Commands on volumes.

pub(crate) mod transfer;
pub(crate) mod volumes;

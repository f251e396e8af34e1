//! Arguments that several commands share, and what they become.

pub(crate) mod accepted;
pub(crate) mod asking;
pub(crate) mod flags;
pub(crate) mod health_flags;
pub(crate) mod limits;
pub(crate) mod network_flags;
pub(crate) mod patience;
pub(crate) mod platform;
pub(crate) mod project;
pub(crate) mod pruning;
pub(crate) mod secret;
pub(crate) mod walls;

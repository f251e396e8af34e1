//! Commands on the host as a whole.

pub(crate) mod check;
pub(crate) mod context;
pub(crate) mod disk;
pub(crate) mod events;
pub(crate) mod info;

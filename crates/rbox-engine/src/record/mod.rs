//! All that is on disk of a container: where it is, what it holds, how it is written.

pub(crate) mod container;
pub(crate) mod file;
pub(crate) mod health;
pub(crate) mod lock;
pub(crate) mod paths;
mod upgrade;

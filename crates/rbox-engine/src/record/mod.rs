//! All that is on disk of a container: where it is, what it holds, how it is written.

pub mod container;
pub mod file;
pub mod lock;
pub mod paths;
mod upgrade;

//! The set of namespaces, joining, and the handshake between parent and child.
#![forbid(unsafe_code)]

pub mod handshake;
pub mod idmap;
mod set;
pub mod start;

pub use set::{KINDS, NamespaceSet, inode};

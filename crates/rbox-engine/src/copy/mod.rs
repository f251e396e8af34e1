//! A container's files, for those outside of it.

pub(crate) mod export;
pub(crate) mod tree;

//! Files between containers and the host.

pub(crate) mod export;
pub(crate) mod fill;
pub(crate) mod from;
pub(crate) mod host;
pub(crate) mod inside;
pub(crate) mod stream;
pub(crate) mod target;
pub(crate) mod to;
pub(crate) mod tree;
pub(crate) mod view;

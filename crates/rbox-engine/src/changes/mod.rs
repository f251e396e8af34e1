//! What a container has changed in its file system: told, and made a layer of.

pub(crate) mod adopt;
pub(crate) mod commit;
pub(crate) mod diff;

//! Containers by name and id, and what each has on the host.

pub(crate) mod base;
pub(crate) mod down;
pub(crate) mod find;
pub(crate) mod image_mounts;
pub(crate) mod image_trees;
pub(crate) mod images;
pub(crate) mod name;
pub(crate) mod pause_lease;
pub(crate) mod quota;
pub(crate) mod random_name;
pub(crate) mod running;
pub(crate) mod sharing;
pub(crate) mod stop_mark;
pub(crate) mod trash;
pub(crate) mod unfinished;
pub(crate) mod volumes;

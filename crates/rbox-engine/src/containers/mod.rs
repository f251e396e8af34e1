//! Containers by name and id, and what each has on the host.

pub mod find;
pub(crate) mod images;
pub mod name;
pub mod random_name;
pub mod running;
pub mod stop_mark;
pub mod trash;
pub mod unfinished;
pub mod volumes;

//! Commands about building images.

pub(crate) mod build;
pub(crate) mod cache;
mod cache_place;
pub(crate) mod call;
pub(crate) mod carried;
pub(crate) mod elsewhere;
mod flags;
mod held;
pub(crate) mod output;
mod plain;
mod rawjson;

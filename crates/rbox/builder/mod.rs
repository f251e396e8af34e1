//! Commands about building images.

pub(crate) mod bake;
mod bake_list;
mod bake_words;
pub(crate) mod build;
pub(crate) mod cache;
mod cache_place;
pub(crate) mod call;
pub(crate) mod carried;
pub(crate) mod elsewhere;
mod flags;
mod held;
mod live;
pub(crate) mod output;
mod plain;
mod rawjson;
mod show;
mod statement;
pub(crate) mod words;

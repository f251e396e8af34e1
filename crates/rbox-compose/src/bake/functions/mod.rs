//! The functions of bake files.

mod coding;
mod format;
mod given;
mod lists;
mod net;
mod numbers;
mod sets;
mod table;
mod texts;
mod times;
mod versions;

pub(crate) use coding::{escape_html, fields};
pub(crate) use lists::index;
pub(crate) use table::{call, is_known, unknown};

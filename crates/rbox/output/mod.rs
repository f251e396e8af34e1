//! What is printed: tables, templates, durations and sizes, and no control characters of others.

pub(crate) mod escape;
pub(crate) mod lines;
pub(crate) mod live;
mod printf;
pub(crate) mod svg;
pub(crate) mod table;
pub(crate) mod template;
pub(crate) mod typed;
pub(crate) mod units;

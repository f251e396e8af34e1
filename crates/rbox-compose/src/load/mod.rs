//! From files to one tree: found, read, filled in, extended, included, merged, checked, and put into the long way.

mod canonical;
mod checks;
mod discover;
mod extend;
mod files;
mod include;
mod interpolate;
mod merge;
mod normalize;
mod options;
mod paths;
mod ports;
mod project;
mod services;
mod tree;
mod whole;

pub use discover::check_name;
pub use options::{Options, Remote};
pub(crate) use project::whole;
pub(crate) use whole::{Whole, bound};

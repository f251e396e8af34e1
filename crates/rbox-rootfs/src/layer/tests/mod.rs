//! Unpacking, compared with what GNU tar, bsdtar and umoci make of the same archives, and tried with hostile ones.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod build;
mod formats;
mod hostile;
mod pack;
mod pack_hostile;
mod real;
mod tree;
mod whiteouts;

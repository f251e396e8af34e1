//! Commands about projects of several services.

pub(crate) mod config;
pub(crate) mod project;

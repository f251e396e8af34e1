//! Commands about projects of several services.

pub(crate) mod chosen;
pub(crate) mod config;
pub(crate) mod graph;
pub(crate) mod hooks;
pub(crate) mod port;
pub(crate) mod progress;
pub(crate) mod project;
pub(crate) mod start;
pub(crate) mod stop;
pub(crate) mod waiting;

//! Commands about projects of several services.

pub(crate) mod attached;
pub(crate) mod build;
pub(crate) mod chosen;
pub(crate) mod config;
pub(crate) mod down;
pub(crate) mod graph;
pub(crate) mod hooks;
pub(crate) mod images;
pub(crate) mod narrator;
pub(crate) mod port;
pub(crate) mod progress;
pub(crate) mod project;
pub(crate) mod pull;
pub(crate) mod run;
pub(crate) mod start;
pub(crate) mod stop;
pub(crate) mod up;
pub(crate) mod waiting;
pub(crate) mod why;

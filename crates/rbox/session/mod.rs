//! A command that is attached to a program: its input, output, terminal and signals.

pub(crate) mod client;
pub(crate) mod output;
pub(crate) mod peers;
pub(crate) mod start;

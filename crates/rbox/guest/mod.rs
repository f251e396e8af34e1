//! What this executable is inside containers: the embedded image's program and its shell, and the small init.

mod demo;
pub(crate) mod hello;
pub(crate) mod small_init;
pub(crate) mod tools;

//! From a Dockerfile to an image. So far the language only, and no I/O: the file ([`dockerfile`]), what its words become in an
//! environment ([`expand`]), what a context leaves out ([`ignore`]), and the checks of `build --check` ([`checks`]).
#![forbid(unsafe_code)]

pub mod checks;
pub mod dockerfile;
pub mod expand;
pub mod ignore;
mod text;

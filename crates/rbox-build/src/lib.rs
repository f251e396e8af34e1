//! From a Dockerfile to an image. So far the language only, and no I/O: the file ([`dockerfile`]), what its words become in an
//! environment ([`expand`]), and what a context leaves out ([`ignore`]).
#![forbid(unsafe_code)]

pub mod dockerfile;
pub mod expand;
pub mod ignore;
mod text;

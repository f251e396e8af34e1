//! From a Dockerfile to an image. So far the language only, and no I/O: the file ([`dockerfile`]) and what its words become in an
//! environment ([`expand`]).
#![forbid(unsafe_code)]
#![expect(dead_code, reason = "the parser comes with the next commit")]

pub mod dockerfile;
pub mod expand;
mod text;

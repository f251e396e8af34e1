//! What words become in an environment: quotes, escapes, `$name` and the forms of `${name…}`, as BuildKit's shell lexer does it.
//!
//! Source: "Environment replacement" in the Dockerfile reference, and the package shell of `github.com/moby/buildkit/frontend/dockerfile`.
//! Where this differs: what stands before `${name:-…}` is kept when a text is split into words (BuildKit loses it), `$` in the
//! replacement of `${name//p/r}` is a `$`, and there are limits ([`MAX_DEPTH`], [`MAX_GROWTH`]).

mod environment;
mod lexer;
mod pattern;
#[cfg(test)]
mod tests;
mod words;

pub use environment::Environment;
pub use lexer::{ExpandError, Expanded, Lexer, MAX_DEPTH, MAX_GROWTH};
pub(crate) use words::Words;

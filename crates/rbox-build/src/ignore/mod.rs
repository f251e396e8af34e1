//! Patterns of paths: what `.dockerignore` leaves out of a context, what `--exclude` leaves out of a COPY, and wildcards in its sources.
//!
//! Source: the Dockerfile reference (".dockerignore file"), the documentation of Go's filepath.Match, and `github.com/moby/patternmatcher`.
//! Where this differs from the last: a backslash before a letter stands for that letter (there it can become a class of regular
//! expressions), classes in brackets are those of filepath.Match only, and a range from a higher to a lower character is refused
//! when the file is read and not later.

mod dockerignore;
mod glob;
mod pattern;
#[cfg(test)]
mod tests;
mod tokens;

pub use dockerignore::{Directory, Ignore};
pub use glob::{Glob, Segment};
pub use tokens::PatternError;

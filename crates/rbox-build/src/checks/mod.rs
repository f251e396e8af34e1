//! What `build --check` warns of: the rules of BuildKit that can be known from the text, the platforms and the list of ignored files.
//!
//! Source: "Build checks" in Docker's documentation, and the packages linter and dockerfile2llb of `github.com/moby/buildkit/frontend/dockerfile`.
//! Where this differs: a variable is reported as undefined only where all that is defined is known, which takes the configuration of the
//! base image ([`Given::base_image`]); and a source with a slash in front is looked for among the ignored files as one without.

mod arguments;
mod casing;
mod check;
mod options;
mod report;
mod rule;
mod stage;
#[cfg(test)]
mod tests;

pub use arguments::{BaseImage, Given};
pub use check::check;
pub use options::{Options, OptionsError};
pub use report::{Report, Warning};
pub use rule::Rule;

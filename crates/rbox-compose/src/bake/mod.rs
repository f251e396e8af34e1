//! Bake files: from HCL, JSON and compose files to the builds that are wanted.
//!
//! [`Definition::load`] reads files, works all variables out and makes a list of targets; [`Definition::plan`] chooses some of them, with what they
//! inherit and what the command line says. The language is that of buildx; `hcl-edit` reads HCL, and what expressions come to is worked out here,
//! since errors need places and the work bounds: whoever writes a bake file may be a stranger.

mod compose;
mod config;
mod definition;
mod entitlements;
mod entries;
mod error;
mod eval;
mod files;
mod functions;
mod hcl;
mod json;
mod number;
mod overridden;
mod overrides;
mod pattern;
mod plan;
mod program;
mod resolve;
mod syntax;
mod target;
#[cfg(test)]
mod tests;
mod types;
mod value;

pub use config::Listed;
pub use definition::{BakeOptions, Definition, load_text};
pub use entitlements::Grants;
pub use entries::{Attest, Entry, Secret, Ssh};
pub use error::BakeError;
pub use files::BakeFile;
pub use plan::{Plan, Remote};
pub use target::{Group, Target};

//! Dockerfiles, as the frontend docker/dockerfile 1.26 reads them: [`Dockerfile::parse`].
//!
//! A file is read in two passes, and the first error of the first one comes before all of the second, as with BuildKit: `lines` joins
//! continued lines and takes heredocs in, `word` splits each into its words; then `read` makes typed instructions of them.
//!
//! Source: the Dockerfile reference, and the packages parser and instructions of `github.com/moby/buildkit/frontend/dockerfile`.

mod csv;
mod error;
mod file;
mod heredoc;
mod instruction;
mod mount;
mod source;
mod suggestion;

pub use error::{DockerfileError, Excerpt};
pub use file::{Directive, Dockerfile, Instruction, Stage};
pub use instruction::{
    Add, ArgDefinition, CommandLine, Copy, Device, Form, Heredoc, Inline, InstructionKind, KeyValue,
    MountFlag, Onbuild, Run, RunNetwork, RunSecurity, Transfer,
};
pub use mount::{Mount, MountError, MountKind, Sharing};
pub use source::{Lines, Word};

//! Dockerfiles, as the frontend docker/dockerfile 1.26 reads them: [`Dockerfile::parse`].
//!
//! A file is read in two passes, and the first error of the first one comes before all of the second, as with BuildKit: `lines` joins
//! continued lines and takes heredocs in, `words` divides each; then `read` makes typed instructions of them.
//!
//! Source: the Dockerfile reference, and the packages parser and instructions of `github.com/moby/buildkit/frontend/dockerfile`.

mod chmod;
mod directive;
mod duration;
mod error;
mod file;
mod flags;
mod heredoc;
mod include;
mod instruction;
mod keyword;
mod lines;
mod mount;
mod parse;
mod ports;
mod read;
mod source;
mod suggestion;
#[cfg(test)]
mod tests;
mod words;

pub use chmod::{Change, Chmod, ChmodError};
pub(crate) use directive::{Name as DirectiveName, name_and_value};
pub use error::{DockerfileError, Excerpt};
pub use file::{Directive, Dockerfile, Instruction, Stage};
pub use include::{IncludeError, Included, MAX_DEPTH, MAX_INCLUDES, ReadIncluded, Sources};
pub use instruction::{
    Add, ArgDefinition, CommandLine, Copy, Device, Form, Heredoc, Inline, InstructionKind, KeyValue,
    MountFlag, Onbuild, Run, RunNetwork, RunSecurity, Transfer,
};
pub use lines::{MAX_BYTES, MAX_INSTRUCTIONS};
pub(crate) use mount::boolean;
pub use mount::{Mount, MountError, MountKind, Sharing};
pub(crate) use ports::Parts as PortParts;
pub use ports::{ExposeError, ExposedPorts, exposed_ports};
pub use source::{Lines, Word};
pub(crate) use suggestion::closest;

//! A seccomp profile turned into BPF: what build.rs runs for the default filter and the program runs for others.
//! Nothing here does I/O or knows the kernel it runs on; all of that is in the arguments.

pub mod arch;
pub(crate) mod emit;
pub mod profile;
pub(crate) mod resolve;

use rbox_spec::CapSet;

/// What a profile's conditions are decided by.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// The container's bounding set.
    pub capabilities: CapSet,
    /// Major and minor.
    pub kernel: (u32, u32),
    /// The architecture of the host.
    pub native: arch::Arch,
}

/// Why a profile cannot become a filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// Not what the schema says.
    #[error("{0}")]
    Profile(String),
    /// Beyond the kernel's bound on a filter.
    #[error("the filter has {0} instructions, the kernel takes 4096")]
    TooLong(usize),
}

/// The program for `profile`, a word for each `struct sock_filter`.
pub fn compile(profile: &profile::Document, context: Context) -> Result<Vec<u64>, CompileError> {
    let policy = resolve::resolve(profile, context)?;
    let program = emit::emit(&policy, context.native);
    if program.len() > 4096 { Err(CompileError::TooLong(program.len())) } else { Ok(program) }
}

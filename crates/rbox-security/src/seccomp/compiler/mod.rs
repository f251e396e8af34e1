//! A seccomp profile turned into BPF: what build.rs runs for the default filter and the program runs for others.
//! Nothing here does I/O or knows the kernel it runs on; all of that is in the arguments.

pub mod arch;
mod context;
pub(crate) mod emit;
pub mod profile;
pub(crate) mod resolve;

pub use context::{CompileError, Context};

/// The program for `profile`, a word for each `struct sock_filter`.
pub fn compile(profile: &profile::Document, context: Context) -> Result<Vec<u64>, CompileError> {
    emitted(&resolve::resolve(profile, context)?, context)
}

/// The same, and no file's project can be changed.
pub fn compile_keeping_projects(
    profile: &profile::Document,
    context: Context,
) -> Result<Vec<u64>, CompileError> {
    let mut policy = resolve::resolve(profile, context)?;
    policy.keep_projects();
    emitted(&policy, context)
}

fn emitted(policy: &resolve::Policy, context: Context) -> Result<Vec<u64>, CompileError> {
    let program = emit::emit(policy, context.native);
    if program.len() > 4096 { Err(CompileError::TooLong(program.len())) } else { Ok(program) }
}

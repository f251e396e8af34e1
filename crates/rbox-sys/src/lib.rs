//! Every `unsafe` block of rbox: the system calls no safe wrapper covers, and the trace of those made.
//!
//! The other crates forbid unsafe code and come here. Each wrapper checks its arguments, returns owned
//! descriptors, and goes through [`trace::call`], so that `--explain` shows what was really done.

pub mod bpf;
pub mod channel;
pub mod durable;
pub mod error;
pub mod executable;
pub mod file;
pub mod inode;
pub mod lock;
pub mod mount;
pub mod own;
pub mod owners;
pub mod passed;
pub mod process;
pub mod project;
pub mod reading;
pub mod removal;
pub mod seccomp;
pub mod trace;
pub mod usage;
pub mod waiting;

pub use error::{SysError, action, plain, told};

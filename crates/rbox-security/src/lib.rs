//! Capabilities, the seccomp filter, AppArmor and `no_new_privs`.
//!
//! # The order in the child
//! 1. [`capabilities::drop_bounding`], while it still has `CAP_SETPCAP`.
//! 2. Without `no_new_privs`: [`seccomp::Filter::install`] here, since it needs `CAP_SYS_ADMIN`. The filter must then
//!    let through what follows, as Docker's does.
//! 3. setgroups, setgid, setuid (rbox-runtime).
//! 4. [`capabilities::apply`]; a uid other than 0 ends with none.
//! 5. With `no_new_privs`: [`no_new_privs`], then [`seccomp::Filter::install`] as the last thing before execve.
//!
//! Loops over capabilities and filters are data made by the parent, so that the child between clone3 and execve
//! allocates nothing here.
#![forbid(unsafe_code)]

pub mod apparmor;
pub mod capabilities;
mod defaults;
pub mod seccomp;

use rbox_sys::SysError;
use rbox_sys::error::told;

pub use defaults::DEFAULT_CAPABILITIES;

/// From now on execve gives nothing the process does not have: no set-user-ID, no file capabilities (prctl(2)).
pub fn no_new_privs() -> Result<(), SysError> {
    told("prctl", || "PR_SET_NO_NEW_PRIVS, 1".into(), || rustix::thread::set_no_new_privs(true))
}

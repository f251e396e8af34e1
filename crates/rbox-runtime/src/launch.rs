//! What a container is made from.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;
use rbox_security::seccomp::Filter;

/// All a container is made from.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The OCI runtime config.
    pub spec: &'a Spec,
    /// The root file system as a detached mount.
    pub root: BorrowedFd<'a>,
    /// A directory of the host to attach the root on. By path, because a descriptor would lead to the mount of
    /// the parent's namespace, and only a place of its own can be mounted on.
    pub stage: &'a Path,
    /// The v2 group to be born in.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// `tasks` files of the v1 groups to enter.
    pub cgroup_tasks: &'a [OwnedFd],
    /// Where the v1 groups are to be seen, on hosts without a v2 tree: names of controllers, directory on the host.
    pub cgroups_v1: Option<&'a [(String, PathBuf)]>,
    /// Another container's network namespace, to be in that one.
    pub netns: Option<BorrowedFd<'a>>,
    /// The seccomp filter, compiled.
    pub seccomp: Option<&'a Filter>,
    /// Standard streams.
    pub stdio: Stdio,
}

/// The program's standard streams.
#[derive(Debug)]
pub enum Stdio {
    /// Standard input, output and error: pipes that were made for this program, and are given to its user, or null devices.
    /// Never what the caller has: a program can do more with a descriptor than read and write, and reopen it by /proc.
    Fds([OwnedFd; 3]),
    /// A terminal of the container, of this size (rows, columns).
    Terminal {
        /// Rows and columns, when known.
        size: Option<(u16, u16)>,
    },
}

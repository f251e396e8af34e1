//! What a container is made from.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Hook, Hooks, Spec, State};
use rbox_namespace::start::Listener;
use rbox_security::seccomp::Filter;
use rbox_sys::passed::Passed;

use crate::joined::JoinedNamespace;
use crate::own_user::UserNamespace;

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
    /// A user namespace of its own. It excludes namespaces of others.
    pub user: Option<&'a UserNamespace>,
    /// The namespaces that the config has paths of.
    pub joined: &'a [JoinedNamespace],
    /// Detached mounts that the caller has made, and where they go: in the place of what the config binds there.
    pub given: &'a [(PathBuf, BorrowedFd<'a>)],
    /// What its hooks get, where they are to be run; status and pid are filled in.
    pub state: Option<State>,
    /// For a container that another process starts, later.
    pub later: Option<Later<'a>>,
    /// The seccomp filter, compiled.
    pub seccomp: Option<&'a Filter>,
    /// Standard streams.
    pub stdio: Stdio,
    /// Descriptors of the caller that the program gets besides.
    pub passed: Passed,
}

/// What a container needs to be started by another process than the one that made it.
#[derive(Debug)]
pub struct Later<'a> {
    /// The lock that the one who creates holds: not for this process to keep.
    pub lock: BorrowedFd<'a>,
    /// Where it waits to be started.
    pub listener: Listener,
}

impl Launch<'_> {
    /// Whether the container's file systems are its own, and not those of a mount namespace that it joins.
    pub(crate) fn has_own_tree(&self) -> bool {
        !self.joins("mnt")
    }

    pub(crate) fn joins(&self, name: &str) -> bool {
        self.joined.iter().any(|one| one.name() == name)
    }

    /// The hooks of one kind.
    pub(crate) fn hooks(&self, kind: impl FnOnce(&Hooks) -> Option<&[Hook]>) -> &[Hook] {
        self.spec.hooks().as_ref().and_then(kind).unwrap_or_default()
    }

    /// Those that run on the host's side while the container is made.
    #[allow(deprecated, reason = "images and engines of years use prestart hooks")]
    pub(crate) fn runtime_hooks(&self) -> [(&'static str, &[Hook]); 2] {
        [
            ("prestart", self.hooks(|hooks| hooks.prestart().as_deref())),
            ("createRuntime", self.hooks(|hooks| hooks.create_runtime().as_deref())),
        ]
    }

    pub(crate) fn has_create_hooks(&self) -> bool {
        let inside = self.hooks(|hooks| hooks.create_container().as_deref());
        !inside.is_empty() || self.runtime_hooks().iter().any(|(_, hooks)| !hooks.is_empty())
    }
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

//! From a config to a process that waits, and from there to the program.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;
use rbox_namespace::handshake::{self, Parent, Told};
use rbox_security::seccomp::Filter;
use rbox_sys::process::{self, Child, Side};
use rbox_sys::{trace, waiting};

use crate::error::RuntimeError;
use crate::init::{self, Init};
use crate::plan;

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

/// A process in its namespaces that waits before its last steps. Dropping it ends the process.
#[derive(Debug)]
pub struct Created {
    child: Unstarted,
    /// A `NETLINK_ROUTE` socket in its network namespace, when it has its own.
    pub netlink: Option<OwnedFd>,
    handshake: Parent,
}

/// A cloned process nobody waits for yet: ended when dropped.
#[derive(Debug)]
struct Unstarted(Option<Child>);

/// A process that runs the user's program.
#[derive(Debug)]
pub struct Running {
    /// The process as the host counts.
    pub pid: i32,
    /// Readable once it has ended.
    pub pidfd: OwnedFd,
    /// The master side of its terminal.
    pub terminal: Option<OwnedFd>,
}

/// Clones the first process. It sets itself up while the caller attaches the network.
pub fn create(launch: Launch<'_>) -> Result<Created, RuntimeError> {
    let mounts = trace::step(
        "open the sources of mounts",
        "Files of the host are opened here, outside, so that the container's tree cannot lead them elsewhere.",
        || plan::prepare(launch.spec.mounts().as_deref().unwrap_or_default(), launch.cgroups_v1),
    )?;
    let namespaces = plan::namespaces(launch.spec);
    let (mut parent, child) = handshake::pair()?;
    // Before the clone, so that there is no moment in which whoever shares its PID namespace could look into the child.
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    let side = trace::step(
        "clone into new namespaces",
        "One call makes the process, its namespaces and its place in the control group: no moment outside of them.",
        || match launch.netns {
            Some(netns) => process::clone3_in_network(netns, namespaces.clone_flags(), launch.cgroup),
            None => process::clone3(namespaces.clone_flags(), launch.cgroup),
        },
    )?;
    match side {
        Side::Child => {
            drop(parent);
            init::run(Init::new(launch, mounts, namespaces, child))
        }
        Side::Parent(made) => {
            drop(child);
            let child = Unstarted(Some(made));
            let netlink = if namespaces.has("net") {
                match child.hear(&mut parent)? {
                    Told::Netlink(socket) => Some(socket),
                    Told::Failed(failure) => return Err(RuntimeError::Init(failure)),
                    _ => return Err(RuntimeError::Killed),
                }
            } else {
                None
            };
            Ok(Created { child, netlink, handshake: parent })
        }
    }
}

impl Created {
    /// The process as the host counts.
    pub fn pid(&self) -> i32 {
        self.child.0.as_ref().map_or(-1, |child| child.pid)
    }

    /// Why the process failed, if it did: asked when something else about it failed, such as entering its network
    /// namespace. Waits until it is ready or has failed.
    pub fn failure(&mut self) -> Option<RuntimeError> {
        loop {
            match self.child.hear(&mut self.handshake) {
                Ok(Told::Failed(failure)) => return Some(RuntimeError::Init(failure)),
                Ok(Told::Terminal(_)) => {}
                _ => return None,
            }
        }
    }

    /// Lets the process go: it takes its last steps and executes the program. Comes back when that worked.
    pub fn start(mut self) -> Result<Running, RuntimeError> {
        let mut terminal = None;
        let mut let_go = false;
        loop {
            match self.child.hear(&mut self.handshake)? {
                Told::Terminal(master) => terminal = Some(master),
                Told::Ready => {
                    self.handshake.go()?;
                    let_go = true;
                }
                Told::Failed(failure) => return Err(RuntimeError::Init(failure)),
                // The channel closes by exec only after it was let go; before that the process was killed.
                Told::Closed if let_go => break,
                Told::Closed | Told::Netlink(_) | Told::Process(_) => return Err(RuntimeError::Killed),
            }
        }
        let child = self.child.0.take().ok_or(RuntimeError::Killed)?;
        Ok(Running { pid: child.pid, pidfd: child.pidfd, terminal })
    }
}

impl Unstarted {
    fn hear(&self, handshake: &mut Parent) -> Result<Told, RuntimeError> {
        let child = self.0.as_ref().ok_or(RuntimeError::Killed)?;
        Ok(handshake.hear(child.pidfd.as_fd())?)
    }
}

impl Drop for Unstarted {
    fn drop(&mut self) {
        let Some(child) = &self.0 else { return };
        // A process that was never let go has done nothing anybody waits for.
        let _ = process::pidfd_send_signal(&child.pidfd, nix::libc::SIGKILL);
        let _ = waiting::reap(child.pidfd.as_fd(), waiting::GONE);
    }
}

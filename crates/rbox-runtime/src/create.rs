//! From a config to a process that waits, and from there to the program.

use std::os::fd::{AsFd, OwnedFd};

use rbox_namespace::handshake::{self, Parent, Told};
use rbox_sys::process::{self, Child, Side};
use rbox_sys::waiting::Patience;
use rbox_sys::{trace, waiting};

use crate::between;
use crate::error::RuntimeError;
use crate::hooks;
use crate::init::{self, Init};
use crate::joined;
use crate::launch::Launch;
use crate::own_user::UserNamespace;
use crate::plan;
use crate::view;

/// A process in its namespaces that waits before its last steps. Dropping it ends the process.
#[derive(Debug)]
pub struct Created {
    child: Unstarted,
    /// A `NETLINK_ROUTE` socket in its network namespace, when it has its own.
    pub netlink: Option<OwnedFd>,
    handshake: Parent,
    /// Those of its hooks that run on this side.
    hooks: Option<hooks::OfParent>,
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
pub fn create(mut launch: Launch<'_>) -> Result<Created, RuntimeError> {
    let mut mounts = trace::step(
        "open the sources of mounts",
        "Files of the host are opened here, outside, so that the container's tree cannot lead them elsewhere.",
        || {
            let mounts = launch.spec.mounts().as_deref().unwrap_or_default();
            plan::prepare(mounts, launch.cgroups_v1, launch.given, launch.user.map(UserNamespace::maps))
        },
    )?;
    if launch.joins("user") {
        between::add_null(&mut mounts)?;
    }
    let namespaces = plan::namespaces(launch.spec);
    let hooks = hooks::OfParent::of(&launch);
    let (mut parent, child) = handshake::pair()?;
    // Before the clone, so that there is no moment in which whoever shares its PID namespace could look into the child.
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    let side = trace::step(
        "clone into new namespaces",
        "One call makes the process, its namespaces and its place in the control group: no moment outside of them.",
        || match launch.netns {
            _ if launch.user.is_some() => between::clone_into(&mut launch, &mut mounts, namespaces),
            _ if !launch.joined.is_empty() => {
                joined::clone_into(launch.joined, namespaces.clone_flags(), launch.cgroup, || Ok(()))
            }
            Some(netns) => Ok(process::clone3_in_network(netns, namespaces.clone_flags(), launch.cgroup)?),
            None => Ok(process::clone3(namespaces.clone_flags(), launch.cgroup)?),
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
            Ok(Created { child, netlink, handshake: parent, hooks })
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

    /// Lets the process take its steps up to the point where it waits for another process to start it, with `hooks` run when it asks
    /// for them, which may take it `patience`. `ready` is called when it is there; when that fails, or the process does, it is
    /// ended.
    pub(crate) fn leave(
        mut self,
        patience: Patience,
        hooks: impl Fn() -> Result<(), RuntimeError>,
        ready: impl FnOnce() -> Result<(), RuntimeError>,
    ) -> Result<Running, RuntimeError> {
        let mut terminal = None;
        loop {
            match self.child.hear_for(&mut self.handshake, patience)? {
                Told::Terminal(master) => terminal = Some(master),
                Told::Hooks => {
                    hooks()?;
                    self.handshake.go()?;
                }
                Told::Ready => break,
                Told::Failed(failure) => return Err(RuntimeError::Init(failure)),
                Told::Closed | Told::Netlink(_) | Told::Process(_) | Told::Tree(_) => {
                    return Err(RuntimeError::Killed);
                }
            }
        }
        ready()?;
        self.handshake.go()?;
        let child = self.child.0.take().ok_or(RuntimeError::Killed)?;
        Ok(Running { pid: child.pid, pidfd: child.pidfd, terminal })
    }

    /// Lets the process go: it takes its last steps and executes the program. Comes back when that worked, and the hooks after it; a
    /// program whose hooks failed is ended (OCI runtime specification 1.2, lifecycle).
    pub fn start(mut self) -> Result<Running, RuntimeError> {
        let (mut terminal, mut let_go) = (None, false);
        let hooks = self.hooks.take();
        let patience = hooks.as_ref().map_or(Patience::MOMENT, |hooks| hooks.patience);
        loop {
            match self.child.hear_for(&mut self.handshake, patience)? {
                Told::Terminal(master) => terminal = Some(master),
                Told::Hooks if let Some(hooks) = &hooks => {
                    hooks.run_early(self.pid()).map_err(RuntimeError::Hook)?;
                    self.handshake.go()?;
                }
                Told::Ready => {
                    view::tell(self.pid());
                    self.handshake.go()?;
                    let_go = true;
                }
                Told::Failed(failure) => return Err(RuntimeError::Init(failure)),
                // The channel closes by exec only after it was let go; before that the process was killed.
                Told::Closed if let_go => break,
                Told::Closed | Told::Netlink(_) | Told::Process(_) | Told::Tree(_) | Told::Hooks => {
                    return Err(RuntimeError::Killed);
                }
            }
        }
        if let Some(hooks) = hooks {
            hooks.run_poststart(self.pid()).map_err(RuntimeError::Hook)?;
        }
        let child = self.child.0.take().ok_or(RuntimeError::Killed)?;
        Ok(Running { pid: child.pid, pidfd: child.pidfd, terminal })
    }
}

impl Unstarted {
    fn hear(&self, handshake: &mut Parent) -> Result<Told, RuntimeError> {
        self.hear_for(handshake, Patience::MOMENT)
    }

    fn hear_for(&self, handshake: &mut Parent, patience: Patience) -> Result<Told, RuntimeError> {
        let child = self.0.as_ref().ok_or(RuntimeError::Killed)?;
        Ok(handshake.hear_for(child.pidfd.as_fd(), patience)?)
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

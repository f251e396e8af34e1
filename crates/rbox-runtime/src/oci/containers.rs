//! The five operations.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{ContainerState, Hook, State};
use rbox_cgroup::{Cgroup, Hierarchy};
use rbox_namespace::handshake::Told;
use rbox_namespace::start::{self, Listener};
use rbox_sys::mount::{Attr, clone_tree, set_attributes};
use rbox_sys::passed::Passed;
use rbox_sys::{own, process};
use rustix::mount::MountPropagationFlags;

use crate::create::create;
use crate::error::RuntimeError;
use crate::hooks;
use crate::joined::{JoinedNamespace, open_namespaces};
use crate::launch::{Later, Launch};
use crate::oci::bundle::{Bundle, Group};
use crate::oci::check;
use crate::oci::record::{self, Container, Kept, SOCKET, STAGE};

/// The containers whose records are in one directory.
#[derive(Clone, Debug)]
pub struct Containers {
    dir: PathBuf,
}

/// A container that waits to be started.
#[derive(Debug)]
pub struct Waiting {
    /// The process as the host counts.
    pub pid: i32,
    /// The master side of its terminal, with [`Stdio::Terminal`](crate::Stdio::Terminal).
    pub terminal: Option<OwnedFd>,
}

impl Containers {
    /// Those whose records are in `dir`, which is made when missing.
    pub fn open(dir: &Path) -> Result<Self, RuntimeError> {
        own::make_private(dir).map_err(RuntimeError::file("make directory", dir))?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// Makes the container. It is set up when this returns, and waits to be started. When it fails nothing is left. The caller
    /// must be single-threaded.
    pub fn create(&self, id: &str, bundle: Bundle<'_>) -> Result<Waiting, RuntimeError> {
        check::check(&bundle)?;
        record::refuse_taken(&self.dir, id, &bundle)?;
        let joined = open_namespaces(bundle.spec)?;
        let kept = Kept::new(id, &bundle);
        let container = Container::make(&self.dir, id, &kept)?;
        let poststop = kept.poststop.clone();
        let state = kept.state(ContainerState::Stopped, None);
        make(&container, kept, bundle, &joined).inspect_err(|_| {
            // What failed is the error to report.
            let _ = container.destroy();
            let _ = hooks::run_all("poststop", &poststop, &state);
        })
    }

    /// Lets the program run. What `poststart` hooks failed with is returned: the container runs all the same.
    pub fn start(&self, id: &str) -> Result<Vec<String>, RuntimeError> {
        let container = Container::find(&self.dir, id)?;
        container.lock()?;
        let seen = container.look()?;
        if seen.status != ContainerState::Created {
            return Err(container.conflict(format!("is {}, so it cannot be started", seen.status)));
        }
        let (Some(pidfd), Some(mut parent)) = (seen.pidfd, start::connect(container.fd(), SOCKET)?) else {
            return Err(RuntimeError::Killed);
        };
        parent.go()?;
        match parent.hear_for(pidfd.as_fd(), seen.kept.start_patience())? {
            // The end of file is execve's, or that of a process that was killed then.
            Told::Closed if !container.is_waiting() => {}
            Told::Failed(failure) => return Err(RuntimeError::Init(failure)),
            _ => return Err(RuntimeError::Killed),
        }
        let state = seen.kept.state(ContainerState::Running, seen.pid);
        Ok(hooks::run_all("poststart", &seen.kept.poststart, &state))
    }

    /// What the container is now.
    pub fn state(&self, id: &str) -> Result<State, RuntimeError> {
        let seen = Container::find(&self.dir, id)?.look()?;
        Ok(seen.kept.state(seen.status, seen.pid))
    }

    /// Sends a signal to the container's first process.
    pub fn kill(&self, id: &str, signal: i32) -> Result<(), RuntimeError> {
        let container = Container::find(&self.dir, id)?;
        let seen = container.look()?;
        match (seen.status, seen.pidfd) {
            (ContainerState::Created | ContainerState::Running, Some(pidfd)) => {
                Ok(process::pidfd_send_signal(&pidfd, signal)?)
            }
            (status, _) => Err(container.conflict(format!("is {status}, so it cannot be sent a signal"))),
        }
    }

    /// Removes what is left of a stopped container, or with `force` of any. What `poststop` hooks failed with is returned:
    /// the container is gone all the same. One that does not exist is an error, but not with `force`.
    pub fn delete(&self, id: &str, force: bool) -> Result<Vec<String>, RuntimeError> {
        record::sweep(&self.dir, id)?;
        let container = match Container::find(&self.dir, id) {
            Err(RuntimeError::NotFound(_)) if force => return Ok(Vec::new()),
            found => found?,
        };
        container.lock()?;
        let seen = container.look()?;
        if seen.status != ContainerState::Stopped && !force {
            return Err(container.conflict(format!("is {}, not stopped", seen.status)));
        }
        container.destroy()?;
        let state = seen.kept.state(ContainerState::Stopped, None);
        Ok(hooks::run_all("poststop", &seen.kept.poststop, &state))
    }
}

/// From a record to a process that waits.
fn make(
    container: &Container,
    mut kept: Kept,
    bundle: Bundle<'_>,
    joined: &[JoinedNamespace],
) -> Result<Waiting, RuntimeError> {
    let hierarchy = Hierarchy::detect()?;
    let cgroup = match bundle.group {
        Group::Make { path, resources } => match Cgroup::create(hierarchy, path, resources) {
            Ok(made) => made,
            Err(error) => {
                // What is there of that name is another's.
                kept.no_group();
                container.write(&kept)?;
                return Err(error.into());
            }
        },
        Group::Given(paths) => Cgroup::open_to_join(paths)?,
    };
    kept.cgroup = cgroup.paths().clone();
    let own_tree = !joined.iter().any(|one| one.name() == "mnt");
    let root = if own_tree { open_root(&bundle)? } else { container.copy_of_fd()? };
    let groups: Vec<(String, PathBuf)> =
        kept.cgroup.v1.iter().map(|(names, path)| (names.clone(), path.clone())).collect();
    let launch = Launch {
        spec: bundle.spec,
        root: root.as_fd(),
        stage: &container.make_stage(STAGE)?,
        cgroup: cgroup.clone_into(),
        cgroup_tasks: cgroup.join_fds(),
        cgroups_v1: (!hierarchy.is_v2()).then_some(&groups),
        netns: None,
        user: None,
        joined,
        given: &[],
        state: Some(kept.state(ContainerState::Creating, None)),
        later: Some(Later { lock: container.fd(), listener: Listener::bind(container.fd(), SOCKET)? }),
        seccomp: bundle.seccomp,
        stdio: bundle.stdio,
        passed: Passed::default(),
    };
    let runtime_hooks: Vec<(&str, Vec<Hook>)> =
        launch.runtime_hooks().map(|(kind, hooks)| (kind, hooks.to_vec())).into();
    let patience = hooks::patience(launch.hooks(|hooks| hooks.create_container().as_deref()));

    let created = create(launch)?;
    let pid = created.pid();
    kept.found(pid);
    container.write(&kept)?;
    let state = kept.state(ContainerState::Creating, Some(pid));
    let run_hooks = || {
        runtime_hooks
            .iter()
            .try_for_each(|(kind, hooks)| hooks::run(kind, hooks, &state).map_err(RuntimeError::Hook))
    };
    let running = created.leave(patience, run_hooks, || {
        kept.complete = true;
        container.write(&kept)
    })?;
    Ok(Waiting { pid: running.pid, terminal: running.terminal })
}

/// The root file system as a detached mount of its own.
fn open_root(bundle: &Bundle<'_>) -> Result<OwnedFd, RuntimeError> {
    let path = check::root_path(bundle)?;
    let root = clone_tree(rustix::fs::CWD, &path, true)?;
    set_attributes(root.as_fd(), Attr::empty(), Attr::empty(), MountPropagationFlags::PRIVATE, true)?;
    Ok(root)
}

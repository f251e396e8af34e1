//! The namespaces of other containers that a container is in: `--pid container:NAME` and `--ipc container:NAME`. That of the network
//! is in `networks/files.rs`, as it comes with files.

use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxNamespaceType;
use rbox_spec::capability::Capability;
use rbox_spec::container::{HostConfig, IpcMode, NetworkMode, PidMode};

use crate::containers::{find, running};
use crate::error::EngineError;
use crate::oci::security::capabilities;
use crate::record::container::{Container, ContainerRecord};
use crate::record::paths::Paths;

/// What a container has from others whose namespaces it is in.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// The namespaces, by their files in /proc.
    pub(crate) namespaces: Vec<(LinuxNamespaceType, PathBuf)>,
    /// The /dev/shm that belongs to the IPC namespace, as a mount of its own.
    pub(crate) shm: Option<OwnedFd>,
    owners: Vec<Container>,
}

/// Puts the ids of the containers that the modes name into their place: whoever is renamed stays the one.
pub(crate) fn resolve(paths: &Paths, host: &mut HostConfig) -> Result<(), EngineError> {
    let modes = [
        if let PidMode::Container(named) = &mut host.pid { Some(named) } else { None },
        if let IpcMode::Container(named) = &mut host.ipc { Some(named) } else { None },
    ];
    for named in modes.into_iter().flatten() {
        *named = find::find(paths, named)?.record.id.to_string();
    }
    Ok(())
}

/// The containers it needs to be running before it is started.
pub(crate) fn needed(host: &HostConfig) -> impl Iterator<Item = &str> {
    let pid = if let PidMode::Container(id) = &host.pid { Some(id) } else { None };
    let ipc = if let IpcMode::Container(id) = &host.ipc { Some(id) } else { None };
    let network = if let NetworkMode::Container(id) = &host.network { Some(id) } else { None };
    [pid, ipc, network].into_iter().flatten().map(String::as_str)
}

/// Refuses namespaces of a container that has a user namespace: root of the host owns that, and root of a container without one is root of
/// the host, so it would have all capabilities there, whatever it was left of its own. A privileged one has them anyway; but the memory of
/// such an IPC namespace takes no file of a user that the namespace has not. What a privileged one has joined is no more its own than it is of
/// who joins that, so the question is whose the namespace is in the end.
pub(crate) fn check_users(paths: &Paths, host: &HostConfig) -> Result<(), EngineError> {
    for id in needed(host) {
        let other = find::find(paths, id)?;
        let joins_memory = matches!(&host.ipc, IpcMode::Container(of) if of == id);
        if (!host.privileged || joins_memory) && reaches_users(paths, &other.record) {
            return Err(EngineError::Conflict(format!(
                "cannot join namespaces of container {}: it has a user namespace of its own, or is in namespaces of one that has, where root \
                 of this one would have all capabilities: make it with --userns host",
                other.record.name
            )));
        }
    }
    Ok(())
}

/// Whether this container, or one whose namespaces it is in, has a user namespace.
fn reaches_users(paths: &Paths, record: &ContainerRecord) -> bool {
    let mut seen = HashSet::from([record.id.to_string()]);
    let mut next = vec![record.host.clone()];
    while let Some(host) = next.pop() {
        if host.id_maps.is_some() {
            return true;
        }
        for id in needed(&host).filter(|id| seen.insert((*id).to_owned())) {
            // Of one that is gone no namespace is left.
            next.extend(find::find(paths, id).ok().map(|other| other.record.host));
        }
    }
    false
}

impl Shared {
    /// Finds what the record asks for: refused when the other one is not running, or does not share.
    pub(crate) fn find(paths: &Paths, record: &ContainerRecord) -> Result<Self, EngineError> {
        check_users(paths, &record.host)?;
        let mut shared = Self::default();
        if let PidMode::Container(id) = &record.host.pid {
            let pid = shared.owner("PID", LinuxNamespaceType::Pid, "pid", paths, id)?;
            refuse_tracers(paths, &pid).map_err(|why| refused("PID", &why))?;
        }
        if let IpcMode::Container(id) = &record.host.ipc {
            let pid = shared.owner("IPC", LinuxNamespaceType::Ipc, "ipc", paths, id)?;
            let own = record.host.mounts.iter().any(|mount| Path::new(SHM).starts_with(&mount.target));
            if !own {
                shared.shm = Some(rbox_runtime::mount_inside(pid.as_fd(), Path::new(SHM))?);
            }
        }
        Ok(shared)
    }

    /// The process of the container `id`, one of whose namespaces is joined.
    fn owner(
        &mut self,
        what: &str,
        kind: LinuxNamespaceType,
        file: &str,
        paths: &Paths,
        id: &str,
    ) -> Result<OwnedFd, EngineError> {
        let other = find::find(paths, id)?;
        let name = &other.record.name;
        running::refuse_restarting(&other).map_err(|_| {
            refused(what, &format!("container {name} is restarting, wait until it is running"))
        })?;
        let stopped = |_| refused(what, &format!("container {name} is not running: start it first"));
        let pidfd = running::pidfd(&other).map_err(stopped)?;
        if kind == LinuxNamespaceType::Ipc && !matches!(other.record.host.ipc, IpcMode::Shareable) {
            return Err(refused(
                what,
                &format!(
                    "container {name}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)"
                ),
            ));
        }
        let pid = other.live.as_ref().map_or(0, |live| live.pid);
        self.namespaces.push((kind, PathBuf::from(format!("/proc/{pid}/ns/{file}"))));
        self.owners.push(other);
        Ok(pidfd)
    }

    /// To be asked once the namespaces are open: a number may have been given to another process since.
    pub(crate) fn check(&self) -> Result<(), EngineError> {
        self.owners.iter().try_for_each(|owner| running::pidfd(owner).map(drop))
    }
}

pub(crate) const SHM: &str = "/dev/shm";

fn refused(what: &str, why: &str) -> EngineError {
    EngineError::Conflict(format!("failed to join {what} namespace: {why}"))
}

/// Until it is the program, the first process is one of the host's, and in a PID namespace that is joined others can see it. One that
/// may trace any process could take hold of it, and of the host with it.
fn refuse_tracers(paths: &Paths, owner: &OwnedFd) -> Result<(), String> {
    let pid = rbox_sys::process::pid_of(owner).unwrap_or(0);
    let wanted = rbox_runtime::namespace::inode(pid, "pid");
    for other in find::list_running(paths).map_err(|error| error.to_string())? {
        let Some(live) = other.live.as_ref() else { continue };
        if rbox_runtime::namespace::inode(live.pid, "pid") != wanted || other.record.host.privileged {
            continue;
        }
        let name = &other.record.name;
        if capabilities(&other.record).is_ok_and(|set| set.contains(Capability::SysPtrace)) {
            return Err(format!(
                "container {name}, which is in it, has the capability SYS_PTRACE, with which it could take hold of the process that sets up \
                 the new container, and of the host: give SYS_PTRACE to the container that is started last only"
            ));
        }
    }
    Ok(())
}

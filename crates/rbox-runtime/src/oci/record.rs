//! A container's directory: its record, its lock, and what its status is.

use std::cell::Cell;
use std::collections::HashMap;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use oci_spec::runtime::{ContainerState, Hook, State};
use rbox_cgroup::{Cgroup, CgroupPaths, Hierarchy};
use rbox_namespace::start;
use rbox_spec::record::{self, Record, Step};
use rbox_sys::durable::{self, Lasting};
use rbox_sys::lock::{self, How};
use rbox_sys::waiting::{self, Patience};
use rbox_sys::{own, process, removal};
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use crate::error::RuntimeError;
use crate::hooks;
use crate::oci::bundle::{Bundle, Group};

/// The socket that the created process waits at.
pub(super) const SOCKET: &str = "start";
pub(super) const STAGE: &str = "stage";
const RECORD: &str = "state.json";
/// A record holds annotations and hooks of the config.
const RECORD_MAX: u64 = 16 << 20;
/// What a deleted container's directory is called until it is gone.
const GONE: &str = ".gone-";

/// What is kept of a container.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Kept {
    oci_version: String,
    id: String,
    bundle: PathBuf,
    annotations: HashMap<String, String>,
    /// Its first process, and when that was started: a reused pid is recognised by it.
    pid: Option<i32>,
    start_ticks: u64,
    /// It was set up to its end.
    pub(super) complete: bool,
    /// The path of the group that was made for it.
    made_group: Option<String>,
    pub(super) cgroup: CgroupPaths,
    start_container: Vec<Hook>,
    pub(super) poststart: Vec<Hook>,
    pub(super) poststop: Vec<Hook>,
}

impl Record for Kept {
    const STEPS: &'static [Step] = &[];
}

impl Kept {
    pub(super) fn new(id: &str, bundle: &Bundle<'_>) -> Self {
        let spec = bundle.spec;
        let hooks = spec.hooks().clone().unwrap_or_default();
        Self {
            oci_version: spec.version().clone(),
            id: id.to_owned(),
            bundle: bundle.path.to_owned(),
            annotations: spec.annotations().clone().unwrap_or_default(),
            made_group: match bundle.group {
                Group::Make { path, .. } => Some(path.to_owned()),
                Group::Given(_) => None,
            },
            start_container: hooks.start_container().clone().unwrap_or_default(),
            poststart: hooks.poststart().clone().unwrap_or_default(),
            poststop: hooks.poststop().clone().unwrap_or_default(),
            ..Self::default()
        }
    }

    /// There is no group of its own.
    pub(super) fn no_group(&mut self) {
        self.made_group = None;
    }

    /// The process was made.
    pub(super) fn found(&mut self, pid: i32) {
        self.pid = Some(pid);
        self.start_ticks = process::process_start(pid).map_or(0, |(ticks, _)| ticks);
    }

    pub(super) fn start_patience(&self) -> Patience {
        hooks::patience(&self.start_container)
    }

    /// As the specification has it: what hooks get, and `state` answers.
    pub(super) fn state(&self, status: ContainerState, pid: Option<i32>) -> State {
        let mut state = State::default();
        state.set_version(self.oci_version.clone()).set_id(self.id.clone()).set_status(status).set_pid(pid);
        state.set_bundle(self.bundle.clone()).set_annotations(Some(self.annotations.clone()));
        state
    }

    /// Its process if it is there: opened first and looked at then, so that it is the one that was looked at.
    fn process(&self) -> Option<OwnedFd> {
        let pid = self.pid?;
        let pidfd = process::pidfd_open(pid).ok()?;
        let (ticks, ended) = process::process_start(pid)?;
        (ticks == self.start_ticks && !ended).then_some(pidfd)
    }

    /// The groups that were made for it, those of a making that was cut off too.
    fn own_group(&self) -> Result<Option<Cgroup>, RuntimeError> {
        let Some(path) = &self.made_group else { return Ok(None) };
        let found = Cgroup::find(Hierarchy::detect()?, path)?;
        Ok(Some(Cgroup::open(&found)?))
    }
}

/// What was seen of a container.
pub(super) struct Seen {
    pub(super) kept: Kept,
    pub(super) status: ContainerState,
    /// Its process, while it is there.
    pub(super) pid: Option<i32>,
    pub(super) pidfd: Option<OwnedFd>,
}

/// A container's directory, open.
#[derive(Debug)]
pub(super) struct Container {
    id: String,
    path: PathBuf,
    dir: File,
    locked: Cell<bool>,
}

impl Container {
    /// Makes the directory and takes its lock. The record is there before anything else is made.
    pub(super) fn make(containers: &Path, id: &str, kept: &Kept) -> Result<Self, RuntimeError> {
        check_id(id)?;
        sweep(containers, id)?;
        let path = containers.join(id);
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(RuntimeError::Conflict { id: id.to_owned(), why: "exists already".into() });
            }
            made => made.map_err(RuntimeError::file("make directory", &path))?,
        }
        let container = Self::find(containers, id)?;
        container.lock()?;
        container.write(kept)?;
        Ok(container)
    }

    pub(super) fn find(containers: &Path, id: &str) -> Result<Self, RuntimeError> {
        check_id(id)?;
        let path = containers.join(id);
        match open_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(RuntimeError::NotFound(id.to_owned()))
            }
            opened => {
                let dir = opened.map_err(RuntimeError::file("open", &path))?;
                Ok(Self { id: id.to_owned(), path, dir, locked: Cell::new(false) })
            }
        }
    }

    /// Takes the lock until this value goes. Who had it before may have deleted the container.
    pub(super) fn lock(&self) -> Result<(), RuntimeError> {
        lock::take(&self.dir, How::Exclusive, Patience::MOMENT)
            .map_err(RuntimeError::file("lock", &self.path))?;
        self.locked.set(true);
        let ours = self.dir.metadata().map_err(RuntimeError::file("look at", &self.path))?;
        match std::fs::symlink_metadata(&self.path) {
            Ok(there) if (there.dev(), there.ino()) == (ours.dev(), ours.ino()) => Ok(()),
            _ => Err(RuntimeError::NotFound(self.id.clone())),
        }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    pub(super) fn copy_of_fd(&self) -> Result<OwnedFd, RuntimeError> {
        Ok(self.dir.try_clone().map_err(RuntimeError::file("open", &self.path))?.into())
    }

    pub(super) fn make_stage(&self, name: &str) -> Result<PathBuf, RuntimeError> {
        let stage = self.path.join(name);
        std::fs::create_dir(&stage).map_err(RuntimeError::file("make directory", &stage))?;
        Ok(stage)
    }

    pub(super) fn is_waiting(&self) -> bool {
        start::is_waiting(self.fd(), SOCKET)
    }

    pub(super) fn conflict(&self, why: String) -> RuntimeError {
        RuntimeError::Conflict { id: self.id.clone(), why }
    }

    pub(super) fn write(&self, kept: &Kept) -> Result<(), RuntimeError> {
        let path = self.path.join(RECORD);
        record::encode(kept)
            .map_err(io::Error::from)
            .and_then(|text| durable::replace(&self.path, &path, &text, Lasting::Later))
            .map_err(RuntimeError::file("write", path))
    }

    /// What is kept; of a container whose making was cut off before there was a record, nothing.
    fn read(&self) -> Result<Kept, RuntimeError> {
        let path = self.path.join(RECORD);
        match own::read(&path, RECORD_MAX) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Ok(Kept { id: self.id.clone(), ..Kept::default() })
            }
            text => text
                .and_then(|text| record::decode(&text).map_err(io::Error::other))
                .map_err(RuntimeError::file("read", path)),
        }
    }

    /// The record, and the status that the kernel reports.
    pub(super) fn look(&self) -> Result<Seen, RuntimeError> {
        let kept = self.read()?;
        if !kept.complete {
            let status =
                if self.is_locked_by_another() { ContainerState::Creating } else { ContainerState::Stopped };
            return Ok(Seen { status, pid: None, pidfd: None, kept });
        }
        // Looked at before the process: one that waits now and has ended then is stopped, not running.
        let waiting = self.is_waiting();
        let pidfd = kept.process();
        let status = match (&pidfd, waiting) {
            (None, _) => ContainerState::Stopped,
            (Some(_), true) => ContainerState::Created,
            (Some(_), false) => ContainerState::Running,
        };
        Ok(Seen { status, pid: kept.pid.filter(|_| pidfd.is_some()), pidfd, kept })
    }

    /// Whether another has the lock: whoever is creating it.
    fn is_locked_by_another(&self) -> bool {
        if self.locked.get() {
            return false;
        }
        // By a descriptor of its own, so that the lock goes with it.
        open_dir(&self.path).is_ok_and(|other| matches!(lock::try_take(&other, How::Shared), Ok(false)))
    }

    /// Ends what runs, removes the groups that were made, and the directory last. It can be repeated.
    pub(super) fn destroy(&self) -> Result<(), RuntimeError> {
        let kept = self.read()?;
        let group = kept.own_group()?;
        end(kept.process().as_ref().map(AsFd::as_fd), group.as_ref())?;
        if let Some(group) = group {
            group.delete()?;
        }
        let gone = self.path.with_file_name(format!("{GONE}{}-{}", self.id, std::process::id()));
        std::fs::rename(&self.path, &gone).map_err(RuntimeError::file("remove", &self.path))?;
        removal::remove_tree(&gone).map_err(RuntimeError::file("remove", gone))
    }
}

/// Refuses an id that another container has, and a group that has processes: it is another's, and would be ended with this container.
pub(super) fn refuse_taken(containers: &Path, id: &str, bundle: &Bundle<'_>) -> Result<(), RuntimeError> {
    match Container::find(containers, id) {
        Ok(container) => return Err(container.conflict("exists already".into())),
        Err(RuntimeError::NotFound(_)) => {}
        Err(error) => return Err(error),
    }
    let Group::Make { path, .. } = bundle.group else { return Ok(()) };
    let found = Cgroup::find(Hierarchy::detect()?, path)?;
    if Cgroup::open(&found)?.is_populated() {
        let why = format!("cannot have the control group {path}: it has processes already");
        return Err(RuntimeError::Conflict { id: id.to_owned(), why });
    }
    Ok(())
}

/// Ends all that runs in a group of the container's own, and the process wherever it is.
fn end(pidfd: Option<BorrowedFd<'_>>, group: Option<&Cgroup>) -> Result<(), RuntimeError> {
    if let Some(pidfd) = pidfd {
        // One that has ended already is what is wanted.
        let _ = process::pidfd_send_signal(pidfd, nix::libc::SIGKILL);
    }
    if let Some(group) = group {
        group.kill()?;
    }
    if let Some(pidfd) = pidfd {
        waiting::readable(pidfd, waiting::Who::Pidfd(pidfd), waiting::GONE)
            .map_err(rbox_namespace::handshake::HandshakeError::from)?;
        let _ = waiting::reap(pidfd, Patience::of(Duration::ZERO));
    }
    Ok(())
}

fn open_dir(path: &Path) -> std::io::Result<File> {
    let how = OFlags::DIRECTORY | OFlags::NOFOLLOW;
    File::options().read(true).custom_flags(how.bits() as i32).open(path)
}

/// Removes what a delete of this id that was killed has left.
pub(super) fn sweep(containers: &Path, id: &str) -> Result<(), RuntimeError> {
    check_id(id)?;
    let begin = format!("{GONE}{id}-");
    for entry in std::fs::read_dir(containers).map_err(RuntimeError::file("list", containers))?.flatten() {
        let name = entry.file_name();
        let rest = name.to_str().and_then(|name| name.strip_prefix(&begin));
        if rest.is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit())) {
            removal::remove_tree(&entry.path()).map_err(RuntimeError::file("remove", entry.path()))?;
        }
    }
    Ok(())
}

/// An id is a directory's name that is none of ours.
fn check_id(id: &str) -> Result<(), RuntimeError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_+-.".contains(&byte);
    if !id.is_empty() && id.len() <= 200 && !id.starts_with('.') && id.bytes().all(plain) {
        return Ok(());
    }
    Err(RuntimeError::Config(format!(
        "container id {id:?}: it is of letters, digits and _+-. up to 200, and does not begin with a dot"
    )))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn ids_are_names_of_directories() {
        for id in ["a", "a.b", "A_1+2-3", &"x".repeat(200)] {
            check_id(id).unwrap();
        }
        for id in ["", ".", "..", ".gone-a-1", "a/b", "a b", "ä", &"x".repeat(201)] {
            assert!(check_id(id).is_err(), "{id}");
        }
    }

    /// The start time in the record is another's, so the pid was given away.
    #[test]
    fn a_reused_pid_is_another_process() {
        let mut kept = Kept::default();
        kept.found(std::process::id() as i32);
        assert!(kept.process().is_some());
        kept.start_ticks -= 1;
        assert!(kept.process().is_none());
    }

    #[test]
    fn a_making_that_was_cut_off_is_told_from_one_that_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let container = Container::make(dir.path(), "one", &Kept::default()).unwrap();
        let look = || Container::find(dir.path(), "one").unwrap().look().unwrap().status;
        assert_eq!(look(), ContainerState::Creating);
        drop(container);
        assert_eq!(look(), ContainerState::Stopped);
        std::fs::remove_file(dir.path().join("one").join(RECORD)).unwrap();
        assert_eq!(look(), ContainerState::Stopped);
        std::fs::create_dir(dir.path().join(".gone-one-7")).unwrap();
        std::fs::create_dir(dir.path().join(".gone-one-more-7")).unwrap();
        sweep(dir.path(), "one").unwrap();
        assert!(!dir.path().join(".gone-one-7").exists() && dir.path().join(".gone-one-more-7").exists());
    }
}

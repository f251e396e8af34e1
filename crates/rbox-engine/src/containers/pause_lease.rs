//! A pause for as long as something is read, such as a container's layer. It ends with the process that asked for it, however that ends.
//!
//! A file beside the live state says that the container is paused so. Who asked for it holds the file's lock, and a connection to the
//! container's monitor. When a connection ends, the monitor looks for the file: if it is there and nobody holds its lock, the container goes on.
//! Should the monitor be killed with the command, the next command does the same that tidies or finds the container paused.

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rbox_runtime::cgroup::Cgroup;
use rbox_spec::id::ContainerId;
use rbox_sys::lock::{self, How, Patience};
use rbox_sys::own;

use crate::error::EngineError;
use crate::journal::{ContainerAction, note_container};
use crate::monitor::protocol;
use crate::record::container::{Container, LiveState, Status};
use crate::record::lock::is_at;
use crate::record::paths::{LEASE, Paths};

/// How often, a millisecond apart, it is looked whether a lease has no holder.
const TRIES: u32 = 5;

/// The container is paused until this is dropped.
#[derive(Debug)]
pub(crate) struct PauseLease {
    paths: Paths,
    id: ContainerId,
    file: File,
    /// Its end tells the monitor to look.
    _monitor: Option<OwnedFd>,
}

impl PauseLease {
    /// Pauses a container that runs; whoever else has paused it so is waited for. None when it does not run, or the user has paused it.
    ///
    /// # Errors
    /// It cannot be paused.
    pub(crate) fn take(paths: &Paths, id: &ContainerId) -> Result<Option<Self>, EngineError> {
        let path = paths.live_of(id).join(LEASE);
        loop {
            // Before the file is there: at no moment is one left that the monitor does not come to look for. And again with each file: the
            // container may have been started again while it was waited for.
            let monitor = protocol::connect(&paths.live_of(id)).ok();
            let Some((file, is_new)) = open(&path)? else { return Ok(None) };
            lock::take(&file, How::Exclusive, Patience::WORK).map_err(EngineError::file("lock", &path))?;
            // Its holder has gone with it.
            if !is_at(&file, &path) {
                continue;
            }
            // A process that dies gives back what has the highest number first: the lock, before the monitor looks for it.
            let above = monitor.as_ref().map_or(0, |monitor| monitor.as_raw_fd() + 1);
            let last = rustix::io::fcntl_dupfd_cloexec(&file, above)
                .map_err(|errno| EngineError::file("open", &path)(errno.into()))?;
            let lease = Self { paths: paths.clone(), id: id.clone(), file: last.into(), _monitor: monitor };
            drop(file);
            let container = Container::read(paths, id)?;
            return match container.as_ref().map(|container| container.status) {
                Some(Status::Running) => lease.freeze(container.as_ref()).map(Some),
                // A file that was there says that it is one of ours, of a process that was killed.
                Some(Status::Paused) if !is_new => Ok(Some(lease)),
                Some(Status::Paused) => {
                    lease.forget();
                    Ok(None)
                }
                _ => Ok(None),
            };
        }
    }

    fn freeze(self, container: Option<&Container>) -> Result<Self, EngineError> {
        let Some(live) = LiveState::read(&self.paths, &self.id)? else { return Ok(self) };
        match Cgroup::open(&live.cgroup).and_then(|group| group.freeze()) {
            Err(error) if live.has_process() => return Err(error.into()),
            Err(_) => {}
            Ok(()) => note(&self.paths, container, ContainerAction::Pause),
        }
        Ok(self)
    }

    /// Takes the file away, and lets the container be.
    fn forget(&self) {
        let path = self.paths.live_of(&self.id).join(LEASE);
        if is_at(&self.file, &path) {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Drop for PauseLease {
    fn drop(&mut self) {
        // What was forgotten is nothing to end.
        if is_at(&self.file, &self.paths.live_of(&self.id).join(LEASE)) {
            thaw(&self.paths, &self.id);
            self.forget();
        }
    }
}

/// Lets a container go on whose lease nobody holds any more. Whether there was one.
pub(crate) fn end_abandoned(paths: &Paths, id: &ContainerId) -> bool {
    let path = paths.live_of(id).join(LEASE);
    let Ok(file) = own::open(&path, File::options().read(true).write(true)) else { return false };
    // Who died just now may not have given all back.
    let mut tries = (0..TRIES).filter(|turn| {
        std::thread::sleep(Duration::from_millis(u64::from(*turn > 0)));
        lock::try_take(&file, How::Exclusive) == Ok(true)
    });
    if tries.next().is_none() || !is_at(&file, &path) {
        return false;
    }
    thaw(paths, id);
    let _ = std::fs::remove_file(path);
    true
}

/// Best effort: one that has ended has nothing to be let go on.
fn thaw(paths: &Paths, id: &ContainerId) {
    if let Some(live) = LiveState::read(paths, id).ok().flatten().filter(LiveState::has_process)
        && Cgroup::open(&live.cgroup).and_then(|group| group.thaw()).is_ok()
    {
        let container = Container::read(paths, id).ok().flatten();
        note(paths, container.as_ref(), ContainerAction::Unpause);
    }
}

fn note(paths: &Paths, container: Option<&Container>, action: ContainerAction<'_>) {
    if let Some(container) = container {
        note_container(paths, &container.record, action);
    }
}

/// The file, and whether it was made. None when the container has no live directory, so does not run.
fn open(path: &Path) -> Result<Option<(File, bool)>, EngineError> {
    let failed = |error| EngineError::file("open", PathBuf::from(path))(error);
    loop {
        match own::open(path, File::options().read(true).write(true).create_new(true)) {
            Ok(file) => return Ok(Some((file, true))),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(error)),
        }
        match own::open(path, File::options().read(true).write(true)) {
            Ok(file) => return Ok(Some((file, false))),
            // Its holder took it away just now.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
    }
}

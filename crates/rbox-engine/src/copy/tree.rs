//! Access to a container's tree in whatever state it is: by its process while it runs, else by its layers, which then nobody starts.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rbox_spec::id::ContainerId;

use crate::containers::running::not_running;
use crate::containers::trash::remove_live;
use crate::error::EngineError;
use crate::monitor::launch::{make_stage, mount_root};
use crate::record::container::{Container, ContainerRecord, Status};
use crate::record::lock::Lock;
use crate::record::paths::Paths;
use crate::volume::holders;

/// How long another command, or the moment between two runs, is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// How its tree is reached.
pub(crate) enum Access {
    /// It runs, as it is now.
    Running(Box<Container>),
    /// It does not run, and nobody can start it as long as this is there.
    Held(Box<ContainerRecord>, Lock),
}

/// Finds out how, waiting for a start, an end or a copy that is under way.
pub(crate) fn access(paths: &Paths, container: &Container) -> Result<Access, EngineError> {
    let id = &container.record.id;
    let begin = Instant::now();
    loop {
        let lock = Lock::take_within(&paths.live_of(id), Duration::from_millis(20))?;
        // What was known before the lock may be otherwise by now.
        let now = Container::read(paths, id)?;
        let Some(now) = now else {
            if lock.is_some() {
                remove_live(paths, id);
            }
            return Err(EngineError::NoContainer(id.to_string()));
        };
        if now.status == Status::Dead {
            return Err(not_running(&now));
        }
        match lock {
            // Its monitor was killed: what is left of the run still has its process.
            _ if now.is_running() => return Ok(Access::Running(Box::new(now))),
            Some(lock) => return Ok(Access::Held(Box::new(now.record), lock)),
            None if begin.elapsed() > PATIENCE => {
                let name = &now.record.name;
                return Err(EngineError::Conflict(format!(
                    "container {name} is busy: another command or its monitor holds it"
                )));
            }
            None => {}
        }
    }
}

/// A container that is kept from being started. Its live directory goes with this; should it be killed, the next command takes
/// it away.
pub(crate) struct Unstarted<'a> {
    paths: &'a Paths,
    id: ContainerId,
    #[allow(dead_code, reason = "it is held")]
    lock: Lock,
}

impl<'a> Unstarted<'a> {
    pub(crate) fn new(paths: &'a Paths, id: &ContainerId, lock: Lock) -> Self {
        Self { paths, id: id.clone(), lock }
    }

    /// Its tree as a mount that nobody else sees, and that goes with its descriptor. It is never one whose changes may be lost
    /// (`--rm`): such a one could not be mounted again.
    pub(crate) fn mount(&self, record: &ContainerRecord) -> Result<OwnedFd, EngineError> {
        let stage = make_stage(&self.paths.live_of(&self.id))?;
        mount_root(self.paths, record, &stage, false)
    }
}

impl Drop for Unstarted<'_> {
    fn drop(&mut self) {
        // What fails is done by the next command.
        let _ = holders::let_go(self.paths, &self.id);
        remove_live(self.paths, &self.id);
    }
}

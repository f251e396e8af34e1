//! `rm`.

use std::time::{Duration, Instant};

use rbox_spec::signal::Signal;
use rbox_sys::process;

use crate::cleanup::free::kill_unrecorded;
use crate::cleanup::tidy::{discard, finish_dead};
use crate::containers::stop_mark::{self, Why};
use crate::containers::trash::remove_live;
use crate::error::EngineError;
use crate::record::container::{Container, ContainerRecord, LiveState, Status};
use crate::record::lock::Lock;
use crate::record::paths::Paths;

/// The lock of a container that does not run. One that was being started when it was looked at runs by now: with
/// `force` it is ended.
pub(crate) fn take_from_monitor(
    paths: &Paths,
    record: &ContainerRecord,
    force: bool,
) -> Result<Lock, EngineError> {
    let dir = paths.live_of(&record.id);
    let begin = Instant::now();
    loop {
        if let Some(lock) = Lock::take_within(&dir, Duration::from_millis(100))? {
            return Ok(lock);
        }
        if let Some(now) = Container::read(paths, &record.id)?.filter(Container::is_active) {
            if !force {
                return Err(not_stopped(&now));
            }
            crate::control::signal::begin_kill(paths, &now);
        }
        if force {
            // One that is starting may wait for others.
            stop_mark::ask_to_end(paths, &record.id, Why::User);
        }
        // Nothing is noted of its life: its group is all that leads to it.
        if force && !paths.live_state(&record.id).exists() && begin.elapsed() > Duration::from_secs(1) {
            kill_unrecorded(paths, &record.id);
        }
        if begin.elapsed() > Duration::from_secs(20) {
            return Err(EngineError::Conflict(format!(
                "container {} is busy: its monitor did not let go of it within 20 s",
                record.name
            )));
        }
    }
}

pub(crate) fn not_stopped(container: &Container) -> EngineError {
    EngineError::Conflict(format!(
        "cannot remove container \"{}\": container is {}: stop the container before removing or force remove",
        container.record.name,
        container.status.as_str()
    ))
}

/// Ends the process of a container whose record cannot be read: nothing else can be done to it.
fn end_unreadable(paths: &Paths, container: &Container, force: bool) -> Result<(), EngineError> {
    let id = &container.record.id;
    let live = match LiveState::read(paths, id) {
        // A newer rbox looks after it: that one can end it.
        Err(error) if Lock::is_held(&paths.live_of(id)) => return Err(error.into()),
        live => live.unwrap_or_default(),
    };
    let live = live.filter(LiveState::has_process);
    if live.is_none() && !Lock::is_held(&paths.live_of(id)) {
        return Ok(());
    }
    if !force {
        return Err(not_stopped(container));
    }
    stop_mark::ask_to_end(paths, id, Why::User);
    let Some(live) = live else {
        // Its live record cannot be read either. Its group is found all the same.
        kill_unrecorded(paths, id);
        return Ok(());
    };
    // Looked at again, with the descriptor in hand: its number may be another process's by now.
    if let Ok(pidfd) = process::pidfd_open(live.pid)
        && live.has_process()
    {
        let _ = process::pidfd_send_signal(&pidfd, Signal::KILL.number());
    }
    Ok(())
}

/// Removes a container: ends it first when `force`, and takes its anonymous volumes along when `volumes`.
pub(crate) fn remove(
    paths: &Paths,
    container: &crate::record::container::Container,
    force: bool,
    volumes: bool,
) -> Result<(), EngineError> {
    let record = &container.record;
    if container.is_active() {
        if !force {
            return Err(not_stopped(container));
        }
        crate::control::signal::kill_now(paths, container)?;
    } else if container.status == Status::Dead {
        end_unreadable(paths, container, force)?;
    }
    let lock = take_from_monitor(paths, record, force)?;
    // Its end need not be written down any more, and could not be on a full disk.
    let _ = finish_dead(paths, &record.id);
    let deleted = discard(paths, record, volumes)?;
    remove_live(paths, &record.id);
    drop(lock);
    deleted
}

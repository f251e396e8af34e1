//! Taking away what a container has: after its exit, and for those whose monitor was killed.
//!
//! Everything can be found from the records (law 6), every step can be repeated, and a step that fails does not
//! keep the next from being tried.

use std::path::Path;
use std::time::Duration;

use rbox_image::ImageStore;
use rbox_runtime::cgroup::Cgroup;
use rbox_spec::id::ContainerId;
use rbox_spec::restart::RestartPolicy;
use rbox_sys::durable::Lasting;

use crate::cleanup::free::{free, free_unrecorded, release_addresses};
use crate::containers::stop_mark::{self, Why};
use crate::containers::trash::{
    WITH_VOLUMES, delete_hidden, hide_record, read_mark, remove_live, remove_tree, sweep_unfinished,
};
use crate::containers::{find, name, pause_lease, quota, volumes};
use crate::error::EngineError;
use crate::journal::{destroy_if_missing, die_if_missing};
use crate::networks::store::builtin;
use crate::record::container::{ContainerRecord, ExitRecord, LiveState, UNSEEN_EXIT, keep, process_is};
use crate::record::file::{RecordError, read_json, read_renewed, write_json};
use crate::record::lock::{Editing, Lock};
use crate::record::paths::{CONFIG, EXIT, Paths, STATE};
use crate::volume::{holders, store};

/// Deletes what a killed process left of one container in the trash.
fn empty_trash(paths: &Paths, id: &ContainerId) -> Result<(), EngineError> {
    // Its monitor or another command may be at it: that one holds the lock.
    let Some(_lock) = Lock::try_take(&paths.live_of(id))? else { return Ok(()) };
    let dir = paths.trash().join(id.as_str());
    let record = read_json::<ContainerRecord>(&dir.join(CONFIG)).ok().flatten();
    if let Some(record) = &record {
        // A kill between hiding the record and this leaves the name.
        name::release_name(paths, &record.name, id);
        if record.host.auto_remove || dir.join(WITH_VOLUMES).exists() {
            // What cannot be removed now is in use or stays for `volume prune`.
            let _ = volumes::remove_anonymous(paths, record);
        }
    }
    let finished = finish_dead(paths, id);
    if let Some(record) = &record {
        destroy_if_missing(paths, record);
    }
    quota::give_back(&dir);
    let removed = finished.and_then(|()| remove_tree(&dir));
    remove_live(paths, id);
    removed
}

/// Makes the records true after kills: containers whose monitor is gone and whose process is too are given an
/// exit, and all they held is freed. Those that still run stay. Every command that lists or changes calls this.
///
/// What could not be tidied is given back, each thing's failure by itself: none keeps another from being tidied, nor the command
/// from what it was called for.
pub(crate) fn tidy(paths: &Paths) -> Vec<EngineError> {
    let mut failures: Vec<EngineError> = Vec::new();
    let mut each =
        |dir: &Path, work: &dyn Fn(&ContainerId) -> Result<(), EngineError>| match find::entries(dir) {
            Ok(ids) => failures.extend(ids.iter().filter_map(|id| work(id).err())),
            Err(error) => failures.push(error.into()),
        };
    each(&paths.trash(), &|id| empty_trash(paths, id));
    sweep_unfinished(paths);
    store::VolumeStore::new(&paths.volumes()).sweep();
    let mark = paths.boot_mark();
    if !mark.exists() {
        each(&paths.containers(), &|id| sweep_boot(paths, id));
    }
    crate::networks::change::mend(paths);
    each(&paths.live(), &|id| {
        let dir = paths.live_of(id);
        pause_lease::end_abandoned(paths, id);
        if Lock::is_held(&dir) {
            return Ok(());
        }
        Lock::try_take(&dir)?.map_or(Ok(()), |lock| tidy_one(paths, id, lock))
    });
    failures.extend(holders::sweep(paths));
    failures.extend(ImageStore::tidy_unfinished(&paths.image()).err().map(EngineError::from));
    if !mark.exists()
        && let Err(error) = rbox_sys::own::write(&mark, "")
    {
        failures.push(EngineError::file("write", mark)(error));
    }
    failures
}

/// Once a boot: a container that ran when the host went down is given an exit, and one of `--rm` is removed.
fn sweep_boot(paths: &Paths, id: &ContainerId) -> Result<(), EngineError> {
    let Some(started) = read_mark(paths, id) else { return Ok(()) };
    let exit_path = paths.exit(id);
    let told = read_renewed::<ExitRecord>(&exit_path)?.is_some_and(|exit| exit.started == Some(started));
    if told || paths.live_of(id).exists() {
        return Ok(());
    }
    let record = read_json::<ContainerRecord>(&paths.config(id)).ok().flatten();
    let why = "the host went down while the container ran".to_owned();
    let exit = ExitRecord::untold(UNSEEN_EXIT, why, Some(started));
    if let Some(record) = &record {
        die_if_missing(paths, record, &[], builtin(paths, record).as_ref(), &exit);
    }
    if let Some(record) = record.filter(|record| record.host.auto_remove) {
        let told = hide_record(paths, &record)?;
        return delete_hidden(paths, &record, true, told);
    }
    // Lost with the power it is found out again.
    Ok(keep(paths, &exit_path, &exit, Lasting::Later)?)
}

/// The same for one container, whose lock is given.
pub(crate) fn tidy_one(paths: &Paths, id: &ContainerId, _lock: Lock) -> Result<(), EngineError> {
    let dir = paths.live_of(id);
    if let Some(live) = LiveState::read(paths, id)?
        && live.running
        && process_is(live.pid, live.start_ticks)
    {
        return Ok(());
    }
    // A start takes the lock right after it made the directory; between the two it must not lose its record.
    let young = std::fs::metadata(&dir)
        .and_then(|meta| meta.modified())
        .is_ok_and(|at| at.elapsed().is_ok_and(|age| age < Duration::from_secs(2)));
    let has_record = paths.config(id).exists();
    if young && has_record && !dir.join(STATE).exists() {
        return Ok(());
    }
    finish_dead(paths, id)?;
    // A damaged record is reported where containers are listed.
    let record = read_json::<ContainerRecord>(&paths.config(id)).ok().flatten();
    if let Some(record) = record.filter(|r| r.host.auto_remove) {
        let told = hide_record(paths, &record)?;
        delete_hidden(paths, &record, true, told)?;
    }
    // An exit that found no room on disk waits here.
    if !dir.join(EXIT).exists() || read_exit(paths, id) {
        remove_live(paths, id);
    }
    Ok(())
}

/// Whether the exit that waits in the live directory is on disk.
fn read_exit(paths: &Paths, id: &ContainerId) -> bool {
    let at = |path: &Path| read_json::<ExitRecord>(path).ok().flatten().and_then(|exit| exit.started);
    at(&paths.exit(id)) == at(&paths.waiting_exit(id)) || !paths.container(id).exists()
}

/// How long a command that changes a container is waited for when the container is dead. What is left then is found by the mark of its
/// change.
const CHANGING: Duration = Duration::from_secs(5);

/// Frees what a dead container holds and writes down that it ended, if that was not written.
pub(crate) fn finish_dead(paths: &Paths, id: &ContainerId) -> Result<(), EngineError> {
    // A command that is just giving it other names or another network writes down what that was; nothing it makes after this
    // would be found.
    let _editing = Editing::begin_within(paths, id, CHANGING).ok().flatten();
    let Some(live) = LiveState::read(paths, id)? else {
        free_unrecorded(paths, id);
        return Ok(());
    };
    let oom_killed = Cgroup::open(&live.cgroup).is_ok_and(|c| c.oom_kills() > 0);
    free(paths, id, &live);
    if live.endpoints.is_empty() {
        release_addresses(paths, id);
    }
    let dir = paths.container(id);
    let exit_path = dir.join(EXIT);
    let known = read_renewed::<ExitRecord>(&exit_path)?;
    let told = known.as_ref().is_some_and(|exit| exit.started == Some(live.started));
    let waiting = read_renewed::<ExitRecord>(&paths.waiting_exit(id))?;
    tell_end(paths, id, &live, waiting.as_ref().or(known.as_ref()), oom_killed);
    if let Some(exit) = waiting.filter(|_| dir.exists()) {
        return match keep(paths, &exit_path, &exit, Lasting::Now) {
            // It waits on.
            Err(RecordError::Io { source, .. }) if crate::record::file::is_full(&source) => Ok(()),
            other => Ok(other?),
        };
    }
    if live.running && !told && dir.exists() {
        let why = "the container's monitor was killed, so nobody saw how the container ended".to_owned();
        let exit = ExitRecord {
            oom_killed,
            restart_count: live.restart_count,
            stopped: stop_mark::asked_to_end(paths, id) == Some(Why::User),
            ..ExitRecord::untold(UNSEEN_EXIT, with_policy(paths, id, why), Some(live.started))
        };
        write_exit(paths, id, &exit)?;
    } else if let Some(exit) = known.filter(|_| live.between.is_some() && dir.exists()) {
        let why = "the container's monitor was killed before it could start the container again".to_owned();
        write_exit(paths, id, &ExitRecord { error: why, ..exit })?;
    }
    Ok(())
}

/// Sees to it that the journal of events has the end of a dead container, which its monitor may not have written any more. `exit`:
/// how it ended, if that was written.
fn tell_end(paths: &Paths, id: &ContainerId, live: &LiveState, exit: Option<&ExitRecord>, oom_killed: bool) {
    let record = [paths.container(id), paths.trash().join(id.as_str())]
        .into_iter()
        .find_map(|dir| read_json::<ContainerRecord>(&dir.join(CONFIG)).ok().flatten());
    let Some(record) = record.filter(|_| live.running) else { return };
    let exit = exit.filter(|exit| exit.started == Some(live.started)).cloned();
    let unseen = || {
        let exit = ExitRecord::untold(UNSEEN_EXIT, String::new(), Some(live.started));
        ExitRecord { oom_killed, ..exit }
    };
    let builtin = builtin(paths, &record);
    die_if_missing(paths, &record, &live.endpoints, builtin.as_ref(), &exit.unwrap_or_else(unseen));
}

/// `why`, and that nobody was there to start a container again that has a restart policy.
fn with_policy(paths: &Paths, id: &ContainerId, why: String) -> String {
    let record = read_json::<ContainerRecord>(&paths.config(id)).ok().flatten();
    match record.map(|record| record.host.restart) {
        None | Some(RestartPolicy::No) => why,
        Some(policy) => format!("{why} or could start it again (restart policy {policy})"),
    }
}

/// Writes an exit down: beside the record, or on a full disk in the live directory, until there is room.
/// Whether it is where it stays.
pub(crate) fn write_exit(paths: &Paths, id: &ContainerId, exit: &ExitRecord) -> Result<bool, EngineError> {
    let path = paths.exit(id);
    let Err(error) = keep(paths, &path, exit, Lasting::Later) else { return Ok(true) };
    match write_json(&paths.waiting_exit(id), exit) {
        Ok(()) => Ok(false),
        Err(_) => Err(error.into()),
    }
}

/// Takes a record out of sight, then deletes it, and its anonymous volumes when `volumes` or with `--rm`. The outer failure: it
/// is still there.
pub(crate) fn discard(
    paths: &Paths,
    record: &ContainerRecord,
    volumes: bool,
) -> Result<Result<(), EngineError>, EngineError> {
    if volumes {
        // Should this be killed, whoever empties the trash knows. A full disk has no room for it, and need not.
        let _ = rbox_sys::own::write(&paths.container(&record.id).join(WITH_VOLUMES), "");
    }
    let told = hide_record(paths, record)?;
    Ok(delete_hidden(paths, record, volumes || record.host.auto_remove, told))
}

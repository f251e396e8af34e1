//! Taking away what a container has: after its exit, and for those whose monitor was killed.
//!
//! Everything can be found from the records (law 6), every step can be repeated, and a step that fails does not
//! keep the next from being tried.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rbox_network::Names;
use rbox_runtime::cgroup::{Cgroup, CgroupPaths, Hierarchy};
use rbox_spec::id::ContainerId;
use rbox_spec::restart::RestartPolicy;
use rbox_sys::durable::Lasting;

use crate::containers;
use crate::error::EngineError;
use crate::lock::Lock;
use crate::paths::Paths;
use crate::record::{
    Container, ContainerRecord, ExitRecord, LiveState, RecordError, keep, process_is, process_start,
    read_json, write_json,
};
use crate::restart::{self, Why};
use crate::volume;
use crate::wiring::networks;

/// The exit code told for a container whose end nobody saw.
pub const UNSEEN_EXIT: i32 = 255;

/// A container's control group: below the parent it asked for, or that of this pair of directories.
pub(crate) fn group_path(paths: &Paths, record: &ContainerRecord) -> String {
    let id = &record.id;
    match record.host.cgroup_parent.as_deref().map(|parent| parent.trim_matches('/')) {
        None | Some("") => format!("{}/{id}", group_parent(paths)),
        Some(parent) => format!("{}/{id}", slice_path(parent)),
    }
}

/// The group that this pair of directories' containers have theirs in: below the unit that systemd delegated to rbox,
/// where there is one, else at the root.
fn group_parent(paths: &Paths) -> String {
    let name = Names::for_state(&paths.state).table;
    match Hierarchy::detect().ok().and_then(Hierarchy::delegated) {
        Some(unit) => format!("{unit}/{name}"),
        None => name,
    }
}

/// A systemd slice by its name: `a-b.slice` lies in `a.slice` (systemd.slice(5)). Any other parent is a path.
fn slice_path(parent: &str) -> String {
    let Some(name) = parent.strip_suffix(".slice").filter(|name| !name.contains('/')) else {
        return parent.to_owned();
    };
    let ends = name.match_indices('-').map(|(at, _)| at).chain([name.len()]);
    ends.map(|end| format!("{}.slice", &name[..end])).collect::<Vec<_>>().join("/")
}

/// Removes the parents of the control groups, when nothing is left in them.
pub fn remove_group_parents(paths: &Paths) {
    if let Ok(hierarchy) = Hierarchy::detect() {
        for parent in [group_parent(paths), Names::for_state(&paths.state).table] {
            rbox_runtime::cgroup::remove_parents(hierarchy, &parent);
        }
    }
}

/// Frees what a container holds while it lives: processes, groups, network. The caller holds its lock.
pub(crate) fn free(paths: &Paths, live: &LiveState) -> Vec<String> {
    let mut failures = Vec::new();
    free_group(&now(&live.cgroup), &mut failures);
    let store = networks(paths);
    for endpoint in &live.endpoints {
        if let Err(errors) = store.detach(endpoint) {
            failures.extend(errors.iter().map(ToString::to_string));
        }
    }
    failures
}

/// A container's groups with those that an update added.
pub(crate) fn now(cgroup: &CgroupPaths) -> CgroupPaths {
    match Hierarchy::detect() {
        Ok(hierarchy) => cgroup.clone().with_later(hierarchy),
        Err(_) => cgroup.clone(),
    }
}

fn free_group(cgroup: &CgroupPaths, failures: &mut Vec<String>) {
    match Cgroup::open(cgroup) {
        Ok(cgroup) => {
            // PID 1's death took all with it but processes that exec is just putting in.
            if let Err(error) = cgroup.kill().and_then(|()| cgroup.delete()) {
                failures.push(error.to_string());
            }
        }
        Err(error) => failures.push(error.to_string()),
    }
}

/// Takes a record out of sight: its name is free and it is in no list from here on. What is left of it is
/// deleted by [`empty_trash`].
pub(crate) fn hide_record(paths: &Paths, record: &ContainerRecord) -> Result<(), EngineError> {
    let trash = paths.trash();
    let from = paths.container(&record.id);
    let to = trash.join(record.id.as_str());
    match std::fs::rename(&from, &to) {
        Err(e) if e.kind() == io::ErrorKind::NotFound && !trash.exists() => {
            make_trash(&trash, &from)?;
            std::fs::rename(&from, &to).map_err(EngineError::file("move to the trash", from))?;
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        // Half of it is there from a removal that failed: this is the rest.
        Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => {
            remove_tree(&to)?;
            std::fs::rename(&from, &to).map_err(EngineError::file("move to the trash", from))?;
        }
        other => other.map_err(EngineError::file("move to the trash", from))?,
    }
    containers::release_name(paths, &record.name, &record.id);
    Ok(())
}

/// The trash is made with the root. Where it is missing and the disk is full, what is to be removed makes room for it.
fn make_trash(trash: &Path, going: &Path) -> Result<(), EngineError> {
    match crate::paths::make_private(trash) {
        Err(error) if crate::paths::is_full(&error) => {
            remove_tree(&going.join("upper"))?;
            crate::paths::make_private(trash)
        }
        other => other,
    }
    .map_err(EngineError::file("make directory", trash))
}

/// Deletes a record that was hidden, and its anonymous volumes when asked.
pub(crate) fn delete_hidden(
    paths: &Paths,
    record: &ContainerRecord,
    anonymous_volumes: bool,
) -> Result<(), EngineError> {
    // The volumes first: the record in the trash is what names them, should this be killed in between.
    let volumes = if anonymous_volumes { volume::remove_anonymous(paths, record) } else { Ok(()) };
    remove_tree(&paths.trash().join(record.id.as_str())).and(volumes)
}

/// Removes a container's live directory in one step: renamed away first, so that a start that comes meanwhile
/// makes a new one and nothing of that is removed. The caller holds the lock in it.
pub(crate) fn remove_live(paths: &Paths, id: &ContainerId) {
    crate::links::forget(paths, id);
    let gone = paths.live().join(format!("{GONE}{id}.{}", std::process::id()));
    if std::fs::rename(paths.live_of(id), &gone).is_ok() {
        let _ = remove_tree(&gone);
    }
}

/// A mark in a hidden record: the container's anonymous volumes go with it.
const WITH_VOLUMES: &str = "with-volumes";

/// The beginning of the names of directories that are being removed, or being made.
const GONE: &str = ".gone-";
const NEW: &str = ".new-";

/// Where this process makes the record of `id`: the name tells who makes it, so that a dead maker's is known.
pub(crate) fn unfinished_record(paths: &Paths, id: &ContainerId) -> PathBuf {
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    let ticks = process_start(pid).map_or(0, |(ticks, _)| ticks);
    paths.containers().join(format!("{NEW}{id}.{pid}.{ticks}"))
}

/// Whether a process that lives is making the record of `id`.
pub(crate) fn is_being_made(paths: &Paths, id: &ContainerId) -> bool {
    let of_id = format!("{NEW}{id}.");
    let listing = std::fs::read_dir(paths.containers()).into_iter().flatten().flatten();
    listing
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .any(|name| name.starts_with(&of_id) && !is_abandoned(&name))
}

/// Whether this is the name of a record whose maker is dead.
fn is_abandoned(name: &str) -> bool {
    let Some(rest) = name.strip_prefix(NEW) else { return false };
    let mut parts = rest.split('.').skip(1).map(str::parse::<u64>);
    match (parts.next(), parts.next()) {
        (Some(Ok(pid)), Some(Ok(ticks))) => !process_is(pid as i32, ticks),
        _ => true,
    }
}

/// Removes directories that a killed process had begun to remove, and records it had begun to make, with the names they had.
fn sweep_unfinished(paths: &Paths) {
    let each = |dir: &Path, gone: &dyn Fn(&str) -> bool, first: &dyn Fn(&Path)| {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            if gone(&entry.file_name().to_string_lossy()) {
                first(&entry.path());
                let _ = remove_tree(&entry.path());
            }
        }
    };
    rbox_sys::durable::sweep(&paths.temporaries());
    each(&paths.live(), &|name| name.starts_with(GONE), &|_| {});
    each(&paths.containers(), &is_abandoned, &|dir| {
        if let Ok(Some(record)) = read_json::<ContainerRecord>(&dir.join("config.json")) {
            containers::release_name(paths, &record.name, &record.id);
        }
    });
}

/// Deletes a directory with all that is in it, whatever a container made of it.
pub fn remove_tree(path: &Path) -> Result<(), EngineError> {
    rbox_sys::removal::remove_tree(path).map_err(EngineError::file("remove", path))
}

/// Deletes what a killed process left of one container in the trash.
fn empty_trash(paths: &Paths, id: &ContainerId) -> Result<(), EngineError> {
    // Its monitor or another command may be at it: that one holds the lock.
    let Some(_lock) = Lock::try_take(&paths.live_of(id))? else { return Ok(()) };
    let dir = paths.trash().join(id.as_str());
    if let Ok(Some(record)) = read_json::<ContainerRecord>(&dir.join("config.json")) {
        // A kill between hiding the record and this leaves the name.
        containers::release_name(paths, &record.name, id);
        if record.host.auto_remove || dir.join(WITH_VOLUMES).exists() {
            // What cannot be removed now is in use or stays for `volume prune`.
            let _ = volume::remove_anonymous(paths, &record);
        }
    }
    let removed = finish_dead(paths, id).and_then(|()| remove_tree(&dir));
    remove_live(paths, id);
    removed
}

/// Makes the records true after kills: containers whose monitor is gone and whose process is too are given an
/// exit, and all they held is freed. Those that still run stay. Every command that lists or changes calls this.
///
/// What could not be tidied is given back, each thing's failure by itself: none keeps another from being tidied, nor the command
/// from what it was called for.
pub fn tidy(paths: &Paths) -> Vec<EngineError> {
    let mut failures = Vec::new();
    let mut each =
        |dir: &Path, work: &dyn Fn(&ContainerId) -> Result<(), EngineError>| match containers::entries(dir) {
            Ok(ids) => failures.extend(ids.iter().filter_map(|id| work(id).err())),
            Err(error) => failures.push(error),
        };
    each(&paths.trash(), &|id| empty_trash(paths, id));
    sweep_unfinished(paths);
    volume::VolumeStore::new(&paths.volumes()).sweep();
    let mark = paths.boot_mark();
    if !mark.exists() {
        each(&paths.containers(), &|id| sweep_boot(paths, id));
    }
    crate::connect::mend(paths);
    each(&paths.live(), &|id| {
        let dir = paths.live_of(id);
        if Lock::is_held(&dir) {
            return Ok(());
        }
        Lock::try_take(&dir)?.map_or(Ok(()), |lock| tidy_one(paths, id, lock))
    });
    if !mark.exists()
        && let Err(error) = std::fs::write(&mark, "")
    {
        failures.push(EngineError::file("write", mark)(error));
    }
    failures
}

/// Once a boot: a container that ran when the host went down is given an exit, and one of `--rm` is removed.
fn sweep_boot(paths: &Paths, id: &ContainerId) -> Result<(), EngineError> {
    let Some(started) = read_mark(paths, id) else { return Ok(()) };
    let exit_path = paths.container(id).join("exit.json");
    let told = read_json::<ExitRecord>(&exit_path).ok().flatten().is_some_and(|e| e.started == Some(started));
    if told || paths.live_of(id).exists() {
        return Ok(());
    }
    let record = read_json::<ContainerRecord>(&paths.container(id).join("config.json")).ok().flatten();
    if let Some(record) = record.filter(|record| record.host.auto_remove) {
        hide_record(paths, &record)?;
        return delete_hidden(paths, &record, true);
    }
    let why = "the host went down while the container ran".to_owned();
    let exit = ExitRecord::untold(UNSEEN_EXIT, why, Some(started));
    // Lost with the power it is found out again.
    Ok(keep(paths, &exit_path, &exit, Lasting::Later)?)
}

pub(crate) fn read_mark(paths: &Paths, id: &ContainerId) -> Option<Timestamp> {
    std::fs::read_to_string(paths.started_mark(id)).ok()?.trim().parse().ok()
}

/// The same for one container, whose lock is given.
pub(crate) fn tidy_one(paths: &Paths, id: &ContainerId, _lock: Lock) -> Result<(), EngineError> {
    let dir = paths.live_of(id);
    if let Some(live) = LiveState::read(paths, id)
        && live.running
        && process_is(live.pid, live.start_ticks)
    {
        return Ok(());
    }
    // A start takes the lock right after it made the directory; between the two it must not lose its record.
    let young = std::fs::metadata(&dir)
        .and_then(|meta| meta.modified())
        .is_ok_and(|at| at.elapsed().is_ok_and(|age| age < Duration::from_secs(2)));
    let has_record = paths.container(id).join("config.json").exists();
    if young && has_record && !dir.join("state.json").exists() {
        return Ok(());
    }
    finish_dead(paths, id)?;
    // A damaged record is told where containers are listed.
    let record = read_json::<ContainerRecord>(&paths.container(id).join("config.json")).ok().flatten();
    if let Some(record) = record.filter(|r| r.host.auto_remove) {
        hide_record(paths, &record)?;
        delete_hidden(paths, &record, true)?;
    }
    // An exit that found no room on disk waits here.
    if !dir.join("exit.json").exists() || read_exit(paths, id) {
        remove_live(paths, id);
    }
    Ok(())
}

/// Whether the exit that waits in the live directory is on disk.
fn read_exit(paths: &Paths, id: &ContainerId) -> bool {
    let at = |path: &Path| read_json::<ExitRecord>(path).ok().flatten().and_then(|exit| exit.started);
    at(&paths.container(id).join("exit.json")) == at(&paths.live_of(id).join("exit.json"))
        || !paths.container(id).exists()
}

/// Frees what a monitor that was killed before it wrote its record may have made: all of it has names that follow
/// from the container's id.
fn free_unrecorded(paths: &Paths, id: &ContainerId) {
    if !paths.live_of(id).exists() {
        return;
    }
    let record = [paths.container(id), paths.trash().join(id.as_str())]
        .into_iter()
        .find_map(|dir| read_json::<ContainerRecord>(&dir.join("config.json")).ok().flatten());
    let path =
        record.map_or_else(|| format!("{}/{id}", group_parent(paths)), |record| group_path(paths, &record));
    if let Ok(everywhere) = Hierarchy::detect().and_then(|h| CgroupPaths::everywhere(h, &path)) {
        free_group(&everywhere, &mut Vec::new());
    }
    release_addresses(paths, id);
}

fn release_addresses(paths: &Paths, id: &ContainerId) {
    let store = networks(paths);
    // What cannot be freed now is taken back by the next container that looks for an address.
    for network in store.list().unwrap_or_default() {
        let _ = store.release_all(&network, id.as_str());
    }
}

/// Frees what a dead container holds and writes down that it ended, if that was not written.
pub(crate) fn finish_dead(paths: &Paths, id: &ContainerId) -> Result<(), EngineError> {
    let Some(live) = LiveState::read(paths, id) else {
        free_unrecorded(paths, id);
        return Ok(());
    };
    let oom_killed = Cgroup::open(&live.cgroup).is_ok_and(|c| c.oom_kills() > 0);
    free(paths, &live);
    if live.endpoints.is_empty() {
        release_addresses(paths, id);
    }
    let dir = paths.container(id);
    let exit_path = dir.join("exit.json");
    let known = read_json::<ExitRecord>(&exit_path).ok().flatten();
    let told = known.as_ref().is_some_and(|exit| exit.started == Some(live.started));
    let waiting = read_json::<ExitRecord>(&paths.live_of(id).join("exit.json")).ok().flatten();
    if let Some(exit) = waiting.filter(|_| dir.exists()) {
        return match keep(paths, &exit_path, &exit, Lasting::Now) {
            // It waits on.
            Err(RecordError::Io { source, .. }) if crate::paths::is_full(&source) => Ok(()),
            other => Ok(other?),
        };
    }
    if live.running && !told && dir.exists() {
        let why = "the container's monitor was killed, so nobody saw how the container ended".to_owned();
        let exit = ExitRecord {
            oom_killed,
            restart_count: live.restart_count,
            stopped: restart::asked_to_end(paths, id) == Some(Why::User),
            ..ExitRecord::untold(UNSEEN_EXIT, with_policy(paths, id, why), Some(live.started))
        };
        write_exit(paths, id, &exit)?;
    } else if let Some(exit) = known.filter(|_| live.between.is_some() && dir.exists()) {
        let why = "the container's monitor was killed before it could start the container again".to_owned();
        write_exit(paths, id, &ExitRecord { error: why, ..exit })?;
    }
    Ok(())
}

/// `why`, and that nobody was there to start a container again that has a restart policy.
fn with_policy(paths: &Paths, id: &ContainerId, why: String) -> String {
    let record = read_json::<ContainerRecord>(&paths.container(id).join("config.json")).ok().flatten();
    match record.map(|record| record.host.restart) {
        None | Some(RestartPolicy::No) => why,
        Some(policy) => format!("{why} or could start it again (restart policy {policy})"),
    }
}

/// The lock of a container that does not run. One that was being started when it was looked at runs by now: with
/// `force` it is ended.
fn take_from_monitor(paths: &Paths, record: &ContainerRecord, force: bool) -> Result<Lock, EngineError> {
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
            crate::control::begin_kill(paths, &now);
        }
        if begin.elapsed() > Duration::from_secs(20) {
            return Err(EngineError::Conflict(format!(
                "container {} is busy: its monitor did not let go of it within 20 s",
                record.name
            )));
        }
    }
}

/// Writes an exit down: beside the record, or on a full disk in the live directory, until there is room.
/// Whether it is where it stays.
pub(crate) fn write_exit(paths: &Paths, id: &ContainerId, exit: &ExitRecord) -> Result<bool, EngineError> {
    let path = paths.container(id).join("exit.json");
    let Err(error) = keep(paths, &path, exit, Lasting::Later) else { return Ok(true) };
    match write_json(&paths.live_of(id).join("exit.json"), exit) {
        Ok(()) => Ok(false),
        Err(_) => Err(error.into()),
    }
}

fn not_stopped(container: &Container) -> EngineError {
    EngineError::Conflict(format!(
        "cannot remove container \"{}\": container is {}: stop the container before removing or force remove",
        container.record.name,
        container.status.as_str()
    ))
}

/// Removes a container: ends it first when `force`, and takes its anonymous volumes along when `volumes`.
pub fn remove(
    paths: &Paths,
    container: &crate::record::Container,
    force: bool,
    volumes: bool,
) -> Result<(), EngineError> {
    let record = &container.record;
    if container.is_active() {
        if !force {
            return Err(not_stopped(container));
        }
        crate::control::kill_now(paths, container)?;
    }
    let lock = take_from_monitor(paths, record, force)?;
    // Its end need not be written down any more, and could not be on a full disk.
    let _ = finish_dead(paths, &record.id);
    let deleted = discard(paths, record, volumes)?;
    remove_live(paths, &record.id);
    drop(lock);
    deleted
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
        let _ = std::fs::write(paths.container(&record.id).join(WITH_VOLUMES), "");
    }
    hide_record(paths, record)?;
    Ok(delete_hidden(paths, record, volumes || record.host.auto_remove))
}

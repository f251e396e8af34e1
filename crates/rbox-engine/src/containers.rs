//! Containers by name and id: finding, naming, listing.
//!
//! A name is a symbolic link `names/<name>` to the id. symlink(2) makes it or fails, so two containers never get one name, and
//! taking one locks nothing. It is there before the record is in its place and as long as the record is. A link whose
//! container is gone is free; links are taken away under a lock, so that what is looked at is what goes.

use std::io;
use std::os::unix::fs::symlink;

use rbox_spec::ContainerName;
use rbox_spec::id::ContainerId;

use crate::error::EngineError;
use crate::paths::Paths;
use crate::record::{Container, ContainerRecord, Editing, Status, keep, lasting, read_json};
use crate::teardown::is_being_made;
use rbox_sys::durable::Lasting;
use rustix::fs::FlockOperation;

/// All containers, newest first. Records that another process is removing are left out.
pub fn list(paths: &Paths) -> Result<Vec<Container>, EngineError> {
    read_all(paths, ids(paths)?)
}

/// Those that live, newest first. Only they have a directory on tmpfs, so this does not read a thousand records of
/// containers that ended.
pub fn list_running(paths: &Paths) -> Result<Vec<Container>, EngineError> {
    let mut all = read_all(paths, entries(&paths.live())?)?;
    all.retain(Container::is_active);
    Ok(all)
}

fn read_all(paths: &Paths, ids: Vec<ContainerId>) -> Result<Vec<Container>, EngineError> {
    let mut all = Vec::with_capacity(ids.len());
    for id in ids {
        // A damaged record hides nothing but what it told of its own container.
        all.extend(Container::read(paths, &id)?);
    }
    all.sort_by(|a, b| b.record.created.cmp(&a.record.created).then_with(|| a.record.id.cmp(&b.record.id)));
    Ok(all)
}

/// The ids of all records.
pub fn ids(paths: &Paths) -> Result<Vec<ContainerId>, EngineError> {
    entries(&paths.containers())
}

/// The ids that directories in a directory are named by; one that is not there is empty. Files of such names are nobody's.
pub(crate) fn entries(dir: &std::path::Path) -> Result<Vec<ContainerId>, EngineError> {
    named_by_ids(dir, |kind| kind.is_dir())
}

/// The ids that files in a directory are named by.
pub(crate) fn marks(dir: &std::path::Path) -> Result<Vec<ContainerId>, EngineError> {
    named_by_ids(dir, |kind| kind.is_file())
}

fn named_by_ids(
    dir: &std::path::Path,
    wanted: impl Fn(std::fs::FileType) -> bool,
) -> Result<Vec<ContainerId>, EngineError> {
    let listing = match std::fs::read_dir(dir) {
        Ok(listing) => listing,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(EngineError::file("list", dir)(e)),
    };
    Ok(listing
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(&wanted))
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect())
}

/// The container of this name, id, or unique beginning of an id.
pub fn find(paths: &Paths, text: &str) -> Result<Container, EngineError> {
    let id = find_id(paths, text)?;
    Container::read(paths, &id)?.ok_or_else(|| EngineError::NoContainer(text.to_owned()))
}

pub(crate) fn find_id(paths: &Paths, text: &str) -> Result<ContainerId, EngineError> {
    let missing = || EngineError::NoContainer(text.chars().take(300).collect());
    // One slash: the parser of names would take a second.
    let text = text.strip_prefix('/').unwrap_or(text);
    if text.starts_with('/') {
        return Err(missing());
    }
    let whole = text.parse::<ContainerId>().ok();
    if let Some(id) = whole.filter(|id| paths.container(id).exists()) {
        return Ok(id);
    }
    if let Ok(name) = text.parse::<ContainerName>()
        && let Some(id) = named(paths, &name)
    {
        return Ok(id);
    }
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(missing());
    }
    let mut found = ids(paths)?.into_iter().filter(|id| id.as_str().starts_with(text));
    let first = found.next().ok_or_else(missing)?;
    if found.next().is_some() { Err(EngineError::Ambiguous(text.to_owned())) } else { Ok(first) }
}

/// Who has a name, or is about to: a link whose record is gone names nobody.
pub fn named(paths: &Paths, name: &ContainerName) -> Option<ContainerId> {
    target(&paths.name(name)).filter(|id| is_there(paths, id))
}

/// Whether there is a container, or somebody is making it. It may come to its place while this looks: so that is asked twice.
fn is_there(paths: &Paths, id: &ContainerId) -> bool {
    let in_place = || std::fs::symlink_metadata(paths.container(id)).is_ok();
    in_place() || is_being_made(paths, id) || in_place()
}

/// The id that a link of ours leads to. What has no such target is not ours.
fn target(link: &std::path::Path) -> Option<ContainerId> {
    std::fs::read_link(link).ok()?.to_str()?.parse().ok()
}

/// Gives `name` to the container `id`, which must be on disk already, in its place or as one that is being made.
pub fn take_name(paths: &Paths, name: &ContainerName, id: &ContainerId) -> Result<(), EngineError> {
    let link = paths.name(name);
    for _ in 0..8 {
        match symlink(id.as_str(), &link) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                crate::paths::make_private(&paths.names())
                    .map_err(EngineError::file("make directory", paths.names()))?;
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                if let Some(holder) = named(paths, name) {
                    return Err(EngineError::NameTaken { name: name.clone(), id: holder });
                }
                // Its container is gone. Another process may be doing the same: then the next round sees.
                if target(&link).is_some() {
                    free_name(paths, name, |id| !is_there(paths, id));
                } else if std::fs::symlink_metadata(&link).is_ok() {
                    return Err(EngineError::Conflict(format!(
                        "the name \"{name}\" cannot be taken: {} is not a link made by rbox; move it away",
                        link.display()
                    )));
                }
            }
            Err(e) => return Err(EngineError::file("make", link)(e)),
        }
    }
    Err(EngineError::Conflict(format!(
        "the name \"{name}\" is being taken and given up all the time; try again"
    )))
}

/// Gives a name up, if it is still this container's.
pub fn release_name(paths: &Paths, name: &ContainerName, id: &ContainerId) {
    free_name(paths, name, |holder| holder == id);
}

/// Takes a name's link away if it leads to one that `is_free` says so of. All who do this hold the lock: between the look and
/// the removal nobody else can have removed the link and made another. Who does not get the lock leaves the link, which is
/// then free for whoever wants the name.
fn free_name(paths: &Paths, name: &ContainerName, is_free: impl Fn(&ContainerId) -> bool) {
    let link = paths.name(name);
    if !target(&link).is_some_and(|id| is_free(&id)) {
        return;
    }
    let Ok(names) = std::fs::File::open(paths.names()) else { return };
    let begin = std::time::Instant::now();
    while rustix::fs::flock(&names, FlockOperation::NonBlockingLockExclusive).is_err() {
        if begin.elapsed() > PATIENCE {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    if target(&link).is_some_and(|id| is_free(&id)) {
        let _ = std::fs::remove_file(&link);
    }
}

/// The lock is held for two system calls; longer only by a process that was stopped.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(2);

/// Makes a name last that was taken or given up for this container.
pub(crate) fn settle_names(paths: &Paths, record: &ContainerRecord) -> Result<(), EngineError> {
    if lasting(&record.host) == Lasting::Later {
        return Ok(());
    }
    rbox_sys::durable::sync_dir(&paths.names()).map_err(EngineError::file("fsync", paths.names()))
}

/// Takes away names that lead to containers that are gone or have another name by now, as a kill leaves them, and gives
/// containers their names again that a power cut or a hand has taken. `all`: all containers, as they were read.
pub fn sweep_names(paths: &Paths, all: &[Container]) {
    let known: std::collections::HashSet<&str> = all.iter().map(|c| c.record.name.as_str()).collect();
    for Container { record, .. } in all.iter().filter(|container| container.status != Status::Dead) {
        if std::fs::symlink_metadata(paths.name(&record.name)).is_err() {
            let _ = take_name(paths, &record.name, &record.id);
        }
    }
    for entry in std::fs::read_dir(paths.names()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| !known.contains(name)) else { continue };
        let (Ok(name), Some(id)) = (name.parse::<ContainerName>(), target(&entry.path())) else { continue };
        if !is_there(paths, &id) {
            release_name(paths, &name, &id);
            continue;
        }
        // A rename takes the new name before the record has it, and holds this meanwhile. A damaged record keeps its name.
        let Ok(Some(_editing)) = Editing::begin_within(paths, &id, std::time::Duration::ZERO) else {
            continue;
        };
        let record = read_json::<ContainerRecord>(&paths.container(&id).join("config.json"));
        if record.is_ok_and(|record| record.is_some_and(|record| record.name != name)) {
            release_name(paths, &name, &id);
        }
    }
}

/// `rename`: the new name is taken before the old one is given up.
pub fn rename(paths: &Paths, container: &Container, name: &ContainerName) -> Result<(), EngineError> {
    let id = &container.record.id;
    let missing = || EngineError::NoContainer(id.to_string());
    let _editing = Editing::begin(paths, id)?.ok_or_else(missing)?;
    let Container { record: current, live, .. } = Container::read(paths, id)?.ok_or_else(missing)?;
    let former = current.name.clone();
    let _mark = crate::connect::begin_change(paths, id)?;
    take_name(paths, name, id)?;
    let record = ContainerRecord { name: name.clone(), ..current };
    let kept = keep(paths, &paths.container(id).join("config.json"), &record, lasting(&record.host));
    if kept.is_err() && former != *name {
        release_name(paths, name, id);
    }
    kept?;
    release_name(paths, &former, id);
    settle_names(paths, &record)?;
    live.map_or(Ok(()), |live| crate::connect::follow_name(paths, &record, live).map(drop))
}

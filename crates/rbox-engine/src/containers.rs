//! Containers by name and id: finding, naming, listing.
//!
//! A name is a symbolic link `names/<name>` to the id. symlink(2) makes it or fails, so two containers never get
//! one name, and nothing is locked. A link whose container is gone is free.

use std::io;
use std::os::unix::fs::symlink;

use rbox_spec::id::ContainerId;

use crate::error::EngineError;
use crate::paths::Paths;
use crate::record::{Container, ContainerRecord, Editing, RecordError, write_json};

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
        match Container::read(paths, &id) {
            Ok(container) => all.extend(container),
            // A damaged record hides its own container only.
            Err(RecordError::Format { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    all.sort_by(|a, b| b.record.created.cmp(&a.record.created).then_with(|| a.record.id.cmp(&b.record.id)));
    Ok(all)
}

/// The ids of all records.
pub fn ids(paths: &Paths) -> Result<Vec<ContainerId>, EngineError> {
    entries(&paths.containers())
}

/// The ids among the names in a directory; one that is not there is empty.
pub(crate) fn entries(dir: &std::path::Path) -> Result<Vec<ContainerId>, EngineError> {
    let listing = match std::fs::read_dir(dir) {
        Ok(listing) => listing,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(EngineError::file("list", dir)(e)),
    };
    Ok(listing.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

/// The container of this name, id, or unique beginning of an id.
pub fn find(paths: &Paths, text: &str) -> Result<Container, EngineError> {
    let id = find_id(paths, text)?;
    Container::read(paths, &id)?.ok_or_else(|| EngineError::NoContainer(text.to_owned()))
}

pub(crate) fn find_id(paths: &Paths, text: &str) -> Result<ContainerId, EngineError> {
    let missing = || EngineError::NoContainer(text.chars().take(300).collect());
    let text = text.strip_prefix('/').unwrap_or(text);
    if let Ok(id) = text.parse::<ContainerId>() {
        return Ok(id);
    }
    if rbox_spec::mount::valid_name(text)
        && let Some(id) = named(paths, text)
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

/// Who has a name. A link whose record is gone names nobody.
pub fn named(paths: &Paths, name: &str) -> Option<ContainerId> {
    let target = std::fs::read_link(paths.names().join(name)).ok()?;
    let id: ContainerId = target.to_str()?.parse().ok()?;
    paths.container(&id).join("config.json").exists().then_some(id)
}

/// Gives `name` to the container `id`, whose record must be on disk already.
pub fn take_name(paths: &Paths, name: &str, id: &ContainerId) -> Result<(), EngineError> {
    let link = paths.names().join(name);
    for _ in 0..8 {
        match symlink(id.as_str(), &link) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                crate::paths::make_private(&paths.names())
                    .map_err(EngineError::file("make directory", paths.names()))?;
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                if let Some(holder) = named(paths, name) {
                    return Err(EngineError::NameTaken { name: name.to_owned(), id: holder });
                }
                // Its container is gone. Another process may be doing the same: then the next round sees.
                let _ = std::fs::remove_file(&link);
            }
            Err(e) => return Err(EngineError::file("make", link)(e)),
        }
    }
    Err(EngineError::Conflict(format!(
        "the name \"{name}\" is being taken and given up all the time; try again"
    )))
}

/// Gives a name up, if it is still this container's.
pub fn release_name(paths: &Paths, name: &str, id: &ContainerId) {
    let link = paths.names().join(name);
    if std::fs::read_link(&link).is_ok_and(|target| target.to_str() == Some(id.as_str())) {
        let _ = std::fs::remove_file(link);
    }
}

/// `rename`: the new name is taken before the old one is given up.
pub fn rename(paths: &Paths, container: &Container, name: &str) -> Result<(), EngineError> {
    if !rbox_spec::mount::valid_name(name) {
        return Err(EngineError::Invalid(format!(
            "Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        )));
    }
    let id = &container.record.id;
    let missing = || EngineError::NoContainer(id.to_string());
    let _editing = Editing::begin(paths, id)?.ok_or_else(missing)?;
    let Container { record: current, live, .. } = Container::read(paths, id)?.ok_or_else(missing)?;
    take_name(paths, name, id)?;
    let record = ContainerRecord { name: name.to_owned(), ..current };
    write_json(&paths.container(id).join("config.json"), &record)?;
    release_name(paths, &container.record.name, id);
    live.map_or(Ok(()), |live| crate::connect::follow_name(paths, &record, &live))
}

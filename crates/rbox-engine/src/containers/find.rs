//! Containers by name and id: finding, naming, listing.
//!
//! A name is a symbolic link `names/<name>` to the id. symlink(2) makes it or fails, so two containers never get one name, and
//! taking one locks nothing. It is there before the record is in its place and as long as the record is. A link whose
//! container is gone is free; links are taken away under a lock, so that what is looked at is what goes.

use std::io;

use rbox_spec::ContainerName;
use rbox_spec::id::ContainerId;

use crate::containers::name::named;
use crate::error::EngineError;
use crate::record::container::Container;
use crate::record::file::RecordError;
use crate::record::paths::Paths;

/// All containers, newest first. Records that another process is removing are left out.
pub(crate) fn list(paths: &Paths) -> Result<Vec<Container>, EngineError> {
    read_all(paths, ids(paths)?)
}

/// Those that live, newest first. Only they have a directory on tmpfs, so this does not read a thousand records of
/// containers that ended.
pub(crate) fn list_running(paths: &Paths) -> Result<Vec<Container>, EngineError> {
    let mut all = read_all(paths, entries(&paths.live())?)?;
    all.retain(Container::is_active);
    Ok(all)
}

fn read_all(paths: &Paths, ids: Vec<ContainerId>) -> Result<Vec<Container>, EngineError> {
    let mut all = Vec::with_capacity(ids.len());
    for id in ids {
        // A damaged record hides nothing but its own container's data.
        all.extend(Container::read(paths, &id)?);
    }
    all.sort_by(|a, b| b.record.created.cmp(&a.record.created).then_with(|| a.record.id.cmp(&b.record.id)));
    Ok(all)
}

/// The ids of all records.
pub(crate) fn ids(paths: &Paths) -> Result<Vec<ContainerId>, RecordError> {
    entries(&paths.containers())
}

/// The ids that directories in a directory are named by; one that is not there is empty. Files of such names are nobody's.
pub(crate) fn entries(dir: &std::path::Path) -> Result<Vec<ContainerId>, RecordError> {
    named_by_ids(dir, |kind| kind.is_dir())
}

/// The ids that files in a directory are named by.
pub(crate) fn marks(dir: &std::path::Path) -> Result<Vec<ContainerId>, RecordError> {
    named_by_ids(dir, |kind| kind.is_file())
}

fn named_by_ids(
    dir: &std::path::Path,
    wanted: impl Fn(std::fs::FileType) -> bool,
) -> Result<Vec<ContainerId>, RecordError> {
    let listing = match std::fs::read_dir(dir) {
        Ok(listing) => listing,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(RecordError::io("list", dir)(e)),
    };
    Ok(listing
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(&wanted))
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect())
}

/// The container of this name, id, or unique beginning of an id.
pub(crate) fn find(paths: &Paths, text: &str) -> Result<Container, EngineError> {
    let id = find_id(paths, text)?;
    let found = Container::read(paths, &id)?.ok_or_else(|| EngineError::NoContainer(text.to_owned()))?;
    Ok(Container { asked: Some(text.to_owned()), ..found })
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

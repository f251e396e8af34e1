//! Records on their way out, and records half made: hidden first, then removed, and found again after a kill.

use std::io;
use std::path::Path;

use jiff::Timestamp;
use rbox_spec::id::ContainerId;

use crate::containers::unfinished::is_abandoned;
use crate::containers::{name, quota, volumes};
use crate::error::EngineError;
use crate::journal::{ContainerAction, destroy_if_missing, note_container};
use crate::record::container::ContainerRecord;
use crate::record::file::read_json;
use crate::record::paths::{CONFIG, Paths, UPPER};

/// Takes a record out of sight: its name is free and it is in no list from here on. What is left of it is
/// deleted by [`delete_hidden`], or after a kill by the next command that tidies.
/// Whether its end has to be told.
pub(crate) fn hide_record(paths: &Paths, record: &ContainerRecord) -> Result<Told, EngineError> {
    let trash = paths.trash();
    let from = paths.container(&record.id);
    let to = trash.join(record.id.as_str());
    let mut told = Told::NotYet;
    match std::fs::rename(&from, &to) {
        Err(e) if e.kind() == io::ErrorKind::NotFound && !trash.exists() => {
            make_trash(&trash, &from)?;
            std::fs::rename(&from, &to).map_err(EngineError::file("move to the trash", from))?;
        }
        // Its monitor, or another command, was faster.
        Err(e) if e.kind() == io::ErrorKind::NotFound => told = Told::Perhaps,
        // Half of it is there from a removal that failed: this is the rest.
        Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => {
            quota::give_back(&to);
            remove_tree(&to)?;
            std::fs::rename(&from, &to).map_err(EngineError::file("move to the trash", from))?;
        }
        other => other.map_err(EngineError::file("move to the trash", from))?,
    }
    name::release_name(paths, &record.name, &record.id);
    Ok(told)
}

/// The trash is made with the root. Where it is missing and the disk is full, what is to be removed makes room for it.
pub(crate) fn make_trash(trash: &Path, going: &Path) -> Result<(), EngineError> {
    match rbox_sys::own::make_private(trash) {
        Err(error) if crate::record::file::is_full(&error) => {
            quota::give_back(going);
            remove_tree(&going.join(UPPER))?;
            rbox_sys::own::make_private(trash)
        }
        other => other,
    }
    .map_err(EngineError::file("make directory", trash))
}

/// Whether the journal of events knows that a container is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// Not yet.
    NotYet,
    /// Whoever hid it may have been killed before it told.
    Perhaps,
    /// It does, or does not know that it was there.
    Already,
}

/// Deletes a record that was hidden, and its anonymous volumes when asked.
pub(crate) fn delete_hidden(
    paths: &Paths,
    record: &ContainerRecord,
    anonymous_volumes: bool,
    told: Told,
) -> Result<(), EngineError> {
    // The volumes first: the record in the trash is what names them, should this be killed in between.
    let volumes = if anonymous_volumes { volumes::remove_anonymous(paths, record) } else { Ok(()) };
    let hidden = paths.trash().join(record.id.as_str());
    match told {
        // As long as the record is in the trash a kill loses nothing: whoever empties that looks whether it was told.
        Told::NotYet => note_container(paths, record, ContainerAction::Destroy),
        Told::Perhaps if hidden.exists() => destroy_if_missing(paths, record),
        Told::Perhaps | Told::Already => {}
    }
    if !record.host.storage_opt.is_empty() {
        quota::give_back(&hidden);
    }
    remove_tree(&hidden).and(volumes.map_err(EngineError::from))
}

/// Removes a container's live directory in one step: renamed away first, so that a start that comes meanwhile
/// makes a new one and nothing of that is removed. The caller holds the lock in it.
pub(crate) fn remove_live(paths: &Paths, id: &ContainerId) {
    crate::networks::links::forget(paths, id);
    let gone = paths.live().join(format!("{GONE}{id}.{}", std::process::id()));
    if std::fs::rename(paths.live_of(id), &gone).is_ok() {
        let _ = remove_tree(&gone);
    }
}

/// A mark in a hidden record: the container's anonymous volumes go with it.
pub(crate) const WITH_VOLUMES: &str = "with-volumes";

/// The beginning of the names of directories that are being removed, or being made.
pub(crate) const GONE: &str = ".gone-";

/// Removes directories that a killed process had begun to remove, and records it had begun to make, with the names they had.
pub(crate) fn sweep_unfinished(paths: &Paths) {
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
        quota::give_back(dir);
        if let Ok(Some(record)) = read_json::<ContainerRecord>(&dir.join(CONFIG)) {
            name::release_name(paths, &record.name, &record.id);
        }
    });
}

/// Deletes a directory with all that is in it, whatever a container made of it.
pub(crate) fn remove_tree(path: &Path) -> Result<(), EngineError> {
    rbox_sys::removal::remove_tree(path).map_err(EngineError::file("remove", path))
}

pub(crate) fn read_mark(paths: &Paths, id: &ContainerId) -> Option<Timestamp> {
    rbox_sys::own::read_text(&paths.started_mark(id)).ok()?.trim().parse().ok()
}

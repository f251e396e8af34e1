//! The names of containers: links to their ids.

use std::io;
use std::os::unix::fs::symlink;

use rbox_spec::ContainerName;
use rbox_spec::id::ContainerId;
use rbox_sys::durable::Lasting;
use rbox_sys::lock::{self, How, Patience};

use crate::containers::unfinished::is_being_made;
use crate::error::EngineError;
use crate::record::container::{Container, ContainerRecord, Status, lasting};
use crate::record::file::read_json;
use crate::record::lock::Editing;
use crate::record::paths::Paths;

/// Who has a name, or is about to: a link whose record is gone names nobody.
pub(crate) fn named(paths: &Paths, name: &ContainerName) -> Option<ContainerId> {
    target(&paths.name(name)).filter(|id| is_there(paths, id))
}

/// Whether there is a container, or somebody is making it. It may come to its place while this looks: so that is asked twice.
pub(crate) fn is_there(paths: &Paths, id: &ContainerId) -> bool {
    let in_place = || std::fs::symlink_metadata(paths.container(id)).is_ok();
    in_place() || is_being_made(paths, id) || in_place()
}

/// The id that a link of ours leads to. What has no such target is not ours.
pub(crate) fn target(link: &std::path::Path) -> Option<ContainerId> {
    std::fs::read_link(link).ok()?.to_str()?.parse().ok()
}

/// Gives `name` to the container `id`, which must be on disk already, in its place or as one that is being made.
pub(crate) fn take_name(paths: &Paths, name: &ContainerName, id: &ContainerId) -> Result<(), EngineError> {
    let link = paths.name(name);
    for _ in 0..8 {
        match symlink(id.as_str(), &link) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                rbox_sys::own::make_private(&paths.names())
                    .map_err(EngineError::file("make directory", paths.names()))?;
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                if let Some(holder) = named(paths, name) {
                    // A rename that was cut off took it already.
                    if holder == *id {
                        return Ok(());
                    }
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
pub(crate) fn release_name(paths: &Paths, name: &ContainerName, id: &ContainerId) {
    free_name(paths, name, |holder| holder == id);
}

/// Takes a name's link away if it leads to one that `is_free` says so of. All who do this hold the lock: between the look and
/// the removal nobody else can have removed the link and made another. Who does not get the lock leaves the link, which is
/// then free for whoever wants the name.
pub(crate) fn free_name(paths: &Paths, name: &ContainerName, is_free: impl Fn(&ContainerId) -> bool) {
    let link = paths.name(name);
    if !target(&link).is_some_and(|id| is_free(&id)) {
        return;
    }
    let Ok(names) = std::fs::File::open(paths.names()) else { return };
    if lock::take(&names, How::Exclusive, PATIENCE).is_err() {
        return;
    }
    if target(&link).is_some_and(|id| is_free(&id)) {
        let _ = std::fs::remove_file(&link);
    }
}

/// The lock is held for two system calls; longer only by a process that was stopped.
const PATIENCE: Patience = Patience::of(std::time::Duration::from_secs(2));

/// Makes a name last that was taken or given up for this container.
pub(crate) fn settle_names(paths: &Paths, record: &ContainerRecord) -> Result<(), EngineError> {
    if lasting(&record.host) == Lasting::Later {
        return Ok(());
    }
    rbox_sys::durable::sync_dir(&paths.names()).map_err(EngineError::file("fsync", paths.names()))
}

/// Takes away names that lead to containers that are gone or have another name by now, as a kill leaves them, and gives
/// containers their names again that a power cut or a hand has taken. `all`: all containers, as they were read.
pub(crate) fn sweep_names(paths: &Paths, all: &[Container]) {
    let known: std::collections::HashSet<&str> = all.iter().map(|c| c.record.name.as_str()).collect();
    for Container { record, .. } in all.iter().filter(|container| container.status != Status::Dead) {
        if std::fs::symlink_metadata(paths.name(&record.name)).is_err() {
            // Without room on the disk it keeps its former name, see below.
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
        let record = read_json::<ContainerRecord>(&paths.config(&id));
        let has_another = |record: &ContainerRecord| {
            record.name != name && named(paths, &record.name).as_ref() == Some(&id)
        };
        if record.is_ok_and(|record| record.as_ref().is_some_and(has_another)) {
            release_name(paths, &name, &id);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A container of this name, and what has a name.
    fn world(name: &str, links: &[&str]) -> (tempfile::TempDir, Paths, ContainerId) {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths { root: dir.path().join("root"), state: dir.path().join("state") };
        let id = ContainerId::from_bytes(&[7; 32]);
        std::fs::create_dir_all(paths.container(&id)).unwrap();
        std::fs::create_dir_all(paths.names()).unwrap();
        let record = serde_json::json!({
            "record_version": 1, "id": id.as_str(), "name": name, "created": "2026-01-01T00:00:00Z", "image": "x",
            "image_id": "", "image_manifest": "", "platform": "", "layers": [], "embedded": false, "config": {}, "host": {},
        });
        std::fs::write(paths.config(&id), record.to_string()).unwrap();
        for link in links {
            symlink(id.as_str(), paths.names().join(link)).unwrap();
        }
        (dir, paths, id)
    }

    fn left(paths: &Paths) -> Vec<String> {
        let all = [Container::read(paths, &ContainerId::from_bytes(&[7; 32])).unwrap().unwrap()];
        sweep_names(paths, &all);
        let names = std::fs::read_dir(paths.names()).unwrap();
        let mut names: Vec<_> =
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_sweep_leaves_each_container_a_name() {
        for (links, wanted) in
            [(&["new"][..], &["new"][..]), (&["new", "old"], &["new"]), (&["old"], &["new"]), (&[], &["new"])]
        {
            let (_dir, paths, _) = world("new", links);
            assert_eq!(left(&paths), wanted, "{links:?}");
        }
        // Its name is not available.
        let (_dir, paths, _) = world("new", &["old"]);
        std::fs::write(paths.names().join("new"), "").unwrap();
        assert_eq!(left(&paths), ["new", "old"]);
    }

    #[test]
    fn a_name_is_taken_twice_by_the_same() {
        let (_dir, paths, id) = world("old", &["old", "new"]);
        let new: ContainerName = "new".parse().unwrap();
        take_name(&paths, &new, &id).unwrap();
        let other = ContainerId::from_bytes(&[8; 32]);
        assert!(matches!(take_name(&paths, &new, &other), Err(EngineError::NameTaken { .. })));
    }
}

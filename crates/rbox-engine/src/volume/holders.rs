//! Which containers hold a volume's file system mounted.
//!
//! ```text
//! <state>/volumes/<name>/<id>     the container <id> runs and uses the volume <name>, which has options
//! ```
//!
//! The mark is written before the mount is made, and taken when the container has ended, by its monitor or by whoever tidies up
//! after that. With the last mark the mount goes. All of it is done under the lock of the volume's directory. Both
//! marks and mounts are gone after a reboot.

use std::fs;
use std::path::PathBuf;

use rbox_spec::VolumeName;
use rbox_spec::id::ContainerId;

use crate::containers::find;
use crate::error::EngineError;
use crate::record::paths::Paths;
use crate::volume::store::{Volume, VolumeError, VolumeStore};

fn marks(paths: &Paths, name: &VolumeName) -> PathBuf {
    paths.live_volumes().join(name)
}

/// Has a volume's file system mounted for a container that starts. A volume without options has none.
pub(crate) fn hold(paths: &Paths, volume: &Volume, id: &ContainerId) -> Result<(), EngineError> {
    if !volume.has_file_system() {
        return Ok(());
    }
    let store = VolumeStore::new(&paths.volumes());
    let Some(_lock) = store.lock_to_mount(&volume.name)? else {
        return Err(VolumeError::Missing(volume.name.to_string()).into());
    };
    let dir = marks(paths, &volume.name);
    let mark = dir.join(id.as_str());
    rbox_sys::own::make_private(&dir).map_err(EngineError::file("make directory", &dir))?;
    rbox_sys::own::write(&mark, "").map_err(EngineError::file("write", &mark))?;
    store.mount(volume).map_err(|error| {
        let _ = fs::remove_file(&mark);
        let _ = fs::remove_dir(&dir);
        error.into()
    })
}

/// Takes the marks of a container that has ended, and unmounts what nobody uses any more. All is tried; the failures come back.
pub(crate) fn let_go(paths: &Paths, id: &ContainerId) -> Vec<String> {
    let held = names(paths).filter(|name| marks(paths, name).join(id.as_str()).exists());
    held.filter_map(|name| release(paths, &name, |marked| marked == id).err())
        .map(|error| error.to_string())
        .collect()
}

/// Takes the marks of containers that have no live state, which a kill at a bad moment may have left.
pub(crate) fn sweep(paths: &Paths) -> Vec<EngineError> {
    let is_gone = |id: &ContainerId| !paths.live_of(id).exists();
    let stale = |name: &VolumeName| {
        let marked = find::marks(&marks(paths, name)).unwrap_or_default();
        marked.is_empty() || marked.iter().any(is_gone)
    };
    names(paths).filter(stale).filter_map(|name| release(paths, &name, is_gone).err()).collect()
}

/// Whether a container that runs holds the volume's file system.
pub(crate) fn is_held(paths: &Paths, name: &VolumeName) -> bool {
    find::marks(&marks(paths, name)).is_ok_and(|marked| !marked.is_empty())
}

/// Unmounts a volume's file system that no container uses. False: one does by now.
pub(crate) fn unmount_unused(paths: &Paths, name: &VolumeName) -> Result<bool, EngineError> {
    let store = VolumeStore::of(paths);
    let _lock = store.lock_to_mount(name)?;
    if is_held(paths, name) {
        return Ok(false);
    }
    store.unmount(name)?;
    Ok(true)
}

/// The volumes that have marks.
fn names(paths: &Paths) -> impl Iterator<Item = VolumeName> {
    let entries = fs::read_dir(paths.live_volumes()).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn release(
    paths: &Paths,
    name: &VolumeName,
    ended: impl Fn(&ContainerId) -> bool,
) -> Result<(), EngineError> {
    let store = VolumeStore::new(&paths.volumes());
    let dir = marks(paths, name);
    let lock = store.lock_to_mount(name)?;
    let marked = find::marks(&dir)?;
    for id in marked.iter().filter(|id| ended(id)) {
        let mark = dir.join(id.as_str());
        match fs::remove_file(&mark) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(EngineError::file("remove", mark)(error));
            }
            _ => {}
        }
    }
    if marked.iter().all(ended) {
        // A volume that was removed was unmounted first.
        if lock.is_some() {
            store.unmount(name)?;
        }
        let _ = fs::remove_dir(&dir);
    }
    Ok(())
}

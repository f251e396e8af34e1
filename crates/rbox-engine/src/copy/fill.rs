//! What an image has where a container has an empty volume: copied when the container is made, as Docker does it, so that whoever has the
//! volume before the container is started finds it.

use std::os::fd::AsFd as _;

use rbox_spec::mount::{MountKind, MountSpec};

use crate::copy::tree::{Access, Unstarted, access};
use crate::error::EngineError;
use crate::monitor::launch::ready_volumes;
use crate::record::container::Container;
use crate::record::paths::Paths;
use crate::volume::store::VolumeStore;

/// Fills the empty volumes of a container that was just made. A start does the same; those that are file systems wait for it, since nothing is
/// mounted before.
pub(crate) fn fill(paths: &Paths, container: &Container) -> Result<(), EngineError> {
    let store = VolumeStore::of(paths);
    let is_filled = |mount: &MountSpec| match &mount.kind {
        MountKind::Volume { name: Some(name), no_copy: false, .. } => {
            store.get(name).ok().flatten().is_some_and(|volume| !volume.has_file_system())
        }
        _ => false,
    };
    if !container.record.host.mounts.iter().any(is_filled) {
        return Ok(());
    }
    // Somebody who starts it already fills them.
    let Access::Held(mut record, lock) = access(paths, container)? else { return Ok(()) };
    let held = Unstarted::new(paths, &record.id, lock);
    let tree = held.mount(&record)?;
    record.host.mounts.retain(is_filled);
    ready_volumes(paths, &record, tree.as_fd()).map(drop)
}

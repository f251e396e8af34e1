//! `--volumes-from`: the mounts of other containers.

use rbox_spec::container::HostConfig;
use rbox_spec::mount::{GivenBy, MountKind, MountSpec};
use rbox_spec::volumes_from::VolumesFrom;

use crate::containers::find;
use crate::create::check::invalid;
use crate::error::EngineError;
use crate::record::paths::Paths;

/// Adds what the containers of `--volumes-from` have mounted, running or not. Of two with one target the later wins, and what
/// the container has of its own wins over all.
pub(crate) fn add(paths: &Paths, host: &mut HostConfig) -> Result<(), EngineError> {
    let mut shared: Vec<MountSpec> = Vec::new();
    for text in &host.volumes_from {
        let from: VolumesFrom = text.parse().map_err(invalid)?;
        let other = find::find(paths, &from.container)?;
        for mount in other.record.host.mounts.into_iter().filter_map(|mount| share(mount, from.read_only)) {
            shared.retain(|earlier| earlier.target != mount.target);
            shared.push(mount);
        }
    }
    shared.retain(|mount| host.mounts.iter().all(|own| own.target != mount.target));
    host.mounts.extend(shared);
    Ok(())
}

/// A mount as another container has it. Memory is nobody else's.
fn share(mut mount: MountSpec, read_only: bool) -> Option<MountSpec> {
    match &mut mount.kind {
        MountKind::Tmpfs { .. } => return None,
        // What the other's image had there is in it already.
        MountKind::Volume { no_copy, .. } => *no_copy = true,
        MountKind::Bind { .. } | MountKind::Image { .. } => {}
    }
    mount.read_only |= read_only;
    mount.given_by = GivenBy::VolumesFrom;
    mount.mode.clear();
    // Its files stay those of the container that has it.
    mount.chown = false;
    Some(mount)
}

//! `diff`.

use std::io;
use std::path::Path;

use rbox_runtime::rootfs::changes::{ChangeKind, ChangesError, Layers, Own, Seen, changes};

use crate::containers::base;
use crate::containers::running::not_running;
use crate::error::EngineError;
use crate::oci::config::HOST_VIEW_INSIDE;
use crate::record::container::{Container, ContainerRecord, Status};
use crate::record::paths::Paths;

/// What rbox makes in a container's own layer where an image does not have it, to mount on it, as Docker does in a layer of
/// its own below. What a user mounts is not in it: Docker shows those places too.
const OWN: [Own<'static>; 7] = [
    Own::Directory("/dev"),
    Own::Directory("/etc"),
    Own::Directory("/proc"),
    Own::Directory("/sys"),
    Own::File("/etc/hosts"),
    Own::File("/etc/hostname"),
    Own::File("/etc/resolv.conf"),
];
/// The same for the image inside rbox.
const OWN_OF_EMBEDDED: Own<'static> = Own::File(HOST_VIEW_INSIDE);
/// The same for `--init`. In most images /sbin is a link.
const OWN_OF_INIT: [Own<'static>; 3] =
    [Own::Directory("/sbin"), Own::File("/sbin/docker-init"), Own::File("/usr/sbin/docker-init")];

/// Walks through what a container has written. Whether any of it is its own. `device_mounts`: where devices of a step mounted something.
pub(crate) fn walk(
    paths: &Paths,
    record: &ContainerRecord,
    device_mounts: &[String],
    tell: &mut dyn FnMut(Seen<'_>) -> io::Result<()>,
) -> Result<bool, ChangesError> {
    let mut own = OWN.to_vec();
    if record.host.init {
        own.extend(OWN_OF_INIT);
    }
    if record.embedded {
        own.push(OWN_OF_EMBEDDED);
    }
    // What is mounted for a step of a build is no part of what it makes, and neither is the place.
    if record.build_step.is_some() {
        for target in record.host.mounts.iter().map(|mount| &mount.target).chain(device_mounts) {
            own.extend([Own::File(target), Own::Directory(target)]);
            let above = target.match_indices('/').filter(|(at, _)| *at > 0);
            own.extend(above.map(|(at, _)| Own::Directory(&target[..at])));
        }
    }
    let upper = record.upper(paths);
    changes(&Layers { upper: &upper, lowers: &base::layers(paths, record), own: &own }, tell)
}

/// Tells what a container has changed.
pub(crate) fn diff(
    paths: &Paths,
    container: &Container,
    tell: &mut dyn FnMut(ChangeKind, &Path) -> io::Result<()>,
) -> Result<(), EngineError> {
    if container.status == Status::Dead {
        return Err(not_running(container));
    }
    walk(paths, &container.record, &[], &mut |seen| match seen {
        Seen::Change(kind, path) => tell(kind, path),
        Seen::Unused(_) => Ok(()),
    })?;
    Ok(())
}

//! The layer below all images: what a container has where its image has nothing.
//!
//! That is `/etc/mtab`, which Docker makes in a layer of its own above the image, and the files that each container's own are mounted over. Below
//! the image nothing has to be looked for, copied up or written when a container starts, and what an image has there itself stays.

use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};

use crate::record::container::ContainerRecord;
use crate::record::paths::{ETC, HOSTNAME, HOSTS, MTAB, Paths, RESOLV_CONF};

/// The layers of a container, base first.
pub(crate) fn layers(paths: &Paths, record: &ContainerRecord) -> Vec<PathBuf> {
    // A build's programs have what BuildKit's have.
    let base = record.build_step.is_none().then(|| ready(paths.base())).flatten();
    base.into_iter().chain(record.layers.iter().cloned()).collect()
}

/// The layer, made when it is not there. None when it cannot be: a container does without on a full disk.
fn ready(base: PathBuf) -> Option<PathBuf> {
    let etc = base.join(ETC);
    let is_there = |path: &Path| path.symlink_metadata().is_ok();
    // The last one that is made: whoever finds it has them all.
    let last = etc.join(RESOLV_CONF);
    if !is_there(&last) {
        let _ = std::fs::DirBuilder::new().mode(0o755).create(&etc);
        let _ = symlink("/proc/mounts", etc.join(MTAB));
        for name in [HOSTS, HOSTNAME, RESOLV_CONF] {
            let _ = rbox_sys::own::open(
                &etc.join(name),
                std::fs::File::options().write(true).create(true).mode(0o755),
            );
        }
    }
    is_there(&last).then_some(base)
}

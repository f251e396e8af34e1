//! A container's file system as a tar archive.

use std::io::Write;
use std::os::fd::AsFd;

use rbox_runtime::rootfs::layer::{PackOptions, Packed, pack};

use crate::containers::running::{live_root_alone, pidfd};
use crate::copy::tree::{Access, Unstarted, access};
use crate::error::EngineError;
use crate::record::container::Container;
use crate::record::paths::Paths;

pub(crate) fn export(paths: &Paths, container: &Container, into: impl Write) -> Result<Packed, EngineError> {
    let (root, maps, _held) = match access(paths, container)? {
        Access::Running(now) => (live_root_alone(pidfd(&now)?)?, now.record.host.id_maps, None),
        Access::Held(record, lock) => {
            let held = Unstarted::new(paths, &record.id, lock);
            (held.mount(&record)?, None, Some(held))
        }
    };
    Ok(pack(root.as_fd(), into, &PackOptions { ids: maps.as_ref(), ..PackOptions::default() })?)
}

//! Out of a container.

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rbox_runtime::rootfs::layer::{PackOptions, Packed, pack};
use rbox_runtime::rootfs::put::{Owners, Place};

use crate::copy::stream::{Copied, Progress, carry};
use crate::copy::target::target;
use crate::copy::view::View;
use crate::copy::{host, inside};
use crate::error::EngineError;
use crate::journal::{ContainerAction, note_container};
use crate::record::container::Container;
use crate::record::paths::Paths;

/// As an archive.
pub(crate) fn archive(
    paths: &Paths,
    container: &Container,
    path: &Path,
    follow: bool,
    into: impl Write,
) -> Result<Packed, EngineError> {
    let view = View::open(paths, container)?;
    let source = inside::source(&view, path, follow)?;
    note_container(paths, &view.record, ContainerAction::ArchivePath);
    // A link that was followed: the archive has the name of what it leads to.
    let name = if follow { inside::name_at_end(&view, path) } else { None };
    let name = name.as_deref().unwrap_or(&source.name);
    let options = PackOptions { root: Some(name.as_bytes()), ids: view.maps(), ..PackOptions::default() };
    Ok(pack(source.thing.as_fd(), into, &options)?)
}

/// To a place of the host.
pub(crate) fn to_host(
    paths: &Paths,
    container: &Container,
    path: &Path,
    follow: bool,
    given: &Path,
    progress: Progress<'_>,
) -> Result<Copied, EngineError> {
    let (there_path, there) = host::look(given)?;
    let view = View::open(paths, container)?;
    let source = inside::source(&view, path, follow)?;
    note_container(paths, &view.record, ContainerAction::ArchivePath);
    let target = target(source.name, source.is_dir, &there_path, given, there)?;
    let directory = host::directory(&target.directory)?;
    let place = Place::Beneath { directory: directory.as_fd(), path: &target.directory };
    let (packed, put) =
        carry(source.thing.as_fd(), target.name.as_bytes(), place, Owners::Own, view.maps(), progress)?;
    Ok(Copied { bytes: packed.stream_bytes, packed, devices: put.devices })
}

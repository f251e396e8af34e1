//! Into a container.

use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rbox_image::archive::uncompressed;
use rbox_runtime::rootfs::layer::Packed;
use rbox_runtime::rootfs::put::{Inside, Owners, Place, PutError, put};

use crate::copy::stream::{Copied, Progress, carry};
use crate::copy::target::{There, target};
use crate::copy::view::View;
use crate::copy::{host, inside};
use crate::error::EngineError;
use crate::journal::{ContainerAction, note_container};
use crate::oci::user;
use crate::record::container::Container;
use crate::record::paths::Paths;

/// From a place of the host.
pub(crate) fn from_host(
    paths: &Paths,
    container: &Container,
    from: &Path,
    follow: bool,
    given: &Path,
    as_user: bool,
    progress: Progress<'_>,
) -> Result<Copied, EngineError> {
    let source = host::source(from, follow)?;
    let view = View::open(paths, container)?;
    let (path, there) = inside::look(&view, given)?;
    let target = target(source.name, source.is_dir, &path, given, there)?;
    inside::check_directory(&view, &target.directory)?;
    let owners = owners(&view, as_user)?;
    if let Owners::Inside(inside) = owners {
        host::check_users(source.thing.as_fd(), from, inside)?;
    }
    let place = Place::InRoot { root: view.root.as_fd(), path: &target.directory };
    let (packed, put) =
        view.within(|| carry(source.thing.as_fd(), target.name.as_bytes(), place, owners, None, progress))?;
    note_container(paths, &view.record, ContainerAction::ExtractToDir);
    Ok(Copied { bytes: packed.stream_bytes, packed, devices: put.devices })
}

/// From an archive, compressed or not.
pub(crate) fn from_archive(
    paths: &Paths,
    container: &Container,
    tar: impl Read + Send,
    given: &Path,
    as_user: bool,
) -> Result<Copied, EngineError> {
    let view = View::open(paths, container)?;
    let (path, there) = inside::look(&view, given)?;
    if there != There::Directory {
        let name = &view.record.name;
        return Err(EngineError::Conflict(format!(
            "destination \"{name}:{}\" must be a directory",
            given.display()
        )));
    }
    inside::check_directory(&view, &path)?;
    let owners = owners(&view, as_user)?;
    let tar = uncompressed(tar).map_err(PutError::Read)?;
    let place = Place::InRoot { root: view.root.as_fd(), path: &path };
    let put = view.within(|| Ok(put(tar, place, owners)?))?;
    note_container(paths, &view.record, ContainerAction::ExtractToDir);
    Ok(Copied { bytes: put.stream_bytes, devices: put.devices, packed: Packed::default() })
}

/// As with Docker the owners are those of the source, unless `-a` is given and the container has a user: then all is that user's.
fn owners<'a>(view: &'a View<'_>, as_user: bool) -> Result<Owners<'a>, EngineError> {
    let name = &view.record.config.user;
    let all = if as_user && !name.is_empty() {
        let user = user::of_container(&view.record, view.root.as_fd(), name, &[])?;
        Some((user.uid, user.gid))
    } else {
        None
    };
    Ok(match (view.ids(), all) {
        (Some(maps), all) => Owners::Inside(Inside { maps, all, is_mapped: view.maps().is_some() }),
        (None, Some((uid, gid))) => Owners::All(uid, gid),
        (None, None) => Owners::Archive,
    })
}

//! Volumes given out and taken in: `volume export`, `import`, `clone` and `rename`.
//!
//! What is made is made beside the volumes and renamed, so that it is absent or whole. A volume that is there already is written into as
//! `cp` writes into a container: what a container does in it meanwhile leads nowhere outside.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rbox_image::archive::uncompressed;
use rbox_runtime::rootfs::layer::{PackOptions, Packed, pack};
use rbox_runtime::rootfs::put::{Owners, Place, Put, PutError, put_with_top};
use rbox_spec::VolumeName;
use rbox_sys::durable;
use rbox_sys::lock::How;
use rbox_sys::mount::{clone_tree, is_mount_root};
use rbox_sys::removal::remove_tree;
use rustix::fs::{CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::copy::stream::carry;
use crate::error::EngineError;
use crate::journal::VolumeAction;
use crate::record::paths::DATA;
use crate::volume::error::io_error;
use crate::volume::file_system;
use crate::volume::record::{NewVolume, Record};
use crate::volume::store::{UsersNow, Volume, VolumeError, VolumeStore};

/// The name of a volume's own directory in an archive.
const TOP: &[u8] = b".";

fn found(store: &VolumeStore, name: &VolumeName) -> Result<Volume, VolumeError> {
    store.get(name)?.ok_or_else(|| VolumeError::Missing(name.to_string()))
}

/// What a volume holds: its directory, or the file system that is mounted there while it is used, or else mounted here for nobody
/// else to see. A mount of its own, which keeps no other one busy.
fn held(store: &VolumeStore, volume: &Volume) -> Result<OwnedFd, VolumeError> {
    let data = store.open_data(&volume.name)?;
    if !is_mount_root(&data)? && volume.has_file_system() {
        if volume.options.get("type").is_some_and(|kind| matches!(kind.as_str(), "tmpfs" | "ramfs")) {
            return Err(VolumeError::Memory(volume.name.clone()));
        }
        return Ok(file_system::make(&volume.options, &volume.mountpoint)?);
    }
    Ok(clone_tree(&data, Path::new(""), true)?)
}

/// Writes what a volume holds as a tar archive.
pub(crate) fn export(
    store: &VolumeStore,
    name: &VolumeName,
    into: impl Write,
) -> Result<Packed, EngineError> {
    let _lock = store.lock(name, How::Shared)?;
    let tree = held(store, &found(store, name)?)?;
    Ok(pack(tree.as_fd(), into, &PackOptions { root: Some(TOP), ..PackOptions::default() })?)
}

/// Unpacks a tar archive, compressed or not, in a volume, which is made when there is none of this name.
pub(crate) fn import(
    store: &VolumeStore,
    name: &VolumeName,
    tar: impl Read + Send,
) -> Result<(), EngineError> {
    let tar = uncompressed(tar).map_err(PutError::Read)?;
    let top = Path::new("/");
    let lock = store.lock(name, How::Shared)?;
    if lock.is_some()
        && let Some(volume) = store.get(name)?
    {
        let tree = held(store, &volume)?;
        let put = put_with_top(tar, Place::InRoot { root: tree.as_fd(), path: top }, Owners::Archive)?;
        require_entries(&put)?;
        let flushed = rustix::fs::syncfs(&rbox_sys::file::open_in_root(&tree, top, OFlags::RDONLY, 0)?);
        return Ok(flushed.map_err(|errno| io_error("syncfs", &volume.mountpoint)(errno.into()))?);
    }
    let record = NewVolume::default().record(jiff::Timestamp::now());
    make(store, name, &record, |building| {
        let data = directory(&building.join(DATA))?;
        let put = put_with_top(tar, Place::InRoot { root: data.as_fd(), path: top }, Owners::Archive)?;
        require_entries(&put)
    })
}

/// A backup has an entry at least, that of the volume itself. One without any is what a pipe gives whose writer failed.
fn require_entries(put: &Put) -> Result<(), EngineError> {
    if put.entries == 0 {
        return Err(EngineError::Invalid(format!(
            "the archive has no entry, {} bytes long: nothing was restored",
            put.stream_bytes
        )));
    }
    Ok(())
}

/// Makes a volume that holds what another one holds, with its labels. It is a directory, whatever the other is.
pub(crate) fn clone(store: &VolumeStore, from: &VolumeName, to: &VolumeName) -> Result<Packed, EngineError> {
    let _lock = store.lock(from, How::Shared)?;
    let volume = found(store, from)?;
    let tree = held(store, &volume)?;
    let record = NewVolume { labels: volume.labels, ..NewVolume::default() }.record(jiff::Timestamp::now());
    let mut packed = Packed::default();
    make(store, to, &record, |building| {
        let beside = directory(building)?;
        let place = Place::InRoot { root: beside.as_fd(), path: Path::new("/") };
        packed = carry(tree.as_fd(), DATA.as_bytes(), place, Owners::Archive, None, &|_| {})?.0;
        Ok(())
    })?;
    Ok(packed)
}

/// Gives a volume that no container mounts another name.
pub(crate) fn rename(
    store: &VolumeStore,
    from: &VolumeName,
    to: &VolumeName,
    users: UsersNow<'_>,
) -> Result<(), VolumeError> {
    let missing = || VolumeError::Missing(from.to_string());
    let _lock = store.lock(from, How::Exclusive)?.ok_or_else(missing)?;
    let volume = found(store, from)?;
    let containers = users()?.of(from);
    if !containers.is_empty() {
        return Err(VolumeError::RenameInUse { name: from.clone(), containers });
    }
    store.unmount(from)?;
    let (place, other) = (store.place(from), store.place(to));
    if fs::symlink_metadata(&other).is_ok() {
        return Err(VolumeError::Taken(to.clone()));
    }
    if volume.anonymous {
        // Somebody names it now: it goes with no container any more.
        let named = NewVolume { anonymous: false, labels: volume.labels, options: volume.options };
        store.mend(from, &named.record(volume.created), durable::Lasting::Now)?;
    }
    match rustix::fs::renameat_with(CWD, &place, CWD, &other, RenameFlags::NOREPLACE) {
        Err(Errno::EXIST) => return Err(VolumeError::Taken(to.clone())),
        renamed => renamed.map_err(|errno| io_error("rename", &place)(errno.into()))?,
    }
    store.sync()?;
    store.note(from, VolumeAction::Destroy);
    store.note(to, VolumeAction::Create);
    Ok(())
}

/// Makes a volume of a free name, which `fill` fills before anybody can see it.
fn make(
    store: &VolumeStore,
    name: &VolumeName,
    record: &Record,
    fill: impl FnOnce(&Path) -> Result<(), EngineError>,
) -> Result<(), EngineError> {
    let place = store.place(name);
    if fs::symlink_metadata(&place).is_ok() {
        return Err(VolumeError::Taken(name.clone()).into());
    }
    let building = store.building(record, durable::Lasting::Now)?;
    let made = fill(&building).and_then(|()| {
        // All that was written has to be there when the name is.
        let flushed = rustix::fs::syncfs(directory(&building)?);
        flushed.map_err(|errno| io_error("syncfs", &building)(errno.into()))?;
        match rustix::fs::renameat_with(CWD, &building, CWD, &place, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => Err(VolumeError::Taken(name.clone()).into()),
            renamed => Ok(renamed.map_err(|errno| io_error("rename to", &place)(errno.into()))?),
        }
    });
    if made.is_err() {
        let _ = remove_tree(&building);
    }
    made?;
    store.sync()?;
    store.note(name, VolumeAction::Create);
    Ok(())
}

fn directory(path: &Path) -> Result<OwnedFd, VolumeError> {
    let how = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, how, Mode::empty()).map_err(|errno| io_error("open", path)(errno.into()))
}

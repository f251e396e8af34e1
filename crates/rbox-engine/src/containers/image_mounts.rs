//! Images that are mounted on the host, to be looked into: read-only, in the live directory, so that no reboot keeps one.
//!
//! Each has a directory with a record, a lock and the mount. What counts is the mount: a record whose mount is gone (a kill before it, or
//! somebody's umount) is of no image that is mounted, and goes with the next mount or unmount of it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rbox_image::Image;
use rbox_runtime::rootfs::overlay;
use rbox_spec::Digest;
use rbox_spec::record::{Record, Step};
use rbox_sys::mount::{attach, is_mount_root, unmount};
use rbox_sys::{SysError, trace};
use rustix::fs::{CWD, Mode, OFlags};
use serde::{Deserialize, Serialize};

use crate::error::EngineError;
use crate::record::file::{RecordError, read_json, write_json};
use crate::record::lock::Lock;
use crate::record::paths::{MERGED, MOUNT, NOTHING, Paths};

/// How long another command at the same image is waited for.
const PATIENCE: Duration = Duration::from_mins(1);

/// An image that is mounted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ImageMount {
    /// Its id.
    pub image: Digest,
    /// What it was called when it was mounted.
    pub name: String,
    /// Its layers, which stay as long as it is mounted.
    pub layers: Vec<PathBuf>,
    /// How often it was mounted; as often it is to be unmounted.
    pub times: u32,
    /// Where.
    #[serde(skip)]
    pub path: PathBuf,
    /// Its record cannot be read: what it was called, its layers and how often it was mounted are not known.
    #[serde(skip)]
    pub is_damaged: bool,
}

impl Record for ImageMount {
    const STEPS: &'static [Step] = &[|_| {}];
}

/// All that are mounted, in the order of their ids.
pub(crate) fn all(paths: &Paths) -> Result<Vec<ImageMount>, EngineError> {
    let dir = paths.image_mounts();
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(RecordError::io("list", dir)(error).into()),
    };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        found.extend(read(&entry.path())?);
    }
    found.sort_by_key(|mount| mount.image);
    Ok(found)
}

/// The image that is mounted in this directory, if one is. The directory's name is its id.
fn read(dir: &Path) -> Result<Option<ImageMount>, EngineError> {
    let path = dir.join(MERGED);
    if !is_mounted(&path)? {
        return Ok(None);
    }
    let error = match read_json::<ImageMount>(&dir.join(MOUNT)) {
        Ok(record) => return Ok(record.map(|record| ImageMount { path, ..record })),
        Err(error) => error,
    };
    let hex = dir.file_name().unwrap_or_default().to_string_lossy();
    let Ok(image) = format!("sha256:{hex}").parse::<Digest>() else { return Err(error.into()) };
    let (name, layers) = (image.short(), Vec::new());
    Ok(Some(ImageMount { image, name, layers, times: 1, path, is_damaged: true }))
}

fn open(path: &Path) -> Result<std::os::fd::OwnedFd, SysError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path, flags, Mode::empty())
        .map_err(|errno| SysError::new("open", trace::quoted(path), errno))
}

fn is_mounted(path: &Path) -> Result<bool, EngineError> {
    match open(path) {
        Ok(place) => Ok(is_mount_root(place)?),
        Err(error) if error.errno as i32 == rustix::io::Errno::NOENT.raw_os_error() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The lock of the image's directory, which is made where it is missing.
fn lock(dir: &Path, name: &str) -> Result<Lock, EngineError> {
    Lock::take_within(dir, PATIENCE)?.ok_or_else(|| {
        EngineError::Conflict(format!("image {name} is being mounted or unmounted by another command"))
    })
}

fn layers_of(image: &Image) -> Vec<PathBuf> {
    image.layers.iter().map(|layer| layer.dir.clone()).collect()
}

/// Mounts an image, or counts one that is mounted once more. Where.
///
/// # Errors
/// The kernel refuses, or the image was removed meanwhile.
pub(crate) fn mount(
    paths: &Paths,
    store: &rbox_image::ImageStore,
    image: &Image,
    name: &str,
) -> Result<PathBuf, EngineError> {
    let dir = paths.image_mount(&image.id);
    let _lock = lock(&dir, name)?;
    if let Some(mut record) = read(&dir)? {
        if record.is_damaged {
            record = ImageMount { name: name.to_owned(), layers: layers_of(image), ..record };
        }
        record.times = record.times.saturating_add(1);
        write_json(&dir.join(MOUNT), &record)?;
        return Ok(record.path);
    }
    // Until it is mounted, nothing else says that it is in use.
    let _pin = store.pin(image)?;
    let layers = layers_of(image);
    let shown: Vec<PathBuf> = image.overlay_layers().iter().map(|layer| layer.dir.clone()).collect();
    let path = dir.join(MERGED);
    let nothing = NOTHING.map(|name| dir.join(name));
    for below in nothing.iter().chain([&path]) {
        rbox_sys::own::make_directory(below, 0o700).or_else(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Ok(()),
            _ => Err(RecordError::io("make directory", below)(error)),
        })?;
    }
    let record = ImageMount {
        image: image.id,
        name: name.to_owned(),
        layers,
        times: 1,
        path: path.clone(),
        is_damaged: false,
    };
    write_json(&dir.join(MOUNT), &record)?;
    let tree = overlay::mount_read_only(&[&nothing[..], &shown[..]].concat(), &path)?;
    attach(&tree, open(&path)?)?;
    Ok(path)
}

/// Takes a mount of an image back; with `wholly` all of them. False: it was not mounted.
///
/// # Errors
/// The kernel refuses.
pub(crate) fn take_back(paths: &Paths, id: &Digest, wholly: bool) -> Result<bool, EngineError> {
    let dir = paths.image_mount(id);
    if !dir.exists() {
        return Ok(false);
    }
    let _lock = lock(&dir, &id.short())?;
    let record = read(&dir)?;
    let was_mounted = record.is_some();
    if let Some(mut record) = record.filter(|record| record.times > 1 && !wholly) {
        record.times -= 1;
        write_json(&dir.join(MOUNT), &record)?;
        return Ok(true);
    }
    remove(&dir)?;
    Ok(was_mounted)
}

/// Unmounts what is in the directory, and removes it.
fn remove(dir: &Path) -> Result<(), EngineError> {
    let path = dir.join(MERGED);
    while is_mounted(&path)? {
        unmount(&path)?;
    }
    rbox_sys::removal::remove_tree(dir).map_err(RecordError::io("remove", dir))?;
    Ok(())
}

/// Unmounts all of them. What could not be done.
pub(crate) fn unmount_all(paths: &Paths) -> Vec<EngineError> {
    let entries = fs::read_dir(paths.image_mounts()).into_iter().flatten().flatten();
    entries.filter_map(|entry| remove(&entry.path()).err()).collect()
}

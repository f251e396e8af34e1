//! Caches of `RUN --mount=type=cache` carried elsewhere: as archives, out and in.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use rbox_engine::engine::{pack_archive, unpack_archive};
use rbox_sys::lock::{self, How, Patience};
use rbox_sys::own;

use super::prune::{CacheEntry, cache_entries};
use crate::context::{Work, open_dir};
use crate::error::{BuildError, io_error};

/// Writes what a cache has as a tar archive. `name`: its id, or the beginning of what `builder du` calls it.
///
/// # Errors
/// There is none, several begin so, or it cannot be read.
pub fn export_mount(build_dir: &Path, name: &str, to: impl Write) -> Result<(), BuildError> {
    let dir = find(build_dir, name)?;
    let lock = File::from(open_dir(&dir)?);
    lock::take(&lock, How::Shared, Patience::WORK).map_err(io_error("lock", &dir))?;
    let data = open_dir(&dir.join("data"))?;
    Ok(pack_archive(data.as_fd(), to)?)
}

/// Makes a cache of what an uncompressed tar archive has, in place of what it had. `id`: what `--mount` says, or the path it is mounted at.
///
/// # Errors
/// A build uses it, the archive is damaged, or the disk.
pub fn import_mount(build_dir: &Path, id: &str, tar: impl Read) -> Result<(), BuildError> {
    let id = if id.starts_with('/') { clean_target(id) } else { id.to_owned() };
    let dir = mount_dir(build_dir, "", &id);
    let all = build_dir.join("mounts");
    for dir in [&all, &dir] {
        own::make_private(dir).map_err(io_error("make directory", dir))?;
    }
    let lock = File::from(open_dir(&dir)?);
    if !lock::try_take(&lock, How::Exclusive).map_err(|error| io_error("lock", &dir)(error.into()))? {
        return Err(BuildError::Conflict(format!(
            "cache {id} is used by a build: try again when it is done"
        )));
    }
    own::write(&dir.join("id"), &id).map_err(io_error("write", &dir))?;
    // Unpacked beside, so that a cache is never half an archive.
    let work = Work::begin(build_dir)?;
    let new = work.fresh();
    std::fs::create_dir(&new).map_err(io_error("make directory", &new))?;
    unpack_archive(tar, open_dir(&new)?.as_fd(), Path::new("/"), None)?;
    let data = dir.join("data");
    if data.exists() {
        std::fs::rename(&data, work.fresh()).map_err(io_error("rename", &data))?;
    }
    std::fs::rename(&new, &data).map_err(io_error("rename", &data))
}

fn find(build_dir: &Path, name: &str) -> Result<PathBuf, BuildError> {
    let mounts: Vec<CacheEntry> =
        cache_entries(build_dir)?.into_iter().filter(|entry| entry.kind == "exec.cachemount").collect();
    let named = |entry: &&CacheEntry| entry.description == name;
    let begun = |entry: &&CacheEntry| !name.is_empty() && entry.id.starts_with(name);
    let found =
        mounts.iter().find(named).map_or_else(|| mounts.iter().filter(begun).collect(), |one| vec![one]);
    match found.as_slice() {
        [one] => Ok(one.path().to_owned()),
        [] => Err(BuildError::NotFound(format!("no such cache: {name} (rbox builder cache ls lists them)"))),
        _ => Err(BuildError::Invalid(format!("several caches begin with {name}: give more of it"))),
    }
}

/// Where a cache is. `namespace`: `BUILDKIT_CACHE_MOUNT_NS`.
pub(crate) fn mount_dir(build_dir: &Path, namespace: &str, id: &str) -> PathBuf {
    let name = rbox_image::hash::sha256(format!("{namespace}/{id}").as_bytes()).hex();
    build_dir.join("mounts").join(name)
}

/// The id of a cache that says none: where it is mounted.
pub(crate) fn clean_target(target: &str) -> String {
    format!("/{}", crate::tree::clean(Path::new(target)).display())
}

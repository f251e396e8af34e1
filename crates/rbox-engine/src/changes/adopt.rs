//! What a step of a build has changed: its own layer moved into the store.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rbox_image::Transaction;
use rbox_image::store::StoredLayer;
use rbox_runtime::rootfs::changes::Seen;
use rbox_sys::file::open_beneath;
use rustix::fs::{AtFlags, Dir, FileType, OFlags, Timespec, Timestamps, UTIME_OMIT};

use crate::changes::diff;
use crate::error::EngineError;
use crate::record::container::ContainerRecord;
use crate::record::paths::Paths;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Moves a step's own layer into the store, which may be an empty one. Nothing of the step may run any more. `device_mounts`: where its
/// devices mounted something.
pub(crate) fn layer_of_step(
    paths: &Paths,
    transaction: &Transaction<'_>,
    record: &ContainerRecord,
    device_mounts: &[String],
    newest: Option<i64>,
) -> Result<StoredLayer, EngineError> {
    let upper = record.upper(paths);
    // What is in a directory is told of before the directory is.
    let mut unused: Vec<PathBuf> = Vec::new();
    diff::walk(paths, record, device_mounts, &mut |seen| {
        if let Seen::Unused(path) = seen {
            unused.push(path.strip_prefix("/").unwrap_or(path).to_owned());
        }
        Ok(())
    })?;
    let root = File::open(&upper).map_err(EngineError::file("open", &upper))?;
    for path in &unused {
        remove(&root, path).map_err(EngineError::file("remove", upper.join(path)))?;
    }
    adopt(transaction, &upper, newest)
}

/// Moves a directory into the store. `newest`: nothing in it gets a younger time, in seconds since 1970.
pub(crate) fn adopt(
    transaction: &Transaction<'_>,
    dir: &Path,
    newest: Option<i64>,
) -> Result<StoredLayer, EngineError> {
    if let Some(seconds) = newest {
        age(dir, seconds).map_err(EngineError::file("change times in", dir))?;
    }
    Ok(transaction.adopt_layer(dir)?)
}

/// Gives a time to all below a directory that is younger. Nobody else writes there any more.
fn age(root: &Path, seconds: i64) -> io::Result<()> {
    let newest = Timespec { tv_sec: seconds, tv_nsec: 0 };
    let times =
        Timestamps { last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT }, last_modification: newest };
    let root = File::open(root)?;
    let mut left = vec![PathBuf::from(".")];
    while let Some(path) = left.pop() {
        let dir = open_beneath(&root, &path, DIRECTORY, 0).map_err(io::Error::other)?;
        for entry in Dir::read_from(&dir)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let stat = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if (stat.st_mtime, stat.st_mtime_nsec as u64) > (seconds, 0) {
                rustix::fs::utimensat(&dir, name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
            }
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                left.push(path.join(OsStr::from_bytes(name.to_bytes())));
            }
        }
    }
    Ok(())
}

/// Removes a place that was made to be mounted on. The directory that it is in looks as if it had never been there.
fn remove(root: &File, path: &Path) -> io::Result<()> {
    let Some(name) = path.file_name() else { return Ok(()) };
    let above: OwnedFd = match path.parent().filter(|above| !above.as_os_str().is_empty()) {
        Some(above) => open_beneath(root, above, DIRECTORY, 0).map_err(io::Error::other)?,
        None => root.as_fd().try_clone_to_owned()?,
    };
    let before = rustix::fs::fstat(&above)?;
    let name = std::ffi::CString::new(name.as_bytes())?;
    rbox_sys::removal::remove_at(&above, &name)?;
    let kept = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: before.st_mtime, tv_nsec: before.st_mtime_nsec as _ },
    };
    rustix::fs::futimens(&above, &kept)?;
    Ok(())
}

//! What a step of a build has changed: its own layer moved into the store.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rbox_image::Transaction;
use rbox_image::store::StoredLayer;
use rbox_runtime::rootfs::changes::Seen;
use rbox_sys::file::open_beneath;
use rustix::fs::{OFlags, Timespec, Timestamps, UTIME_OMIT};

use crate::changes::diff;
use crate::error::EngineError;
use crate::record::container::ContainerRecord;
use crate::record::paths::Paths;

/// Moves a step's own layer into the store, which may be an empty one. Nothing of the step may run any more.
pub(crate) fn layer_of_step(
    paths: &Paths,
    transaction: &Transaction<'_>,
    record: &ContainerRecord,
) -> Result<StoredLayer, EngineError> {
    let upper = record.upper(paths);
    // What is in a directory is told of before the directory is.
    let mut unused: Vec<PathBuf> = Vec::new();
    diff::walk(paths, record, &mut |seen| {
        if let Seen::Unused(path) = seen {
            unused.push(path.strip_prefix("/").unwrap_or(path).to_owned());
        }
        Ok(())
    })?;
    let root = File::open(&upper).map_err(EngineError::file("open", &upper))?;
    for path in &unused {
        remove(&root, path).map_err(EngineError::file("remove", upper.join(path)))?;
    }
    Ok(transaction.adopt_layer(&upper)?)
}

/// Removes a place that was made to be mounted on. The directory that it is in looks as if it had never been there.
fn remove(root: &File, path: &Path) -> io::Result<()> {
    let Some(name) = path.file_name() else { return Ok(()) };
    let how = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let above: OwnedFd = match path.parent().filter(|above| !above.as_os_str().is_empty()) {
        Some(above) => open_beneath(root, above, how, 0).map_err(io::Error::other)?,
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

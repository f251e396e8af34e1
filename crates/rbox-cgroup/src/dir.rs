//! A directory of cgroupfs: made, written, read and removed by path; each call is traced.

use crate::error::{CgroupError, Result};
use rbox_sys::SysError;
use rbox_sys::error::told;
use rbox_sys::trace::{fd, quoted};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Whether the call failed with `errno`.
pub(crate) fn is(error: &SysError, errno: Errno) -> bool {
    error.errno as i32 == errno.raw_os_error()
}

/// mkdir(2); `false` if it was there.
pub(crate) fn make(path: &Path) -> Result<bool> {
    match told(
        "mkdirat",
        || format!("AT_FDCWD, {}, 0755", quoted(path)),
        || rustix::fs::mkdir(path, Mode::from_raw_mode(0o755)),
    ) {
        Ok(()) => Ok(true),
        Err(error) if is(&error, Errno::EXIST) => Ok(false),
        Err(error) if is(&error, Errno::ROFS) => Err(CgroupError::Unsupported {
            limit: "make the control group",
            why: format!(
                "{} is on a cgroup mount that is read-only here: in a container, rbox needs one that may write its own groups (docker run --privileged --cgroupns private)",
                path.display()
            ),
        }),
        Err(source) => Err(CgroupError::Sys { what: "make", group: path.to_owned(), source }),
    }
}

/// Opens the directory for clone3 and for calls relative to it.
pub(crate) fn open(path: &Path) -> Result<OwnedFd> {
    open_at(path, OFlags::RDONLY | OFlags::DIRECTORY, "O_RDONLY|O_DIRECTORY|O_CLOEXEC")
        .map_err(|source| CgroupError::Sys { what: "open", group: path.to_owned(), source })
}

/// Opens one file of a group for writing.
pub(crate) fn open_to_write(group: &Path, file: &str) -> std::result::Result<OwnedFd, SysError> {
    open_at(&group.join(file), OFlags::WRONLY, "O_WRONLY|O_CLOEXEC")
}

/// Opens one file of a group for reading.
pub(crate) fn open_to_read(group: &Path, file: &str) -> std::result::Result<OwnedFd, SysError> {
    open_at(&group.join(file), OFlags::RDONLY, "O_RDONLY|O_CLOEXEC")
}

fn open_at(path: &Path, how: OFlags, shown: &str) -> std::result::Result<OwnedFd, SysError> {
    // cgroupfs holds no links; NOFOLLOW says so for a path that should not be one.
    let how = how | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    told(
        "openat",
        || format!("AT_FDCWD, {}, {shown}", quoted(path)),
        || rustix::fs::openat(CWD, path, how, Mode::empty()),
    )
}

/// Writes `text` to one file of a group.
pub(crate) fn write(group: &Path, file: &str, text: &str) -> std::result::Result<(), SysError> {
    let out = open_to_write(group, file)?;
    told(
        "write",
        || format!("{}, {text:?}", fd(&out)),
        || rustix::io::retry_on_intr(|| rustix::io::write(&out, text.as_bytes())),
    )
    .map(drop)
}

/// The text of one file of a group. Not traced: reading a group's state makes no container.
pub(crate) fn read(group: &Path, file: &str) -> std::io::Result<String> {
    std::fs::read_to_string(group.join(file))
}

/// As [`read`], as one of this crate's errors.
pub(crate) fn read_told(group: &Path, file: &'static str) -> Result<String> {
    read(group, file).map_err(|error| CgroupError::Sys {
        what: "read",
        group: group.to_owned(),
        source: SysError::new("read", quoted(group.join(file)), error),
    })
}

/// The number after `key ` in a file of `key value` lines.
pub(crate) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// The directories directly below `group`; empty when there is no such group.
pub(crate) fn children(group: &Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = std::fs::read_dir(group) else { return Vec::new() };
    entries.flatten().filter(|e| e.file_type().is_ok_and(|kind| kind.is_dir())).map(|e| e.path()).collect()
}

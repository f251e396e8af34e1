//! What a thing has beside its content: its owner, its times, its extended attributes.

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rbox_sys::inode::{xattr_at, xattr_names_at, xattr_names_of, xattr_of};
use rustix::fs::{AtFlags, Timespec, Timestamps};
use rustix::io::Errno;

use super::walk::{Entry, TreeError};

/// Who something belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) seconds: i64,
    pub(super) nanoseconds: i64,
}

/// Names and values.
pub(super) type Attributes = Vec<(String, Vec<u8>)>;

impl Times {
    const fn both(self) -> Timestamps {
        let time = Timespec { tv_sec: self.seconds, tv_nsec: self.nanoseconds };
        Timestamps { last_access: time, last_modification: time }
    }
}

pub(super) fn set_times(file: impl AsFd, times: Times, at: &Path) -> Result<(), TreeError> {
    rustix::fs::futimens(file, &times.both()).map_err(TreeError::system("set the time of", at))
}

pub(super) fn set_times_at(parent: &OwnedFd, name: &OsStr, times: Times, at: &Path) -> Result<(), TreeError> {
    rustix::fs::utimensat(parent, name, &times.both(), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(TreeError::system("set the time of", at))
}

/// The extended attributes that images have, sorted: those of programs, and file capabilities.
pub(super) fn attributes(entry: &Entry<'_>) -> Result<Attributes, TreeError> {
    let (dir, name) = (entry.parent, entry.name);
    let names = match xattr_names_at(dir, name) {
        Err(Errno::NOENT) => return Ok(Vec::new()),
        names => names.map_err(TreeError::system("list the attributes of", entry.path))?,
    };
    kept(names, |attribute| xattr_at(dir, name, attribute), entry.path)
}

fn kept(
    names: Vec<CString>,
    value: impl Fn(&CStr) -> Result<Option<Vec<u8>>, Errno>,
    path: &Path,
) -> Result<Attributes, TreeError> {
    let mut all = Vec::new();
    for name in names {
        let is_kept = name.to_bytes().starts_with(b"user.") || name.as_c_str() == c"security.capability";
        let Some(text) = name.to_str().ok().filter(|_| is_kept) else { continue };
        match value(&name) {
            Ok(Some(value)) => all.push((text.to_owned(), value)),
            Ok(None) | Err(Errno::NOENT) => {}
            Err(error) => return Err(TreeError::system("read the attributes of", path)(error)),
        }
    }
    all.sort();
    Ok(all)
}

/// The same of an open file.
pub(super) fn attributes_of(file: &File, path: &Path) -> Result<Attributes, TreeError> {
    let names = xattr_names_of(file).map_err(TreeError::system("list the attributes of", path))?;
    kept(names, |attribute| xattr_of(file, attribute), path)
}

pub(super) fn write_attributes(to: impl AsFd, attributes: &Attributes, at: &Path) -> Result<(), TreeError> {
    for (name, value) in attributes {
        match rustix::fs::fsetxattr(&to, name, value, rustix::fs::XattrFlags::empty()) {
            Ok(()) | Err(Errno::NOTSUP) => {}
            Err(error) => return Err(TreeError::system("write the attributes of", at)(error)),
        }
    }
    Ok(())
}

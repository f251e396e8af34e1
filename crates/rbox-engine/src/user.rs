//! Who the process is: `USER` looked up in the container's own passwd and group files.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rbox_spec::user::{Identity, MAX_DATABASE_BYTES, ResolvedUser, UserSpec, resolve};
use rbox_sys::file::open_in_root;
use rustix::fs::{FileType, OFlags};

use crate::error::EngineError;

/// Resolves `user` with /etc/passwd and /etc/group below `root`, never with the host's.
pub(crate) fn lookup(
    root: BorrowedFd<'_>,
    user: &str,
    further: &[String],
) -> Result<ResolvedUser, EngineError> {
    let spec: UserSpec = user.parse().map_err(|e| EngineError::Invalid(format!("{e}")))?;
    let passwd = database(root, "/etc/passwd")?;
    let group = database(root, "/etc/group")?;
    let further: Vec<Identity> = further
        .iter()
        .map(|text| text.parse().map_err(|e| EngineError::Invalid(format!("--group-add: {e}"))))
        .collect::<Result<_, _>>()?;
    resolve(&spec, &passwd, &group, &further).map_err(|e| EngineError::Invalid(e.to_string()))
}

/// A database file: a regular file of bounded size, or nothing. A FIFO or device is not opened, let alone read.
fn database(root: BorrowedFd<'_>, path: &str) -> Result<Vec<u8>, EngineError> {
    let Ok(file) =
        open_in_root(root.as_fd(), Path::new(path), OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY, 0)
    else {
        return Ok(Vec::new());
    };
    let refuse = |why: String| EngineError::Invalid(format!("{path} inside the container {why}"));
    let stat = rustix::fs::fstat(&file).map_err(|e| refuse(format!("cannot be read: {e}")))?;
    if !FileType::from_raw_mode(stat.st_mode).is_file() {
        return Err(refuse("is not a regular file".into()));
    }
    if stat.st_size as u64 > MAX_DATABASE_BYTES as u64 {
        return Err(refuse(format!("has {} bytes; {MAX_DATABASE_BYTES} are read at most", stat.st_size)));
    }
    read_all(file).map_err(|e| refuse(format!("cannot be read: {e}")))
}

fn read_all(file: OwnedFd) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::from(file).take(MAX_DATABASE_BYTES as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

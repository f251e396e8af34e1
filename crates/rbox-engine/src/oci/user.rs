//! Who the process is: `USER` looked up in the container's own passwd and group files.

use std::os::fd::BorrowedFd;
use std::path::Path;

use rbox_spec::user::{Identity, MAX_DATABASE_BYTES, ResolvedUser, UserSpec, resolve};
use rbox_sys::reading::{ReadError, read_in_root};

use crate::error::EngineError;

/// Resolves `user` with /etc/passwd and /etc/group below `root`, never with the host's.
pub(crate) fn lookup(
    root: BorrowedFd<'_>,
    user: &str,
    further: &[String],
) -> Result<ResolvedUser, EngineError> {
    let spec: UserSpec = user.parse()?;
    let passwd = database(root, "/etc/passwd")?;
    let group = database(root, "/etc/group")?;
    let further: Vec<Identity> = further
        .iter()
        .map(|text| text.parse().map_err(|e| EngineError::Invalid(format!("--group-add: {e}"))))
        .collect::<Result<_, _>>()?;
    Ok(resolve(&spec, &passwd, &group, &further)?)
}

/// A database file: a regular file of bounded size, or nothing.
fn database(root: BorrowedFd<'_>, path: &str) -> Result<Vec<u8>, EngineError> {
    match read_in_root(root, Path::new(path), MAX_DATABASE_BYTES as u64) {
        Ok(bytes) => Ok(bytes),
        // An image need not have one, and what leads nowhere is none.
        Err(ReadError::Call(error)) if error.call == "openat2" => Ok(Vec::new()),
        Err(error) => Err(EngineError::Damaged(format!("{path} inside the container {error}"))),
    }
}

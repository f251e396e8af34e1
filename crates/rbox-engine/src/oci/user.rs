//! Who the process is: `USER` looked up in the container's own passwd and group files.

use std::os::fd::BorrowedFd;
use std::path::Path;

use rbox_spec::user::{Identity, MAX_DATABASE_BYTES, ResolvedUser, UserSpec, resolve};
use rbox_spec::userns::{IdMaps, NotAmong};
use rbox_sys::reading::{ReadError, read_in_root};

use crate::error::EngineError;
use crate::record::container::ContainerRecord;

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

/// The same for a container, which has to have these ids.
pub(crate) fn of_container(
    record: &ContainerRecord,
    root: BorrowedFd<'_>,
    user: &str,
    further: &[String],
) -> Result<ResolvedUser, EngineError> {
    let user = lookup(root, user, further)?;
    if let Some(maps) = &record.host.id_maps {
        maps.has_user(&user).map_err(not_among)?;
    }
    Ok(user)
}

/// Refuses a user of the container's, or a group, that is given by its number and that it has not: names are known at its start.
pub(crate) fn check_numbers(record: &ContainerRecord, maps: &IdMaps) -> Result<(), EngineError> {
    let number = |identity: Option<&Identity>| match identity {
        Some(Identity::Id(id)) => *id,
        _ => 0,
    };
    let spec: UserSpec = record.config.user.parse()?;
    let user = (number(spec.user.as_ref()), number(spec.group.as_ref()));
    maps.find(user).map_err(not_among)?;
    for further in &record.host.group_add {
        let further = further.parse::<Identity>().ok();
        maps.find((0, number(further.as_ref()))).map_err(not_among)?;
    }
    Ok(())
}

fn not_among(error: NotAmong) -> EngineError {
    EngineError::Invalid(format!("{error}: give it more, or run as another with -u"))
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

//! `-v …:U`: before it is mounted, the source of a bind is given to the container's user, with all that is in it.

use std::os::fd::BorrowedFd;
use std::path::Path;

use oci_spec::runtime::Mount;
use rbox_sys::error::reason;
use rbox_sys::{owners, trace};

use crate::error::RuntimeError;

/// An option of a bind that the OCI specification does not have, with the user and the group as they are on disk: `owner=33:33`.
pub const OWNER: &str = "owner=";

/// Directories of the host whose owner its own programs count on: those of podman's list.
const OF_HOST: [&str; 24] = [
    "/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib32", "/lib64", "/libx32", "/media", "/mnt",
    "/opt", "/proc", "/root", "/run", "/sbin", "/srv", "/sys", "/tmp", "/usr", "/var", "/var/lib",
    "/var/log",
];
/// Below these nothing has an owner of ours.
const OF_KERNEL: [&str; 3] = ["/dev", "/proc", "/sys"];

/// Whether a directory, links resolved, is the host's own.
fn is_of_host(path: &Path) -> bool {
    OF_HOST.iter().any(|own| path == Path::new(own)) || OF_KERNEL.iter().any(|own| path.starts_with(own))
}

/// Gives what was opened for a mount to whom its options say.
pub(crate) fn give(mount: &Mount, tree: BorrowedFd<'_>) -> Result<(), RuntimeError> {
    let Some(text) = mount.options().iter().flatten().find_map(|option| option.strip_prefix(OWNER)) else {
        return Ok(());
    };
    let path = mount.source().as_deref().unwrap_or(Path::new(""));
    let refused =
        |why: String| RuntimeError::Config(format!("bind source path {}: U: {why}", path.display()));
    let ids = text.split_once(':').and_then(|(uid, gid)| Some((uid.parse().ok()?, gid.parse().ok()?)));
    let (uid, gid) = ids.ok_or_else(|| refused(format!("{text:?} is no UID:GID")))?;
    if std::fs::canonicalize(path).is_ok_and(|real| is_of_host(&real)) {
        return Err(refused(
            "its owner is the host's to choose: take U out, or bind a directory of its own".to_owned(),
        ));
    }
    trace::step(
        "give a source to the container's user",
        "U was asked for: the directory and all that is in it get the user's ids. No link is followed.",
        || owners::give_tree(tree, uid, gid),
    )
    .map_err(|error| {
        let name = error.args.escape_debug();
        refused(format!("{name} cannot be given to {uid}:{gid}: {}", reason(error.errno)))
    })
}

//! `-v …:U`: before it is mounted, the source of a bind is given to the container's user, with all that is in it.

use std::os::fd::BorrowedFd;
use std::path::Path;

use oci_spec::runtime::Mount;
use rbox_sys::error::reason;
use rbox_sys::{owners, trace};

use crate::error::RuntimeError;

/// An option of a bind that the OCI specification does not have, with the user and the group as they are on disk: `owner=33:33`.
pub const OWNER: &str = "owner=";

/// What the host's own programs count on the owner of.
const OF_HOST: [&str; 20] = [
    "/",
    "/boot",
    "/etc",
    "/home",
    "/media",
    "/mnt",
    "/opt",
    "/root",
    "/run",
    "/srv",
    "/tmp",
    "/usr",
    "/var",
    "/var/cache",
    "/var/lib",
    "/var/log",
    "/var/run",
    "/var/spool",
    "/var/tmp",
    "/usr/local",
];
/// And of all that is below.
const OF_HOST_WHOLE: [&str; 21] = [
    "/bin",
    "/dev",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/proc",
    "/sbin",
    "/sys",
    "/usr/bin",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/libexec",
    "/usr/sbin",
    "/usr/share",
    "/etc/passwd",
    "/etc/group",
    "/etc/shadow",
    "/etc/gshadow",
    "/etc/pki",
];

/// Whether what was opened, or what it lies in, is the host's own. `real`: its path, links resolved.
fn is_of_host(real: &Path, tree: BorrowedFd<'_>) -> bool {
    let same = |own: &&str| {
        let (Ok(one), Ok(other)) = (rustix::fs::fstat(tree), rustix::fs::stat(*own)) else { return false };
        (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
    };
    // By what it is, too: a path may lead elsewhere since it was opened.
    OF_HOST.iter().chain(&OF_HOST_WHOLE).any(|own| real == Path::new(own) || same(own))
        || OF_HOST_WHOLE.iter().any(|own| {
            real.starts_with(own) || std::fs::canonicalize(own).is_ok_and(|own| real.starts_with(own))
        })
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
    if std::fs::canonicalize(path).is_ok_and(|real| is_of_host(&real, tree)) {
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

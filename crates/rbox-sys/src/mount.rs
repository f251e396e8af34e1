//! The mount API by descriptors (fsopen(2), fsmount(2), `open_tree(2)`, `move_mount(2)`, `mount_setattr(2)`).
//!
//! A mount made here is detached until [`attach`] puts it on a target that is itself a descriptor, so no path
//! inside a container's tree is ever walked by name.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags,
};

use crate::error::{SysError, told};
use crate::trace::{fd, flags, quoted};

pub use rustix::mount::MountAttrFlags as Attr;

/// A parameter of a new file system, as fsconfig(2) takes it.
#[derive(Debug, Clone, Copy)]
pub enum Param<'a> {
    /// `key=value`.
    Text(&'a str, &'a str),
    /// `key` alone.
    Flag(&'a str),
}

/// Makes a new file system of the kind `fs` and a detached mount of it. The kernel's own explanation, when it
/// left one in the context's log, goes into the error.
pub fn new_mount(fs: &str, params: &[Param<'_>], attr: Attr) -> Result<OwnedFd, SysError> {
    let context = told(
        "fsopen",
        || format!("{}, FSOPEN_CLOEXEC", quoted(fs)),
        || rustix::mount::fsopen(fs, FsOpenFlags::FSOPEN_CLOEXEC),
    )?;
    // What the mount tables show as the source.
    let named = params.iter().any(|param| matches!(param, Param::Text("source", _)));
    let source = (!named).then_some(Param::Text("source", fs));
    configure(&context, source.iter().chain(params), attr)
}

fn configure<'a>(
    context: &OwnedFd,
    params: impl Iterator<Item = &'a Param<'a>>,
    attr: Attr,
) -> Result<OwnedFd, SysError> {
    let raw = context.as_raw_fd();
    let explain = |mut error: SysError| {
        let log = context_log(context);
        if !log.is_empty() {
            error.args = format!("{} [{log}]", error.args);
        }
        error
    };
    for param in params {
        match *param {
            Param::Text(key, value) => told(
                "fsconfig",
                || {
                    let shown = if is_secret(key) { "********" } else { value };
                    format!("{raw}, FSCONFIG_SET_STRING, {}, {}", quoted(key), quoted(shown))
                },
                || rustix::mount::fsconfig_set_string(context, key, value),
            ),
            Param::Flag(key) => told(
                "fsconfig",
                || format!("{raw}, FSCONFIG_SET_FLAG, {}", quoted(key)),
                || rustix::mount::fsconfig_set_flag(context, key),
            ),
        }
        .map_err(explain)?;
    }
    told("fsconfig", || format!("{raw}, FSCONFIG_CMD_CREATE"), || rustix::mount::fsconfig_create(context))
        .map_err(explain)?;
    told(
        "fsmount",
        || format!("{raw}, FSMOUNT_CLOEXEC, {}", flags(attr)),
        || rustix::mount::fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attr),
    )
    .map_err(explain)
}

/// Whether this kernel's `fs` is of the old kind, which gathers its parameters into one string and looks at them
/// when it is mounted: a parameter it does not know is then refused late, and the kernel's log has the reason. (overlay
/// before 6.5.) Such a file system refuses every parameter that is not text, whatever its name (fsconfig(2)).
///
/// It asks the kernel and makes nothing, so it is not part of what is shown.
pub fn takes_one_string(fs: &'static str) -> Result<bool, SysError> {
    let context = rustix::mount::fsopen(fs, FsOpenFlags::FSOPEN_CLOEXEC)
        .map_err(|errno| SysError::new("fsopen", format!("{}, FSOPEN_CLOEXEC", quoted(fs)), errno))?;
    // Any descriptor will do.
    let answer = rustix::mount::fsconfig_set_fd(&context, "source", &context);
    Ok(answer == Err(rustix::io::Errno::OPNOTSUPP))
}

/// What the kernel wrote to the context's log: lines such as `e overlay: …`.
fn context_log(context: &OwnedFd) -> String {
    let mut text = Vec::new();
    let mut buffer = [0_u8; 512];
    for _ in 0..8 {
        match rustix::io::read(context, &mut buffer) {
            Ok(length) if length > 0 => {
                if !text.is_empty() {
                    text.extend_from_slice(b"; ");
                }
                text.extend_from_slice(buffer[..length].trim_ascii());
            }
            _ => break,
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Old way, for what fsconfig(2) of old kernels cannot say: mount(2) on a path of ours, then the tree is
/// taken off it as a detached mount.
pub fn mount_by_path(fs: &'static str, on: &Path, data: &CStr) -> Result<OwnedFd, SysError> {
    told(
        "mount",
        || format!("{}, {}, {}, 0, {data:?}", quoted(fs), quoted(on), quoted(fs)),
        || rustix::mount::mount(fs, on, fs, rustix::mount::MountFlags::empty(), data),
    )?;
    let tree = clone_tree(rustix::fs::CWD, on, false);
    told(
        "umount2",
        || format!("{}, MNT_DETACH", quoted(on)),
        || rustix::mount::unmount(on, UnmountFlags::DETACH),
    )?;
    let tree = tree?;
    // Below a shared mount it became shared too, and pivot_root(2) refuses such a root.
    set_attributes(&tree, Attr::empty(), Attr::empty(), MountPropagationFlags::PRIVATE, false)?;
    Ok(tree)
}

/// A detached copy of the mount at `path` below `dir`: what a bind mount is made from.
pub fn clone_tree(dir: impl AsFd, path: &Path, recursive: bool) -> Result<OwnedFd, SysError> {
    let mut how =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        how |= OpenTreeFlags::AT_RECURSIVE;
    }
    let dir = dir.as_fd();
    told(
        "open_tree",
        || format!("{}, {}, {}", fd(dir), quoted(path), flags(how)),
        || rustix::mount::open_tree(dir, path, how),
    )
}

/// Puts a detached mount on the file or directory that `target` is.
pub fn attach(mount: impl AsFd, target: impl AsFd) -> Result<(), SysError> {
    let (mount, target) = (mount.as_fd(), target.as_fd());
    told(
        "move_mount",
        || {
            format!(
                "{}, \"\", {}, \"\", MOVE_MOUNT_F_EMPTY_PATH|MOVE_MOUNT_T_EMPTY_PATH",
                mount.as_raw_fd(),
                fd(target)
            )
        },
        || {
            rustix::mount::move_mount(
                mount,
                c"",
                target,
                c"",
                MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH,
            )
        },
    )
}

/// Changes a mount's attributes and propagation (`mount_setattr(2)`), with all mounts below it when `recursive`.
pub fn set_attributes(
    mount: impl AsFd,
    set: Attr,
    clear: Attr,
    propagation: MountPropagationFlags,
    recursive: bool,
) -> Result<(), SysError> {
    let mount = mount.as_fd();
    let at = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    told(
        "mount_setattr",
        || {
            format!(
                "{}, \"\", {}, {{attr_set={}, attr_clr={}, propagation={}}}",
                fd(mount),
                at_flags(recursive),
                flags(set),
                flags(clear),
                propagation_name(propagation)
            )
        },
        || mount_setattr(mount, at, set, clear, propagation),
    )
}

fn at_flags(recursive: bool) -> &'static str {
    if recursive { "AT_EMPTY_PATH|AT_RECURSIVE" } else { "AT_EMPTY_PATH" }
}

fn propagation_name(propagation: MountPropagationFlags) -> &'static str {
    match propagation {
        MountPropagationFlags::PRIVATE => "MS_PRIVATE",
        MountPropagationFlags::DOWNSTREAM => "MS_SLAVE",
        MountPropagationFlags::SHARED => "MS_SHARED",
        _ => "0",
    }
}

fn mount_setattr(
    mount: BorrowedFd<'_>,
    at: i32,
    set: MountAttrFlags,
    clear: MountAttrFlags,
    propagation: MountPropagationFlags,
) -> Result<(), rustix::io::Errno> {
    let attr = libc::mount_attr {
        attr_set: u64::from(set.bits()),
        attr_clr: u64::from(clear.bits()),
        propagation: u64::from(propagation.bits()),
        userns_fd: 0,
    };
    set_attr(mount, at, &attr)
}

fn set_attr(mount: BorrowedFd<'_>, at: i32, attr: &libc::mount_attr) -> Result<(), rustix::io::Errno> {
    // SAFETY: the path is a static empty string, `attr` outlives the call and its size is given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            at,
            std::ptr::from_ref(attr),
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(rustix::io::Errno::from_raw_os_error(nix::errno::Errno::last_raw()))
    }
}

/// Has the files of a mount that is attached nowhere seem to belong to others, as the maps of the user namespace `userns` say
/// (`mount_setattr(2)`, `MOUNT_ATTR_IDMAP`, Linux 5.12). With `EINVAL` the file system cannot do that.
pub fn set_id_map(mount: impl AsFd, userns: impl AsFd, recursive: bool) -> Result<(), SysError> {
    const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;
    let (mount, userns) = (mount.as_fd(), userns.as_fd());
    let at = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    let attr = libc::mount_attr {
        attr_set: MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: userns.as_raw_fd() as u64,
    };
    told(
        "mount_setattr",
        || {
            let (mount, how, userns) = (fd(mount), at_flags(recursive), fd(userns));
            format!("{mount}, \"\", {how}, {{attr_set=MOUNT_ATTR_IDMAP, userns_fd={userns}}}")
        },
        || set_attr(mount, at, &attr),
    )
}

/// Whether a parameter of a file system is a password, which is never shown.
pub fn is_secret(key: &str) -> bool {
    matches!(key, "pass" | "password" | "password2")
}

/// Whether `place` is the root of a mount, and not a directory in one (statx(2), `STATX_ATTR_MOUNT_ROOT`).
pub fn is_mount_root(place: impl AsFd) -> Result<bool, SysError> {
    let place = place.as_fd();
    rustix::fs::statx(place, c"", rustix::fs::AtFlags::EMPTY_PATH, rustix::fs::StatxFlags::MNT_ID)
        .map(|stat| stat.stx_attributes.contains(rustix::fs::StatxAttributes::MOUNT_ROOT))
        .map_err(|errno| SysError::new("statx", fd(place), errno))
}

/// Takes the mount on `place` away, at once, whoever still uses it (umount2(2)). `place` is a path that only root can change.
pub fn unmount(place: &Path) -> Result<(), SysError> {
    told(
        "umount2",
        || format!("{}, MNT_DETACH|UMOUNT_NOFOLLOW", quoted(place)),
        || rustix::mount::unmount(place, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW),
    )
}

/// Takes away the mount whose root `place` is, at once, wherever it is attached. `descriptors` is this process's own directory
/// /proc/self/fd, which becomes its working directory.
pub fn unmount_held(descriptors: impl AsFd, place: impl AsFd) -> Result<(), SysError> {
    let (descriptors, place) = (descriptors.as_fd(), place.as_fd());
    told("fchdir", || fd(descriptors), || rustix::process::fchdir(descriptors))?;
    told(
        "umount2",
        || format!("{}, MNT_DETACH", fd(place)),
        || rustix::mount::unmount(place.as_raw_fd().to_string(), UnmountFlags::DETACH),
    )
}

/// The kernel's number of the mount that `place` was opened through (statx(2), `STATX_MNT_ID`).
pub fn id_of(place: impl AsFd) -> Result<u64, SysError> {
    let place = place.as_fd();
    rustix::fs::statx(place, c"", rustix::fs::AtFlags::EMPTY_PATH, rustix::fs::StatxFlags::MNT_ID)
        .map(|stat| stat.stx_mnt_id)
        .map_err(|errno| SysError::new("statx", fd(place), errno))
}

/// Makes every mount of this namespace a slave of the host's: the host's unmounts arrive, ours stay inside.
pub fn make_all_slave() -> Result<(), SysError> {
    told(
        "mount",
        || "NULL, \"/\", NULL, MS_REC|MS_SLAVE, NULL".into(),
        || rustix::mount::mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC),
    )
}

/// Makes the mount that `root` is the root of this mount namespace and drops the old one (`pivot_root(2)`).
pub fn pivot_to(root: impl AsFd) -> Result<(), SysError> {
    let root = root.as_fd();
    told("fchdir", || fd(root), || rustix::process::fchdir(root))?;
    // "." on both sides: the old root is stacked on the new one and is what "." then unmounts.
    told("pivot_root", || "\".\", \".\"".into(), || rustix::process::pivot_root(".", "."))?;
    told("umount2", || "\".\", MNT_DETACH".into(), || rustix::mount::unmount(".", UnmountFlags::DETACH))?;
    told("chdir", || "\"/\"".into(), || rustix::process::chdir("/"))
}

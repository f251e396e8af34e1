//! A mount that comes to a container that runs, or goes: made in its mount namespace by a child, since only there it can be.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use oci_spec::runtime::Mount;
use rbox_namespace::handshake::Told;
use rbox_rootfs::tree::mount_target;
use rbox_spec::userns::IdMaps;
use rbox_sys::file::open_in_root;
use rbox_sys::mount::{attach, id_of, is_mount_root, new_mount, unmount_held};
use rbox_sys::process::{self, CloneFlags};
use rbox_sys::{SysError, trace};
use rustix::fs::{Mode, OFlags};

use crate::child::in_child;
use crate::credentials::StepError;
use crate::error::RuntimeError;
use crate::joined::become_root;
use crate::mounts::{PROC_FILES, kind_of};
use crate::plan::{Source, prepare, texts};

const PROC_SUPER_MAGIC: i64 = 0x9fa0;
const SYSFS_MAGIC: i64 = 0x6265_6572;

/// Mounts what `mount` says in the container whose process is behind `pidfd`. Its programs may change paths meanwhile: nothing is
/// made or mounted outside of its root.
/// `given`: a detached mount that stands in for what the mount binds. `maps`: the ids of its user namespace.
pub fn add_mount(
    pidfd: BorrowedFd<'_>,
    mount: &Mount,
    given: Option<BorrowedFd<'_>>,
    maps: Option<&IdMaps>,
) -> Result<(), RuntimeError> {
    let given: Vec<_> = given.map(|tree| (mount.destination().clone(), tree)).into_iter().collect();
    let prepared = prepare(std::slice::from_ref(mount), None, &given, maps)?;
    inside(pidfd, maps.is_some(), "mount in the container", |root, _| {
        for one in &prepared {
            match &one.source {
                Source::Tree { tree, bind } => {
                    attach(tree, place(root, &one.target, bind.is_dir)?)?;
                }
                Source::Given(tree) => {
                    let is_dir = kind_of(tree)?.is_dir();
                    attach(tree, place(root, &one.target, is_dir)?)?;
                }
                Source::Fresh { kind, params, attr } => {
                    attach(new_mount(kind, &texts(params), *attr)?, place(root, &one.target, true)?)?;
                }
                _ => return Err(StepError::new("such a mount cannot come later")),
            }
        }
        Ok(())
    })
}

/// The place of a mount, which is not in procfs or sysfs: what is seen there would not be what was masked.
fn place(root: BorrowedFd<'_>, target: &Path, is_dir: bool) -> Result<OwnedFd, StepError> {
    let place = mount_target(root, target, is_dir)?;
    let kind =
        rustix::fs::fstatfs(&place).map_err(|e| SysError::new("fstatfs", trace::fd(&place), e))?.f_type;
    let is_open = PROC_FILES.iter().any(|file| target == Path::new(file));
    if (kind == PROC_SUPER_MAGIC && !is_open) || kind == SYSFS_MAGIC {
        return Err(StepError::new(format!(
            "{} leads to a file system of the kernel inside the container, where nothing can be mounted",
            target.display()
        )));
    }
    Ok(place)
}

/// Takes away what is mounted on `target`, at once: a program that has a file of it open keeps that. `own_user`: the container was made
/// with a user namespace.
pub fn remove_mount(pidfd: BorrowedFd<'_>, target: &Path, own_user: bool) -> Result<(), RuntimeError> {
    inside(pidfd, own_user, "unmount in the container", |root, descriptors| {
        // Links that the image has on the way are followed, as they were when it was mounted.
        // It is as it is to be: one who added or removed it was killed half way.
        let place = match open_in_root(root, target, OFlags::PATH, 0) {
            Err(error) if error.errno == Errno::ENOENT => return Ok(()),
            opened => opened?,
        };
        if id_of(&place)? == id_of(root)? || !is_mount_root(&place)? {
            return Ok(());
        }
        Ok(unmount_held(descriptors, &place)?)
    })
}

fn open(path: &str) -> Result<OwnedFd, SysError> {
    let how = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, how, Mode::empty())
        .map_err(|errno| SysError::new("open", trace::quoted(Path::new(path)), errno))
}

/// Does something in the mount namespace of the process behind `pidfd`, below its root. It is also given the directory of its own
/// descriptors.
fn inside(
    pidfd: BorrowedFd<'_>,
    own_user: bool,
    step: &'static str,
    work: impl FnOnce(BorrowedFd<'_>, BorrowedFd<'_>) -> Result<(), StepError>,
) -> Result<(), RuntimeError> {
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    let told = in_child(CloneFlags::empty(), "rbox", step, |channel| {
        rustix::process::umask(Mode::empty());
        trace::step(step, "A mount namespace is changed from inside of it only.", || {
            // The host's /proc: what is called so in there may be anything.
            let descriptors = open("/proc/self/fd")?;
            // Its program may have made another one since: that has no say over its mounts.
            if own_user {
                process::join_namespaces(pidfd, CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)?;
                become_root()?;
            } else {
                process::join_namespaces(pidfd, CloneFlags::CLONE_NEWNS)?;
            }
            work(open("/")?.as_fd(), descriptors.as_fd())
        })?;
        Ok(channel.ready()?)
    })?;
    match told {
        Told::Ready => Ok(()),
        _ => Err(RuntimeError::Killed),
    }
}

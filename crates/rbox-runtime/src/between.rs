//! The process between a monitor and the first process of a container with a user namespace of its own.
//!
//! What the first process needs root of the host for (device nodes, higher limits, streams that are given away) is done before, by a process
//! between that may still do it. That one then enters the user namespace and makes the first process as a brother, so all of its
//! other namespaces belong to the new one. Maps are written before anybody is in there.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Process;
use rbox_namespace::NamespaceSet;
use rbox_rootfs::dev;
use rbox_security::capabilities::act_as;
use rbox_spec::userns::IdMaps;
use rbox_sys::mount::{Attr, new_mount};
use rbox_sys::process::{Child, Side};
use rbox_sys::{SysError, told, trace};
use rustix::fs::{Mode, OFlags};

use crate::credentials::{self, StepError};
use crate::devices::make_devices;
use crate::error::RuntimeError;
use crate::joined::{self, JoinedNamespace};
use crate::launch::{Launch, Stdio};
use crate::own_user::HERE;
use crate::plan::{PreparedMount, Source, texts};

/// Clones the first process, in `launch`'s user namespace. In the child the launch and the mounts are as they are for one that has no root of
/// the host.
pub(crate) fn clone_into(
    launch: &mut Launch<'_>,
    mounts: &mut Vec<PreparedMount>,
    namespaces: NamespaceSet,
) -> Result<Side<Child>, RuntimeError> {
    let Some(user) = launch.user else { return Err(RuntimeError::Killed) };
    let joined = [JoinedNamespace::own_user(user.try_clone()?)];
    let side = joined::clone_into(&joined, namespaces.clone_flags(), launch.cgroup, || {
        prepare(launch, mounts, user.maps())
    })?;
    if matches!(side, Side::Child) {
        // The working directory is the stage, in the child's own mount namespace: the way to it is root's.
        launch.stage = Path::new(HERE);
    }
    Ok(side)
}

/// What root of the host does.
fn prepare(launch: &Launch<'_>, mounts: &mut Vec<PreparedMount>, maps: &IdMaps) -> Result<(), StepError> {
    const WHY: &str =
        "What root of the container may not do any more: limits, devices, and giving streams to its users.";
    trace::step("make ready for the user namespace", WHY, || {
        rustix::process::umask(Mode::empty());
        if let Some(process) = launch.spec.process() {
            credentials::raise_limits(process)?;
            if let Some(score) = process.oom_score_adj() {
                let file = "/proc/self/oom_score_adj";
                told(
                    "write",
                    || format!("{}, {score}", trace::quoted(file)),
                    || write(file, &score.to_string()),
                )?;
            }
            give_streams(&launch.stdio, process, maps);
        }
        stand_on(launch.stage)?;
        let (uid, gid) = maps.root();
        act_as(uid, gid)?;
        make_dev(launch, mounts, maps)
    })
}

fn write(file: &str, text: &str) -> rustix::io::Result<()> {
    let file = rustix::fs::open(file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, text.as_bytes()).map(drop)
}

/// Makes the stage the working directory, which everybody who is there may use.
fn stand_on(stage: &Path) -> Result<(), StepError> {
    let failed = |call, errno| SysError::new(call, trace::quoted(stage), errno);
    rustix::fs::chmod(stage, Mode::from_raw_mode(0o711)).map_err(|errno| failed("chmod", errno))?;
    rustix::process::chdir(stage).map_err(|errno| failed("chdir", errno))?;
    Ok(())
}

/// Gives pipes to the user of the program, so that it can reopen them by /dev/stdout.
pub(crate) fn give_streams(stdio: &Stdio, process: &Process, maps: &IdMaps) {
    let Stdio::Fds(fds) = stdio else { return };
    let (Some(uid), _) = maps.to_host((process.user().uid(), 0)) else { return };
    for fd in fds.iter().filter(|fd| !dev::is_null(fd.as_fd())) {
        // Where it may not, it simply cannot.
        let _ = rustix::fs::fchown(fd, Some(rustix::fs::Uid::from_raw(uid)), None);
    }
}

/// /dev with its nodes, in place of the one that the first process would make: nobody makes devices in a user namespace. Where the user mounts
/// something else there, a null device for masks.
fn make_dev(launch: &Launch<'_>, mounts: &mut Vec<PreparedMount>, maps: &IdMaps) -> Result<(), StepError> {
    for mount in mounts.iter_mut().filter(|mount| mount.target == Path::new("/dev")) {
        let Source::Fresh { kind: "tmpfs", params, attr } = &mount.source else { continue };
        let dev = new_mount("tmpfs", &texts(params), *attr)?;
        dev::populate(dev.as_fd())?;
        make_devices(dev.as_fd(), launch.spec, &|ids| {
            let ((uid, gid), root) = (maps.to_host(ids), maps.root());
            (uid.unwrap_or(root.0), gid.unwrap_or(root.1))
        })?;
        mount.source = Source::Dev(dev);
        return Ok(());
    }
    Ok(add_null(mounts)?)
}

/// A null device for masks and streams: for where the first process cannot make one.
pub(crate) fn add_null(mounts: &mut Vec<PreparedMount>) -> Result<(), SysError> {
    let spare = new_mount("tmpfs", &[], Attr::MOUNT_ATTR_NOSUID | Attr::MOUNT_ATTR_NOEXEC)?;
    rbox_sys::file::make_device(&spare, "null", 0o666, false, 1, 3)?;
    mounts.push(PreparedMount { target: PathBuf::new(), source: Source::Spare(spare) });
    Ok(())
}

//! The device nodes of the config.

use std::ffi::CString;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use oci_spec::runtime::{LinuxDeviceType, Spec};
use rbox_rootfs::tree;
use rbox_sys::file::make_device;
use rbox_sys::inode::Inode;
use rbox_sys::{SysError, told, trace};
use rustix::fs::FileType;
use rustix::io::Errno;

use crate::credentials::StepError;

/// Makes them below `dev`; `owner` says whom they are given to.
pub(crate) fn make_devices(
    dev: BorrowedFd<'_>,
    spec: &Spec,
    owner: &dyn Fn((u32, u32)) -> (u32, u32),
) -> Result<(), StepError> {
    let asked = spec.linux().as_ref().and_then(|linux| linux.devices().as_ref());
    for device in asked.into_iter().flatten() {
        let Ok(below) = device.path().strip_prefix("/dev") else {
            return Err(StepError::new(format!("device {}: only paths below /dev", device.path().display())));
        };
        let (Some(parent), Some(name)) = (below.parent(), below.file_name().and_then(|n| n.to_str())) else {
            continue;
        };
        let block = match device.typ() {
            LinuxDeviceType::B => true,
            LinuxDeviceType::C | LinuxDeviceType::U => false,
            other => return Err(StepError::new(format!("device type {other:?} cannot be made"))),
        };
        let parent = tree::directory(dev, &Path::new("/").join(parent))?;
        let mode = device.file_mode().unwrap_or(0o666) & 0o7777;
        let number = (device.major() as u32, device.minor() as u32);
        match make_device(&parent, name, mode, block, number.0, number.1) {
            // One that is there may be shared with others: it stays as it is, if it is the one.
            Err(error) if error.errno == nix::errno::Errno::EEXIST => {
                device_at(&parent, name, block, number, device.path())?;
                continue;
            }
            other => other?,
        }
        let (uid, gid) = owner((device.uid().unwrap_or(0), device.gid().unwrap_or(0)));
        if (uid, gid) != owner((0, 0)) {
            let node = device_at(&parent, name, block, number, device.path())?;
            let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
            told(
                "fchownat",
                || format!("{}, {}, {}", trace::quoted(name), uid.as_raw(), gid.as_raw()),
                || node.set_owner(uid, gid),
            )?;
        }
    }
    Ok(())
}

/// Refuses what stands at a device's place and is not that device.
fn device_at(
    dir: &OwnedFd,
    name: &str,
    block: bool,
    (major, minor): (u32, u32),
    shown: &Path,
) -> Result<Inode, StepError> {
    let failed = |errno| SysError::new("openat", trace::quoted(shown), errno);
    let name = CString::new(name).map_err(|_| failed(Errno::INVAL))?;
    let there = Inode::at(dir, &name).map_err(failed)?;
    let stat = there.stat().map_err(failed)?;
    let kind = if block { FileType::BlockDevice } else { FileType::CharacterDevice };
    if FileType::from_raw_mode(stat.st_mode) == kind && stat.st_rdev == rustix::fs::makedev(major, minor) {
        return Ok(there);
    }
    Err(StepError::new(format!("device {}: something else is there already", shown.display())))
}

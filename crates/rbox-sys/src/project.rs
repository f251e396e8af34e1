//! Project quotas: directories that belong to a project, and how much a project may take of its file system
//! (`ioctl_xfsctl(3)`, quotactl(2)). ext4 and xfs have them, where they are mounted with them.
//!
//! What is made in a directory of a project belongs to the project too. Files are reached by descriptors, and the file system by any
//! of its directories (`quotactl_fd(2)`, Linux 5.14): no device node is needed.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;

use crate::error::{SysError, told};
use crate::trace::fd;

/// `struct fsxattr` of linux/fs.h.
#[repr(C)]
#[derive(Debug, Default, Clone, Copy)]
struct Attributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    cow_extent_size: u32,
    rest: [u8; 8],
}

/// `_IOR('X', 31, struct fsxattr)`: the same number on x86 and aarch64.
const FS_IOC_FSGETXATTR: libc::Ioctl = 0x801c_581f;
/// `_IOW('X', 32, struct fsxattr)`
const FS_IOC_FSSETXATTR: libc::Ioctl = 0x401c_5820;
/// What is made in the directory belongs to its project.
const FS_XFLAG_PROJINHERIT: u32 = 0x200;

const PRJQUOTA: u32 = 2;
/// The state of quotas (`linux/dqblk_xfs.h`); every file system with quotas answers it, not xfs alone.
const Q_XGETQSTAT: u32 = 0x5805;
/// Project quotas are accounted, and their limits hold.
const PROJECTS_HOLD: u16 = 1 << 4 | 1 << 5;
/// What `struct if_dqblk` counts limits in, bytes.
const BLOCK: u64 = 1024;

/// `struct fs_quota_stat`, as far as it is looked at; the kernel writes 80 bytes.
#[repr(C, align(8))]
#[derive(Debug)]
struct State {
    version: i8,
    flags: u16,
    rest: [u8; 76],
}

/// What a project may take, and takes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// The most bytes; 0 for no limit.
    pub limit: u64,
    /// Bytes it takes.
    pub bytes: u64,
    /// Files and directories it has.
    pub files: u64,
}

/// The project that a directory belongs to, 0 for none.
///
/// # Errors
/// The file system knows no projects: `ENOTTY`, `EOPNOTSUPP`.
pub fn of(dir: impl AsFd) -> Result<u32, SysError> {
    attributes(dir.as_fd()).map(|attributes| attributes.project)
}

fn attributes(dir: BorrowedFd<'_>) -> Result<Attributes, SysError> {
    let mut attributes = Attributes::default();
    // SAFETY: the kernel writes one `struct fsxattr`, of 28 bytes, which `Attributes` is.
    let result = unsafe { libc::ioctl(dir.as_raw_fd(), FS_IOC_FSGETXATTR, &raw mut attributes) };
    checked(result.into())
        .map_err(|errno| SysError::new("ioctl", format!("{}, FS_IOC_FSGETXATTR", fd(dir)), errno))?;
    Ok(attributes)
}

/// Has a directory, and what is made in it from here on, belong to a project; 0 for none.
pub fn assign(dir: impl AsFd, project: u32) -> Result<(), SysError> {
    let dir = dir.as_fd();
    let mut attributes = attributes(dir)?;
    attributes.project = project;
    if project == 0 {
        attributes.flags &= !FS_XFLAG_PROJINHERIT;
    } else {
        attributes.flags |= FS_XFLAG_PROJINHERIT;
    }
    told(
        "ioctl",
        || {
            format!(
                "{}, FS_IOC_FSSETXATTR, {{fsx_projid={project}, fsx_xflags=FS_XFLAG_PROJINHERIT}}",
                fd(dir)
            )
        },
        || {
            // SAFETY: the kernel reads one `struct fsxattr`, which `Attributes` is.
            let result = unsafe { libc::ioctl(dir.as_raw_fd(), FS_IOC_FSSETXATTR, &raw const attributes) };
            checked(result.into())
        },
    )
}

/// Whether limits of projects hold on the file system of `dir`. An error says that the kernel cannot be asked.
///
/// # Errors
/// `ENOSYS`: Linux before 5.14.
pub fn hold(dir: impl AsFd) -> Result<bool, SysError> {
    let dir = dir.as_fd();
    let mut state = State { version: 0, flags: 0, rest: [0; 76] };
    // SAFETY: the kernel writes one `struct fs_quota_stat`, of 80 bytes, as `State` has.
    match unsafe { quota(dir, Q_XGETQSTAT, 0, (&raw mut state).cast()) } {
        Ok(()) => Ok(state.flags & PROJECTS_HOLD == PROJECTS_HOLD),
        // No such call, where that of a file system without quotas has the same number: project ids tell the two apart.
        Err(Errno::ENOSYS) if !knows_call() => {
            Err(SysError::new("quotactl_fd", format!("{}, Q_XGETQSTAT", fd(dir)), Errno::ENOSYS))
        }
        Err(_) => Ok(false),
    }
}

/// Whether the kernel has `quotactl_fd`: a descriptor that is none is refused as such.
fn knows_call() -> bool {
    // SAFETY: -1 is no descriptor, so nothing is read or written.
    let result = unsafe { libc::syscall(libc::SYS_quotactl_fd, -1, 0_u32, 0_u32, 0_usize) };
    checked(result) != Err(Errno::ENOSYS)
}

/// What a project may take of the file system of `dir`, and takes. Of one that nobody has used it is nothing.
pub fn usage(dir: impl AsFd, project: u32) -> Result<Usage, SysError> {
    let dir = dir.as_fd();
    // SAFETY: all bits 0 are a `dqblk`, which is numbers only.
    let mut block: libc::dqblk = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one `struct if_dqblk`, which libc's `dqblk` is.
    match unsafe { quota(dir, libc::Q_GETQUOTA as u32, project, (&raw mut block).cast()) } {
        Ok(()) => Ok(Usage {
            limit: block.dqb_bhardlimit.saturating_mul(BLOCK),
            bytes: block.dqb_curspace,
            files: block.dqb_curinodes,
        }),
        // xfs keeps nothing of those.
        Err(Errno::ENOENT) => Ok(Usage::default()),
        Err(errno) => Err(SysError::new("quotactl_fd", format!("{}, Q_GETQUOTA, {project}", fd(dir)), errno)),
    }
}

/// Sets how many bytes a project may take of the file system of `dir`, in steps of 1024; 0 for no limit.
pub fn set_limit(dir: impl AsFd, project: u32, bytes: u64) -> Result<(), SysError> {
    let dir = dir.as_fd();
    // SAFETY: all bits 0 are a `dqblk`, which is numbers only.
    let mut block: libc::dqblk = unsafe { std::mem::zeroed() };
    let blocks = bytes.div_ceil(BLOCK);
    block.dqb_bhardlimit = blocks;
    block.dqb_valid = libc::QIF_BLIMITS;
    told(
        "quotactl_fd",
        || format!("{}, QCMD(Q_SETQUOTA, PRJQUOTA), {project}, {{dqb_bhardlimit={blocks}}}", fd(dir)),
        || {
            // SAFETY: the kernel reads one `struct if_dqblk`, which libc's `dqblk` is.
            unsafe { quota(dir, libc::Q_SETQUOTA as u32, project, (&raw mut block).cast()) }
        },
    )
}

/// `quotactl_fd(2)` of project quotas.
///
/// # Safety
/// `data` points to what the command reads or writes.
unsafe fn quota(
    dir: BorrowedFd<'_>,
    command: u32,
    project: u32,
    data: *mut libc::c_void,
) -> Result<(), Errno> {
    // A shift that drops the sign, as QCMD does.
    let command = command << 8 | PRJQUOTA;
    // SAFETY: the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_quotactl_fd, dir.as_raw_fd(), command, project, data) };
    checked(result)
}

fn checked(result: libc::c_long) -> Result<(), Errno> {
    if result == -1 { Err(Errno::last()) } else { Ok(()) }
}

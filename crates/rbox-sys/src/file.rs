//! Files below a descriptor: what a root file system's tree is reached by (law 3).

use std::io::Write as _;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Gid, Mode, OFlags, ResolveFlags, Uid};

use crate::error::{SysError, told};
use crate::trace::{self, fd, flags_of, quoted};

/// Opens `path` as a process whose root is `root` would: absolute links and `..` stay inside (openat2(2)).
pub fn open_in_root(root: impl AsFd, path: &Path, how: OFlags, mode: u32) -> Result<OwnedFd, SysError> {
    open_resolved(root, path, how, mode, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
}

/// Opens `path` below `dir` without following any link or crossing above it.
pub fn open_beneath(dir: impl AsFd, path: &Path, how: OFlags, mode: u32) -> Result<OwnedFd, SysError> {
    open_resolved(dir, path, how, mode, ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)
}

fn open_resolved(
    dir: impl AsFd,
    path: &Path,
    how: OFlags,
    mode: u32,
    resolve: ResolveFlags,
) -> Result<OwnedFd, SysError> {
    let dir = dir.as_fd();
    let how = how | OFlags::CLOEXEC;
    told(
        "openat2",
        || {
            let (how, resolve) = (flags_of("O_", how), flags_of("RESOLVE_", resolve));
            format!(
                "{}, {}, {{flags={how}, mode={mode:#o}, resolve={resolve}}}",
                dir.as_raw_fd(),
                quoted(path)
            )
        },
        || {
            // The kernel answers EAGAIN when a rename races the walk; it says to try again.
            for _ in 0..64 {
                match rustix::fs::openat2(dir, path, how, Mode::from_raw_mode(mode), resolve) {
                    Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                    other => return other,
                }
            }
            Err(rustix::io::Errno::AGAIN)
        },
    )
}

/// Makes a directory below `dir` (mkdirat(2)); `name` is one component.
pub fn make_dir(dir: impl AsFd, name: &Path, mode: u32) -> Result<(), SysError> {
    let dir = dir.as_fd();
    told(
        "mkdirat",
        || format!("{}, {}, {mode:#o}", fd(dir), quoted(name)),
        || rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(mode)),
    )
}

/// Makes a device node below `dir` (mknodat(2)) with exactly this mode.
pub fn make_device(
    dir: impl AsFd,
    name: &str,
    mode: u32,
    block: bool,
    major: u32,
    minor: u32,
) -> Result<(), SysError> {
    let dir = dir.as_fd();
    let kind = if block { rustix::fs::FileType::BlockDevice } else { rustix::fs::FileType::CharacterDevice };
    told(
        "mknodat",
        || {
            format!(
                "{}, {}, {}|{mode:#o}, makedev({major}, {minor})",
                dir.as_raw_fd(),
                quoted(name),
                if block { "S_IFBLK" } else { "S_IFCHR" }
            )
        },
        || rustix::fs::mknodat(dir, name, kind, Mode::from_raw_mode(mode), rustix::fs::makedev(major, minor)),
    )
}

/// Makes a symbolic link below `dir`.
pub fn make_link(dir: impl AsFd, name: &str, to: &str) -> Result<(), SysError> {
    let dir = dir.as_fd();
    told(
        "symlinkat",
        || format!("{}, {}, {}", quoted(to), dir.as_raw_fd(), quoted(name)),
        || rustix::fs::symlinkat(to, dir, name),
    )
}

/// Writes a small file of procfs or cgroupfs below `dir` in one write.
pub fn write_beneath(dir: impl AsFd, path: &Path, text: &[u8]) -> Result<(), SysError> {
    let dir = dir.as_fd();
    let file = open_beneath(dir, path, OFlags::WRONLY, 0)?;
    told(
        "write",
        || format!("{}, {:?}", fd(&file), String::from_utf8_lossy(text)),
        || rustix::io::write(&file, text),
    )
    .map(drop)
}

/// Writes a setting of the kernel's, by its path below /proc/sys.
pub fn write_setting(path: &Path, value: &str) -> std::io::Result<()> {
    let file = trace::call(
        "openat",
        || format!("AT_FDCWD, {}, O_WRONLY|O_CLOEXEC", quoted(path)),
        || std::fs::File::options().write(true).open(path),
    )?;
    trace::call("write", || format!("{}, {value:?}", fd(&file)), || (&file).write(value.as_bytes())).map(drop)
}

/// Writes all of it to an open file. What it is goes into no trace.
pub fn write_all(file: impl AsFd, bytes: &[u8]) -> Result<(), SysError> {
    let file = file.as_fd();
    let mut rest = bytes;
    while !rest.is_empty() {
        let written = told(
            "write",
            || format!("{}, {} bytes", fd(file), rest.len()),
            || rustix::io::retry_on_intr(|| rustix::io::write(file, rest)),
        )?;
        rest = rest.get(written..).unwrap_or_default();
    }
    Ok(())
}

/// Gives an open file an owner and a group.
pub fn set_owner(file: impl AsFd, uid: u32, gid: u32) -> Result<(), SysError> {
    let file = file.as_fd();
    told(
        "fchown",
        || format!("{}, {uid}, {gid}", fd(file)),
        || rustix::fs::fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))),
    )
}

/// Gives an open file exactly this mode.
pub fn set_mode(file: impl AsFd, mode: u32) -> Result<(), SysError> {
    let file = file.as_fd();
    told(
        "fchmod",
        || format!("{}, {mode:#o}", fd(file)),
        || rustix::fs::fchmod(file, Mode::from_raw_mode(mode)),
    )
}

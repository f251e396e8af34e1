//! Keeps containers away from rbox's own file (CVE-2019-5736).
//!
//! A process on its way into a container still runs rbox's executable, and `#!/proc/self/exe` in an image runs it there again:
//! in both cases `/proc/PID/exe` is a way for a container from its own file system to a file of the host. It cannot be closed,
//! so it is made to lead nowhere: commands that start processes in containers run from a read-only mount of their own,
//! attached nowhere. What is opened through it cannot be opened for writing, by whatever means and however much later.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use rbox_sys::mount::{Attr, clone_tree, set_attributes};
use rustix::fs::{Mode, OFlags};
use rustix::mount::MountPropagationFlags;

use crate::error::EngineError;

const EXE: &str = "/proc/self/exe";

/// Where this process was started from: the link no longer shows that.
static STARTED_FROM: OnceLock<PathBuf> = OnceLock::new();

/// Has this process run from a read-only mount, if it does not yet: in place, and where the kernel does not take that, by executing this
/// program again with these words. The words, not those of this process: its name, which is lost with that, may stand for one of them
/// (`docker-compose`). To be called before anything was opened or decided.
///
/// # Errors
/// When no such mount can be made: rather no container than one that can write to rbox.
pub fn run_from_read_only_mount(words: &[OsString]) -> Result<(), EngineError> {
    let failed = |error: std::io::Error| EngineError::file("keep containers away from", EXE)(error);
    let file = rustix::fs::statvfs(EXE).map_err(|errno| failed(errno.into()))?;
    if file.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
        return Ok(());
    }
    let path = std::fs::read_link(EXE).map_err(failed)?;
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    // The directory, not the file, so that the link in /proc and the process keep their names.
    let mount = clone_tree(rustix::fs::CWD, dir, false)?;
    set_attributes(&mount, Attr::MOUNT_ATTR_RDONLY, Attr::empty(), MountPropagationFlags::empty(), false)?;
    if moved_to(&mount, name).is_some() {
        let _ = STARTED_FROM.set(path);
        return Ok(());
    }
    // The first is where the file is.
    let args = std::iter::once(path.clone().into_os_string()).chain(words.iter().cloned());
    let args: Vec<CString> = args.filter_map(text).collect();
    let env: Vec<CString> = std::env::vars_os()
        .filter_map(|(key, value)| {
            let mut line = key;
            line.push("=");
            line.push(value);
            text(line)
        })
        .collect();
    let error = rbox_sys::process::execveat(&mount, &text(name.to_owned()).unwrap_or_default(), &args, &env);
    Err(EngineError::File { action: "run", path, source: error.into() })
}

/// Goes on from the file of this name in `mount`, if that is what runs here and the kernel allows it.
fn moved_to(mount: &OwnedFd, name: &OsStr) -> Option<()> {
    let file =
        rustix::fs::openat(mount, name, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
            .ok()?;
    let (file_now, own) = (rustix::fs::fstat(&file).ok()?, rustix::fs::stat(EXE).ok()?);
    // Somebody may have put a newer one there since.
    let is_own = (file_now.st_dev, file_now.st_ino) == (own.st_dev, own.st_ino);
    if !is_own {
        return None;
    }
    rbox_sys::executable::move_to(file.as_fd()).ok()
}

fn text(words: OsString) -> Option<CString> {
    CString::new(words.into_vec()).ok()
}

/// What to execute to run rbox once more: the file that this process was started from, a newer one in its place, or else what runs here.
pub(crate) fn today() -> PathBuf {
    started_from().filter(|path| path.is_file()).unwrap_or_else(|| EXE.into())
}

/// The path of this process's file when it was started: what was kept, or what was executed again with.
fn started_from() -> Option<PathBuf> {
    let given = || std::env::args_os().next().map(PathBuf::from).filter(|given| given.is_absolute());
    STARTED_FROM.get().cloned().or_else(given)
}

/// What runs here once more, for another command of rbox. Its first word says where the file is: what it mounts into containers is
/// looked for there, and the link in /proc leads to a mount that is attached nowhere.
///
/// # Errors
/// When /proc is not there.
pub fn command() -> Result<Command, EngineError> {
    let mut command = Command::new(EXE);
    command.arg0(path()?);
    Ok(command)
}

/// Where rbox's own file is on this host.
///
/// # Errors
/// When /proc is not there.
pub fn path() -> Result<PathBuf, EngineError> {
    let own = std::fs::metadata(EXE).map_err(EngineError::file("find", EXE))?;
    let is_own = |given: &PathBuf| {
        std::fs::metadata(given).is_ok_and(|meta| (meta.dev(), meta.ino()) == (own.dev(), own.ino()))
    };
    match started_from().filter(is_own) {
        Some(given) => Ok(given),
        None => std::fs::read_link(EXE).map_err(EngineError::file("find", EXE)),
    }
}

//! Keeps containers away from rbox's own file (CVE-2019-5736).
//!
//! A process on its way into a container still runs rbox's executable, and `#!/proc/self/exe` in an image runs it there again:
//! in both cases `/proc/PID/exe` is a way for a container from its own file system to a file of the host. It cannot be closed,
//! so it is made to lead nowhere: commands that start processes in containers run from a read-only mount of their own,
//! attached nowhere. What is opened through it cannot be opened for writing, by whatever means and however much later.

use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use rbox_sys::mount::{Attr, clone_tree, set_attributes};
use rustix::mount::MountPropagationFlags;

use crate::error::EngineError;

const EXE: &str = "/proc/self/exe";

/// Executes this command line again from a read-only mount; comes back when this process runs from one already. To be called
/// before anything was opened or decided.
///
/// # Errors
/// When no such mount can be made: rather no container than one that can write to rbox.
pub fn run_from_read_only_mount() -> Result<(), EngineError> {
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
    let mut args: Vec<CString> = std::env::args_os().filter_map(text).collect();
    // Where the file is: the link no longer shows that.
    if let (Some(first), Some(path)) = (args.first_mut(), text(path.clone().into_os_string())) {
        *first = path;
    }
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

fn text(words: OsString) -> Option<CString> {
    CString::new(words.into_vec()).ok()
}

/// What to execute to run rbox once more: the file that this process was started from, a newer one in its place, or else what runs here.
pub(crate) fn today() -> PathBuf {
    let given = std::env::args_os().next().map(PathBuf::from);
    given.filter(|given| given.is_absolute() && given.is_file()).unwrap_or_else(|| EXE.into())
}

/// Where rbox's own file is on this host.
///
/// # Errors
/// When /proc is not there.
pub fn path() -> Result<PathBuf, EngineError> {
    let own = std::fs::metadata(EXE).map_err(EngineError::file("find", EXE))?;
    let given = std::env::args_os().next().map(PathBuf::from).filter(|given| given.is_absolute());
    let is_own = |given: &PathBuf| {
        std::fs::metadata(given).is_ok_and(|meta| (meta.dev(), meta.ino()) == (own.dev(), own.ino()))
    };
    match given.filter(is_own) {
        Some(given) => Ok(given),
        None => std::fs::read_link(EXE).map_err(EngineError::file("find", EXE)),
    }
}

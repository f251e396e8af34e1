//! What a process has from whoever started it, and what of that rbox puts aside: file mode mask, resource limits, ignored and
//! blocked signals, the OOM score. A container is the same whatever shell, cron job or service manager asked for it.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::OnceLock;

use rbox_spec::ulimit::{Rlimit, Ulimit};
use rbox_sys::passed::Passed;
use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit as Bounds, getrlimit, setrlimit};

use crate::error::EngineError;

/// For what shows the environment and copies none of it.
pub use rbox_sys::process::each_variable;

/// The mask for files that rbox makes for itself. Private ones are made with a private mode besides.
const OWN_MASK: u32 = 0o022;

/// Open files of rbox itself: a range of 2,000 published ports holds as many sockets.
const OWN_FILES: u64 = 1 << 20;

/// The caller's mask.
static MASK: OnceLock<u32> = OnceLock::new();

/// What limits a container has when `--ulimit` names none: what systemd, and so Docker's daemon, gives a service of root. The
/// limits that are not here (pending signals, message queues, priorities) are the kernel's own.
const CONTAINER: [(Rlimit, Resource, Option<u64>, Option<u64>); 11] = [
    (Rlimit::Cpu, Resource::Cpu, None, None),
    (Rlimit::Fsize, Resource::Fsize, None, None),
    (Rlimit::Data, Resource::Data, None, None),
    (Rlimit::Stack, Resource::Stack, Some(8 << 20), None),
    (Rlimit::Core, Resource::Core, None, None),
    (Rlimit::Rss, Resource::Rss, None, None),
    (Rlimit::Nproc, Resource::Nproc, None, None),
    (Rlimit::Nofile, Resource::Nofile, Some(1024), Some(512 * 1024)),
    (Rlimit::Memlock, Resource::Memlock, Some(8 << 20), Some(8 << 20)),
    (Rlimit::As, Resource::As, None, None),
    (Rlimit::Locks, Resource::Locks, None, None),
];

/// Refuses a count of descriptors to pass on of which the caller has not all.
///
/// # Errors
/// One is not open.
pub fn require_descriptors(count: u32) -> Result<(), EngineError> {
    rbox_sys::process::missing_of_kept(count).map_or(Ok(()), |number| Err(not_passed(number)))
}

/// Descriptors of the caller's for a program. This process has them no more once it drops them.
pub(crate) fn passed(count: u32) -> Result<Passed, EngineError> {
    Passed::take(count).map_err(not_passed)
}

/// In Podman's words.
fn not_passed(number: u32) -> EngineError {
    EngineError::Invalid(format!(
        "file descriptor {number} is not available - the preserve-fds option requires that file descriptors must be passed"
    ))
}

/// A file in memory that holds `text`, to be read from its beginning: for what has to be a file and is on no disk.
///
/// # Errors
/// Of `memfd_create(2)` and write(2).
pub fn in_memory(text: &[u8]) -> io::Result<File> {
    use std::io::{Seek as _, Write as _};
    let mut file = File::from(rustix::fs::memfd_create("rbox", rustix::fs::MemfdFlags::CLOEXEC)?);
    file.write_all(text)?;
    file.rewind()?;
    Ok(file)
}

/// A file larger than the caller may write, such as a journal, is an error of that write from here on. For the very beginning of a
/// process that makes files; programs that it executes have the signal as it is by default.
pub use rbox_sys::process::survive_size_limit;

/// Puts aside what the caller gave: to be called once, after the process has executed itself for the last time, and before
/// it makes anything. What cannot be raised without a capability stays.
pub fn put_aside() {
    let mask = rustix::process::umask(Mode::from_raw_mode(OWN_MASK));
    let _ = MASK.set(mask.as_raw_mode());
    rbox_sys::process::reset_inherited_signals();
    // A file larger than the caller may write, or one descriptor too many, must be in no monitor's way; and what a container is to
    // have, this process must have before.
    for (_, resource, _, _) in CONTAINER {
        let has = getrlimit(resource);
        let most = if resource == Resource::Nofile { Some(OWN_FILES) } else { None };
        let soft = match resource {
            Resource::Stack | Resource::Memlock | Resource::Core => has.current,
            _ => most,
        };
        if (has.current, has.maximum) != (soft, most) {
            let all = Bounds { current: soft, maximum: most };
            let rest = Bounds { current: least(soft, has.maximum), maximum: has.maximum };
            let _ = setrlimit(resource, all).or_else(|_| setrlimit(resource, rest));
        }
    }
}

/// Writes a file in the caller's name, such as that of `build --iidfile`, over what is there.
///
/// # Errors
/// Those of open(2), fchmod(2) and write(2).
pub fn replace(path: &Path, text: &str) -> io::Result<()> {
    use std::io::Write as _;
    let mut file = match create_new(path, 0o666) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            File::options().write(true).truncate(true).open(path)?
        }
        file => file?,
    };
    file.write_all(text.as_bytes())
}

/// Makes a file in the caller's name, such as that of `save -o`: with what the caller's own mask leaves of `mode`. Nothing may
/// be at `path` yet.
///
/// # Errors
/// Those of open(2) and fchmod(2).
pub fn create_new(path: &Path, wanted: u32) -> io::Result<File> {
    let file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(mode(wanted)))?;
    Ok(file)
}

/// The mode of what is made in the caller's name: this one, as far as the caller's own mask leaves it.
pub fn mode(wanted: u32) -> u32 {
    wanted & !MASK.get().copied().unwrap_or(OWN_MASK)
}

/// The limits to set for a container's process: those that were asked for, and of the others those that differ from this
/// process's.
pub(crate) fn limits(asked: &[Ulimit]) -> Vec<Ulimit> {
    let mut limits = asked.to_vec();
    for (name, resource, soft, hard) in CONTAINER {
        if asked.iter().any(|limit| limit.name == name) {
            continue;
        }
        let has = getrlimit(resource);
        // Where [`put_aside`] could not raise it, the present hard limit is the most there is.
        let hard = least(hard, has.maximum);
        let soft = least(soft, hard);
        if (has.current, has.maximum) != (soft, hard) {
            limits.push(Ulimit { name, soft, hard });
        }
    }
    limits
}

/// The lower of two limits, of which none is unlimited.
fn least(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// The OOM score adjustment of a container for which none was asked: 0, which is only to be written when the caller's is
/// another (a service manager protects some services by a low one).
pub(crate) fn oom_score_adj() -> Option<i32> {
    let own = std::fs::read_to_string("/proc/self/oom_score_adj").ok()?;
    (own.trim() != "0").then_some(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_stays_and_is_named_once() {
        let asked = Ulimit { name: Rlimit::Nofile, soft: Some(7), hard: Some(9) };
        let limits = limits(&[asked]);
        let files: Vec<_> = limits.iter().filter(|limit| limit.name == Rlimit::Nofile).collect();
        assert_eq!(files, [&asked]);
    }

    #[test]
    fn the_lower_limit() {
        assert_eq!(least(None, Some(3)), Some(3));
        assert_eq!(least(Some(2), Some(3)), Some(2));
        assert_eq!(least(None, None), None);
    }
}

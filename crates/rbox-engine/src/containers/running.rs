//! The process of a running container.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rbox_sys::mount::clone_tree;
use rbox_sys::process::CloneFlags;
use rbox_sys::{SysError, process};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions};

use crate::error::EngineError;
use crate::record::container::{self, Container, Status, process_is};

/// A descriptor of the container's PID 1, checked to be that process and no later one with its number.
pub(crate) fn pidfd(container: &Container) -> Result<OwnedFd, EngineError> {
    let live = container.live.as_ref().ok_or_else(|| not_running(container))?;
    let pidfd = process::pidfd_open(live.pid).map_err(|_| not_running(container))?;
    if process_is(live.pid, live.start_ticks) { Ok(pidfd) } else { Err(not_running(container)) }
}

/// Why a container without a process cannot do what wants one.
pub(crate) fn not_running(container: &Container) -> EngineError {
    let told = || EngineError::Conflict(format!("container {} is not running", container.record.id));
    refuse_unreadable(container).err().unwrap_or_else(told)
}

/// What is not known of a container whose record cannot be read cannot be started, and may run all the same.
pub(crate) fn refuse_unreadable(container: &Container) -> Result<(), EngineError> {
    if container.status != Status::Dead {
        return Ok(());
    }
    let id = &container.record.id;
    let why = container.exit.as_ref().map_or("", |exit| &exit.error);
    Err(EngineError::Conflict(format!(
        "the record of container {id} cannot be read: {why}; until that is mended it can only be removed: rbox rm -f {}",
        id.short()
    )))
}

/// A container that is between two runs cannot do this: Docker's refusal.
pub(crate) fn refuse_restarting(container: &Container) -> Result<(), EngineError> {
    if container.status == Status::Restarting {
        return Err(EngineError::Conflict(format!(
            "Container {} is restarting, wait until the container is running",
            container.record.id
        )));
    }
    Ok(())
}

/// Waits until the process has ended; false when it had not within `patience`.
pub(crate) fn wait_ended(pidfd: impl AsFd, patience: Option<Duration>) -> bool {
    let begin = Instant::now();
    loop {
        let left = patience.map(|patience| patience.saturating_sub(begin.elapsed()));
        let timeout = left
            .map(|left| Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) });
        match rustix::event::poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], timeout.as_ref()) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(_) => {}
        }
    }
}

/// The root of a running container, by its first process.
pub(crate) fn live_root(pid: i32) -> Result<OwnedFd, EngineError> {
    let path = format!("/proc/{pid}/root");
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(&path, flags, rustix::fs::Mode::empty())
        .map_err(|e| SysError::new("open", path, e))?)
}

/// The root of a running container without what is mounted in it, as a mount of its own that nobody else sees.
pub(crate) fn live_root_alone(pidfd: OwnedFd) -> Result<OwnedFd, EngineError> {
    // Only in its mount namespace can a mount of it be copied. The thread parts from this process's root and
    // working directory, and ends there.
    let copy = std::thread::spawn(move || {
        process::unshare(CloneFlags::CLONE_FS)?;
        process::join_namespaces(&pidfd, CloneFlags::CLONE_NEWNS)?;
        clone_tree(rustix::fs::CWD, Path::new("/"), false)
    });
    match copy.join() {
        Ok(root) => Ok(root?),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Waits for the process and gives its exit code: its own, or 128+n after signal n.
pub(crate) fn reap(pidfd: BorrowedFd<'_>) -> i32 {
    reap_child(pidfd).map_or(container::UNSEEN_EXIT, |(code, _)| code)
}

/// The same, and whether it was a signal; nothing if there is no such child to wait for.
pub(crate) fn reap_child(pidfd: BorrowedFd<'_>) -> Option<(i32, bool)> {
    loop {
        match rustix::process::waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED) {
            Ok(Some(status)) => {
                let by_itself = status.exit_status().map(|code| (code, false));
                return by_itself.or_else(|| status.terminating_signal().map(|signal| (128 + signal, true)));
            }
            Err(Errno::INTR) | Ok(None) => {}
            Err(_) => return None,
        }
    }
}

/// The exit code of a process that has ended, and is not this one's child but init's, which takes its status away. The kernel keeps
/// that for whoever has a pidfd since 6.15; before, it is seen only where this process is faster.
pub(crate) fn exit_of_orphan(pidfd: BorrowedFd<'_>) -> i32 {
    const ROUNDS: u32 = 200;
    for _ in 0..ROUNDS {
        match rbox_sys::process::status_of(pidfd) {
            Some(Some(status)) => {
                let signal = status & 0x7f;
                return if signal == 0 { (status >> 8) & 0xff } else { 128 + signal };
            }
            // Nobody has taken it away yet.
            Some(None) => std::thread::sleep(std::time::Duration::from_millis(10)),
            None => break,
        }
    }
    container::UNSEEN_EXIT
}

/// That a container was removed meanwhile, in the word by which it was asked for.
pub(crate) fn missing(container: &Container) -> EngineError {
    let asked = container.asked.clone();
    EngineError::NoContainer(asked.unwrap_or_else(|| container.record.name.to_string()))
}

/// An error of what was done with a container: one that says it is not there calls it as [`missing`] does.
pub(crate) fn as_asked(container: &Container, error: EngineError) -> EngineError {
    if matches!(error, EngineError::NoContainer(_)) { missing(container) } else { error }
}

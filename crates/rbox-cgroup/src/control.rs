//! Who is in a group, and stopping, continuing and ending all of them.

use crate::dir;
use crate::error::{CgroupError, Result};
use crate::group::Cgroup;
use crate::hierarchy::Controller;
use crate::members::{MAX_DEPTH, pids_of};
use rbox_sys::SysError;
use rustix::io::Errno;
use rustix::process::{PidfdFlags, Signal};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long freezing, thawing and killing may take.
const PATIENCE: Duration = Duration::from_secs(10);

impl Cgroup {
    /// Its processes as this pid namespace counts, those in groups below it included. Empty when it is gone.
    pub fn pids(&self) -> Result<Vec<i32>> {
        Ok(self.paths.any().map(pids_of).unwrap_or_default())
    }

    /// Whether a living process is in it.
    pub fn is_populated(&self) -> bool {
        if let Some(group) = &self.paths.unified {
            return dir::read(group, "cgroup.events")
                .is_ok_and(|events| dir::keyed(&events, "populated") == Some(1));
        }
        self.paths.any().is_some_and(|group| !pids_of(group).is_empty())
    }

    /// Stops every process, also those that fork meanwhile; returns once they stand still.
    pub fn freeze(&self) -> Result<()> {
        self.set_frozen(true)
    }

    /// Lets them go on.
    pub fn thaw(&self) -> Result<()> {
        self.set_frozen(false)
    }

    /// Whether it is frozen.
    pub fn is_frozen(&self) -> bool {
        match (&self.paths.unified, self.paths.v1(Controller::Freezer)) {
            (Some(group), _) => {
                dir::read(group, "cgroup.events").is_ok_and(|events| dir::keyed(&events, "frozen") == Some(1))
            }
            (None, Some(group)) => {
                dir::read(group, "freezer.state").is_ok_and(|state| state.trim() == "FROZEN")
            }
            (None, None) => false,
        }
    }

    fn set_frozen(&self, frozen: bool) -> Result<()> {
        let (group, file, text) = match (&self.paths.unified, self.paths.v1(Controller::Freezer)) {
            (Some(group), _) => (group.as_path(), "cgroup.freeze", if frozen { "1" } else { "0" }),
            (None, Some(group)) => (group, "freezer.state", if frozen { "FROZEN" } else { "THAWED" }),
            (None, None) => {
                return Err(CgroupError::Unsupported {
                    limit: "pause",
                    why: "this host has no freezer".into(),
                });
            }
        };
        let what = if frozen { "freeze" } else { "thaw" };
        let write = || {
            dir::write(group, file, text).map_err(|source| CgroupError::Sys {
                what,
                group: group.to_owned(),
                source,
            })
        };
        write()?;
        wait(group, if frozen { "frozen" } else { "thawed" }, || {
            if self.is_frozen() == frozen {
                return Ok(true);
            }
            if is_taken_back(group, file, frozen) {
                return Err(CgroupError::TakenBack { what, group: group.to_owned() });
            }
            if file == "freezer.state" && frozen {
                // v1 stays FREEZING when a process forks at the wrong moment, until it is told again.
                write()?;
            }
            Ok(false)
        })
    }

    /// Ends every process with SIGKILL and returns once the group is empty; one that is gone is empty.
    pub fn kill(&self) -> Result<()> {
        let Some(group) = self.paths.any() else { return Ok(()) };
        if let Some(unified) = &self.paths.unified {
            match dir::write(unified, "cgroup.kill", "1") {
                Ok(()) => return wait(group, "empty", || Ok(!self.is_populated())),
                // Gone, or a kernel before 5.14.
                Err(error) if dir::is(&error, Errno::NOENT) => {
                    if !unified.exists() {
                        return Ok(());
                    }
                }
                Err(source) => {
                    return Err(CgroupError::Sys { what: "kill", group: unified.clone(), source });
                }
            }
        }
        wait(group, "empty", || {
            // Frozen, nobody forks between the look and the signal; without a freezer the loop catches up.
            let frozen = self.freeze().is_ok();
            let pids = self.pids()?;
            for pid in &pids {
                kill_member(group, *pid)?;
            }
            if frozen {
                self.thaw()?;
            }
            Ok(pids.is_empty())
        })
    }

    /// How many of its processes the kernel killed for memory since it was made; 0 when that is not counted.
    /// Nested groups count, so that a child's end is seen as well as PID 1's.
    pub fn oom_kills(&self) -> u64 {
        if let Some(group) = self.paths.v1(Controller::Memory) {
            return oom_kills_v1(group, 0);
        }
        let Some(group) = &self.paths.unified else { return 0 };
        dir::read(group, "memory.events").ok().and_then(|events| dir::keyed(&events, "oom_kill")).unwrap_or(0)
    }
}

fn oom_kills_v1(group: &Path, depth: usize) -> u64 {
    // v1 counts where it happened; v2's file includes what is below.
    let own = dir::read(group, "memory.oom_control").ok().and_then(|text| dir::keyed(&text, "oom_kill"));
    let below = if depth < MAX_DEPTH { dir::children(group) } else { Vec::new() };
    own.unwrap_or(0) + below.iter().map(|child| oom_kills_v1(child, depth + 1)).sum::<u64>()
}

/// Whether somebody wrote the opposite since: what was asked for will not come. A parent that is frozen keeps a v1 group from being
/// `THAWED` whatever is written to it.
fn is_taken_back(group: &Path, file: &str, frozen: bool) -> bool {
    let Ok(state) = dir::read(group, file) else { return false };
    match state.trim() {
        "0" | "THAWED" => frozen,
        "1" => !frozen,
        _ => false,
    }
}

/// Kills `pid` if it is still a member once it is held by a pidfd: its number may have gone to somebody else.
fn kill_member(group: &Path, pid: i32) -> Result<()> {
    let failed = |call, errno: Errno| CgroupError::Sys {
        what: "kill processes of",
        group: group.to_owned(),
        source: SysError::new(call, pid.to_string(), errno),
    };
    let Some(process) = rustix::process::Pid::from_raw(pid) else { return Ok(()) };
    let held = match rustix::process::pidfd_open(process, PidfdFlags::empty()) {
        Ok(held) => held,
        Err(Errno::SRCH) => return Ok(()),
        Err(errno) => return Err(failed("pidfd_open", errno)),
    };
    if !pids_of(group).contains(&pid) {
        return Ok(());
    }
    match rustix::process::pidfd_send_signal(held, Signal::KILL) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(errno) => Err(failed("pidfd_send_signal", errno)),
    }
}

/// Asks until `done`, first at once, then at growing intervals.
fn wait(group: &Path, what: &'static str, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let begin = Instant::now();
    let mut pause = Duration::from_micros(100);
    while !done()? {
        if begin.elapsed() > PATIENCE {
            return Err(CgroupError::Timeout {
                what,
                group: group.to_owned(),
                millis: begin.elapsed().as_millis(),
            });
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
    Ok(())
}

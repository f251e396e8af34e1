//! Hearing at once that memory ran out in a group.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rbox_sys::SysError;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd};

use crate::dir;
use crate::error::{CgroupError, Result};
use crate::group::Cgroup;
use crate::hierarchy::Controller;

/// Tells when memory has run out in a group.
#[derive(Debug)]
pub struct OomWatch {
    /// v1: an eventfd that the kernel counts in. v2: the group's `memory.events`, which is "ready" when it has changed.
    wake: OwnedFd,
    /// v2: the kills that are known.
    known: Option<u64>,
}

impl Cgroup {
    /// Begins to listen. None where memory is not controlled.
    pub fn watch_oom(&self) -> Result<Option<OomWatch>> {
        if let Some(group) = self.paths.v1(Controller::Memory) {
            let sys = |source| CgroupError::Sys {
                what: "listen for the end of memory in",
                group: group.to_owned(),
                source,
            };
            let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
                .map_err(|errno| sys(SysError::new("eventfd", "0".into(), errno)))?;
            let control = dir::open_to_read(group, "memory.oom_control").map_err(sys)?;
            let line = format!("{} {}", wake.as_raw_fd(), control.as_raw_fd());
            dir::write(group, "cgroup.event_control", &line).map_err(sys)?;
            return Ok(Some(OomWatch { wake, known: None }));
        }
        let Some(group) = &self.paths.unified else { return Ok(None) };
        let sys = |source| CgroupError::Sys {
            what: "listen for the end of memory in",
            group: group.clone(),
            source,
        };
        let Ok(wake) = dir::open_to_read(group, "memory.events") else { return Ok(None) };
        let known = kills(wake.as_fd()).map_err(sys)?;
        Ok(Some(OomWatch { wake, known: Some(known) }))
    }
}

impl OomWatch {
    /// To wait for.
    pub fn poll_fd(&self) -> PollFd<'_> {
        PollFd::new(&self.wake, if self.known.is_some() { PollFlags::PRI } else { PollFlags::IN })
    }

    /// Whether memory ran out since this was asked last.
    pub fn has_run_out(&mut self) -> bool {
        let Some(known) = self.known else {
            let mut count = [0; 8];
            return rustix::io::read(&self.wake, &mut count).is_ok_and(|length| length == count.len());
        };
        // Read even where it says nothing new: that alone makes it wait for the next change.
        let now = kills(self.wake.as_fd()).unwrap_or(known);
        self.known = Some(now);
        now > known
    }
}

fn kills(events: BorrowedFd<'_>) -> std::result::Result<u64, SysError> {
    let mut text = [0; 512];
    let length = rustix::io::pread(events, &mut text, 0)
        .map_err(|errno| SysError::new("pread", "memory.events".into(), errno))?;
    let text = String::from_utf8_lossy(text.get(..length).unwrap_or_default());
    Ok(dir::keyed(&text, "oom_kill").unwrap_or(0))
}

//! The `watch` that goes on beside an attached `up`: a process of its own, since it builds and starts.

use std::cell::RefCell;
use std::io;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rbox_compose::model::Project;
use rbox_engine::session::send_signal;

use crate::command::error::{Coded, NOT_DONE};
use crate::command::global::Global;
use crate::compose::watch::{NOTHING_TO_WATCH, project_command};

/// How long `watch` may take to end: it may be building.
const ENDING: Duration = Duration::from_secs(10);
const SIGTERM: i32 = 15;

/// Watches the services of an `up`, as long as it is on.
pub(crate) struct Watcher<'a> {
    global: &'a Global,
    /// Those that `up` was given.
    services: &'a [String],
    has_rules: bool,
    child: RefCell<Option<Child>>,
}

impl<'a> Watcher<'a> {
    /// One that is off.
    pub(crate) fn new(global: &'a Global, project: &Project, services: &'a [String]) -> Self {
        let has_rules = project.services.values().any(|service| {
            let is_meant = services.is_empty() || services.contains(&service.name);
            is_meant && service.develop.as_ref().is_some_and(|develop| !develop.watch.is_empty())
        });
        Self { global, services, has_rules, child: RefCell::default() }
    }

    /// Whether a service says what is watched.
    pub(crate) fn has_rules(&self) -> bool {
        self.has_rules
    }

    /// # Errors
    /// No service says what is watched.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        if self.has_rules {
            return Ok(());
        }
        Err(Coded { message: NOTHING_TO_WATCH.to_owned(), code: NOT_DONE }.into())
    }

    /// Turns it on.
    ///
    /// # Errors
    /// No process can be made.
    pub(crate) fn begin(&self) -> anyhow::Result<()> {
        let mut command = project_command(self.global)?;
        command.args(["watch", "--no-up", "--yes"]).args(self.services).stdin(Stdio::null());
        *self.child.borrow_mut() = Some(command.spawn().context("watch files")?);
        Ok(())
    }

    /// Whether what files are changed to may make containers anew. One that has ended by itself is off.
    pub(crate) fn is_on(&self) -> bool {
        let mut child = self.child.borrow_mut();
        let has_ended = |child: &mut Child| child.try_wait().is_ok_and(|ended| ended.is_some());
        if child.as_mut().is_some_and(has_ended) {
            *child = None;
        }
        child.is_some()
    }

    /// Turns it off.
    pub(crate) fn end(&self) {
        let Some(mut child) = self.child.borrow_mut().take() else { return };
        if let Ok(pid) = i32::try_from(child.id()) {
            let _: io::Result<()> = send_signal(pid, SIGTERM);
        }
        let begin = Instant::now();
        while child.try_wait().is_ok_and(|ended| ended.is_none()) {
            if begin.elapsed() > ENDING {
                let _ = child.kill();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Watcher<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

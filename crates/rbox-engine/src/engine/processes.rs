//! What runs in a container: further processes, its output, what it uses.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rbox_spec::container::LogDriver;

use crate::control::exec::{ExecProcess, ExecRequest, ExecStdio};
use crate::control::stats::Stats;
use crate::control::{exec, stats};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::journal::{ContainerAction, note_container};
use crate::logs::{Ended, LogGap, LogQuery, LogReader, LogSink, clear, monitor_fd};
use crate::monitor::protocol::connect;
use crate::record::container::{Container, ContainerRecord};
use crate::record::lock::Lock;
use crate::why::cause::Cause;
use crate::why::why;

/// How long a monitor that is there may take to let somebody in: it ends its container just now, or goes on to its next life.
const PATIENCE: Duration = Duration::from_secs(10);

impl Engine {
    /// Runs a further process in a container. This process must have one thread and becomes its parent.
    ///
    /// # Errors
    /// The container does not run, or the program cannot be executed in it.
    pub fn exec(
        &self,
        container: &Container,
        request: &ExecRequest,
        stdio: ExecStdio,
    ) -> Result<ExecProcess, EngineError> {
        exec::exec(&self.paths, container, request, stdio)
    }

    /// The same for a process that nobody is attached to: another process stays with it, and tells the listeners how it ends.
    ///
    /// # Errors
    /// The container does not run, or the program cannot be executed in it.
    pub fn exec_detached(
        &self,
        container: &Container,
        request: &ExecRequest,
        stdio: ExecStdio,
    ) -> Result<(), EngineError> {
        exec::exec_detached(&self.paths, container, request, stdio)
    }

    /// A connection to the monitor of a container that runs, which then sends what the program writes. None: it has ended meanwhile.
    ///
    /// # Errors
    /// Its monitor was killed, or takes nobody.
    pub fn attach(&self, container: &Container) -> Result<Option<OwnedFd>, EngineError> {
        let record = &container.record;
        let dir = self.paths.live_of(&record.id);
        let begin = Instant::now();
        let mut was_alone = false;
        loop {
            let error = match connect(&dir) {
                Ok(socket) => {
                    note_container(&self.paths, record, ContainerAction::Attach);
                    return Ok(Some(socket));
                }
                Err(error) => error,
            };
            let is_alone = !Lock::is_held(&dir);
            if !self.current(&record.id).is_some_and(|now| now.is_active()) {
                return Ok(None);
            }
            // Once is no proof: another command may have started it between the two looks.
            if is_alone && was_alone {
                let name = &record.name;
                let message = format!("container {name} has no monitor to attach to: it was killed");
                return Err(EngineError::Conflict(message));
            }
            if begin.elapsed() > PATIENCE {
                return Err(error);
            }
            was_alone = is_alone;
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Tells the listeners that somebody who was attached to a container left it while it runs.
    pub fn detached(&self, record: &ContainerRecord) {
        note_container(&self.paths, record, ContainerAction::Detach);
    }

    /// What keeps a container from running, from being healthy or from being reached, the most telling first. None of one that runs
    /// and has nothing wrong with it.
    pub fn why(&self, container: &Container) -> Vec<Cause> {
        why(&self.paths, container)
    }

    /// The processes of a container that runs, as [`Engine::processes`], for somebody who looks at them.
    ///
    /// # Errors
    /// It does not run.
    pub fn top(&self, container: &Container) -> Result<Vec<i32>, EngineError> {
        let all = stats::processes(container)?;
        note_container(&self.paths, &container.record, ContainerAction::Top);
        Ok(all)
    }

    /// Gives what a container has written to `sink`, oldest first, and with `follow` what it writes until it ends. The sink ends it
    /// with an error, which comes back.
    ///
    /// # Errors
    /// The container keeps no log, or its log cannot be read.
    pub fn logs(
        &self,
        container: &Container,
        query: &LogQuery,
        follow: bool,
        sink: &mut dyn LogSink,
    ) -> Result<(), EngineError> {
        let record = &container.record;
        let path = self.log_path(record)?;
        let reader = LogReader::new(&path);
        let read = if follow && container.is_active() {
            let monitor = container.live.as_ref().and_then(monitor_fd);
            let live = self.paths.live_of(&record.id);
            let check = || !Lock::is_held(&live);
            let ended = Ended { fd: monitor.as_ref().map(AsFd::as_fd), check: &check };
            reader.follow(query, &ended, sink)
        } else {
            reader.read(query, !container.is_active(), sink)
        };
        let read =
            read.and_then(|()| if self.is_unkept(container) { sink.gap(LogGap::Unkept) } else { Ok(()) });
        read.map_err(EngineError::file("read", path))
    }

    /// Whether it runs without a monitor.
    fn is_unkept(&self, container: &Container) -> bool {
        let id = &container.record.id;
        let is_kept = || Lock::is_held(&self.paths.live_of(id));
        // It may have ended in between, or have been started.
        container.is_active()
            && !is_kept()
            && self.current(id).is_some_and(|now| now.is_active())
            && !is_kept()
    }

    /// Empties the log of a container, also of one that runs.
    ///
    /// # Errors
    /// The container keeps no log, or its log cannot be written.
    pub fn clear_log(&self, container: &Container) -> Result<(), EngineError> {
        let path = self.log_path(&container.record)?;
        clear(&path).map_err(EngineError::file("empty", path))
    }

    fn log_path(&self, record: &ContainerRecord) -> Result<PathBuf, EngineError> {
        if record.host.log_driver == LogDriver::None {
            return Err(EngineError::Conflict(
                "configured logging driver does not support reading: the container has --log-driver none"
                    .into(),
            ));
        }
        Ok(self.paths.log(&record.id))
    }

    /// The processes of a container that runs, as the host counts them.
    ///
    /// # Errors
    /// It does not run.
    pub fn processes(&self, container: &Container) -> Result<Vec<i32>, EngineError> {
        stats::processes(container)
    }

    /// What a container that runs has used so far.
    ///
    /// # Errors
    /// It does not run.
    pub fn stats(&self, container: &Container) -> Result<Stats, EngineError> {
        stats::stats(container)
    }
}

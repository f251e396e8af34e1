//! A further process in a container that lives.

use std::os::fd::{AsFd, OwnedFd};

use rbox_runtime::cgroup::{Cgroup, Hierarchy};
use rbox_runtime::{JoinRequest, Joined, Stdio, join};

use crate::config::{self, Facts};
use crate::control;
use crate::error::EngineError;
use crate::launch::{capabilities, filter, live_root};
use crate::record::{Container, Status};
use crate::user;

/// What is to run.
#[derive(Debug, Clone, Default)]
pub struct ExecRequest {
    /// The command and its arguments.
    pub command: Vec<String>,
    /// A terminal.
    pub tty: bool,
    /// `-e`, in order.
    pub env: Vec<String>,
    /// `-u`; the container's when none.
    pub user: Option<String>,
    /// `-w`; the container's when none.
    pub working_dir: Option<String>,
    /// All capabilities and no filter.
    pub privileged: bool,
}

/// Its standard streams.
#[derive(Debug)]
pub enum ExecStdio {
    /// These three, handed to it as they are.
    Streams([OwnedFd; 3]),
    /// A terminal of the container of this size: rows, columns.
    Terminal(Option<(u16, u16)>),
}

/// A process that runs in a container as this process's child.
#[derive(Debug)]
pub struct ExecProcess(Joined);

impl ExecProcess {
    /// The master side of its terminal, once.
    pub fn take_terminal(&mut self) -> Option<OwnedFd> {
        self.0.terminal.take()
    }

    /// Waits for its end: its exit code, or 128+n after signal n.
    pub fn wait(&self) -> i32 {
        crate::monitor::reap(self.0.pidfd.as_fd())
    }
}

/// Runs the process with these streams. This process must be single-threaded and becomes its parent.
pub fn exec(
    container: &Container,
    request: &ExecRequest,
    stdio: ExecStdio,
) -> Result<ExecProcess, EngineError> {
    let record = &container.record;
    if container.status == Status::Paused {
        return Err(EngineError::Conflict(format!(
            "container {} is paused, unpause the container before exec",
            record.name
        )));
    }
    control::refuse_restarting(container)?;
    let live = container
        .live
        .as_ref()
        .ok_or_else(|| EngineError::Conflict(format!("container {} is not running", record.id)))?;
    if request.command.is_empty() {
        return Err(EngineError::Invalid("no command specified".into()));
    }
    let pidfd = control::pidfd(container)?;
    let mut record = record.clone();
    if request.privileged {
        record.host.privileged = true;
    }
    let root = live_root(live.pid)?;
    let user = user::lookup(
        root.as_fd(),
        request.user.as_deref().unwrap_or(&record.config.user),
        &record.host.group_add,
    )?;
    let capabilities = capabilities(&record)?;
    let filter = filter(&record, capabilities)?;
    record.config.tty = request.tty;
    let mut env = config::environment(&record, &user);
    config::merge_env(&mut env, &request.env);
    let cwd = match request.working_dir.as_deref().unwrap_or(&record.config.working_dir) {
        "" => "/",
        path => path,
    };
    if !cwd.starts_with('/') {
        return Err(EngineError::Invalid(format!(
            "the working directory '{cwd}' is invalid, it needs to be an absolute path"
        )));
    }
    let facts = Facts { user: &user, capabilities, given_files: Vec::new(), volumes: Vec::new() };
    let process = config::process(&record, &facts, request.command.clone(), env, cwd, request.tty)
        .map_err(|e| EngineError::Invalid(e.to_string()))?;
    let groups = live.cgroup.clone().with_later(Hierarchy::detect()?);
    let cgroup = Cgroup::open_to_join(&groups)?;
    let stdio = match stdio {
        ExecStdio::Streams(fds) => Stdio::Fds { fds, own: false },
        ExecStdio::Terminal(size) => Stdio::Terminal { size },
    };
    Ok(ExecProcess(join(&JoinRequest {
        pidfd: pidfd.as_fd(),
        pid: live.pid,
        process: &process,
        cgroup: cgroup.clone_into(),
        cgroup_tasks: cgroup.join_fds(),
        seccomp: filter.as_ref(),
        stdio,
    })?))
}

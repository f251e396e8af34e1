//! A further process in a container that lives.

use std::os::fd::AsFd;

use rbox_runtime::cgroup::Cgroup;
use rbox_runtime::{JoinRequest, Joined, Stdio, join};

use crate::control;
use crate::error::EngineError;
use crate::launch::{capabilities, filter, live_root};
use crate::record::{Container, Status};
use crate::spec::{self, Facts};
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

/// Runs the process with these streams. This process must be single-threaded and becomes its parent.
pub fn exec(container: &Container, request: &ExecRequest, stdio: Stdio) -> Result<Joined, EngineError> {
    let record = &container.record;
    if container.status == Status::Paused {
        return Err(EngineError::Conflict(format!("container {} is paused, unpause the container before exec", record.name)));
    }
    let live = container.live.as_ref().ok_or_else(|| EngineError::Conflict(format!("container {} is not running", record.id)))?;
    if request.command.is_empty() {
        return Err(EngineError::Invalid("no command specified".into()));
    }
    let pidfd = control::pidfd(container)?;
    let mut record = record.clone();
    if request.privileged {
        record.host.privileged = true;
    }
    let root = live_root(live.pid)?;
    let user = user::lookup(root.as_fd(), request.user.as_deref().unwrap_or(&record.config.user))?;
    let capabilities = capabilities(&record)?;
    let filter = filter(&record, capabilities)?;
    record.config.tty = request.tty;
    let mut env = spec::environment(&record, &user);
    spec::merge_env(&mut env, &request.env);
    let cwd = match request.working_dir.as_deref().unwrap_or(&record.config.working_dir) {
        "" => "/",
        path => path,
    };
    if !cwd.starts_with('/') {
        return Err(EngineError::Invalid(format!("the working directory '{cwd}' is invalid, it needs to be an absolute path")));
    }
    let facts = Facts { user: &user, capabilities, given_files: Vec::new(), volumes: Vec::new() };
    let process = spec::process(&record, &facts, request.command.clone(), env, cwd, request.tty)
        .map_err(|e| EngineError::Invalid(e.to_string()))?;
    let cgroup = Cgroup::open_to_join(&live.cgroup)?;
    Ok(join(JoinRequest {
        pidfd: pidfd.as_fd(),
        pid: live.pid,
        process: &process,
        cgroup: cgroup.clone_into(),
        cgroup_tasks: cgroup.join_fds(),
        seccomp: filter.as_ref(),
        stdio,
    })?)
}

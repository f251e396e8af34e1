//! A further process in a running container.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use oci_spec::runtime::Process;
use rbox_runtime::cgroup::{Cgroup, Hierarchy};
use rbox_runtime::{JoinRequest, Stdio, join};
use rbox_spec::Kind;
use rbox_spec::capability::CapSet;
use rbox_spec::id::ContainerId;
use rbox_sys::channel;
use rbox_sys::passed::Passed;
use rbox_sys::process::{self, Side};
use rbox_sys::waiting::{self, Patience, Who};

use crate::caller::passed;
use crate::containers::running::{self, live_root};
use crate::error::EngineError;
use crate::journal::{self, ContainerAction, Exec, Happening};
use crate::logs::Stream;
use crate::monitor::protocol::{self, FromMonitor};
use crate::monitor::streams::{self, Ends, fork_aside, unblock};
use crate::oci::config::{self, Facts};
use crate::oci::security::{capabilities, filter, profile};
use crate::oci::user;
use crate::record::container::{Container, ContainerRecord, Status};
use crate::record::paths::Paths;

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
    /// So many descriptors of the caller's, from 3 up, go to the program.
    pub preserve_fds: u32,
}

/// Its standard streams.
#[derive(Clone, Copy, Debug)]
pub enum ExecStdio {
    /// Pipes.
    Pipes {
        /// One for its input too.
        input: bool,
    },
    /// Pipes for its output, which is read by this process alone: should it be killed, the program is left without a reader.
    Watched,
    /// They lead nowhere.
    Nowhere,
    /// A terminal of the container of this size: rows, columns.
    Terminal(Option<(u16, u16)>),
}

/// A process that runs in a container as this process's child.
#[derive(Debug)]
pub struct ExecProcess {
    pidfd: OwnedFd,
    /// Our ends of its streams. A terminal is its input and its output.
    pub ends: Ends,
    /// Its end tells the monitor to go on reading.
    #[allow(dead_code, reason = "it is closed with this")]
    command: Option<OwnedFd>,
    events: Events,
    status_stays: bool,
}

/// What a process of exec is called in the journal.
#[derive(Debug)]
struct Events {
    paths: Paths,
    record: ContainerRecord,
    id: String,
}

impl Events {
    /// Those of a process that is about to be made, which is written down.
    fn begin(paths: &Paths, container: &Container, command: &[String]) -> Result<Self, EngineError> {
        let mut bytes = [0_u8; 32];
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
            .map_err(|e| rbox_sys::SysError::new("getrandom", "32 bytes".into(), e))?;
        let id = ContainerId::from_bytes(&bytes).to_string();
        let record = container.record.clone();
        let exec = Exec { id: &id, command };
        let both = [ContainerAction::ExecCreate(exec), ContainerAction::ExecStart(exec)];
        journal::note(paths, &both.map(|action| Happening::Container(&record, action)));
        Ok(Self { paths: paths.clone(), record, id })
    }

    fn note(&self, action: ContainerAction<'_>) {
        journal::note_container(&self.paths, &self.record, action);
    }
}

impl ExecProcess {
    /// Readable once it has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Waits for its end: its exit code, or 128+n after signal n.
    pub fn wait(&self) -> i32 {
        let pidfd = self.pidfd();
        let exit_code =
            running::reap_child(pidfd).map_or_else(|| running::exit_of_orphan(pidfd), |(code, _)| code);
        if self.status_stays {
            // What this process starts next is waited for as ever.
            process::keep_zombies();
        }
        self.tell_end(exit_code);
        exit_code
    }

    /// For a process that has no other child and may be stopped: PID 1 of the container is not gone before all of its PID namespace
    /// were waited for, and this one is waited for by nobody else. Before Linux 6.15 it stays as it is: how it ended would be lost.
    pub fn hold_up_no_end(&self) {
        if self.status_stays {
            process::leave_no_zombies();
        }
    }

    /// The same; `tick` is called each tenth of a second until then.
    pub fn wait_with(&self, tick: &dyn Fn()) -> i32 {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        const TENTH: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        // What ends a wait otherwise than by the process or the time is waited for again.
        while poll(&mut [PollFd::from_borrowed_fd(self.pidfd(), PollFlags::IN)], Some(&TENTH)) != Ok(1) {
            tick();
        }
        self.wait()
    }

    /// Writes into the journal that it has ended.
    pub(crate) fn tell_end(&self, exit_code: i32) {
        self.events.note(ContainerAction::ExecDie { id: &self.events.id, exit_code });
    }

    /// Lets it run on without this process, whose user left it. What stays behind keeps its terminal, which is hung up without a
    /// master, and tells of its end.
    pub fn detach(mut self) {
        self.events.note(ContainerAction::ExecDetach(&self.events.id));
        if let Ok(Side::Child) = process::fork() {
            let outputs = self.ends.outputs.iter().map(|(_, fd)| fd.as_fd());
            let keep: Vec<BorrowedFd<'_>> = outputs.chain([self.pidfd.as_fd()]).collect();
            streams::detach_from_caller(&keep);
            process::set_name(c"rbox-exec");
            self.stay(|process| running::exit_of_orphan(process.pidfd()));
            process::exit_now(0)
        }
    }

    /// Stays as long as it runs, reads what it writes to a terminal, and tells how it has ended, which `end` finds out.
    fn stay(&mut self, end: impl Fn(&Self) -> i32) {
        use rustix::event::{PollFd, PollFlags, poll};
        let mut has_ended = false;
        let mut buffer = vec![0; 4096];
        while !has_ended || !self.ends.outputs.is_empty() {
            let mut fds: Vec<PollFd<'_>> =
                self.ends.outputs.iter().map(|(_, fd)| PollFd::new(fd, PollFlags::IN)).collect();
            if !has_ended {
                fds.push(PollFd::from_borrowed_fd(self.pidfd(), PollFlags::IN));
            }
            let _ = poll(&mut fds, None);
            let ends_now = !has_ended && fds.last().is_some_and(|fd| !fd.revents().is_empty());
            if ends_now {
                has_ended = true;
                self.tell_end(end(self));
            }
            self.ends.outputs.retain(|(_, fd)| reads_on(fd, &mut buffer));
        }
    }
}

/// Reads what is there. Whether there may be more.
fn reads_on(fd: &OwnedFd, buffer: &mut [u8]) -> bool {
    match rustix::io::read(fd, buffer) {
        Ok(length) => length > 0,
        Err(error) => matches!(error, rustix::io::Errno::AGAIN | rustix::io::Errno::INTR),
    }
}

/// Runs a process that nobody is attached to, under a process that stays with it to tell how it ends: only its parent gets to know
/// that.
pub(crate) fn exec_detached(
    paths: &Paths,
    container: &Container,
    request: &ExecRequest,
    stdio: ExecStdio,
) -> Result<(), EngineError> {
    let passed = passed(request.preserve_fds)?;
    let (ours, theirs) = channel::pair()?;
    match fork_aside()? {
        Side::Parent(pid) => {
            drop((theirs, passed));
            waiting::readable(&ours, Who::Pid(pid), Patience::WORK).map_err(|still| {
                let message = format!("the process was not made: {still}");
                EngineError::Monitor { message, kind: Kind::Unavailable, exit_code: 125 }
            })?;
            protocol::hear_started(&ours)
        }
        Side::Child => {
            drop(ours);
            let keep: Vec<BorrowedFd<'_>> = passed.fds().chain([theirs.as_fd()]).collect();
            streams::detach_from_caller(&keep);
            process::set_name(c"rbox-exec");
            match exec_with(paths, container, request, stdio, passed) {
                Ok(mut made) => {
                    let _ = channel::send(&theirs, &FromMonitor::Started.encode(), None);
                    drop(theirs);
                    made.stay(|process| running::reap(process.pidfd()));
                }
                Err(error) => {
                    // Of one that cannot be done Docker's client does not say that the command failed.
                    let is_refused = matches!(error, EngineError::Conflict(_));
                    let code = if is_refused { 1 } else { error.exit_code() };
                    let failed = FromMonitor::Failed(code, error.kind(), error.with_causes());
                    let _ = channel::send(&theirs, &failed.encode(), None);
                }
            }
            process::exit_now(0)
        }
    }
}

/// Runs the process with these streams. This process must be single-threaded and becomes its parent.
pub(crate) fn exec(
    paths: &Paths,
    container: &Container,
    request: &ExecRequest,
    stdio: ExecStdio,
) -> Result<ExecProcess, EngineError> {
    exec_with(paths, container, request, stdio, passed(request.preserve_fds)?)
}

/// The same with these descriptors of the caller's, which are closed here once the program has them.
fn exec_with(
    paths: &Paths,
    container: &Container,
    request: &ExecRequest,
    stdio: ExecStdio,
    passed: Passed,
) -> Result<ExecProcess, EngineError> {
    // Whatever the command line named was read by now; nothing else of the caller goes along.
    process::close_kept();
    let record = &container.record;
    if container.status == Status::Paused {
        return Err(EngineError::Conflict(format!(
            "container {} is paused, unpause the container before exec",
            record.name
        )));
    }
    running::refuse_restarting(container)?;
    let live = container.live.as_ref().ok_or_else(|| running::not_running(container))?;
    if request.command.is_empty() {
        return Err(EngineError::Invalid("no command specified".into()));
    }
    let pidfd = running::pidfd(container)?;
    let mut record = record.clone();
    record.host.privileged |= request.privileged;
    record.config.tty = request.tty;
    let capabilities = capabilities(&record)?;
    let filter = filter(&record, capabilities)?;
    // As with Docker `exec --privileged` changes nothing about it.
    let apparmor = profile(&container.record.host)?;
    let program = program(live.pid, &record, request, capabilities, apparmor)?;
    if let Some(score) = program.oom_score_adj() {
        // This process's own, which the one that joins inherits: it may not be able to write to /proc any more.
        let own = "/proc/self/oom_score_adj";
        std::fs::write(own, score.to_string()).map_err(EngineError::file("write", own))?;
    }
    let groups = live.cgroup.clone().with_later(Hierarchy::detect()?);
    let cgroup = Cgroup::open_to_join(&groups)?;
    let is_watched = matches!(stdio, ExecStdio::Watched);
    let (stdio, mut ends) = match stdio {
        ExecStdio::Pipes { input } => streams::pipes(input)?,
        ExecStdio::Watched => streams::pipes(false)?,
        ExecStdio::Nowhere => (streams::nowhere()?, Ends::default()),
        ExecStdio::Terminal(size) => (Stdio::Terminal { size }, Ends::default()),
    };
    let events = Events::begin(paths, container, &request.command)?;
    let joined = join(JoinRequest {
        pidfd: pidfd.as_fd(),
        pid: live.pid,
        maps: record.host.id_maps.as_ref(),
        process: &program,
        cgroup: cgroup.clone_into(),
        cgroup_tasks: cgroup.join_fds(),
        seccomp: filter.as_ref(),
        stdio,
        passed: &passed,
    })?;
    drop(passed);
    if let Some(master) = joined.terminal {
        unblock(&master)?;
        ends.input = master.try_clone().ok();
        ends.outputs.push((Stream::Stdout, master));
    }
    // The program runs by now: nothing waits for this.
    let outputs = ends.outputs.iter().map(|(_, fd)| fd.as_fd());
    let command = if is_watched || ends.outputs.is_empty() {
        None
    } else {
        protocol::keep_output(&paths.live_of(&container.record.id), outputs)
    };
    Ok(ExecProcess { pidfd: joined.pidfd, ends, command, events, status_stays: joined.status_stays })
}

/// What is run, by its user in the container with process `pid`. `record` is the container's, changed as the request asks.
fn program(
    pid: i32,
    record: &ContainerRecord,
    request: &ExecRequest,
    capabilities: CapSet,
    apparmor: Option<String>,
) -> Result<Process, EngineError> {
    let root = live_root(pid)?;
    let user = request.user.as_deref().unwrap_or(&record.config.user);
    // Docker's client ends with 1 here, and not as for a command that cannot be invoked.
    let user = user::of_container(record, root.as_fd(), user, &record.host.group_add)
        .map_err(|error| EngineError::NotExecuted { message: error.with_causes(), exit_code: 1 })?;
    let mut env = config::environment(record, &user);
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
    let facts = Facts {
        user: &user,
        capabilities,
        apparmor,
        given_files: Vec::new(),
        contents: Vec::new(),
        volumes: Vec::new(),
        joined: Vec::new(),
    };
    config::process(record, &facts, request.command.clone(), env, cwd, request.tty)
        .map_err(|error| EngineError::Invalid(error.to_string()))
}

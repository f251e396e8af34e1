//! A further process in a container that lives: exec.
//!
//! The caller enters the container's PID namespace, which takes effect for its next child. That child enters
//! everything else, and from then on sees only what the container sees.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use oci_spec::runtime::Process;
use rbox_namespace::handshake::{self, ChildEnd, Told};
use rbox_security::seccomp::Filter;
use rbox_sys::process::{self, CloneFlags, Side};
use rbox_sys::{SysError, trace};
use rustix::fs::OFlags;

use crate::create::Stdio;
use crate::credentials::StepError;
use crate::error::RuntimeError;
use crate::init::{
    become_program, enter_groups, fail, give_to_user, open_dir_in_root, open_null, open_pty, take_streams,
    take_terminal,
};

/// What is to run, and where.
#[derive(Debug)]
pub struct JoinRequest<'a> {
    /// PID 1 of the container.
    pub pidfd: BorrowedFd<'a>,
    /// Its pid as this process counts.
    pub pid: i32,
    /// What to run, as the OCI runtime config has it.
    pub process: &'a Process,
    /// The container's v2 group.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// `tasks` files of its v1 groups.
    pub cgroup_tasks: &'a [OwnedFd],
    /// The seccomp filter, compiled.
    pub seccomp: Option<&'a Filter>,
    /// Standard streams.
    pub stdio: Stdio,
}

/// A process that runs inside the container; its parent is the caller.
#[derive(Debug)]
pub struct Joined {
    /// As the host counts.
    pub pid: i32,
    /// Readable once it has ended.
    pub pidfd: OwnedFd,
    /// The master side of its terminal.
    pub terminal: Option<OwnedFd>,
}

/// Runs the process and comes back once the program has been executed. The caller must be single-threaded and
/// stays in the container's PID namespace for its later children.
pub fn join(request: &JoinRequest<'_>) -> Result<Joined, RuntimeError> {
    // Set before the clone, so that there is no moment in which a process of the container could open us.
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    let (mut parent, child) = handshake::pair()?;
    let side = trace::step(
        "clone into the PID namespace",
        "Entering a PID namespace takes effect for children, so the child is the one inside.",
        || {
            if rbox_namespace::inode(request.pid, "pid") != rbox_namespace::inode(0, "pid") {
                process::join_namespaces(request.pidfd, CloneFlags::CLONE_NEWPID)?;
            }
            process::clone3(CloneFlags::empty(), request.cgroup)
        },
    )?;
    match side {
        Side::Child => {
            drop(parent);
            inside(request, &child)
        }
        Side::Parent(made) => {
            drop(child);
            let mut terminal = None;
            let mut let_go = false;
            let reap = |error: RuntimeError| {
                let _ = process::pidfd_send_signal(&made.pidfd, nix::libc::SIGKILL);
                let _ = rustix::process::waitid(
                    rustix::process::WaitId::PidFd(made.pidfd.as_fd()),
                    rustix::process::WaitIdOptions::EXITED,
                );
                error
            };
            loop {
                match parent.hear().map_err(|e| reap(e.into()))? {
                    Told::Terminal(master) => terminal = Some(master),
                    Told::Ready => {
                        parent.go().map_err(|e| reap(e.into()))?;
                        let_go = true;
                    }
                    Told::Failed(failure) => return Err(reap(RuntimeError::Init(failure))),
                    Told::Closed if let_go => break,
                    Told::Closed | Told::Netlink(_) => return Err(reap(RuntimeError::Killed)),
                }
            }
            Ok(Joined { pid: made.pid, pidfd: made.pidfd, terminal })
        }
    }
}

fn inside(request: &JoinRequest<'_>, channel: &ChildEnd) -> ! {
    trace::set_actor("container");
    if let Err(error) = enter(request, channel) {
        fail(channel, "join the container", &error);
    }
    if channel.ready().is_err() || !channel.wait_go().unwrap_or(false) {
        process::exit_now(1);
    }
    let error = become_program(request.process, request.seccomp);
    fail(channel, "execute the program", &error)
}

fn enter(request: &JoinRequest<'_>, channel: &ChildEnd) -> Result<(), StepError> {
    trace::step("enter the v1 control groups", "The container's limits hold for this process too.", || {
        enter_groups(request.cgroup_tasks)
    })?;
    trace::step("enter the namespaces", "From here on this process sees what the container sees.", || {
        join_all_but_pid(request)
    })?;
    let root =
        rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, rustix::fs::Mode::empty())
            .map_err(|e| SysError::new("open", "\"/\"".into(), e))?;
    trace::step(
        "enter the working directory",
        "Opened inside the root, never through a link of /proc.",
        || {
            let cwd = open_dir_in_root(root.as_fd(), request.process.cwd()).map_err(|e| {
                StepError::new(format!("working directory {}: {e}", request.process.cwd().display()))
            })?;
            rustix::process::fchdir(&cwd)
                .map_err(|e| StepError::from(SysError::new("fchdir", trace::fd(&cwd), e)))
        },
    )?;
    match &request.stdio {
        Stdio::Fds { fds, own } => {
            let owner = Some(request.process).filter(|_| *own);
            take_streams(fds, owner, || open_null(root.as_fd(), Path::new("dev/null")))
        }
        Stdio::Terminal { size } => {
            let pts = open_dir_in_root(root.as_fd(), Path::new("/dev/pts"))?;
            require_devpts(pts.as_fd())?;
            let (master, slave) = open_pty(pts.as_fd(), *size)?;
            give_to_user(slave.as_fd(), Some(request.process));
            channel.terminal(master.as_fd()).map_err(|e| StepError::new(e.to_string()))?;
            take_terminal(slave.as_fd())
        }
    }
}

fn join_all_but_pid(request: &JoinRequest<'_>) -> Result<(), StepError> {
    let mut which = CloneFlags::empty();
    for (name, flag) in rbox_namespace::KINDS {
        if name != "pid" && rbox_namespace::inode(request.pid, name) != rbox_namespace::inode(0, name) {
            which |= flag;
        }
    }
    if !which.is_empty() {
        process::join_namespaces(request.pidfd, which)?;
    }
    Ok(())
}

/// The container could have mounted anything on /dev/pts: only a devpts gives terminals.
fn require_devpts(pts: BorrowedFd<'_>) -> Result<(), StepError> {
    const DEVPTS_SUPER_MAGIC: i64 = 0x1cd1;
    match rustix::fs::fstatfs(pts) {
        Ok(stat) if stat.f_type == DEVPTS_SUPER_MAGIC => Ok(()),
        _ => Err(StepError::new(
            "/dev/pts inside the container is not a devpts file system, so there is no terminal to be had (run without -t)",
        )),
    }
}

//! A further process in a running container: exec.
//!
//! A child of the caller enters everything the container has and confines itself. The PID namespace takes effect for its
//! next child, so it makes one in its own place, a brother, which becomes the program.
//!
//! Processes in the container see only the brother, and one with `CAP_SYS_PTRACE` can seize it, read its memory and take its descriptors
//! from its first moment. So by then it may no more than the container may: its limits, user, capabilities and filter are set, it has
//! no descriptor but its streams and the socket on which it reports a failure, and rbox's environment is wiped. The child before it is
//! outside of the PID namespace, where no process inside can name it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use oci_spec::runtime::Process;
use rbox_namespace::handshake::{self, ChildEnd, Parent, Told};
use rbox_rootfs::dev;
use rbox_security::seccomp::Filter;
use rbox_spec::userns::IdMaps;
use rbox_sys::passed::Passed;
use rbox_sys::process::{self, CloneFlags, Side};
use rbox_sys::{SysError, trace, waiting};
use rustix::fs::OFlags;

use crate::between::give_streams;
use crate::credentials::{self, StepError, fail};
use crate::error::RuntimeError;
use crate::init::{enter_groups, open_dir_in_root};
use crate::joined::become_root;
use crate::launch::Stdio;
use crate::streams::{begin_session, connect, give_to_user, open_null, open_pty, own_null, take_streams};

/// What is to run, and where.
#[derive(Debug)]
pub struct JoinRequest<'a> {
    /// PID 1 of the container.
    pub pidfd: BorrowedFd<'a>,
    /// Its pid as this process counts.
    pub pid: i32,
    /// The ids of the container, when it has a user namespace of its own.
    pub maps: Option<&'a IdMaps>,
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
    /// Descriptors of the caller that the program gets besides.
    pub passed: &'a Passed,
}

/// A process that runs inside the container; its parent is the caller.
#[derive(Debug)]
pub struct Joined {
    /// Readable once it has ended.
    pub pidfd: OwnedFd,
    /// The master side of its terminal.
    pub terminal: Option<OwnedFd>,
    /// Whether the kernel tells by a pidfd how a process ended that was waited for.
    pub status_stays: bool,
}

/// Runs the process and comes back once the program has been executed. The caller must be single-threaded.
pub fn join(request: JoinRequest<'_>) -> Result<Joined, RuntimeError> {
    // Set before the clone, so that there is no moment in which a process of the container could open us.
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    let (mut parent, child) = handshake::pair()?;
    let side = trace::step(
        "clone",
        "The child goes into the container step by step, out of the sight of those inside.",
        || process::clone3(CloneFlags::empty(), request.cgroup),
    )?;
    match side {
        Side::Child => {
            drop(parent);
            inside(&request, &child)
        }
        Side::Parent(made) => {
            drop(child);
            // Our copies of the program's ends: while we have them its pipes do not end.
            drop(request);
            let mut program = None;
            let heard = hear_out(&mut parent, &made.pidfd, &mut program);
            if heard.is_err() {
                // The program comes first: one that was stopped from inside would stay for ever.
                for pidfd in program.iter().chain([&made.pidfd]) {
                    let _ = process::pidfd_send_signal(pidfd, nix::libc::SIGKILL);
                }
            }
            waiting::reap(made.pidfd.as_fd(), waiting::GONE);
            match (heard, program) {
                (Ok(terminal), Some(pidfd)) => {
                    let status_stays = process::status_of(&made.pidfd).flatten().is_some();
                    Ok(Joined { pidfd, terminal, status_stays })
                }
                (Ok(_), None) => Err(RuntimeError::Killed),
                (Err(error), program) => {
                    if let Some(pidfd) = program {
                        waiting::reap(pidfd.as_fd(), waiting::GONE);
                    }
                    Err(error)
                }
            }
        }
    }
}

/// The handshake from our side, to its end: the program runs, with this terminal, or why not. `program` becomes the process that was
/// made to become it.
fn hear_out(
    parent: &mut Parent,
    joiner: &OwnedFd,
    program: &mut Option<OwnedFd>,
) -> Result<Option<OwnedFd>, RuntimeError> {
    let mut terminal = None;
    loop {
        // Processes inside see the program's from its first moment, and may stop it.
        let who = program.as_ref().unwrap_or(joiner);
        match parent.hear(who.as_fd())? {
            Told::Terminal(master) => terminal = Some(master),
            Told::Ready => parent.go()?,
            Told::Process(pidfd) => *program = Some(pidfd),
            Told::Closed if program.is_some() => return Ok(terminal),
            Told::Failed(failure) => return Err(RuntimeError::Init(failure)),
            Told::Closed | Told::Netlink(_) | Told::Hooks | Told::Tree(_) => {
                return Err(RuntimeError::Killed);
            }
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
    process::wipe_environment();
    let keep: Vec<BorrowedFd<'_>> = request.passed.fds().chain([channel.socket()]).collect();
    process::close_all_but(&keep);
    // Before the filter, which may not allow it; the socket is closed by execve(2) as before.
    if let Err(error) = request.passed.go_on_exec() {
        fail(channel, "execute the program", &error.into());
    }
    let on_terminal = matches!(request.stdio, Stdio::Terminal { .. });
    let early = request.seccomp.is_none_or(|filter| lets_in(filter, on_terminal));
    let confine = || credentials::limit_and_confine(request.process, request.seccomp);
    let made = if early { confine() } else { Ok(()) };
    match made.and_then(|()| Ok(process::clone_brother()?)) {
        Ok(Side::Child) => {}
        Ok(Side::Parent(program)) => {
            let told = channel.process(program.as_fd());
            process::exit_now(i32::from(told.is_err()));
        }
        Err(error) => fail(channel, "execute the program", &error),
    }
    // Only now: a session ends with its leader, and that must not be a process that goes.
    let made = begin_session(on_terminal).and_then(|()| if early { Ok(()) } else { confine() });
    process::reset_signals();
    let error = match made {
        Ok(()) => credentials::execute(request.process),
        Err(error) => error,
    };
    fail(channel, "execute the program", &error)
}

/// Whether a process under `filter` can do what is left to do. A filter that does not let it fork, or take a terminal, has to wait until
/// that is done; nobody but programs that cannot fork either is in such a container to see it.
fn lets_in(filter: &Filter, on_terminal: bool) -> bool {
    const TIOCSCTTY: u64 = 0x540e;
    filter.lets_through("clone", &[process::BROTHER])
        && ["sendmsg", "exit_group", "setsid"].iter().all(|call| filter.lets_through(call, &[]))
        && (!on_terminal || filter.lets_through("ioctl", &[0, TIOCSCTTY]))
}

fn enter(request: &JoinRequest<'_>, channel: &ChildEnd) -> Result<(), StepError> {
    trace::step("enter the v1 control groups", "The container's limits hold for this process too.", || {
        enter_groups(request.cgroup_tasks)
    })?;
    if let Some(maps) = request.maps {
        credentials::raise_limits(request.process)?;
        give_streams(&request.stdio, request.process, maps);
    }
    let spare = spare_null(request)?;
    if credentials::has_profile(request.process) {
        trace::step(credentials::PROFILE, credentials::WHY_PROFILE, || {
            credentials::change_profile(request.process)
        })?;
    }
    trace::step("enter the namespaces", "From here on this process sees what the container sees.", || {
        join_all(request)
    })?;
    let root =
        rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, rustix::fs::Mode::empty())
            .map_err(|e| SysError::new("open", "\"/\"".into(), e))?;
    trace::step(
        "enter the working directory",
        "Opened inside the root, never through a link of /proc.",
        || {
            let path = request.process.cwd();
            let cwd = open_dir_in_root(root.as_fd(), path).map_err(|e| StepError {
                message: format!(
                    "chdir to the working directory \"{}\" failed: {}",
                    path.display(),
                    e.errno.desc().to_lowercase()
                ),
                errno: e.errno as i32,
                is_exec: true,
            })?;
            rustix::process::fchdir(&cwd)
                .map_err(|e| StepError::from(SysError::new("fchdir", trace::fd(&cwd), e)))
        },
    )?;
    match &request.stdio {
        Stdio::Fds(fds) => {
            let other = || spare.map_or_else(own_null, Ok);
            take_streams(fds, Some(request.process), || open_null(root.as_fd(), Path::new("dev/null"), other))
        }
        Stdio::Terminal { size } => {
            let pts = open_dir_in_root(root.as_fd(), Path::new("/dev/pts"))?;
            require_devpts(pts.as_fd())?;
            let (master, slave) = open_pty(pts.as_fd(), *size)?;
            give_to_user(slave.as_fd(), Some(request.process));
            channel.terminal(master.as_fd()).map_err(|e| StepError::new(e.to_string()))?;
            connect([slave.as_fd(); 3])
        }
    }
}

/// A null device for streams of a program in a user namespace, where none can be made any more.
fn spare_null(request: &JoinRequest<'_>) -> Result<Option<OwnedFd>, StepError> {
    match (&request.stdio, request.maps) {
        (Stdio::Fds(fds), Some(_)) if fds.iter().any(|fd| dev::is_null(fd.as_fd())) => own_null().map(Some),
        _ => Ok(None),
    }
}

fn join_all(request: &JoinRequest<'_>) -> Result<(), StepError> {
    let mut which = CloneFlags::empty();
    for (name, flag) in rbox_namespace::KINDS {
        if rbox_namespace::inode(request.pid, name) != rbox_namespace::inode(0, name) {
            which |= flag;
        }
    }
    if !which.is_empty() {
        process::join_namespaces(request.pidfd, which)?;
    }
    if which.contains(CloneFlags::CLONE_NEWUSER) {
        become_root()?;
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

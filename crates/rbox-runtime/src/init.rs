//! What the container's first process does before it becomes the program: a list of named steps.
//!
//! This side of the clone is a copy of the monitor, alone in its new namespaces, with all of root's powers over
//! the host's files still in reach until `pivot root`. So nothing here reads a path of the image by name, and
//! nothing opens anything under /proc after the root has changed.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use oci_spec::runtime::{ContainerState, Process, State};
use rbox_namespace::NamespaceSet;
use rbox_namespace::handshake::ChildEnd;
use rbox_rootfs::tree;
use rbox_sys::file::{open_in_root, write_beneath};
use rbox_sys::mount;
use rbox_sys::mount::{Attr, attach, clone_tree, set_attributes};
use rbox_sys::passed::Passed;
use rbox_sys::{SysError, process, told, trace};
use rustix::fs::{Mode, OFlags};
use rustix::mount::MountPropagationFlags;

use crate::credentials::{self, StepError, fail};
use crate::devices::make_devices;
use crate::hooks;
use crate::launch::{Later, Launch, Stdio};
use crate::mounts::Mounts;
use crate::plan::PreparedMount;
use crate::streams::{begin_session, connect, give_to_user, open_pty, take_streams};

/// Everything the steps need, and what one leaves for the next.
pub(crate) struct Init<'a> {
    launch: Launch<'a>,
    mounts: Mounts<'a>,
    namespaces: NamespaceSet,
    channel: ChildEnd,
    /// The root of a mount namespace that was joined.
    joined_root: Option<OwnedFd>,
    /// The slave side of the terminal.
    console: Option<OwnedFd>,
    /// The working directory, opened inside the root before the root is the only thing there is.
    cwd: Option<OwnedFd>,
}

type Run = fn(&mut Init<'_>) -> Result<(), StepError>;

/// The step that only a container with hooks takes.
const RUN_HOOKS: &str = "run the hooks";
/// The one that only a container with an AppArmor profile takes.
const CHANGE_PROFILE: &str = credentials::PROFILE;

/// The steps in their order: name, why, and the work.
const STEPS: [(&str, &str, Run); 18] = [
    (
        "hand over a netlink socket",
        "The parent wires the network through it while this process mounts.",
        |init| init.hand_over_netlink(),
    ),
    (
        "enter the v1 control groups",
        "A task that writes 0 moves itself, which waits for nobody; on a pure v2 host the clone was born inside.",
        |init| init.enter_groups(),
    ),
    (
        "make the cgroup namespace",
        "Its root is the group of whoever makes it, so it comes after entering the group.",
        |init| init.own_cgroup_namespace(),
    ),
    ("part from the host's mounts", "What is mounted from here on stays in here.", |init| {
        if init.launch.has_own_tree() {
            if init.launch.user.is_none() {
                init.mounts.keep_peers()?;
            }
            mount::make_all_slave()?;
        }
        Ok(())
    }),
    ("attach the root", "The stacked layers become a mount of this namespace.", |init| init.attach_root()),
    (
        "mount file systems",
        "Kernel views of the new namespaces, memory, and what the user asked for.",
        |init| init.mounts.mount_all(),
    ),
    ("make device nodes", "The nodes of --device, beside the few every container has.", |init| {
        init.make_devices()
    }),
    ("open the terminal", "A pair of its own: the program gets one side, the monitor the other.", |init| {
        init.open_terminal()
    }),
    ("write sysctls", "Through our own procfs, before it is covered.", |init| init.write_sysctls()),
    ("adjust the OOM score", "Who goes first when memory is short.", |init| init.adjust_oom_score()),
    ("mask paths", "Parts of the kernel's view that tell about the host, or reach it.", |init| {
        init.mask_paths()
    }),
    ("open the working directory", "Made when missing, and never followed out of the root.", |init| {
        init.open_cwd()
    }),
    ("seal the root", "With --read-only nothing below / can be changed any more.", |init| init.seal_root()),
    (RUN_HOOKS, "Programs of the config, while the host's files are in reach.", |init| init.run_hooks()),
    // After the hooks: each program that is executed from here on is in the profile.
    (CHANGE_PROFILE, credentials::WHY_PROFILE, |init| {
        init.launch.spec.process().as_ref().map_or(Ok(()), credentials::change_profile)
    }),
    ("pivot root", "The container's tree is / now and the host's is gone from here.", |init| {
        init.pivot_root()
    }),
    ("set the host name", "The UTS namespace holds it.", |init| init.set_hostname()),
    ("connect standard streams", "Descriptors 0, 1 and 2, and no other.", |init| init.connect_stdio()),
];

/// Takes the steps, waits to be let go, confines itself and becomes the program.
pub(crate) fn run(mut init: Init<'_>) -> ! {
    trace::set_actor("container");
    if let Some(later) = &init.launch.later {
        process::close_behind(later.lock);
    }
    // Nobody inside may look into this process, a copy of a host process, before it is the program.
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    rustix::process::umask(Mode::empty());
    let has_hooks = init.launch.state.is_some() && init.launch.has_create_hooks();
    let has_profile = init.launch.spec.process().as_ref().is_some_and(credentials::has_profile);
    let is_taken = |name| match name {
        RUN_HOOKS => has_hooks,
        CHANGE_PROFILE => has_profile,
        _ => true,
    };
    for (name, why, step) in STEPS.into_iter().filter(|(name, ..)| is_taken(name)) {
        if let Err(error) = trace::step(name, why, || step(&mut init)) {
            fail(&init.channel, name, &error);
        }
    }
    rustix::process::umask(Mode::from_raw_mode(0o022));
    if init.channel.ready().is_err() || !init.channel.wait_go().unwrap_or(false) {
        process::exit_now(1);
    }
    let Some(process) = init.launch.spec.process() else {
        fail(&init.channel, "execute the program", &StepError::new("the config names no process"))
    };
    if let Some(later) = init.launch.later.take() {
        wait_for_start(&mut init, &later);
    }
    run_start_hooks(&init, process);
    let error = become_program(process, init.launch.seccomp, &init.launch.passed);
    fail(&init.channel, "execute the program", &error)
}

/// Waits until another process starts the container; from then on that one is told what fails.
fn wait_for_start(init: &mut Init<'_>, later: &Later<'_>) {
    // It may wait for days, and keeps nothing else open.
    let keep: Vec<BorrowedFd<'_>> = init.launch.passed.fds().chain([later.listener.socket()]).collect();
    process::close_all_but(&keep);
    match later.listener.accept() {
        // The socket to the one who created was closed above, and is not to be closed again.
        Ok(channel) => std::mem::forget(std::mem::replace(&mut init.channel, channel)),
        Err(_) => process::exit_now(1),
    }
}

/// The hooks of the container's side, right before its program.
fn run_start_hooks(init: &Init<'_>, process: &Process) {
    let Some(state) = &init.launch.state else { return };
    let hooks = init.launch.hooks(|hooks| hooks.start_container().as_deref());
    let state = inside(state, ContainerState::Created);
    let ran = hooks::run_confined("startContainer", hooks, &state, process, init.launch.seccomp);
    if let Err(error) = ran {
        fail(&init.channel, "run the hooks", &error);
    }
}

/// The state as this process sees it.
fn inside(state: &State, status: ContainerState) -> State {
    let mut state = state.clone();
    state.set_status(status).set_pid(Some(rustix::process::getpid().as_raw_nonzero().get()));
    state
}

/// The last part. Comes back only with an error.
fn become_program(
    process: &Process,
    seccomp: Option<&rbox_security::seccomp::Filter>,
    passed: &Passed,
) -> StepError {
    let prepared = passed
        .go_on_exec()
        .map_err(StepError::from)
        .and_then(|()| credentials::limit_and_confine(process, seccomp));
    process::reset_signals();
    match prepared {
        Ok(()) => credentials::execute(process),
        Err(error) => error,
    }
}

/// Moves this task into the groups whose `tasks` files these are (cgroups(7), version 1).
pub(crate) fn enter_groups(tasks: &[OwnedFd]) -> Result<(), StepError> {
    for file in tasks {
        told("write", || format!("{}, \"0\"", trace::fd(file)), || rustix::io::write(file, b"0"))?;
    }
    Ok(())
}

impl<'a> Init<'a> {
    pub(crate) fn new(
        launch: Launch<'a>,
        mounts: Vec<PreparedMount>,
        namespaces: NamespaceSet,
        channel: ChildEnd,
    ) -> Self {
        let mounts = Mounts::new(launch.root, launch.stage, mounts);
        Self { launch, mounts, namespaces, channel, joined_root: None, console: None, cwd: None }
    }

    fn root(&self) -> BorrowedFd<'_> {
        self.joined_root.as_ref().map_or(self.launch.root, AsFd::as_fd)
    }

    fn hand_over_netlink(&mut self) -> Result<(), StepError> {
        if !self.namespaces.has("net") {
            return Ok(());
        }
        let socket = told(
            "socket",
            || "AF_NETLINK, SOCK_RAW|SOCK_CLOEXEC, NETLINK_ROUTE".into(),
            || {
                // The protocol of number 0, which is what no protocol means here.
                rustix::net::socket_with(
                    rustix::net::AddressFamily::NETLINK,
                    rustix::net::SocketType::RAW,
                    rustix::net::SocketFlags::CLOEXEC,
                    None,
                )
            },
        )?;
        self.channel.netlink(socket.as_fd()).map_err(|e| StepError::new(e.to_string()))
    }

    fn enter_groups(&mut self) -> Result<(), StepError> {
        enter_groups(self.launch.cgroup_tasks)
    }

    fn own_cgroup_namespace(&mut self) -> Result<(), StepError> {
        if self.namespaces.has("cgroup") {
            process::unshare(process::CloneFlags::CLONE_NEWCGROUP)?;
        }
        Ok(())
    }

    fn attach_root(&mut self) -> Result<(), StepError> {
        if !self.launch.has_own_tree() {
            let how = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let root = rustix::fs::open("/", how, Mode::empty());
            self.joined_root = Some(root.map_err(|e| SysError::new("open", "\"/\"".into(), e))?);
            return Ok(());
        }
        let stage = told(
            "open",
            || format!("{}, O_PATH|O_DIRECTORY|O_CLOEXEC", trace::quoted(self.launch.stage)),
            || {
                rustix::fs::open(
                    self.launch.stage,
                    OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
                    Mode::empty(),
                )
            },
        )?;
        Ok(attach(self.root(), stage)?)
    }

    fn make_devices(&mut self) -> Result<(), StepError> {
        match self.mounts.dev() {
            // Those of a user namespace are there.
            Some(dev) if self.launch.user.is_none() => make_devices(dev, self.launch.spec, &|ids| ids),
            _ => Ok(()),
        }
    }

    fn open_terminal(&mut self) -> Result<(), StepError> {
        let Stdio::Terminal { size } = &self.launch.stdio else { return Ok(()) };
        let (pts, attached) = self.mounts.terminals()?;
        let (master, slave) = open_pty(pts.as_fd(), *size)?;
        give_to_user(slave.as_fd(), self.launch.spec.process().as_ref());
        if let Some(place) = self.mounts.console_place()?
            && attached
        {
            attach(clone_tree(&slave, Path::new(""), false)?, place)?;
        }
        self.channel.terminal(master.as_fd()).map_err(|e| StepError::new(e.to_string()))?;
        self.console = Some(slave);
        Ok(())
    }

    fn write_sysctls(&mut self) -> Result<(), StepError> {
        let asked = self.launch.spec.linux().as_ref().and_then(|linux| linux.sysctl().as_ref());
        for (key, value) in asked.into_iter().flatten() {
            let proc =
                self.mounts.proc().ok_or_else(|| StepError::new("sysctls need /proc in the config"))?;
            let path = Path::new("sys").join(key.replace('.', "/"));
            write_beneath(proc, &path, value.as_bytes())
                .map_err(|error| StepError::new(format!("sysctl {key}={value}: {error}")))?;
        }
        Ok(())
    }

    fn adjust_oom_score(&mut self) -> Result<(), StepError> {
        let score = self.launch.spec.process().as_ref().and_then(Process::oom_score_adj);
        if self.launch.user.is_some() {
            return Ok(());
        }
        if let (Some(score), Some(proc)) = (score, self.mounts.proc()) {
            // By its number there, which is not 1 in a PID namespace that was joined or is the host's.
            let own = format!("{}/oom_score_adj", rustix::process::getpid().as_raw_nonzero());
            write_beneath(proc, Path::new(&own), score.to_string().as_bytes())?;
        }
        Ok(())
    }

    fn mask_paths(&mut self) -> Result<(), StepError> {
        let Some(linux) = self.launch.spec.linux() else { return Ok(()) };
        let read_only = linux.readonly_paths().as_deref().unwrap_or_default();
        self.mounts.cover(read_only, linux.masked_paths().as_deref().unwrap_or_default())
    }

    fn open_cwd(&mut self) -> Result<(), StepError> {
        let Some(process) = self.launch.spec.process() else { return Ok(()) };
        let cwd = process.cwd();
        if cwd != Path::new("/") {
            self.cwd =
                Some(tree::directory(self.root(), cwd).map_err(|error| {
                    StepError::new(format!("working directory {}: {error}", cwd.display()))
                })?);
        }
        Ok(())
    }

    fn seal_root(&mut self) -> Result<(), StepError> {
        let root = self.launch.spec.root().as_ref();
        if root.and_then(oci_spec::runtime::Root::readonly).unwrap_or(false) {
            set_attributes(
                self.root(),
                Attr::MOUNT_ATTR_RDONLY,
                Attr::empty(),
                MountPropagationFlags::empty(),
                false,
            )?;
        }
        Ok(())
    }

    /// Those of the host run in the parent, and then those of this side here, with the umask they would have anywhere.
    fn run_hooks(&mut self) -> Result<(), StepError> {
        let Some(state) = &self.launch.state else { return Ok(()) };
        self.channel.hooks().map_err(|e| StepError::new(e.to_string()))?;
        if !self.channel.wait_go().unwrap_or(false) {
            process::exit_now(1);
        }
        let hooks = self.launch.hooks(|hooks| hooks.create_container().as_deref());
        let umask = rustix::process::umask(Mode::from_raw_mode(0o022));
        let ran = hooks::run("createContainer", hooks, &inside(state, ContainerState::Creating));
        rustix::process::umask(umask);
        ran.map_err(StepError::new)
    }

    fn pivot_root(&mut self) -> Result<(), StepError> {
        if self.launch.has_own_tree() {
            mount::pivot_to(self.root())?;
        }
        if let Some(cwd) = &self.cwd {
            told("fchdir", || trace::fd(cwd), || rustix::process::fchdir(cwd))?;
        }
        Ok(())
    }

    fn set_hostname(&mut self) -> Result<(), StepError> {
        // Where it shares another's it has the name that the config gives, which is the other's to know.
        let own = self.namespaces.has("uts") || self.launch.joins("uts");
        if let (Some(name), true) = (self.launch.spec.hostname(), own) {
            told("sethostname", || trace::quoted(name), || rustix::system::sethostname(name.as_bytes()))?;
        }
        let domain = self.launch.spec.domainname().as_ref().filter(|name| !name.is_empty());
        if let (Some(name), true) = (domain, own) {
            told("setdomainname", || trace::quoted(name), || rustix::system::setdomainname(name.as_bytes()))?;
        }
        Ok(())
    }

    fn connect_stdio(&mut self) -> Result<(), StepError> {
        let user = self.launch.spec.process().as_ref();
        match (&self.launch.stdio, &self.console) {
            (Stdio::Fds(fds), _) => {
                take_streams(fds, user, || self.mounts.null())?;
                begin_session(false)
            }
            (Stdio::Terminal { .. }, Some(slave)) => {
                connect([slave.as_fd(); 3])?;
                begin_session(true)
            }
            (Stdio::Terminal { .. }, None) => Err(StepError::new("the terminal was not opened")),
        }
    }
}

/// The place a file inside the root has, for exec's working directory.
pub(crate) fn open_dir_in_root(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, SysError> {
    open_in_root(root, path, OFlags::PATH | OFlags::DIRECTORY, 0)
}

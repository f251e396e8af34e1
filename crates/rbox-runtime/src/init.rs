//! What the container's first process does before it becomes the program: a list of named steps.
//!
//! This side of the clone is a copy of the monitor, alone in its new namespaces, with all of root's powers over
//! the host's files still in reach until `pivot root`. So nothing here reads a path of the image by name, and
//! nothing opens anything under /proc after the root has changed.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use oci_spec::runtime::{LinuxDeviceType, Process};
use rbox_namespace::NamespaceSet;
use rbox_namespace::handshake::{ChildEnd, Failure};
use rbox_rootfs::{dev, tree};
use rbox_sys::file::{make_device, open_beneath, open_in_root, write_beneath};
use rbox_sys::inode::Inode;
use rbox_sys::mount;
use rbox_sys::mount::{Attr, attach, clone_tree, new_mount, set_attributes};
use rbox_sys::{SysError, process, told, trace};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::MountPropagationFlags;

use crate::credentials::{self, StepError};
use crate::launch::{Launch, Stdio};
use crate::mounts::Mounts;
use crate::plan::PreparedMount;

/// Everything the steps need, and what one leaves for the next.
pub(crate) struct Init<'a> {
    launch: Launch<'a>,
    mounts: Mounts<'a>,
    namespaces: NamespaceSet,
    channel: ChildEnd,
    /// The slave side of the terminal.
    console: Option<OwnedFd>,
    /// The working directory, opened inside the root before the root is the only thing there is.
    cwd: Option<OwnedFd>,
}

type Run = fn(&mut Init<'_>) -> Result<(), StepError>;

/// The steps in their order: name, why, and the work.
const STEPS: [(&str, &str, Run); 16] = [
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
        init.mounts.keep_peers()?;
        Ok(mount::make_all_slave()?)
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
    ("pivot root", "The container's tree is / now and the host's is gone from here.", |init| {
        init.pivot_root()
    }),
    ("set the host name", "The UTS namespace holds it.", |init| init.set_hostname()),
    ("connect standard streams", "Descriptors 0, 1 and 2, and no other.", |init| init.connect_stdio()),
];

/// Takes the steps, waits to be let go, confines itself and becomes the program.
pub(crate) fn run(mut init: Init<'_>) -> ! {
    trace::set_actor("container");
    // Nobody inside may look into this process, a copy of a host process, before it is the program.
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    rustix::process::umask(Mode::empty());
    for (name, why, step) in STEPS {
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
    let error = become_program(process, init.launch.seccomp);
    fail(&init.channel, "execute the program", &error)
}

/// The last part. Comes back only with an error.
fn become_program(process: &Process, seccomp: Option<&rbox_security::seccomp::Filter>) -> StepError {
    let prepared = process::close_from_on_exec(3)
        .map_err(StepError::from)
        .and_then(|()| credentials::limit_and_confine(process, seccomp));
    process::reset_signals();
    match prepared {
        Ok(()) => credentials::execute(process),
        Err(error) => error,
    }
}

pub(crate) fn fail(channel: &ChildEnd, step: &str, error: &StepError) -> ! {
    let message = if error.is_exec { error.message.clone() } else { format!("{step}: {}", error.message) };
    channel.fail(&Failure { step: step.to_owned(), message, errno: error.errno, is_exec: error.is_exec });
    process::exit_now(1)
}

/// Moves this task into the groups whose `tasks` files these are (cgroups(7), version 1).
pub(crate) fn enter_groups(tasks: &[OwnedFd]) -> Result<(), StepError> {
    for file in tasks {
        told(
            "write",
            || format!("{}, \"0\"", trace::fd(file)),
            || rustix::io::write(file, b"0").map(|_| ()),
        )?;
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
        Self { launch, mounts, namespaces, channel, console: None, cwd: None }
    }

    fn root(&self) -> BorrowedFd<'a> {
        self.launch.root
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
        let stage = told(
            "open",
            || format!("{}, O_PATH|O_DIRECTORY", trace::quoted(self.launch.stage)),
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
        let Some(dev) = self.mounts.dev() else { return Ok(()) };
        let asked = self.launch.spec.linux().as_ref().and_then(|linux| linux.devices().as_ref());
        for device in asked.into_iter().flatten() {
            let Ok(below) = device.path().strip_prefix("/dev") else {
                return Err(StepError::new(format!(
                    "device {}: only paths below /dev",
                    device.path().display()
                )));
            };
            let (Some(parent), Some(name)) = (below.parent(), below.file_name().and_then(|n| n.to_str()))
            else {
                continue;
            };
            let block = match device.typ() {
                LinuxDeviceType::B => true,
                LinuxDeviceType::C | LinuxDeviceType::U => false,
                other => return Err(StepError::new(format!("device type {other:?} cannot be made"))),
            };
            let parent = tree::directory(dev, &Path::new("/").join(parent))?;
            let mode = device.file_mode().unwrap_or(0o666) & 0o7777;
            let number = (device.major() as u32, device.minor() as u32);
            match make_device(&parent, name, mode, block, number.0, number.1) {
                // One that is there may be shared with others: it stays as it is, if it is the one.
                Err(error) if error.errno == nix::errno::Errno::EEXIST => {
                    device_at(&parent, name, block, number, device.path())?;
                    continue;
                }
                other => other?,
            }
            let (uid, gid) = (device.uid().unwrap_or(0), device.gid().unwrap_or(0));
            if (uid, gid) != (0, 0) {
                let node = device_at(&parent, name, block, number, device.path())?;
                let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
                told(
                    "fchownat",
                    || format!("{}, {}, {}", trace::quoted(name), uid.as_raw(), gid.as_raw()),
                    || node.set_owner(uid, gid),
                )?;
            }
        }
        Ok(())
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
        if let (Some(score), Some(proc)) = (score, self.mounts.proc()) {
            write_beneath(proc, Path::new("1/oom_score_adj"), score.to_string().as_bytes())?;
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

    fn pivot_root(&mut self) -> Result<(), StepError> {
        mount::pivot_to(self.root())?;
        if let Some(cwd) = &self.cwd {
            told("fchdir", || trace::fd(cwd), || rustix::process::fchdir(cwd))?;
        }
        Ok(())
    }

    fn set_hostname(&mut self) -> Result<(), StepError> {
        if let (Some(name), true) = (self.launch.spec.hostname(), self.namespaces.has("uts")) {
            told("sethostname", || trace::quoted(name), || rustix::system::sethostname(name.as_bytes()))?;
        }
        let domain = self.launch.spec.domainname().as_ref().filter(|name| !name.is_empty());
        if let (Some(name), true) = (domain, self.namespaces.has("uts")) {
            told("setdomainname", || trace::quoted(name), || rustix::system::setdomainname(name.as_bytes()))?;
        }
        Ok(())
    }

    fn connect_stdio(&mut self) -> Result<(), StepError> {
        let user = self.launch.spec.process().as_ref();
        match (&self.launch.stdio, &self.console) {
            (Stdio::Fds(fds), _) => {
                let null =
                    || self.mounts.dev().map_or_else(own_null, |dev| open_null(dev, Path::new("null")));
                take_streams(fds, user, null)?;
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

/// A new pair in the devpts instance `pts`: master and slave.
pub(crate) fn open_pty(
    pts: BorrowedFd<'_>,
    size: Option<(u16, u16)>,
) -> Result<(OwnedFd, OwnedFd), StepError> {
    let master = open_beneath(pts, Path::new("ptmx"), OFlags::RDWR | OFlags::NOCTTY, 0)?;
    told("ioctl", || format!("{}, TIOCSPTLCK, 0", master.as_raw_fd()), || rustix::pty::unlockpt(&master))?;
    let slave = told(
        "ioctl",
        || format!("{}, TIOCGPTPEER", master.as_raw_fd()),
        || {
            rustix::pty::ioctl_tiocgptpeer(
                &master,
                rustix::pty::OpenptFlags::RDWR
                    | rustix::pty::OpenptFlags::NOCTTY
                    | rustix::pty::OpenptFlags::CLOEXEC,
            )
        },
    )?;
    if let Some((rows, columns)) = size {
        let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let _ = rustix::termios::tcsetwinsize(&master, size);
    }
    Ok((master, slave))
}

/// Starts a session, of the terminal that this process has as its streams if there is one.
pub(crate) fn begin_session(on_terminal: bool) -> Result<(), StepError> {
    told("setsid", String::new, || rustix::process::setsid().map(|_| ()))?;
    if on_terminal {
        told("ioctl", || "0, TIOCSCTTY, 0".into(), || rustix::process::ioctl_tiocsctty(std::io::stdin()))?;
    }
    Ok(())
}

/// Takes these streams, given to the user of `owner` if there is one. In place of the host's null device
/// goes the container's own, which `null` opens: through a descriptor the program could change the mode of the host's.
pub(crate) fn take_streams(
    fds: &[OwnedFd; 3],
    owner: Option<&Process>,
    null: impl FnOnce() -> Option<OwnedFd>,
) -> Result<(), StepError> {
    let is_hosts_null = fds.each_ref().map(|fd| dev::is_null(fd.as_fd()));
    let null = if is_hosts_null.contains(&true) { null() } else { None };
    for (fd, _) in fds.iter().zip(is_hosts_null).filter(|(_, is_null)| !is_null) {
        give_to_user(fd.as_fd(), owner);
    }
    let chosen = |at: usize| match &null {
        Some(null) if is_hosts_null[at] => null.as_fd(),
        _ => fds[at].as_fd(),
    };
    connect([chosen(0), chosen(1), chosen(2)])
}

/// Opens the null device that a container has at `path` below `dir`; if it has something else there, one that it shares with nobody.
pub(crate) fn open_null(dir: BorrowedFd<'_>, path: &Path) -> Option<OwnedFd> {
    fn open(dir: BorrowedFd<'_>, path: &Path, how: OFlags) -> Option<OwnedFd> {
        open_in_root(dir, path, how, 0).ok().filter(|fd| dev::is_null(fd.as_fd()))
    }
    let how = OFlags::RDWR | OFlags::NOCTTY;
    // Looked at before it is opened, which does something to other devices, and again after.
    open(dir, path, OFlags::PATH).and_then(|_| open(dir, path, how)).or_else(own_null)
}

/// A null device on a file system of its own.
fn own_null() -> Option<OwnedFd> {
    let alone = new_mount("tmpfs", &[], Attr::empty()).ok()?;
    make_device(&alone, "null", 0o666, false, 1, 3).ok()?;
    open_beneath(alone.as_fd(), Path::new("null"), OFlags::RDWR | OFlags::NOCTTY, 0).ok()
}

/// Refuses what stands at a device's place and is not that device.
fn device_at(
    dir: &OwnedFd,
    name: &str,
    block: bool,
    (major, minor): (u32, u32),
    shown: &Path,
) -> Result<Inode, StepError> {
    let failed = |errno| SysError::new("openat", trace::quoted(shown), errno);
    let name = CString::new(name).map_err(|_| failed(Errno::INVAL))?;
    let there = Inode::at(dir, &name).map_err(failed)?;
    let stat = there.stat().map_err(failed)?;
    let kind = if block { FileType::BlockDevice } else { FileType::CharacterDevice };
    if FileType::from_raw_mode(stat.st_mode) == kind && stat.st_rdev == rustix::fs::makedev(major, minor) {
        return Ok(there);
    }
    Err(StepError::new(format!("device {}: something else is there already", shown.display())))
}

/// Makes these descriptors 0, 1 and 2. They may be among 0 to 2 themselves, so all are moved up first.
pub(crate) fn connect(fds: [BorrowedFd<'_>; 3]) -> Result<(), StepError> {
    let mut high = Vec::with_capacity(3);
    for fd in fds {
        high.push(told(
            "fcntl",
            || format!("{}, F_DUPFD_CLOEXEC, 3", fd.as_raw_fd()),
            || rustix::io::fcntl_dupfd_cloexec(fd, 3),
        )?);
    }
    told("dup2", || format!("{}, 0", high[0].as_raw_fd()), || rustix::stdio::dup2_stdin(&high[0]))?;
    told("dup2", || format!("{}, 1", high[1].as_raw_fd()), || rustix::stdio::dup2_stdout(&high[1]))?;
    told("dup2", || format!("{}, 2", high[2].as_raw_fd()), || rustix::stdio::dup2_stderr(&high[2]))?;
    Ok(())
}

/// Lets the program's user reopen its own streams by /dev/stdout. Where it may not, it simply cannot.
pub(crate) fn give_to_user(fd: BorrowedFd<'_>, process: Option<&Process>) {
    let uid = process.map_or(0, |p| p.user().uid());
    if uid != 0 {
        let _ = rustix::fs::fchown(fd, Some(rustix::fs::Uid::from_raw(uid)), None);
    }
}

/// The place a file inside the root has, for exec's working directory.
pub(crate) fn open_dir_in_root(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, SysError> {
    open_in_root(root, path, OFlags::PATH | OFlags::DIRECTORY, 0)
}

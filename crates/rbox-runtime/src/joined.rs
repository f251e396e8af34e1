//! Namespaces that are there already, joined by the path the config gives.
//!
//! A process between joins them: the user namespace first, because what may be joined and made after it is decided by that; the mount
//! namespace last, because it changes what paths lead to. Then it makes the container's first process in its own place, a brother, as a
//! PID namespace takes effect for children only. The caller stays where it is.
//!
//! Processes that are in a joined PID namespace see the first process while it is set up. One that has `CAP_SYS_PTRACE` over the host's user
//! namespace can take hold of it then: whoever lets a container join gives its processes to that container's.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespaceType as Kind, Spec};
use rbox_namespace::handshake::{self, ChildEnd, Told};
use rbox_sys::file::open_beneath;
use rbox_sys::mount::{Attr, clone_tree, is_mount_root, set_attributes};
use rbox_sys::process::{self, Child, CloneFlags, Side};
use rbox_sys::{SysError, told, trace, waiting};
use rustix::fs::{Mode, OFlags};
use rustix::mount::MountPropagationFlags;

use crate::child::mount_by_child;
use crate::credentials::{StepError, fail};
use crate::error::RuntimeError;

/// A namespace to be in.
#[derive(Debug)]
pub struct JoinedNamespace {
    name: &'static str,
    flag: CloneFlags,
    path: PathBuf,
    fd: OwnedFd,
}

/// In the order they are joined.
const ORDER: [(Kind, &str, CloneFlags); 7] = [
    (Kind::User, "user", CloneFlags::CLONE_NEWUSER),
    (Kind::Cgroup, "cgroup", CloneFlags::CLONE_NEWCGROUP),
    (Kind::Ipc, "ipc", CloneFlags::CLONE_NEWIPC),
    (Kind::Uts, "uts", CloneFlags::CLONE_NEWUTS),
    (Kind::Network, "net", CloneFlags::CLONE_NEWNET),
    (Kind::Pid, "pid", CloneFlags::CLONE_NEWPID),
    (Kind::Mount, "mnt", CloneFlags::CLONE_NEWNS),
];

/// Opens the namespaces that the config has paths of, and checks that each is what the config says.
pub fn open_namespaces(spec: &Spec) -> Result<Vec<JoinedNamespace>, RuntimeError> {
    let asked = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default();
    for (at, namespace) in asked.iter().enumerate() {
        let kind = namespace.typ();
        if asked[..at].iter().any(|other| other.typ() == kind) {
            return Err(RuntimeError::Config(format!("the {kind} namespace is given twice")));
        }
        if kind == Kind::Time {
            return Err(RuntimeError::Config("time namespaces are not supported".into()));
        }
    }
    let mut joined = Vec::new();
    for (kind, name, flag) in ORDER {
        let path = asked.iter().find(|one| one.typ() == kind).and_then(|one| one.path().clone());
        if let Some(path) = path {
            let fd = open(&path, flag)
                .map_err(|why| RuntimeError::Config(format!("{kind} namespace {}: {why}", path.display())))?;
            joined.push(JoinedNamespace { name, flag, path, fd });
        }
    }
    Ok(joined)
}

impl JoinedNamespace {
    /// A user namespace that was made for the container.
    pub(crate) fn own_user(fd: OwnedFd) -> Self {
        Self { name: "user", flag: CloneFlags::CLONE_NEWUSER, path: PathBuf::from("of its own"), fd }
    }

    /// Its name under /proc/PID/ns.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }
}

/// Opened only when it was seen to be a file of nsfs: another could be a FIFO or a device.
fn open(path: &Path, wanted: CloneFlags) -> Result<OwnedFd, String> {
    const NSFS_MAGIC: i64 = 0x6e73_6673;
    let plain = |errno| rbox_sys::error::reason(nix::errno::Errno::from_raw(errno));
    let found = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| plain(errno.raw_os_error()))?;
    if !rustix::fs::fstatfs(&found).is_ok_and(|stat| stat.f_type == NSFS_MAGIC) {
        return Err("it is no namespace".into());
    }
    let again = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&found));
    let fd = rustix::fs::open(again, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| plain(errno.raw_os_error()))?;
    let is = process::namespace_type(&fd).map_err(|error| error.to_string())?;
    if is != wanted {
        let named = ORDER.iter().find(|(_, _, flag)| *flag == is).map(|(kind, ..)| kind.to_string());
        return Err(format!("it is a {} namespace", named.as_deref().unwrap_or("time")));
    }
    Ok(fd)
}

/// Clones a child of this process that is in `joined`, and has new namespaces of `flags`. `before` is done by the process between, which may
/// all that this one may.
pub(crate) fn clone_into(
    joined: &[JoinedNamespace],
    flags: CloneFlags,
    cgroup: Option<BorrowedFd<'_>>,
    before: impl FnOnce() -> Result<(), StepError>,
) -> Result<Side<Child>, RuntimeError> {
    let (mut parent, channel) = handshake::pair()?;
    let between = match process::clone3(CloneFlags::empty(), cgroup)? {
        Side::Child => {
            drop(parent);
            trace::set_actor("container");
            if let Err(error) = before() {
                fail(&channel, OWN, &error);
            }
            return Ok(go_on_inside(joined, flags, &channel));
        }
        Side::Parent(between) => between,
    };
    drop(channel);
    let heard = parent.hear(between.pidfd.as_fd());
    if !matches!(heard, Ok(Told::Process(_))) {
        let _ = process::pidfd_send_signal(&between.pidfd, nix::libc::SIGKILL);
    }
    let _ = waiting::reap(between.pidfd.as_fd(), waiting::GONE);
    match heard? {
        Told::Process(pidfd) => {
            let pid = process::pid_of(&pidfd).ok_or(RuntimeError::Killed)?;
            Ok(Side::Parent(Child { pid, pidfd }))
        }
        Told::Failed(failure) => Err(RuntimeError::Init(failure)),
        _ => Err(RuntimeError::Killed),
    }
}

/// What is done before a user namespace is entered that is the container's own.
const OWN: &str = "make ready for the user namespace";

/// The process between: joins and makes its brother. Comes back in the brother only.
fn go_on_inside(joined: &[JoinedNamespace], flags: CloneFlags, channel: &ChildEnd) -> Side<Child> {
    const STEP: &str = "join namespaces";
    let entered = trace::step(STEP, "Those the config has paths of; the rest is made new.", || {
        joined.iter().try_for_each(enter)
    });
    if let Err(error) = entered {
        fail(channel, STEP, &error);
    }
    match process::clone3(flags | CloneFlags::CLONE_PARENT, None) {
        Ok(Side::Child) => Side::Child,
        Ok(Side::Parent(brother)) => {
            let told = channel.process(brother.pidfd.as_fd());
            process::exit_now(i32::from(told.is_err()));
        }
        Err(error) => fail(channel, STEP, &error.into()),
    }
}

fn enter(namespace: &JoinedNamespace) -> Result<(), StepError> {
    let failed = |error: SysError| StepError {
        message: format!("{} namespace {}: {error}", namespace.name, namespace.path.display()),
        errno: error.errno as i32,
        is_exec: false,
    };
    process::join_namespaces(&namespace.fd, namespace.flag).map_err(failed)?;
    if namespace.flag == CloneFlags::CLONE_NEWUSER {
        become_root().map_err(failed)?;
    }
    Ok(())
}

/// Becomes root of the user namespace that was joined: whoever joins has the ids it had outside, which may have none inside.
pub(crate) fn become_root() -> Result<(), SysError> {
    let (uid, gid) = (rustix::process::Uid::ROOT, rustix::process::Gid::ROOT);
    let ids = || "0, 0, 0".to_owned();
    told("setgroups", || "[]".into(), || rustix::thread::set_thread_groups(&[]))?;
    told("setresgid", ids, || rustix::thread::set_thread_res_gid(gid, gid, gid))?;
    told("setresuid", ids, || rustix::thread::set_thread_res_uid(uid, uid, uid))?;
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    Ok(())
}

/// A copy of the mount at `path` in the mount namespace of the process behind `pidfd`, as a mount of its own. Only there can it be made,
/// so a child goes there. No link is followed, and it must be the root of a tmpfs: programs in there may have put anything there.
pub fn mount_inside(pidfd: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, RuntimeError> {
    const STEP: &str = "copy a mount of another container";
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    mount_by_child(CloneFlags::empty(), "container", STEP, || {
        trace::step(STEP, "A mount can be copied in its own namespace only.", || {
            process::join_namespaces(pidfd, CloneFlags::CLONE_NEWNS)?;
            copy_tmpfs(path)
        })
    })
}

fn copy_tmpfs(path: &Path) -> Result<OwnedFd, StepError> {
    const TMPFS_MAGIC: i64 = 0x0102_1994;
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| SysError::new("open", "\"/\"".into(), errno))?;
    let below = path.strip_prefix("/").unwrap_or(path);
    let place = open_beneath(&root, below, OFlags::PATH | OFlags::DIRECTORY, 0)
        .map_err(|error| StepError::new(format!("{}: {error}", path.display())))?;
    let is_tmpfs = rustix::fs::fstatfs(&place).is_ok_and(|stat| stat.f_type == TMPFS_MAGIC);
    if !is_tmpfs || !is_mount_root(&place)? {
        return Err(StepError::new(format!("{} in there is no tmpfs", path.display())));
    }
    let copy = clone_tree(&place, Path::new(""), false)?;
    let attr = Attr::MOUNT_ATTR_NOSUID | Attr::MOUNT_ATTR_NODEV | Attr::MOUNT_ATTR_NOEXEC;
    set_attributes(&copy, attr, Attr::MOUNT_ATTR_RDONLY, MountPropagationFlags::PRIVATE, false)?;
    Ok(copy)
}

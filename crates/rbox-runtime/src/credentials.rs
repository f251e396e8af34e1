//! The last steps before the program runs: limits, user, capabilities, filter. Shared by init and exec.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use oci_spec::runtime::{PosixRlimitType, Process};
use rbox_namespace::handshake::{ChildEnd, Failure, HandshakeError};
use rbox_security::apparmor;
use rbox_security::seccomp::Filter;
use rbox_spec::capability::{CapSet, Capability};
use rbox_sys::{SysError, process, told, trace};
use rustix::process::{Gid, Resource, Rlimit, Uid};

/// A step that failed: the error as one line, and the kernel's number for it.
#[derive(Debug)]
pub(crate) struct StepError {
    pub(crate) message: String,
    pub(crate) errno: i32,
    pub(crate) is_exec: bool,
}

impl From<SysError> for StepError {
    fn from(error: SysError) -> Self {
        Self { errno: error.errno as i32, message: error.to_string(), is_exec: false }
    }
}

impl From<HandshakeError> for StepError {
    fn from(error: HandshakeError) -> Self {
        Self::new(error.to_string())
    }
}

impl From<rbox_rootfs::tree::TreeError> for StepError {
    fn from(error: rbox_rootfs::tree::TreeError) -> Self {
        Self { errno: error.errno(), message: error.to_string(), is_exec: false }
    }
}

impl StepError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), errno: 0, is_exec: false }
    }
}

/// Tells the parent which step failed, and ends.
pub(crate) fn fail(channel: &ChildEnd, step: &str, error: &StepError) -> ! {
    let message = if error.is_exec { error.message.clone() } else { format!("{step}: {}", error.message) };
    channel.fail(&Failure { step: step.to_owned(), message, errno: error.errno, is_exec: error.is_exec });
    process::exit_now(1)
}

/// The step that changes to the AppArmor profile of the config, and why.
pub(crate) const PROFILE: &str = "change the AppArmor profile";
pub(crate) const WHY_PROFILE: &str =
    "It holds from execve on, whatever changes before; the way to say so is the host's procfs.";

/// Whether the config names an AppArmor profile.
pub(crate) fn has_profile(process: &Process) -> bool {
    process.apparmor_profile().as_ref().is_some_and(|profile| !profile.is_empty())
}

/// Changes to the AppArmor profile that the config names, if it does. /proc must still be the host's.
pub(crate) fn change_profile(process: &Process) -> Result<(), StepError> {
    let profile = process.apparmor_profile().as_ref().filter(|profile| !profile.is_empty());
    let Some(profile) = profile else { return Ok(()) };
    apparmor::change_on_exec(profile).map_err(|error| StepError {
        // Docker's client takes it for a command that is not there.
        is_exec: matches!(error, apparmor::AppArmorError::Absent(_)),
        errno: Errno::ENOENT as i32,
        message: error.to_string(),
    })
}

/// Raises or lowers the limits the config names (setrlimit(2)).
pub(crate) fn set_rlimits(process: &Process) -> Result<(), StepError> {
    for limit in process.rlimits().iter().flatten() {
        let resource = resource(limit.typ());
        let bound = |value: u64| (value != u64::MAX).then_some(value);
        let new = Rlimit { current: bound(limit.soft()), maximum: bound(limit.hard()) };
        told(
            "prlimit64",
            || {
                let name = format!("RLIMIT_{resource:?}").to_uppercase();
                let value = |limit: Option<u64>| {
                    limit.map_or_else(|| "RLIM64_INFINITY".to_owned(), |limit| limit.to_string())
                };
                let (soft, hard) = (value(new.current), value(new.maximum));
                format!("0, {name}, {{rlim_cur={soft}, rlim_max={hard}}}, NULL")
            },
            || rustix::process::setrlimit(resource, new),
        )
        .map_err(|error| limit_refused(resource, &new, &error))?;
    }
    Ok(())
}

/// The limit by the name it has as an argument of `--ulimit`.
fn limit_refused(resource: Resource, limit: &Rlimit, error: &SysError) -> StepError {
    let name = format!("{resource:?}").to_lowercase();
    let value = |value: Option<u64>| value.map_or_else(|| "unlimited".to_owned(), |value| value.to_string());
    let (soft, hard) = (value(limit.current), value(limit.maximum));
    let reason = rbox_sys::error::reason(error.errno);
    let mut message = format!("error setting the limit {name}={soft}:{hard}: {reason}");
    if error.errno == Errno::EPERM {
        message.push_str(": it is more than this host allows");
    }
    StepError { errno: error.errno as i32, message, is_exec: false }
}

/// Raises those above what this process has: in a user namespace nobody may.
pub(crate) fn raise_limits(process: &Process) -> Result<(), StepError> {
    for limit in process.rlimits().iter().flatten() {
        let resource = resource(limit.typ());
        let now = rustix::process::getrlimit(resource);
        let wanted = (limit.hard() != u64::MAX).then_some(limit.hard());
        if now.maximum.is_some_and(|now| wanted.is_none_or(|wanted| wanted > now)) {
            told(
                "setrlimit",
                || format!("{resource:?}, soft={:?}, hard={wanted:?}", now.current),
                || rustix::process::setrlimit(resource, Rlimit { current: now.current, maximum: wanted }),
            )?;
        }
    }
    Ok(())
}

fn resource(kind: PosixRlimitType) -> Resource {
    match kind {
        PosixRlimitType::RlimitAs => Resource::As,
        PosixRlimitType::RlimitCore => Resource::Core,
        PosixRlimitType::RlimitCpu => Resource::Cpu,
        PosixRlimitType::RlimitData => Resource::Data,
        PosixRlimitType::RlimitFsize => Resource::Fsize,
        PosixRlimitType::RlimitLocks => Resource::Locks,
        PosixRlimitType::RlimitMemlock => Resource::Memlock,
        PosixRlimitType::RlimitMsgqueue => Resource::Msgqueue,
        PosixRlimitType::RlimitNice => Resource::Nice,
        PosixRlimitType::RlimitNofile => Resource::Nofile,
        PosixRlimitType::RlimitNproc => Resource::Nproc,
        PosixRlimitType::RlimitRss => Resource::Rss,
        PosixRlimitType::RlimitRtprio => Resource::Rtprio,
        PosixRlimitType::RlimitRttime => Resource::Rttime,
        PosixRlimitType::RlimitSigpending => Resource::Sigpending,
        PosixRlimitType::RlimitStack => Resource::Stack,
    }
}

/// The capabilities the config leaves the process: its bounding set.
pub(crate) fn capabilities(process: &Process) -> CapSet {
    let named = process.capabilities().as_ref().and_then(|sets| sets.bounding().as_ref());
    let mut set = CapSet::EMPTY;
    for name in named.into_iter().flatten() {
        if let Ok(capability) = name.to_string().parse::<Capability>() {
            set = set.with(capability);
        }
    }
    set
}

/// Becomes the config's user with exactly its groups.
pub(crate) fn become_user(process: &Process) -> Result<(), StepError> {
    let user = process.user();
    let groups: Vec<Gid> = user.additional_gids().iter().flatten().map(|gid| Gid::from_raw(*gid)).collect();
    let (uid, gid) = (Uid::from_raw(user.uid()), Gid::from_raw(user.gid()));
    let list = || format!("{:?}", groups.iter().map(|g| g.as_raw()).collect::<Vec<_>>());
    told("setgroups", list, || rustix::thread::set_thread_groups(&groups))?;
    told(
        "setresgid",
        || format!("{0}, {0}, {0}", gid.as_raw()),
        || rustix::thread::set_thread_res_gid(gid, gid, gid),
    )?;
    told(
        "setresuid",
        || format!("{0}, {0}, {0}", uid.as_raw()),
        || rustix::thread::set_thread_res_uid(uid, uid, uid),
    )?;
    // With another user the kernel sets this anew, as fs.suid_dumpable says: still nobody may look in before the program runs.
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    Ok(())
}

/// What init and exec have in common before the program is executed.
pub(crate) fn limit_and_confine(process: &Process, seccomp: Option<&Filter>) -> Result<(), StepError> {
    trace::step(
        "leave the caller's keys",
        "A session keyring holds keys of whoever ran the command; the program gets an empty one.",
        rbox_sys::process::own_session_keyring,
    )?;
    trace::step("set resource limits", "Those of --ulimit.", || set_rlimits(process))?;
    confine(process, seccomp)?;
    if let Some(umask) = process.user().umask() {
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(umask));
    }
    Ok(())
}

/// Drops what the process may not have, becomes its user, and puts the filter on, in the order that lets each
/// of these still happen: without `no_new_privs` a filter needs `CAP_SYS_ADMIN`, so it goes on before that is dropped.
pub(crate) fn confine(process: &Process, seccomp: Option<&Filter>) -> Result<(), StepError> {
    let keep = capabilities(process);
    let no_new_privileges = process.no_new_privileges().unwrap_or(false);
    trace::step(
        "drop the bounding set",
        "What is not in it can never be gained again, not even by a setuid program.",
        || rbox_security::capabilities::drop_bounding(keep),
    )?;
    if !no_new_privileges {
        install(seccomp)?;
    }
    trace::step(
        "become the user",
        "The program gets the user and exactly the groups of the image or of -u.",
        || become_user(process),
    )?;
    trace::step("set capabilities", "Root inside keeps a few of root's powers; anyone else none.", || {
        rbox_security::capabilities::apply(keep, process.user().uid())
    })?;
    if no_new_privileges {
        trace::step(
            "no new privileges",
            "setuid programs and file capabilities give nothing from here on.",
            rbox_security::no_new_privs,
        )?;
        install(seccomp)?;
    }
    Ok(())
}

fn install(seccomp: Option<&Filter>) -> Result<(), StepError> {
    let Some(filter) = seccomp else { return Ok(()) };
    trace::step(
        "install the seccomp filter",
        "System calls that no container needs are refused from here on.",
        || Ok(filter.install()?),
    )
}

/// Executes the program; comes back only with the reason why not.
pub(crate) fn execute(process: &Process) -> StepError {
    let args: Vec<CString> = strings(process.args().as_deref().unwrap_or_default());
    let env: Vec<CString> = strings(process.env().as_deref().unwrap_or_default());
    let Some(name) = args.first().cloned() else {
        return StepError { message: "no command specified".into(), errno: 0, is_exec: true };
    };
    let shown = name.to_string_lossy().into_owned();
    let failed = |errno: Errno, why: &str| StepError {
        message: format!("exec: \"{shown}\": {why}"),
        errno: errno as i32,
        is_exec: true,
    };
    trace::step(
        "execute the program",
        "This process becomes the container's program; rbox's own code is gone from it.",
        || {
            if shown.is_empty() {
                return failed(Errno::ENOENT, "executable file not found in $PATH");
            }
            if shown.contains('/') {
                let errno = process::execve(&name, &args, &env);
                let errno = if is_directory(&name) { Errno::EISDIR } else { errno };
                return failed(errno, &describe(errno, &shown));
            }
            // execvp(3)'s rules: go on past what is missing, remember what may not be executed.
            let mut worst = Errno::ENOENT;
            for dir in search_path(&env) {
                let Ok(path) = CString::new([dir.as_bytes(), b"/", name.as_bytes()].concat()) else {
                    continue;
                };
                if rustix::fs::access(&path, rustix::fs::Access::EXISTS).is_err() {
                    continue;
                }
                match process::execve(&path, &args, &env) {
                    Errno::ENOENT | Errno::ENOTDIR if worst == Errno::ENOENT => {}
                    Errno::ENOEXEC => return failed(Errno::ENOEXEC, &describe(Errno::ENOEXEC, &shown)),
                    errno => worst = errno,
                }
            }
            if worst == Errno::ENOENT {
                failed(worst, "executable file not found in $PATH")
            } else {
                failed(worst, &describe(worst, &shown))
            }
        },
    )
}

fn is_directory(path: &CString) -> bool {
    rustix::fs::stat(path).is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir())
}

fn describe(errno: Errno, name: &str) -> String {
    match errno {
        Errno::ENOENT if rustix::fs::access(name, rustix::fs::Access::EXISTS).is_ok() => {
            "no such file or directory (it is there: its interpreter or loader is not)".into()
        }
        Errno::ENOENT => "no such file or directory".into(),
        Errno::EACCES => "permission denied".into(),
        Errno::EISDIR => "is a directory".into(),
        Errno::ENOEXEC => "exec format error (built for another architecture, or a script without #!)".into(),
        other => other.desc().to_lowercase(),
    }
}

/// The directories of PATH, or of the default when the environment has none.
fn search_path(env: &[CString]) -> Vec<&OsStr> {
    let path = env.iter().rev().find_map(|v| v.as_bytes().strip_prefix(b"PATH="));
    let path = path.unwrap_or(b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    path.split(|b| *b == b':').filter(|d| d.starts_with(b"/")).map(OsStr::from_bytes).collect()
}

/// Texts as the kernel takes them; one with a NUL inside was refused before, and ends there.
fn strings(texts: &[String]) -> Vec<CString> {
    texts.iter().map(|t| CString::new(t.split('\0').next().unwrap_or_default()).unwrap_or_default()).collect()
}

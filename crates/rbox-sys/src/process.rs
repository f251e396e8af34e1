//! Processes: clone3(2), fork, pidfds, joining namespaces, execve(2).

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::error::{SysError, told};
use crate::trace::{Returned, flags};

pub use nix::sched::CloneFlags;

/// clone(2); the constant of the libc crate is an `int`, which cannot hold it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Which side of a clone or fork this is.
#[derive(Debug)]
pub enum Side<T> {
    /// The new process.
    Child,
    /// The old one.
    Parent(T),
}

/// A child by its pid, as this namespace counts, and a descriptor that stays valid when the pid is reused.
#[derive(Debug)]
pub struct Child {
    /// Its pid here.
    pub pid: i32,
    /// Readable once it has ended (`pidfd_open(2)`).
    pub pidfd: OwnedFd,
}

impl Returned for Child {
    fn returned(&self) -> String {
        self.pid.to_string()
    }
}

/// Clones this process into new namespaces and, when given, straight into a v2 control group (clone3(2)).
///
/// The caller must be single-threaded: the child is a copy of this thread only, and a lock another thread
/// held would stay locked in it for ever. That is checked. With `CLONE_PARENT` among the flags it is a brother: a child of
/// this process's parent.
pub fn clone3(namespaces: CloneFlags, cgroup: Option<BorrowedFd<'_>>) -> Result<Side<Child>, SysError> {
    let mut pidfd: i32 = -1;
    // A raw pointer, not a reference: the kernel writes here while the closure below is alive.
    let pidfd = &raw mut pidfd;
    // libc's type for clone3; all that is unset must be zero.
    // SAFETY: clone_args is a plain C struct of integers, for which zeroes are valid.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = u64::from(namespaces.bits() as u32) | libc::CLONE_PIDFD as u64;
    args.pidfd = pidfd as u64;
    // A brother takes its parent's, and the kernel refuses another.
    if !namespaces.contains(CloneFlags::CLONE_PARENT) {
        args.exit_signal = libc::SIGCHLD as u64;
    }
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    let shown = || {
        let into =
            cgroup.map_or(String::new(), |fd| format!("|CLONE_INTO_CGROUP, cgroup={}", crate::trace::fd(fd)));
        format!("{{flags={}|CLONE_PIDFD{into}, exit_signal=SIGCHLD}}", flags(namespaces))
    };
    if !is_alone(thread_count) {
        return Err(SysError::new("clone3", shown(), Errno::EBUSY));
    }
    crate::trace::announce();
    let begin = std::time::Instant::now();
    let cloned = {
        // SAFETY: no CLONE_VM, so the child has its own copy of all memory; the process has one thread (checked),
        // so no lock is held by a thread that does not exist in the child. `args` outlives the call.
        match unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) } {
            // The child tells nothing: one call is told once.
            0 => return Ok(Side::Child),
            -1 => Err(Errno::last()),
            pid => {
                // SAFETY: the pointer is to a local of this function, and the kernel stored a new descriptor there
                // that nobody else owns.
                let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd.read_volatile()) };
                Ok(Child { pid: pid as i32, pidfd })
            }
        }
    };
    crate::trace::tell("clone3", shown, &cloned, begin);
    match cloned {
        Ok(child) => Ok(Side::Parent(child)),
        Err(errno) => Err(SysError::new("clone3", shown(), errno)),
    }
}

/// Makes a brother of this process, a child of this one's parent (clone(2), `CLONE_PARENT`): its descriptor. Of the older call,
/// because seccomp filters that let programs fork let this one through, and refuse clone3, whose flags they cannot see.
///
/// For children of [`clone3`], which are single-threaded.
pub fn clone_brother() -> Result<Side<OwnedFd>, SysError> {
    let shown = || "CLONE_PARENT|CLONE_PIDFD|SIGCHLD".to_owned();
    let mut pidfd: i32 = -1;
    let pidfd = &raw mut pidfd;
    // SAFETY: no CLONE_VM, so the child has its own copy of all memory, in which a lock may be held for ever if the caller
    // had threads; it has none, being a child of `clone3` that starts none (/proc, which tells, may be a container's here). The stack stays the same one. The third argument is where a
    // pidfd goes, on every architecture; the others belong to flags that are not set.
    match unsafe { libc::syscall(libc::SYS_clone, BROTHER, 0_u64, pidfd, 0_u64, 0_u64) } {
        -1 => Err(SysError::new("clone", shown(), Errno::last())),
        0 => Ok(Side::Child),
        // SAFETY: the pointer is to a local of this function, and the kernel stored a new descriptor there that nobody else owns.
        _ => Ok(Side::Parent(unsafe { OwnedFd::from_raw_fd(pidfd.read_volatile()) })),
    }
}

/// The flags of [`clone_brother`], for who asks a seccomp filter about it.
pub const BROTHER: u64 = (libc::CLONE_PARENT | libc::CLONE_PIDFD | libc::SIGCHLD) as u64;

/// Shows `look` each variable of the environment, as `NAME=value`, where it is: a copy would be left in memory that is given back, for
/// whoever gets to read that ([`wipe_environment`]). Only for the very beginning of a process.
pub fn each_variable(mut look: impl FnMut(&[u8])) {
    unsafe extern "C" {
        static environ: *const *const libc::c_char;
    }
    // SAFETY: one thread, and nothing sets a variable meanwhile; `environ` is an array of strings that ends with a null pointer.
    unsafe {
        let mut at = environ;
        while !at.is_null() && !(*at).is_null() {
            look(CStr::from_ptr(*at).to_bytes());
            at = at.add(1);
        }
    }
}

/// Wipes the environment this process was started with: whoever gets to read its memory finds none of it. Nothing of this process may
/// ask for its environment after that.
pub fn wipe_environment() {
    unsafe extern "C" {
        static environ: *mut *mut libc::c_char;
    }
    // SAFETY: one thread; `environ` is an array of strings that ends with a null pointer, each in writable memory of this process
    // (execve(2) put it on the stack, or setenv(3) on the heap) and ended by a zero, before which zeros are written.
    unsafe {
        let mut at = environ;
        while !at.is_null() && !(*at).is_null() {
            let length = libc::strlen(*at);
            std::ptr::write_bytes(*at, 0, length);
            at = at.add(1);
        }
    }
}

/// fork(2) of this single-threaded process: the child is the monitor, or the process between two namespaces.
pub fn fork() -> Result<Side<i32>, SysError> {
    if !is_alone(thread_count) {
        return Err(SysError::new("fork", String::new(), Errno::EBUSY));
    }
    // SAFETY: one thread (checked), so the child may do anything its parent may.
    match unsafe { libc::fork() } {
        -1 => Err(SysError::new("fork", String::new(), Errno::last())),
        0 => Ok(Side::Child),
        pid => Ok(Side::Parent(pid)),
    }
}

/// How long a thread that was joined may take to be gone. The kernel lets whoever joins it go on first, and takes down what it had, such as a
/// mount namespace, after that.
const LEAVING: Duration = Duration::from_secs(1);

/// Whether this process has one thread, or has soon.
fn is_alone(threads: impl Fn() -> u64) -> bool {
    let begin = Instant::now();
    while threads() > 1 {
        if begin.elapsed() > LEAVING {
            return false;
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    true
}

/// Whether this process has one thread now.
pub(crate) fn has_one_thread() -> bool {
    thread_count() == 1
}

/// How many threads this process has (`st_nlink` of /proc/self/task less two; no listing is read).
fn thread_count() -> u64 {
    std::fs::metadata("/proc/self/task").map_or(1, |meta| meta.nlink().saturating_sub(2))
}

/// Enters namespaces of the process behind `pidfd` (setns(2), Linux 5.8). A pid namespace is entered by the
/// next child only.
pub fn join_namespaces(pidfd: impl AsFd, which: CloneFlags) -> Result<(), SysError> {
    let pidfd = pidfd.as_fd();
    told(
        "setns",
        || format!("{}, {}", crate::trace::fd(pidfd), flags(which)),
        || nix::sched::setns(pidfd, which),
    )
}

/// Runs `work` with this thread in the network namespace behind `netns`, and comes back, also when `work` panics. A
/// process that could not come back would go on in a container's network, so it ends instead.
pub fn in_network<T>(netns: BorrowedFd<'_>, work: impl FnOnce() -> T) -> Result<T, SysError> {
    struct Back(std::fs::File);
    impl Drop for Back {
        fn drop(&mut self) {
            if join_namespaces(&self.0, CloneFlags::CLONE_NEWNET).is_err() {
                std::process::abort();
            }
        }
    }
    let own = "/proc/thread-self/ns/net";
    let own = std::fs::File::open(own).map_err(|error| SysError::new("open", format!("{own:?}"), error))?;
    join_namespaces(netns, CloneFlags::CLONE_NEWNET)?;
    let _back = Back(own);
    Ok(work())
}

/// [`clone3`] with the child in the network namespace `netns`, where it stays; this process goes back to its own.
///
/// # Errors
/// When `netns` cannot be entered, and those of [`clone3`].
pub fn clone3_in_network(
    netns: BorrowedFd<'_>,
    namespaces: CloneFlags,
    cgroup: Option<BorrowedFd<'_>>,
) -> Result<Side<Child>, SysError> {
    let own = "/proc/thread-self/ns/net";
    let own = std::fs::File::open(own).map_err(|error| SysError::new("open", format!("{own:?}"), error))?;
    join_namespaces(netns, CloneFlags::CLONE_NEWNET)?;
    let side = clone3(namespaces, cgroup);
    // A process that could not go back would make everything else in the wrong network.
    if !matches!(side, Ok(Side::Child)) && join_namespaces(&own, CloneFlags::CLONE_NEWNET).is_err() {
        std::process::abort();
    }
    side
}

/// Puts this process into new namespaces (unshare(2)).
pub fn unshare(which: CloneFlags) -> Result<(), SysError> {
    told("unshare", || flags(which), || nix::sched::unshare(which))
}

/// A descriptor of the process `pid`.
pub fn pidfd_open(pid: i32) -> Result<OwnedFd, SysError> {
    let shown = || format!("{pid}, 0");
    let Some(pid) = rustix::process::Pid::from_raw(pid) else {
        return Err(SysError::new("pidfd_open", shown(), Errno::ESRCH));
    };
    told("pidfd_open", shown, || rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()))
}

/// A process's start time in clock ticks since boot, and whether it is a zombie (proc(5): stat fields 22 and 3).
pub fn process_start(pid: i32) -> Option<(u64, bool)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command name may hold spaces and parentheses; the last `)` ends it.
    let rest = &text[text.rfind(')')? + 1..];
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    let start = fields.nth(18)?.parse().ok()?;
    Some((start, matches!(state, "Z" | "X")))
}

/// The pid of the process behind `pidfd` as this process counts; none once it is gone (`fdinfo` of `pidfd_open(2)`).
pub fn pid_of(pidfd: impl AsFd) -> Option<i32> {
    let path = format!("/proc/self/fdinfo/{}", pidfd.as_fd().as_raw_fd());
    let info = std::fs::read_to_string(path).ok()?;
    info.lines().find_map(|line| line.strip_prefix("Pid:"))?.trim().parse().ok().filter(|pid| *pid > 0)
}

/// The status (as wait(2) has it) of an ended process that need not be this one's child: from /proc while it is a zombie, and from
/// its pidfd after that (`PIDFD_GET_INFO`, Linux 6.15). The inner one is none while the kernel has none to show, the outer one where it
/// never will.
pub fn status_of(pidfd: impl AsFd) -> Option<Option<i32>> {
    if let Ok(Some(status)) = kept_status(&pidfd) {
        return Some(Some(status));
    }
    let Some(pid) = pid_of(&pidfd) else {
        // Gone by now, and perhaps only since it was asked for: the kernel keeps the status before it takes the process away.
        return kept_status(&pidfd).ok();
    };
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let is_zombie = text.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'));
    let status = text.split_ascii_whitespace().next_back().filter(|_| is_zombie);
    Some(status.and_then(|status| status.parse().ok()))
}

/// What a pidfd keeps of the status of a process that was reaped; none before that. An error where the process is gone and nothing was
/// kept, or the kernel does not know the request.
#[allow(clippy::cast_lossless, reason = "C libraries differ in the type of a request")]
fn kept_status(pidfd: impl AsFd) -> Result<Option<i32>, Errno> {
    /// `struct pidfd_info` as of Linux 6.13, 64 bytes: in 32-bit words, the first two being the mask.
    type Info = [u32; 16];
    const PIDFD_GET_INFO: u32 = 0xc040_ff0b;
    const PIDFD_INFO_EXIT: u32 = 1 << 3;
    let mut info: Info = [0; 16];
    info[0] = PIDFD_INFO_EXIT;
    // SAFETY: the request's number says that the kernel reads and writes these 64 bytes.
    let asked = unsafe { libc::ioctl(pidfd.as_fd().as_raw_fd(), PIDFD_GET_INFO as _, &raw mut info) };
    Errno::result(asked)?;
    Ok((info[0] & PIDFD_INFO_EXIT != 0).then(|| info[15].cast_signed()))
}

/// The namespace type behind a descriptor of nsfs, as its clone flag (`NS_GET_NSTYPE` of `ioctl_nsfs(2)`).
#[allow(clippy::cast_lossless, reason = "C libraries differ in the type of a request")]
pub fn namespace_type(namespace: impl AsFd) -> Result<CloneFlags, SysError> {
    const NS_GET_NSTYPE: u32 = 0xb703;
    let namespace = namespace.as_fd();
    told(
        "ioctl",
        || format!("{}, NS_GET_NSTYPE", crate::trace::fd(namespace)),
        || {
            // SAFETY: this request takes no argument and answers with a number.
            let answer = unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_NSTYPE as _) };
            Errno::result(answer)
        },
    )
    .map(CloneFlags::from_bits_retain)
}

/// A copy of the descriptor `number` of the process behind `pidfd` (`pidfd_getfd(2)`, Linux 5.6). Who may trace that process may
/// do so, else it ends with `EPERM`; with `EBADF` where the process has no such descriptor.
pub fn pidfd_getfd(pidfd: impl AsFd, number: i32) -> Result<OwnedFd, SysError> {
    let pidfd = pidfd.as_fd();
    told(
        "pidfd_getfd",
        || format!("{}, {number}, 0", pidfd.as_raw_fd()),
        || rustix::process::pidfd_getfd(pidfd, number, rustix::process::PidfdGetfdFlags::empty()),
    )
}

/// Sends a signal, also one without a name, to a child of this process that it has not reaped (kill(2)). Best effort.
pub fn kill(pid: i32, signal: i32) {
    // A number that is not positive means groups.
    if pid > 0 {
        // SAFETY: takes two numbers.
        unsafe { libc::kill(pid, signal) };
    }
}

/// Sends any signal, realtime ones too, to exactly the process behind `pidfd` (`pidfd_send_signal(2)`).
pub fn pidfd_send_signal(pidfd: impl AsFd, signal: i32) -> Result<(), SysError> {
    let pidfd = pidfd.as_fd();
    told(
        "pidfd_send_signal",
        || format!("{}, {signal}", pidfd.as_raw_fd()),
        || {
            // SAFETY: takes numbers and an open descriptor; the info pointer may be null.
            let result = unsafe {
                libc::syscall(
                    libc::SYS_pidfd_send_signal,
                    pidfd.as_raw_fd(),
                    signal,
                    std::ptr::null::<libc::siginfo_t>(),
                    0_u32,
                )
            };
            Errno::result(result).map(|_| ())
        },
    )
}

/// Marks every descriptor from `first` up as closed by exec (`close_range(2)`, `CLOSE_RANGE_CLOEXEC`).
pub fn close_from_on_exec(first: u32) -> Result<(), SysError> {
    told(
        "close_range",
        || format!("{first}, ~0, CLOSE_RANGE_CLOEXEC"),
        || {
            // SAFETY: only sets a flag on descriptors; none is closed here.
            let result =
                unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
            Errno::result(result).map(|_| ())
        },
    )
}

/// Gives this process a session keyring of its own, empty (keyctl(2)): the one it has is the caller's, with the caller's
/// keys. A kernel without keys has nothing to leave behind.
pub fn own_session_keyring() -> Result<(), SysError> {
    let joined = told(
        "keyctl",
        || "KEYCTL_JOIN_SESSION_KEYRING, NULL".into(),
        || {
            // SAFETY: takes a number and a name, which may be null.
            let result = unsafe {
                libc::syscall(
                    libc::SYS_keyctl,
                    libc::KEYCTL_JOIN_SESSION_KEYRING,
                    std::ptr::null::<libc::c_char>(),
                )
            };
            Errno::result(result)
        },
    );
    match joined {
        Err(error) if error.errno != Errno::ENOSYS => Err(error),
        _ => Ok(()),
    }
}

/// Replaces this process (execve(2)). Comes back only when it failed.
pub fn execve(path: &CStr, args: &[CString], env: &[CString]) -> Errno {
    let shown = || format!("{path:?}, {args:?}, {env:?}");
    crate::trace::last_call("execve", shown);
    let begin = std::time::Instant::now();
    let errno = nix::unistd::execve(path, args, env).err().unwrap_or(Errno::EINVAL);
    crate::trace::tell("execve", shown, &Err::<(), _>(errno), begin);
    errno
}

/// Replaces this process by the program `name` below `dir` (execveat(2)). Comes back only when it failed.
pub fn execveat(dir: impl AsFd, name: &CStr, args: &[CString], env: &[CString]) -> Errno {
    let none = nix::fcntl::AtFlags::empty();
    nix::unistd::execveat(dir, name, args, env, none).err().unwrap_or(Errno::EINVAL)
}

/// Leaves at once: no destructors, no buffers, nothing of the parent's is touched (_exit(2)).
pub fn exit_now(code: i32) -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(code) }
}

/// Lets no signal end this process but SIGKILL: for one that ends by itself with those it serves.
pub fn block_signals() {
    let _ = nix::sys::signal::SigSet::all().thread_block();
}

/// Lets `signal` do what it does by default and end nothing else: used on the way to exec.
pub fn reset_signals() {
    for signal in 1..=64 {
        if matches!(signal, libc::SIGKILL | libc::SIGSTOP) {
            continue;
        }
        // Past the C library, which keeps a few for itself: glibc's posix_spawn(3) has a program ignore its own.
        let default = [0_u64; 4];
        // SAFETY: all zero is SIG_DFL, a valid disposition for every catchable signal, without flags and with an empty mask.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), std::ptr::null::<u64>(), 8_usize)
        };
    }
    let mut empty = nix::sys::signal::SigSet::empty();
    empty.clear();
    let _ = empty.thread_set_mask();
}

/// Children of this process that end from here on are gone at once, although nobody has waited for them: the end of their PID namespace
/// waits for none of them. How they have ended is for [`status_of`] to tell.
pub fn leave_no_zombies() {
    // SAFETY: SIG_IGN is a valid disposition for SIGCHLD.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
}

/// Undoes [`leave_no_zombies`]: children that end from here on can be waited for.
pub fn keep_zombies() {
    // SAFETY: SIG_DFL is a valid disposition for SIGCHLD.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

/// Undoes what a caller may have left: an ignored SIGCHLD, with which no child can be waited for, and blocked signals. Other
/// ignored signals stay so: `nohup` means it.
pub fn reset_inherited_signals() {
    // SAFETY: SIG_DFL is a valid disposition for SIGCHLD.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    let _ = nix::sys::signal::SigSet::empty().thread_set_mask();
}

/// Lets a write beyond the caller's limit of a file's size fail with EFBIG, where SIGXFSZ would end this process. A handler and not
/// `SIG_IGN`, as no program that is executed inherits a handler.
pub fn survive_size_limit() {
    extern "C" fn nothing(_: libc::c_int) {}
    let handler: extern "C" fn(libc::c_int) = nothing;
    // SAFETY: the handler touches nothing.
    unsafe { libc::signal(libc::SIGXFSZ, handler as libc::sighandler_t) };
}

/// Names this process as `ps` and /proc/PID/comm show it (prctl(2), `PR_SET_NAME`); 15 bytes count.
pub fn set_name(name: &CStr) {
    let _ = rustix::thread::set_name(name);
}

/// Descriptors of the caller that are still open.
static KEPT: std::sync::Mutex<Vec<u32>> = std::sync::Mutex::new(Vec::new());

/// Closes every descriptor from 3 up (`close_range(2)`) but those to `keep` that are open: what the caller left open for us by accident, and which a
/// monitor would keep open for its container's life. Only for the very beginning of a process.
pub fn close_inherited(mut keep: Vec<u32>) {
    // One that is not open now becomes one of ours, which is not to be closed later.
    keep.retain(|number| *number >= 3 && is_open(*number));
    keep.sort_unstable();
    keep.dedup();
    // SAFETY: called before this process has opened anything, so nothing of ours is closed behind an owner's back.
    unsafe { close_all_between(&keep) };
    if let Ok(mut kept) = KEPT.lock() {
        *kept = keep;
    }
}

fn is_open(number: u32) -> bool {
    // SAFETY: only asks for a flag of whatever has this number, if anything has.
    i32::try_from(number).is_ok_and(|number| unsafe { libc::fcntl(number, libc::F_GETFD) } >= 0)
}

/// Closes what [`close_inherited`] kept: by now everything that is named on the command line was read.
pub fn close_kept() {
    let kept = KEPT.lock().map(|mut kept| std::mem::take(&mut *kept)).unwrap_or_default();
    for number in kept {
        // SAFETY: these numbers were open before this process opened anything and were closed by nobody since, so they are not
        // among what anything of ours owns; they are taken off the list, so that this is done once.
        unsafe { libc::close(number as i32) };
    }
}

/// Takes descriptors 3 to 2 + `count` out of what [`close_inherited`] kept, or says which of them the caller has not. The kept ones are
/// nobody's but the list's, so whoever takes them off it owns them.
pub(crate) fn take_kept(count: u32) -> Result<Vec<OwnedFd>, u32> {
    let wanted = 3..3 + count;
    let Ok(mut kept) = KEPT.lock() else { return Err(3) };
    if let Some(missing) = wanted.clone().find(|number| !kept.contains(number)) {
        return Err(missing);
    }
    kept.retain(|number| !wanted.contains(number));
    // SAFETY: each was open before this process opened anything, nobody closed it since, and it is off the list now.
    Ok(wanted.map(|number| unsafe { OwnedFd::from_raw_fd(number as i32) }).collect())
}

/// The first of descriptors 3 to 2 + `count` that [`close_inherited`] did not keep.
pub fn missing_of_kept(count: u32) -> Option<u32> {
    let kept = KEPT.lock().map(|kept| kept.clone()).unwrap_or_default();
    (3..3 + count).find(|number| !kept.contains(number))
}

/// Closes every descriptor from 3 up but `keep` and the sink of the trace, in a child of [`clone3`] or [`fork`], which has a copy of
/// each: what they stand for, such as a lock or a pipe, would stay held or open as long as the child lives.
///
/// The child owns nothing that it may use after this but `keep` and the standard streams: what is closed here must not be closed
/// again by an owner, so the caller must not return to those who made them.
pub fn close_all_but(keep: &[BorrowedFd<'_>]) {
    let kept = keep.iter().map(AsRawFd::as_raw_fd).chain(crate::trace::sink());
    let mut numbers: Vec<u32> = kept.filter_map(|number| u32::try_from(number).ok()).collect();
    numbers.retain(|number| *number >= 3);
    numbers.sort_unstable();
    numbers.dedup();
    if let Ok(mut kept) = KEPT.lock() {
        kept.retain(|number| numbers.contains(number));
    }
    // SAFETY: the callers end in execve or _exit, so no owner of a closed descriptor is dropped or used.
    unsafe { close_all_between(&numbers) };
}

/// Closes `fd` in a child of [`clone3`] or [`fork`], which has a copy of every descriptor: a lock that the parent holds by it would be
/// held by the child as well.
///
/// Its owner in the child must not be used or dropped any more, so the caller must not return.
pub fn close_behind(fd: BorrowedFd<'_>) {
    // SAFETY: the callers end in execve or _exit, so the owner of the descriptor is neither used nor dropped.
    unsafe { libc::close(fd.as_raw_fd()) };
}

/// Closes from 3 up all but these, which are sorted.
///
/// # Safety
/// Nobody may use or close what is closed here.
unsafe fn close_all_between(keep: &[u32]) {
    let mut from = 3;
    for number in keep.iter().copied().chain([u32::MAX]) {
        let last = if number == u32::MAX { number } else { number.saturating_sub(1) };
        if from <= last {
            // SAFETY: the caller's.
            unsafe { libc::syscall(libc::SYS_close_range, from, last, 0_u32) };
        }
        from = number.saturating_add(1);
    }
}

/// Replaces this process by a program found by PATH (execvp(3)). Comes back only when it failed.
pub fn execvp(args: &[CString]) -> Errno {
    let Some(program) = args.first() else { return Errno::EINVAL };
    nix::unistd::execvp(program, args).err().unwrap_or(Errno::EINVAL)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::cell::Cell;

    use super::*;

    #[test]
    fn threads_that_were_joined_may_take_a_moment() {
        let left = Cell::new(4);
        let leaving = || {
            left.set(left.get() - 1);
            left.get()
        };
        assert!(is_alone(leaving));
        assert_eq!(left.get(), 1);
        let begin = Instant::now();
        assert!(!is_alone(|| 2));
        assert!(begin.elapsed() >= LEAVING);
    }

    /// One thread reaps a child while another asks how it ended.
    #[test]
    fn a_status_is_never_lost_between_the_end_and_the_reaping() {
        for round in 0..400 {
            let mut child = std::process::Command::new("sh").args(["-c", "exit 7"]).spawn().unwrap();
            let pidfd = pidfd_open(child.id().cast_signed()).unwrap();
            let told = std::thread::scope(|scope| {
                let reaper = scope.spawn(move || child.wait().unwrap());
                let told = loop {
                    match status_of(&pidfd) {
                        Some(None) => std::hint::spin_loop(),
                        told => break told,
                    }
                };
                assert_eq!(reaper.join().unwrap().code(), Some(7));
                told
            });
            // Before Linux 6.15 nothing is kept of one that was reaped.
            if kept_status(&pidfd).is_err() {
                println!("skipped: needs Linux 6.15, which keeps the status of what was reaped");
                return;
            }
            assert_eq!(told, Some(Some(7 << 8)), "round {round}");
        }
    }
}

//! A system call that failed. The trace shows calls the way `strace` would; a message says the same in words.

use std::fmt;

use nix::errno::Errno;

/// A failed call: its name, its arguments and why.
#[derive(Debug, Clone)]
pub struct SysError {
    /// The call's name: `move_mount`.
    pub call: &'static str,
    /// Its arguments, an fd with the path it stands for.
    pub args: String,
    /// Why.
    pub errno: Errno,
}

impl SysError {
    /// The error for `call(args)` from whatever crate's errno.
    pub fn new(call: &'static str, args: String, errno: impl Into<RawErrno>) -> Self {
        Self { call, args, errno: Errno::from_raw(errno.into().0) }
    }
}

/// An errno of any of the crates that carry one.
#[derive(Debug, Clone, Copy)]
pub struct RawErrno(pub i32);

impl From<rustix::io::Errno> for RawErrno {
    fn from(errno: rustix::io::Errno) -> Self {
        Self(errno.raw_os_error())
    }
}
impl From<Errno> for RawErrno {
    fn from(errno: Errno) -> Self {
        Self(errno as i32)
    }
}
impl From<std::io::Error> for RawErrno {
    fn from(error: std::io::Error) -> Self {
        Self(error.raw_os_error().unwrap_or(libc::EIO))
    }
}

impl SysError {
    /// Why, in words. openat2(2) has one number for a circle of links and for a link that it was told not to follow.
    fn reason(&self) -> String {
        let told_not_to = |links| self.errno == Errno::ELOOP && self.args.contains(links);
        if told_not_to("RESOLVE_NO_MAGICLINKS") {
            return LED_OUT.into();
        }
        if told_not_to("RESOLVE_NO_SYMLINKS") {
            return "a symbolic link is on the way, where none is followed".into();
        }
        reason(self.errno)
    }

    /// What the call was for, in words.
    fn action(&self) -> &'static str {
        action(self.call)
    }
}

/// What ELOOP means where links are followed inside a root, and none of procfs: those lead to where a descriptor is, in whatever root.
pub const LED_OUT: &str = "a symbolic link in it leads through a magic link of /proc, which is not followed, or links lead in a circle";

/// What a call is for, in words.
pub fn action(call: &'static str) -> &'static str {
    match call {
        "open" | "openat" | "openat2" => "open",
        "open_tree" => "open as a mount",
        "fsopen" | "fsconfig" | "fsmount" | "mount" | "move_mount" => "mount",
        "mount_setattr" => "change the mount",
        "umount2" => "unmount",
        "mkdir" | "mkdirat" => "make directory",
        "mknodat" => "make device",
        "symlinkat" => "make link",
        "fstat" | "fstatfs" | "statx" | "newfstatat" => "look at",
        "fchown" | "fchownat" => "change the owner of",
        "chmod" | "fchmod" | "fchmodat2" => "change the mode of",
        "utimensat" => "set the times of",
        "setxattr" | "fsetxattr" => "set an attribute of",
        "ftruncate" => "set the size of",
        "unlinkat" | "rmdir" => "remove",
        "renameat2" => "move",
        "linkat" => "link",
        "readlinkat" => "read link",
        "getdents64" => "list",
        "read" | "pread" => "read",
        "write" => "write",
        "chdir" | "fchdir" => "change to directory",
        "getxattr" => "read an attribute of",
        "pivot_root" => "change the root to",
        "unshare" => "make namespaces",
        "setns" => "join a namespace",
        "clone" | "clone3" | "fork" => "make a process",
        "execve" => "execute",
        "setsid" => "begin a session",
        "sethostname" => "set the host name",
        "setdomainname" => "set the domain name",
        "prlimit64" | "setrlimit" => "set a limit",
        "setgroups" => "set the groups",
        "setresgid" => "change the group",
        "setresuid" => "change the user",
        "capget" => "read the capabilities",
        "capset" => "set the capabilities",
        "prctl" => "set an attribute of the process",
        "keyctl" => "make a session keyring",
        "seccomp" => "install the system call filter",
        "bpf" => "install the device filter",
        "pidfd_open" => "open a process",
        "pidfd_getfd" => "take a descriptor of a process",
        "pidfd_send_signal" => "send a signal",
        "close_range" => "close descriptors",
        "dup" | "dup2" => "copy a descriptor",
        "fcntl" | "ioctl" => "set up a descriptor",
        "quotactl_fd" => "limit a project of the file system",
        "pipe2" => "make a pipe",
        "eventfd" => "make an event counter",
        "socket" | "socketpair" => "make a socket",
        "bind" => "bind a socket",
        "connect" => "connect",
        "accept" => "accept a connection",
        "sendmsg" => "send",
        "recvmsg" => "receive",
        "getrandom" => "get random numbers",
        other => other,
    }
}

/// An error's text without the kernel's numbers that the standard library and rustix put behind their words:
/// `… (os error 2)`. Whatever shows a user one of their errors shows it through this (`house::errors_are_told_in_words`).
pub fn plain(error: impl fmt::Display) -> String {
    let text = error.to_string();
    let mut out = String::with_capacity(text.len());
    let mut parts = text.split(" (os error ");
    out.push_str(parts.next().unwrap_or_default());
    for part in parts {
        match part.split_once(')') {
            Some((number, rest)) if number.bytes().all(|b| b.is_ascii_digit()) => out.push_str(rest),
            _ => {
                out.push_str(" (os error ");
                out.push_str(part);
            }
        }
    }
    out
}

/// What the kernel's number means, as a part of a sentence.
pub fn reason(errno: Errno) -> String {
    let text = errno.desc();
    let mut letters = text.chars();
    match (letters.next(), letters.clone().next()) {
        // Not that of an abbreviation.
        (Some(first), Some(second)) if second.is_lowercase() => first.to_lowercase().chain(letters).collect(),
        _ => text.to_owned(),
    }
}

/// The words of `args` that a reader knows: paths and names, and what the kernel wrote to the context's log.
fn known_words(args: &str) -> String {
    let mut words = String::new();
    let mut rest = args;
    while let Some(at) = rest.find(['"', '<', '[']) {
        let close = match rest.as_bytes()[at] {
            b'"' => '"',
            b'<' => '>',
            _ => ']',
        };
        let Some(length) = rest[at + 1..].find(close) else { break };
        let word = &rest[at + 1..at + 1 + length];
        if !word.is_empty() {
            words.push(' ');
            words.push_str(if close == ']' { &rest[at..at + 2 + length] } else { word });
        }
        rest = &rest[at + 2 + length..];
    }
    words
}

impl fmt::Display for SysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}: {}", self.action(), known_words(&self.args), self.reason())
    }
}

impl std::error::Error for SysError {}

/// Runs one system call through [`crate::trace::call`]; a failure carries the call as it was made.
pub fn told<T, E>(
    call: &'static str,
    args: impl Fn() -> String,
    run: impl FnOnce() -> Result<T, E>,
) -> Result<T, SysError>
where
    T: crate::trace::Returned,
    E: Into<RawErrno> + fmt::Display,
{
    crate::trace::call(call, &args, run).map_err(|errno| SysError::new(call, args(), errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_left_out() {
        let error = std::io::Error::from_raw_os_error(2);
        assert_eq!(
            plain(format!("a: {error}: b: {error}")),
            "a: No such file or directory: b: No such file or directory"
        );
        assert_eq!(plain("a (os error x) b"), "a (os error x) b");
    }

    #[test]
    fn a_failed_call_is_told_in_words() {
        let said = |call, args: &str, errno| SysError::new(call, args.to_owned(), errno).to_string();
        assert_eq!(
            said("openat2", r#"7, "etc/x", O_PATH, 0o0, RESOLVE_IN_ROOT"#, Errno::ENOENT),
            "open etc/x: no such file or directory"
        );
        assert_eq!(
            said("move_mount", r#"7, "", 9</x/y>, "", MOVE_MOUNT_F_EMPTY_PATH"#, Errno::EINVAL),
            "mount /x/y: invalid argument"
        );
        assert_eq!(
            said("fsconfig", r"7, FSCONFIG_CMD_CREATE [e overlay: bad]", Errno::EINVAL),
            "mount [e overlay: bad]: invalid argument"
        );
        let looped = |how: &str| said("openat2", &format!(r#"7, "etc", O_PATH, 0o0, {how}"#), Errno::ELOOP);
        assert!(looped("RESOLVE_NO_MAGICLINKS|RESOLVE_IN_ROOT").contains(LED_OUT));
        assert!(looped("RESOLVE_NO_SYMLINKS|RESOLVE_BENEATH").contains("etc: a symbolic link is on the way"));
        assert_eq!(looped("0"), "open etc: too many symbolic links encountered");
        assert_eq!(said("setsid", "", Errno::EIO), "begin a session: I/O error");
    }
}

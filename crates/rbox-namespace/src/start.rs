//! A handshake with a process that another one made: the container was created earlier, and is started now.
//!
//! The created process has a listening socket, which was bound in a directory that only root reaches. It accepts one connection after the
//! other until one says Go, and from there on it is the [handshake](crate::handshake): the end of file says that execve worked.
//! The socket is closed by exec, so somebody listens on it exactly as long as the container is not started; the name in the
//! directory says nothing.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rbox_sys::{SysError, trace};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::handshake::{ChildEnd, HandshakeError, Parent};

/// The created process's end.
#[derive(Debug)]
pub struct Listener(OwnedFd);

/// Connections that wait to be accepted. Whoever looks at the container's status makes one, for a moment.
const BACKLOG: i32 = 64;

impl Listener {
    /// Makes the socket `name` in `dir`, which must not be there.
    pub fn bind(dir: BorrowedFd<'_>, name: &str) -> Result<Self, HandshakeError> {
        let socket = socket(SocketFlags::CLOEXEC)?;
        let failed = |call, errno| SysError::new(call, trace::quoted(name), errno);
        rustix::net::bind(&socket, &address(dir, name)?).map_err(|errno| failed("bind", errno))?;
        rustix::net::listen(&socket, BACKLOG).map_err(|errno| failed("listen", errno))?;
        Ok(Self(socket))
    }

    /// The socket, to be kept open by whoever closes others.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Waits until somebody starts the container, and gives the channel to them. Without an end: it may never be started.
    pub fn accept(&self) -> Result<ChildEnd, HandshakeError> {
        loop {
            match rustix::net::accept_with(&self.0, SocketFlags::CLOEXEC) {
                Ok(socket) => {
                    let channel = ChildEnd { socket };
                    // One that only looked whether somebody listens is gone already.
                    if channel.wait_go().unwrap_or(false) {
                        return Ok(channel);
                    }
                }
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(errno) => return Err(SysError::new("accept", trace::fd(&self.0), errno).into()),
            }
        }
    }
}

/// Reaches the process that listens on the socket `name` in `dir`; none when no process does.
pub fn connect(dir: BorrowedFd<'_>, name: &str) -> Result<Option<Parent>, HandshakeError> {
    let socket = socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    match rustix::net::connect(&socket, &address(dir, name)?) {
        // It is ready, and may tell only what comes after that.
        Ok(()) => Ok(Some(Parent { socket, stage: crate::handshake::ORDER.len() })),
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(None),
        Err(errno) => Err(SysError::new("connect", trace::quoted(name), errno).into()),
    }
}

/// Whether a process listens there: the container was created and not started.
pub fn is_waiting(dir: BorrowedFd<'_>, name: &str) -> bool {
    match connect(dir, name) {
        Ok(found) => found.is_some(),
        // Too many wait for it to accept them.
        Err(HandshakeError::Socket(error)) => error.errno as i32 == Errno::AGAIN.raw_os_error(),
        Err(_) => false,
    }
}

fn socket(flags: SocketFlags) -> Result<OwnedFd, SysError> {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .map_err(|errno| SysError::new("socket", "AF_UNIX, SOCK_SEQPACKET".into(), errno))
}

/// By the directory's descriptor: a path of any length has one of these.
fn address(dir: BorrowedFd<'_>, name: &str) -> Result<SocketAddrUnix, SysError> {
    SocketAddrUnix::new(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd()))
        .map_err(|errno| SysError::new("socket", trace::quoted(name), errno))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::handshake::Told;

    #[test]
    fn who_looks_does_not_start_and_who_starts_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let dir = std::fs::File::open(dir.path()).unwrap();
        assert!(!is_waiting(dir.as_fd(), "start"));
        let listener = Listener::bind(dir.as_fd(), "start").unwrap();
        let own = rbox_sys::process::pidfd_open(std::process::id() as i32).unwrap();
        let thread = std::thread::spawn(move || {
            let channel = listener.accept().unwrap();
            // By exec, in a container.
            drop((listener, channel));
        });
        for _ in 0..3 * BACKLOG {
            assert!(is_waiting(dir.as_fd(), "start"));
        }
        let mut parent = loop {
            // The queue may be full of those who looked.
            match connect(dir.as_fd(), "start") {
                Ok(parent) => break parent.unwrap(),
                Err(_) => std::thread::yield_now(),
            }
        };
        parent.go().unwrap();
        assert!(matches!(parent.hear(own.as_fd()), Ok(Told::Closed)));
        thread.join().unwrap();
        assert!(!is_waiting(dir.as_fd(), "start") && connect(dir.as_fd(), "start").unwrap().is_none());
    }
}

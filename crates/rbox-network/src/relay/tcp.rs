//! Connections to a published port, and for each one to the container.

use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use super::connect::connect;
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::sockopt::{
    set_socket_keepalive, set_socket_linger, set_socket_reuseaddr, set_tcp_nodelay, socket_error,
};
use rustix::net::{RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType};

/// Connections at once; others wait in the kernel.
const CONNECTIONS: usize = 64;
/// What is read at once, and the most that is kept of one direction.
const CHUNK: usize = 16 * 1024;
/// Chunks of one direction in one turn, so that the monitor gets to its other work.
const CHUNKS: usize = 8;
/// Before a connection that could not be taken is tried again.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(super) struct Connections {
    list: Vec<Connection>,
    /// None is taken before this moment.
    paused: Option<Instant>,
}

struct Connection {
    client: OwnedFd,
    server: OwnedFd,
    /// The container has answered.
    connected: bool,
    /// From the client to the server.
    there: Way,
    /// From the server to the client.
    back: Way,
}

/// One direction of a connection.
#[derive(Default)]
struct Way {
    /// What was read and could not be written yet: until it is, no more is read.
    kept: Vec<u8>,
    /// The sender will send no more.
    ended: bool,
    /// The receiver has been told so.
    closed: bool,
}

impl Connections {
    /// Whether one more connection is taken.
    pub(super) fn has_room(&self) -> bool {
        self.list.len() < CONNECTIONS && self.due().is_none()
    }

    /// When connections are taken again.
    pub(super) fn due(&self) -> Option<Instant> {
        self.paused.filter(|end| *end > Instant::now())
    }

    pub(super) fn poll_fds<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        for connection in &self.list {
            let wanted = connection.wanted();
            for (socket, wanted) in [&connection.client, &connection.server].into_iter().zip(wanted) {
                fds.extend(wanted.map(|flags| PollFd::new(socket, flags)));
            }
        }
    }

    /// `ready` is of the descriptors of [`Self::poll_fds`].
    pub(super) fn turn(&mut self, ready: &mut impl Iterator<Item = bool>) {
        let mut buffer = Vec::new();
        self.list.retain_mut(|connection| {
            // Without a flag asked for, what is told is that the connection is gone.
            let told = connection.wanted().map(|wanted| {
                let is_ready = wanted.is_some() && ready.next().unwrap_or(false);
                (is_ready, is_ready && wanted.is_some_and(|flags| flags.is_empty()))
            });
            let is_gone = told.iter().any(|(_, is_gone)| *is_gone);
            if !told.iter().any(|(is_ready, _)| *is_ready) {
                return true;
            }
            buffer.resize(CHUNK, 0);
            if is_gone || connection.go_on(&mut buffer).is_err() {
                connection.reset();
                return false;
            }
            !(connection.there.closed && connection.back.closed)
        });
    }

    /// Takes connections that came, and begins one to the container for each.
    pub(super) fn accept(&mut self, listener: &OwnedFd, to: SocketAddrV6) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        while self.has_room() {
            let client = match rustix::net::accept_with(listener, flags) {
                Ok(socket) => socket,
                Err(Errno::INTR | Errno::CONNABORTED) => continue,
                Err(Errno::AGAIN) => return,
                // No descriptors or no memory: poll(2) would tell of the same connection for ever.
                Err(_) => {
                    self.paused = Some(Instant::now() + PAUSE);
                    return;
                }
            };
            // What lingers of it when it has ended is then passed over by who holds the port next.
            let _ = set_socket_reuseaddr(&client, true);
            let is_local = rustix::net::getsockname(&client)
                .and_then(SocketAddrV6::try_from)
                .is_ok_and(|address| *address.ip() == Ipv6Addr::LOCALHOST);
            let server = if is_local { connect(to, SocketType::STREAM) } else { Err(Errno::ACCESS) };
            let Ok(server) = server else {
                abort(&client);
                continue;
            };
            for socket in [&client, &server] {
                // Who is gone without a word is found out; what was sent at once is not held back here.
                let _ = set_socket_keepalive(socket, true);
                let _ = set_tcp_nodelay(socket, true);
            }
            let (there, back) = (Way::default(), Way::default());
            self.list.push(Connection { client, server, connected: false, there, back });
        }
    }
}

impl Connection {
    /// What to wait for on the client's and on the server's side; nothing, not even its end, on a side that is through.
    fn wanted(&self) -> [Option<PollFlags>; 2] {
        if !self.connected {
            return [Some(PollFlags::empty()), Some(PollFlags::OUT)];
        }
        let side = |from: &Way, to: &Way| {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, from.is_open());
            flags.set(PollFlags::OUT, !to.kept.is_empty());
            // Closed both ways, poll(2) would tell of it for ever.
            (!flags.is_empty() || !to.closed).then_some(flags)
        };
        [side(&self.there, &self.back), side(&self.back, &self.there)]
    }

    /// Passes on as far as it goes. An error is one of either side's connection.
    fn go_on(&mut self, buffer: &mut [u8]) -> Result<(), Errno> {
        if !self.connected {
            socket_error(&self.server)??;
            self.connected = true;
        }
        // First what a server said before it went.
        self.back.pass(&self.server, &self.client, buffer)?;
        self.there.pass(&self.client, &self.server, buffer)
    }

    /// Ends both connections with a reset.
    fn reset(&self) {
        abort(&self.client);
        abort(&self.server);
    }
}

impl Way {
    /// Whether more is to be read.
    fn is_open(&self) -> bool {
        self.kept.is_empty() && !self.ended
    }

    fn pass(&mut self, from: &OwnedFd, to: &OwnedFd, buffer: &mut [u8]) -> Result<(), Errno> {
        if !self.kept.is_empty() {
            let sent = send(to, &self.kept)?;
            self.kept.drain(..sent);
        }
        for _ in 0..CHUNKS {
            if !self.is_open() {
                break;
            }
            match rustix::net::recv(from, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((_, 0)) => self.ended = true,
                Ok((_, length)) => {
                    let bytes = buffer.get(..length).unwrap_or_default();
                    let sent = send(to, bytes)?;
                    self.kept = bytes.get(sent..).unwrap_or_default().to_vec();
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(errno) => return Err(errno),
            }
        }
        if self.kept.is_empty() {
            self.kept = Vec::new();
            if self.ended && !self.closed {
                rustix::net::shutdown(to, Shutdown::Write)?;
                self.closed = true;
            }
        }
        Ok(())
    }
}

/// Sends what goes; how many bytes.
fn send(to: &OwnedFd, bytes: &[u8]) -> Result<usize, Errno> {
    let mut sent = 0;
    while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
        match rustix::net::send(to, rest, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(length) => sent += length,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(sent)
}

/// Makes the closing of `socket` a reset.
fn abort(socket: &OwnedFd) {
    let _ = set_socket_linger(socket, Some(Duration::ZERO));
}

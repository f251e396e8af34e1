//! Published ports at `[::1]` where the kernel cannot translate them.
//!
//! Where `bridge-nf-call-ip6tables` is on, the answers to translated connections to `::1` are lost (see
//! [`crate::loopback6`]), so the rules pass such connections by. They come to the socket that holds the port, and the
//! monitor that has it passes on what they carry. Everything else is translated before it gets there, so a relay has to do
//! with the host's own programs only, and only on ports published on `[::]` or `[::1]`. What comes otherwise, because
//! somebody took the rules away, is refused.
//!
//! ```text
//!  program of the host                 monitor                             container
//!  [::1]:40000 ───────▶ [::1]:8080, held ─ bytes ─ [bridge]:50000 ───────▶ [address]:80
//! ```
//!
//! As with the name server: no thread and no wait of its own, only descriptors for the monitor's one poll(2). What waits
//! is bounded; memory is taken only for what the receiver is not ready for. SCTP is not relayed: its streams and
//! message borders are more than bytes, and hosts where it is used rarely have a socket of it to hold.

mod connect;
mod tcp;
mod udp;

use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rbox_spec::port::{Protocol, PublishedPort};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_reuseaddr;

use crate::error::Error;
use crate::loopback6;
use tcp::Connections;
use udp::Flows;

/// Connections that the kernel keeps waiting beyond those that are served.
const BACKLOG: i32 = 128;

/// What passes on connections to one published port at `[::1]`. It ends, with all of them, when it is dropped.
pub struct Relay {
    /// What holds the port.
    socket: OwnedFd,
    to: SocketAddrV6,
    kind: Kind,
}

enum Kind {
    Tcp(Connections),
    Udp(Flows),
}

impl Relay {
    /// Whether connections of this network namespace to `port` at `[::1]` need a relay.
    pub fn is_needed(port: &PublishedPort) -> bool {
        let at_loopback = port.host_ip == Ipv6Addr::UNSPECIFIED || port.host_ip == Ipv6Addr::LOCALHOST;
        at_loopback && port.proto != Protocol::Sctp && !loopback6::is_translated()
    }

    /// Begins to pass on to `container` what comes to `socket`, which holds `port` (see [`crate::reserve`]). When it
    /// cannot be, the socket is given back, to hold the port all the same.
    pub fn open(
        port: &PublishedPort,
        socket: OwnedFd,
        container: Ipv6Addr,
    ) -> Result<Self, (OwnedFd, Error)> {
        let (kind, done) = match port.proto {
            Protocol::Tcp => (Kind::Tcp(Connections::default()), listen(&socket)),
            Protocol::Udp => (Kind::Udp(Flows::default()), Ok(())),
            Protocol::Sctp => (Kind::Udp(Flows::default()), Err(Errno::PROTONOSUPPORT)),
        };
        match done {
            Ok(()) => Ok(Self { socket, to: SocketAddrV6::new(container, port.container_port, 0, 0), kind }),
            Err(errno) => {
                let what = format!("listen at {}/{} for connections to [::1]", port.host(), port.proto);
                Err((socket, Error::Kernel { what, errno }))
            }
        }
    }

    /// The container has another address: for what comes from now on.
    pub fn lead_to(&mut self, container: Ipv6Addr) {
        if *self.to.ip() == container {
            return;
        }
        self.to.set_ip(container);
        if let Kind::Udp(flows) = &mut self.kind {
            *flows = Flows::default();
        }
    }

    /// Appends the descriptors to wait for.
    pub fn poll_fds<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        match &self.kind {
            Kind::Tcp(connections) => {
                let room = if connections.has_room() { PollFlags::IN } else { PollFlags::empty() };
                fds.push(PollFd::new(&self.socket, room));
                connections.poll_fds(fds);
            }
            Kind::Udp(flows) => {
                fds.push(PollFd::new(&self.socket, PollFlags::IN));
                flows.poll_fds(fds);
            }
        }
    }

    /// How long to wait at most; none while there is nothing to forget.
    pub fn timeout(&self) -> Option<Duration> {
        let due = match &self.kind {
            Kind::Tcp(connections) => connections.due(),
            Kind::Udp(flows) => flows.due(),
        };
        due.map(|due| due.saturating_duration_since(Instant::now()))
    }

    /// Does what is to be done, without waiting. `ready` says of each descriptor, in the order in which
    /// [`Self::poll_fds`] appended them, whether poll(2) told anything of it, and no more is taken from it; nothing else may
    /// have been called in between.
    pub fn turn(&mut self, ready: &mut impl Iterator<Item = bool>) {
        let own = ready.next().unwrap_or(false);
        match &mut self.kind {
            Kind::Tcp(connections) => {
                connections.turn(ready);
                if own {
                    connections.accept(&self.socket, self.to);
                }
            }
            Kind::Udp(flows) => flows.turn(ready, own, &self.socket, self.to),
        }
    }
}

/// Turns what only held a port into a listener.
fn listen(socket: &OwnedFd) -> Result<(), Errno> {
    rustix::io::ioctl_fionbio(socket, true)?;
    match rustix::net::listen(socket, BACKLOG) {
        // Connections of a relay before this one linger, and the kernel asks again whether the port is free.
        Err(Errno::ADDRINUSE) => {
            set_socket_reuseaddr(socket, true)?;
            let listening = rustix::net::listen(socket, BACKLOG);
            set_socket_reuseaddr(socket, false)?;
            listening
        }
        done => done,
    }
}

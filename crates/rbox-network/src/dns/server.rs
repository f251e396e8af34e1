//! The sockets of a name server, and its turns in the poll of the monitor.

use std::net::{IpAddr, SocketAddrV4};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rbox_sys::{process, trace};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, netlink};

use super::forward::{Forwarder, reply};
use super::local::{self, Action, decide};
use super::lookup::Lookup;
use super::message::rcode;
use super::tcp::{Clients, Context};
use super::upstream::Upstreams;
use super::{ADDRESS, LONGEST_QUERY};
use crate::error::{Error, Result};

/// The longest message there is.
const LONGEST_MESSAGE: usize = 64 * 1024;
/// Questions taken in one turn, so that the monitor gets to its other work.
const TAKEN: usize = 64;

/// How a container's name server goes about what is not ours.
#[derive(Clone, Debug)]
pub struct DnsConfig {
    /// `--dns`: these are asked, from the container's network namespace. When empty the host's are, from the host's.
    pub servers: Vec<IpAddr>,
    /// The host's `/etc/resolv.conf`; it is read again when it has changed.
    pub host_conf: PathBuf,
    /// Whether the host's servers may be asked: not for a container that has only internal networks.
    pub host_allowed: bool,
    /// Whether the container's resolver was told an `ndots` ([`crate::ndots_set`]): then names without a dot are not
    /// asked elsewhere.
    pub ndots_set: bool,
}

impl Default for DnsConfig {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            host_conf: "/etc/resolv.conf".into(),
            host_allowed: true,
            ndots_set: false,
        }
    }
}

/// The name server of one container. It ends when it is dropped. Its sockets keep the container's network namespace
/// alive, so it is to be dropped before the container's network is taken apart.
pub struct Dns {
    udp: OwnedFd,
    tcp: OwnedFd,
    upstreams: Upstreams,
    forwarder: Forwarder,
    clients: Clients,
    ndots_set: bool,
    /// Only the pages that messages have reached are there.
    buffer: Vec<u8>,
}

/// What is opened inside: a socket for UDP, one for TCP, one for nftables.
type Sockets = (OwnedFd, OwnedFd, OwnedFd);

impl Dns {
    /// Opens the server in the network namespace `netns`, and raises the loopback there if need be. This thread is in
    /// there for a moment.
    pub fn open(netns: BorrowedFd<'_>, config: DnsConfig) -> Result<Self> {
        let why = "Names of containers are answered by the monitor; it listens in the container's network namespace.";
        trace::step("open the name server", why, || {
            let opened = process::in_network(netns, open_sockets).map_err(|e| {
                kernel("enter the container's network", Errno::from_raw_os_error(e.errno as i32))
            })?;
            let (udp, tcp, netfilter) = opened?;
            let port = |socket| {
                let address = rustix::net::getsockname(socket).and_then(SocketAddrV4::try_from);
                address.map(|a| a.port()).map_err(|errno| kernel("getsockname", errno))
            };
            let (udp_port, tcp_port) = (port(&udp)?, port(&tcp)?);
            crate::nft::redirect_dns(netfilter, udp_port, tcp_port)?;
            let given = if config.servers.is_empty() {
                None
            } else {
                let kept = netns
                    .try_clone_to_owned()
                    .map_err(|e| Error::file("keep", "the container's network", e))?;
                Some((kept, config.servers))
            };
            Ok(Self {
                udp,
                tcp,
                upstreams: Upstreams::new(given, config.host_conf, config.host_allowed),
                forwarder: Forwarder::default(),
                clients: Clients::default(),
                ndots_set: config.ndots_set,
                buffer: vec![0; LONGEST_MESSAGE],
            })
        })
    }

    /// Allows or forbids asking the host's servers, when the container joined its first network that is not internal, or
    /// left its last.
    pub fn allow_host(&mut self, allowed: bool) {
        self.upstreams.host_allowed = allowed;
    }

    /// Appends the descriptors to wait for.
    pub fn poll_fds<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        let room = |has| if has { PollFlags::IN } else { PollFlags::empty() };
        fds.push(PollFd::new(&self.udp, PollFlags::IN));
        fds.push(PollFd::new(&self.tcp, room(self.clients.has_room())));
        self.forwarder.poll_fds(fds);
        self.clients.poll_fds(fds);
    }

    /// How long to wait at most; none while nothing is under way.
    pub fn timeout(&self) -> Option<Duration> {
        let due = [self.forwarder.due(), self.clients.due()].into_iter().flatten().min();
        due.map(|due| due.saturating_duration_since(Instant::now()))
    }

    /// Does what is to be done, without waiting. `ready` says of each descriptor, in the order in which
    /// [`Self::poll_fds`] appended them, whether poll(2) told anything of it; nothing else may have been called in between.
    pub fn turn(&mut self, ready: &[bool], names: &dyn Lookup) {
        let mut ready = ready.iter().copied();
        let (udp, tcp) = (ready.next().unwrap_or(true), ready.next().unwrap_or(true));
        self.forwarder.turn(&mut ready, &mut self.upstreams, &mut self.buffer, &self.udp);
        let mut context = Context { names, upstreams: &mut self.upstreams, dots: self.ndots_set };
        self.clients.turn(&mut ready, &mut context);
        if tcp {
            self.clients.accept(&self.tcp);
        }
        if udp {
            self.take(names);
        }
    }

    /// Takes questions that came over UDP.
    fn take(&mut self, names: &dyn Lookup) {
        for _ in 0..TAKEN {
            let (length, from) =
                match rustix::net::recvfrom(&self.udp, self.buffer.as_mut_slice(), RecvFlags::DONTWAIT) {
                    Ok((length, _, from)) => (length, from),
                    Err(Errno::INTR) => continue,
                    Err(_) => return,
                };
            let Some(Ok(client)) = from.map(SocketAddrV4::try_from) else { continue };
            let query = self.buffer.get(..length).unwrap_or_default();
            let answer = match decide(query, names, false, self.ndots_set) {
                Action::Ignore => continue,
                Action::Reply(answer) => answer,
                Action::Forward
                    if length <= usize::from(LONGEST_QUERY)
                        && self.forwarder.push(client, query, &mut self.upstreams) =>
                {
                    continue;
                }
                Action::Forward => local::failure(query, rcode::REFUSED),
            };
            reply(&self.udp, &answer, client);
        }
    }
}

fn open_sockets() -> Result<Sockets> {
    let netlink = |protocol| {
        rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)
            .map_err(|errno| kernel("open a netlink socket in the container's network", errno))
    };
    let bound = |kind| {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::INET, kind, flags, None)?;
        rustix::net::bind(&socket, &SocketAddrV4::new(ADDRESS, 0))?;
        if kind == SocketType::STREAM {
            rustix::net::listen(&socket, 64)?;
        }
        Ok(socket)
    };
    // A socket can be bound before the loopback is up (IP_FREEBIND), but what it sends then has another source.
    crate::link::loopback_up(netlink(None)?)?;
    let listen = |kind| bound(kind).map_err(|errno| kernel("listen at 127.0.0.11 in the container", errno));
    Ok((listen(SocketType::DGRAM)?, listen(SocketType::STREAM)?, netlink(Some(netlink::NETFILTER))?))
}

fn kernel(what: &str, errno: Errno) -> Error {
    Error::Kernel { what: what.into(), errno }
}

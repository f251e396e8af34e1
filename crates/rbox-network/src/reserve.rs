//! Holding published ports: a bound socket for each, kept open by the monitor, so that no other program and no
//! other container gets the port while this one runs. The kernel takes it back when the monitor dies.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rbox_spec::port::{PortMapping, Protocol, PublishedPort};
use rbox_sys::trace;
use rustix::io::Errno;
use rustix::net::sockopt::{set_ipv6_v6only, set_socket_reuseaddr};
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto};

use crate::error::{Error, Result};

/// How often the kernel is asked for a port that is free on every address of a mapping.
const CHOICES: usize = 32;

/// A port and what holds it; nothing does where the kernel has no sockets of its protocol.
type Held = (PublishedPort, Option<OwnedFd>);

/// Chooses and holds a host port for each mapping. A mapping that names no address gives two ports of one number
/// when the network has `ipv6`: one on 0.0.0.0 and one on \[::\]. The descriptors, one for each port, are to be kept
/// open, close-on-exec, as long as the ports are published. `holder` names the container that has published a port
/// (address, port, protocol), if one of ours has: it is asked only when a port is taken.
pub fn reserve(
    mappings: &[PortMapping],
    ipv6: bool,
    holder: &dyn Fn(&PublishedPort) -> Option<String>,
) -> Result<(Vec<PublishedPort>, Vec<Option<OwnedFd>>)> {
    let mut all: Vec<Held> = Vec::with_capacity(mappings.len());
    for mapping in mappings {
        // One that this container has asked for twice is held by itself, and no record says that yet.
        let own = |port: &PublishedPort| {
            let clashes = |held: &&Held| held.0.clashes(port);
            let inside = all.iter().find(clashes).map(|(held, _): &Held| held.container());
            inside.map(|inside| format!(" (by this container, for its port {inside})"))
        };
        let other = |port: &PublishedPort| holder(port).map(|name| format!(" (by container {name})"));
        let holder = |port: &PublishedPort| own(port).or_else(|| other(port));
        let held = hold(&addresses(mapping.host_ip, ipv6)?, mapping, &holder)?;
        all.extend(held);
    }
    Ok(all.into_iter().unzip())
}

/// The addresses a mapping is published on.
fn addresses(host_ip: Option<IpAddr>, ipv6: bool) -> Result<Vec<IpAddr>> {
    let (any4, any6) = (Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into());
    // ::ffff:192.0.2.1 is an IPv4 address to the kernel.
    match host_ip.map(|ip| ip.to_canonical()) {
        None if ipv6 => Ok(vec![any4, any6]),
        None => Ok(vec![any4]),
        Some(IpAddr::V6(ip)) if !ipv6 => Err(Error::Ipv6(format!("[{ip}]"))),
        Some(ip) => Ok(vec![ip]),
    }
}

fn hold(
    addresses: &[IpAddr],
    mapping: &PortMapping,
    holder: &dyn Fn(&PublishedPort) -> Option<String>,
) -> Result<Vec<Held>> {
    let (first, last) = mapping.host_ports.unwrap_or((0, 0));
    // What the kernel chose for one address may be taken on the next.
    let choices = if first == 0 { CHOICES } else { usize::from(last - first) + 1 };
    let mut refused = None;
    for host_port in (first..=last).cycle().take(choices) {
        match hold_one(addresses, host_port, mapping, holder) {
            Ok(held) => return Ok(held),
            Err((port, errno)) => {
                refused.get_or_insert((PublishedPort { host_port: first, ..port }, errno)).1 = errno;
                if errno != Errno::ADDRINUSE {
                    break;
                }
            }
        }
    }
    let Some((wanted, errno)) = refused else { return Ok(Vec::new()) };
    let address = wanted.host();
    Err(match holder(&wanted) {
        Some(holder) if errno == Errno::ADDRINUSE => Error::PortAllocated { address, holder },
        _ => Error::PortTaken { address, proto: mapping.proto.to_string(), errno, holder: String::new() },
    })
}

/// Holds one host port on each address, or none: then with the port that was refused and why.
fn hold_one(
    addresses: &[IpAddr],
    host_port: u16,
    mapping: &PortMapping,
    holder: &dyn Fn(&PublishedPort) -> Option<String>,
) -> Result<Vec<Held>, (PublishedPort, Errno)> {
    let mut held: Vec<Held> = Vec::with_capacity(addresses.len());
    for ip in addresses {
        let mut port = PublishedPort {
            host_ip: *ip,
            host_port: held.first().map_or(host_port, |(chosen, _)| chosen.host_port),
            container_port: mapping.container_port,
            proto: mapping.proto,
        };
        match bind(*ip, port.host_port, mapping.proto) {
            Ok((chosen, socket)) => {
                port.host_port = chosen;
                // Without a socket only our own records tell whether it is taken.
                if socket.is_none() && holder(&port).is_some() {
                    return Err((port, Errno::ADDRINUSE));
                }
                held.push((port, socket));
            }
            // A kernel without IPv6: nobody can come to such an address.
            Err(Errno::AFNOSUPPORT) if ip.is_ipv6() && addresses.len() > 1 => {}
            Err(errno) => return Err((port, errno)),
        }
    }
    Ok(held)
}

/// A bound socket and its port. Port 0 lets the kernel choose from its ephemeral range.
fn bind(ip: IpAddr, port: u16, proto: Protocol) -> Result<(u16, Option<OwnedFd>), Errno> {
    let (kind, protocol) = match proto {
        Protocol::Tcp => (SocketType::STREAM, ipproto::TCP),
        Protocol::Udp => (SocketType::DGRAM, ipproto::UDP),
        Protocol::Sctp => (SocketType::STREAM, ipproto::SCTP),
    };
    let (family, name) = match ip {
        IpAddr::V4(_) => (AddressFamily::INET, "AF_INET"),
        IpAddr::V6(_) => (AddressFamily::INET6, "AF_INET6"),
    };
    let socket = match trace::call(
        "socket",
        || format!("{name}, {proto}"),
        || rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, Some(protocol)),
    ) {
        // A host without SCTP sockets still forwards SCTP; there nobody else can hold the port either.
        Err(Errno::PROTONOSUPPORT | Errno::SOCKTNOSUPPORT) if proto == Protocol::Sctp && port != 0 => {
            return Ok((port, None));
        }
        socket => socket?,
    };
    if ip.is_ipv6() {
        // 0.0.0.0 is held by a socket of its own, or is another's.
        set_ipv6_v6only(&socket, true)?;
    }
    let address = SocketAddr::new(ip, port);
    match trace::call("bind", || format!("{address}/{proto}"), || rustix::net::bind(&socket, &address)) {
        Err(Errno::ADDRINUSE) if proto == Protocol::Tcp && port != 0 => {
            bind_over_time_wait(&socket, address)?;
        }
        bound => bound?,
    }
    if port != 0 {
        return Ok((port, Some(socket)));
    }
    let chosen = SocketAddr::try_from(rustix::net::getsockname(&socket)?)?;
    Ok((chosen.port(), Some(socket)))
}

/// Binds to a port on which only connections of a server that has ended linger. `SO_REUSEADDR` passes those over, but
/// would let a second holder in too; having listened for a moment, and not reusing after that, keeps it out.
fn bind_over_time_wait(socket: &OwnedFd, address: SocketAddr) -> Result<(), Errno> {
    trace::call(
        "bind",
        || format!("{address}/tcp, SO_REUSEADDR"),
        || {
            set_socket_reuseaddr(socket, true)?;
            rustix::net::bind(socket, &address)?;
            rustix::net::listen(socket, 0)?;
            set_socket_reuseaddr(socket, false)?;
            rustix::net::connect_unspec(socket)
        },
    )
}

//! Holding published ports: a bound socket for each, kept open by the monitor, so that no other program and no
//! other container gets the port while this one runs. The kernel takes it back when the monitor dies.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;

use rbox_spec::port::{PortMapping, Protocol, PublishedPort};
use rbox_sys::trace;
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto};

use crate::error::{Error, Result};

/// Chooses and holds a host port for each mapping. The descriptors are to be kept open, close-on-exec, as long as
/// the ports are published. `holder` names the container that has published a port (address, port, protocol), if one
/// of ours has: it is asked only when a port is taken.
pub fn reserve(
    mappings: &[PortMapping],
    holder: &dyn Fn(&PublishedPort) -> Option<String>,
) -> Result<(Vec<PublishedPort>, Vec<OwnedFd>)> {
    let mut ports = Vec::with_capacity(mappings.len());
    let mut held = Vec::with_capacity(mappings.len());
    for mapping in mappings {
        let ip = match mapping.host_ip {
            None => Ipv4Addr::UNSPECIFIED,
            Some(IpAddr::V4(ip)) => ip,
            Some(IpAddr::V6(ip)) => return Err(Error::Ipv6(format!("[{ip}]"))),
        };
        let (port, socket) = hold(ip, mapping, holder)?;
        ports.push(port);
        held.extend(socket);
    }
    Ok((ports, held))
}

fn hold(
    ip: Ipv4Addr,
    mapping: &PortMapping,
    holder: &dyn Fn(&PublishedPort) -> Option<String>,
) -> Result<(PublishedPort, Option<OwnedFd>)> {
    let (first, last) = mapping.host_ports.unwrap_or((0, 0));
    let wanted = PublishedPort {
        host_ip: IpAddr::V4(ip),
        host_port: first,
        container_port: mapping.container_port,
        proto: mapping.proto,
    };
    let mut refused = Errno::ADDRINUSE;
    for host_port in first..=last {
        match bind(ip, host_port, mapping.proto) {
            Ok((host_port, socket)) => {
                let port = PublishedPort { host_port, ..wanted };
                // Without a socket only our own records tell whether it is taken.
                if socket.is_some() || holder(&port).is_none() {
                    return Ok((port, socket));
                }
            }
            Err(errno) => refused = errno,
        }
        if refused != Errno::ADDRINUSE {
            break;
        }
    }
    let address = wanted.host();
    Err(match holder(&wanted) {
        Some(name) if refused == Errno::ADDRINUSE => {
            Error::PortAllocated { address, holder: format!(" (by container {name})") }
        }
        _ => Error::PortTaken { address, proto: mapping.proto.to_string(), errno: refused },
    })
}

/// A bound socket and its port. Port 0 lets the kernel choose from its ephemeral range.
fn bind(ip: Ipv4Addr, port: u16, proto: Protocol) -> Result<(u16, Option<OwnedFd>), Errno> {
    let (kind, protocol) = match proto {
        Protocol::Tcp => (SocketType::STREAM, ipproto::TCP),
        Protocol::Udp => (SocketType::DGRAM, ipproto::UDP),
        Protocol::Sctp => (SocketType::STREAM, ipproto::SCTP),
    };
    let socket = match trace::call(
        "socket",
        || format!("AF_INET, {proto}"),
        || rustix::net::socket_with(AddressFamily::INET, kind, SocketFlags::CLOEXEC, Some(protocol)),
    ) {
        // A host without SCTP sockets still forwards SCTP; there nobody else can hold the port either.
        Err(Errno::PROTONOSUPPORT | Errno::SOCKTNOSUPPORT) if proto == Protocol::Sctp && port != 0 => {
            return Ok((port, None));
        }
        socket => socket?,
    };
    let address = SocketAddrV4::new(ip, port);
    match trace::call("bind", || format!("{address}/{proto}"), || rustix::net::bind(&socket, &address)) {
        Err(Errno::ADDRINUSE) if proto == Protocol::Tcp && port != 0 => {
            bind_over_time_wait(&socket, address)?;
        }
        bound => bound?,
    }
    if port != 0 {
        return Ok((port, Some(socket)));
    }
    let chosen = SocketAddrV4::try_from(rustix::net::getsockname(&socket)?)?;
    Ok((chosen.port(), Some(socket)))
}

/// Binds to a port on which only connections of a server that has ended linger. `SO_REUSEADDR` passes those over, but
/// would let a second holder in too; having listened for a moment, and not reusing after that, keeps it out.
fn bind_over_time_wait(socket: &OwnedFd, address: SocketAddrV4) -> Result<(), Errno> {
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

//! Which program has a port of this host: the one that a refusal names.
//!
//! `/proc/net` lists what listens and what is connected; a TCP socket that is only bound is in no table before Linux 6.8. So
//! the sockets themselves are asked: each descriptor of each process is copied with `pidfd_getfd(2)` (Linux 5.6) for
//! as long as getsockname(2) takes. That is slow where there are many, and done only when a port was refused.

use std::fs::DirEntry;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use rbox_spec::port::Protocol;
use rbox_sys::process;
use rustix::net::sockopt::socket_protocol;

use crate::networks::sockets::netns_of;

/// The program that has a port of this host, `python3 (pid 4711)`; `address` as `0.0.0.0:8080` or `[::]:8080`. None when no
/// process has it, or none that may be looked at. One that listens, or may soon, comes before one that is connected from the port.
pub(crate) fn holder(address: &str, protocol: &str) -> Option<String> {
    let wanted: SocketAddr = address.parse().ok()?;
    let protocol: Protocol = protocol.parse().ok()?;
    let netns = netns_of("self")?;
    let mut connected = None;
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        if netns_of(&pid.to_string()) != Some(netns) {
            continue;
        }
        match held(pid, &entry, wanted, protocol) {
            Some(Held::Bound) => return Some(told(pid, &entry)),
            Some(Held::Connected) => {
                connected.get_or_insert_with(|| told(pid, &entry));
            }
            None => {}
        }
    }
    connected
}

/// How a process has a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    Bound,
    Connected,
}

/// How the process behind this entry of /proc has the port, if it does.
fn held(pid: i32, entry: &DirEntry, wanted: SocketAddr, protocol: Protocol) -> Option<Held> {
    let mut pidfd = None;
    let mut best = None;
    for descriptor in std::fs::read_dir(entry.path().join("fd")).ok()?.flatten() {
        let is_socket = std::fs::read_link(descriptor.path())
            .is_ok_and(|target| target.to_str().is_some_and(|target| target.starts_with("socket:[")));
        let Some(number) = descriptor.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        if !is_socket {
            continue;
        }
        if pidfd.is_none() {
            pidfd = Some(process::pidfd_open(pid).ok()?);
        }
        // It may have closed it since.
        let Some(Ok(socket)) = pidfd.as_ref().map(|pidfd| process::pidfd_getfd(pidfd, number)) else {
            continue;
        };
        match clash(socket.as_fd(), wanted, protocol) {
            Some(Held::Bound) => return Some(Held::Bound),
            other => best = best.or(other),
        }
    }
    best
}

/// How a socket keeps others from the port, if it does.
fn clash(socket: BorrowedFd<'_>, wanted: SocketAddr, protocol: Protocol) -> Option<Held> {
    let own = SocketAddr::try_from(rustix::net::getsockname(socket).ok()?).ok()?;
    let number = socket_protocol(socket).ok()??.as_raw().get();
    if number != u32::from(protocol.number())
        || own.port() != wanted.port()
        || !overlap(own.ip(), wanted.ip())
    {
        return None;
    }
    Some(if rustix::net::getpeername(socket).is_ok() { Held::Connected } else { Held::Bound })
}

/// Whether sockets bound to the two are in each other's way. `::` takes IPv4 too, unless it was told not to: that is not asked, as
/// the port was refused for some reason.
fn overlap(one: IpAddr, other: IpAddr) -> bool {
    let (one, other) = (one.to_canonical(), other.to_canonical());
    let takes = |ip: IpAddr, other: IpAddr| ip.is_unspecified() && (ip.is_ipv6() || other.is_ipv4());
    one == other || takes(one, other) || takes(other, one)
}

fn told(pid: i32, entry: &DirEntry) -> String {
    let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
    format!("{} (pid {pid})", name.trim_end_matches('\n'))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use rustix::net::{AddressFamily, SocketType};

    use super::*;

    /// Asked until this process is named: other tests of it may open and close descriptors meanwhile.
    fn is_named(address: SocketAddr, protocol: &str) -> bool {
        holder(&address.to_string(), protocol)
            .is_some_and(|text| text.ends_with(&format!("(pid {})", std::process::id())))
    }

    #[test]
    fn a_port_only_bound_and_one_connected_from() {
        let bound = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        rustix::net::bind(&bound, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let own = SocketAddr::try_from(rustix::net::getsockname(&bound).unwrap()).unwrap();
        assert!(is_named(own, "tcp"));
        assert!(is_named(SocketAddr::from(([0, 0, 0, 0], own.port())), "tcp"), "all addresses");
        assert!(!is_named(own, "udp"), "another protocol");
        assert!(!is_named(SocketAddr::from(([127, 0, 0, 2], own.port())), "tcp"), "another address");
        assert_eq!(clash(bound.as_fd(), own, Protocol::Tcp), Some(Held::Bound));
        let next = SocketAddr::new(own.ip(), own.port() ^ 1);
        assert_eq!(clash(bound.as_fd(), next, Protocol::Tcp), None, "another port");
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        udp.connect("127.0.0.1:9").unwrap();
        let address = udp.local_addr().unwrap();
        assert!(is_named(address, "udp"), "connected");
        assert_eq!(clash(udp.as_fd(), address, Protocol::Udp), Some(Held::Connected));
        drop((bound, udp));
        assert!(!is_named(own, "tcp") && !is_named(address, "udp"), "closed");
    }

    /// A server has both kinds, and is held to be one that listens, whichever comes first among its descriptors.
    #[test]
    fn what_listens_comes_before_what_is_connected() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap();
        let client = std::net::TcpStream::connect(port).unwrap();
        let server = listener.accept().unwrap();
        let last = listener.try_clone().unwrap();
        drop(listener);
        let own = std::process::id() as i32;
        let mut all = std::fs::read_dir("/proc").unwrap().flatten();
        let entry = all.find(|entry| entry.file_name().to_str() == Some(&own.to_string())).unwrap();
        assert_eq!(held(own, &entry, port, Protocol::Tcp), Some(Held::Bound));
        drop(last);
        assert_eq!(held(own, &entry, port, Protocol::Tcp), Some(Held::Connected));
        drop((client, server));
    }

    #[test]
    fn addresses_in_each_others_way() {
        for (one, other, is) in [
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.2", false),
            ("0.0.0.0", "127.0.0.2", true),
            ("::", "127.0.0.2", true),
            ("0.0.0.0", "::1", false),
            ("::1", "::", true),
            ("::ffff:10.0.0.1", "10.0.0.1", true),
        ] {
            assert_eq!(overlap(one.parse().unwrap(), other.parse().unwrap()), is, "{one} {other}");
            assert_eq!(overlap(other.parse().unwrap(), one.parse().unwrap()), is, "{other} {one}");
        }
    }
}

//! Which IPv6 sockets take IPv6 only: the one thing about who listens that /proc does not tell. Source: `sock_diag(7)`.

use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, netlink};

use crate::error::{Error, Result};
use crate::nft::encode::attribute;
use crate::socket::{DUMP, Netlink, Request};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// `struct inet_diag_req_v2` and `struct inet_diag_msg`: their lengths, and where the latter has the inode's number.
const REQUEST: usize = 56;
const ANSWER: usize = 72;
const INODE: usize = 68;
const INET_DIAG_SKV6ONLY: u16 = 11;
const AF_INET6: u8 = 10;
const PROTOCOLS: [(u8, &str); 2] = [(6, "TCP"), (17, "UDP")];
/// `TCP_CLOSE`, in which a UDP socket is that is not connected, and `TCP_LISTEN`.
const STATES: u32 = 1 << 7 | 1 << 10;

/// A `NETLINK_SOCK_DIAG` socket in the network namespace that this thread is in.
pub fn diag_socket() -> Result<OwnedFd> {
    rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )
    .map_err(|errno| Error::Kernel { what: "socket(NETLINK_SOCK_DIAG)".into(), errno })
}

/// The inode numbers of the listening IPv6 sockets that do not take IPv4, in the network namespace in which `socket`
/// was opened. A kernel without `sock_diag` is an error.
pub fn only_ipv6(socket: OwnedFd) -> Result<Vec<u64>> {
    let mut socket = Netlink::from_fd(socket);
    let mut found = Vec::new();
    for (protocol, name) in PROTOCOLS {
        let mut body = vec![AF_INET6, protocol, 0, 0];
        body.extend(STATES.to_ne_bytes());
        body.resize(REQUEST, 0);
        let told = format!("SOCK_DIAG_BY_FAMILY {name} over IPv6");
        let request = Request { kind: SOCK_DIAG_BY_FAMILY, flags: DUMP, body, told, accept: None };
        found.extend(socket.ask(&request)?.iter().filter_map(|answer| read(&answer.body)));
    }
    Ok(found)
}

/// The inode's number of a socket that takes IPv6 only.
pub(crate) fn read(body: &[u8]) -> Option<u64> {
    let inode = u32::from_ne_bytes(*body.get(INODE..)?.first_chunk()?);
    let only = attribute(body.get(ANSWER..)?, INET_DIAG_SKV6ONLY)?.first()?;
    (*only != 0).then_some(inode.into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::net::SocketAddr;
    use std::os::unix::fs::MetadataExt;

    use rustix::net::sockopt;

    use super::*;

    #[test]
    fn of_two_sockets_one_takes_ipv6_only() {
        let open = |kind: SocketType, only: bool| {
            let socket = rustix::net::socket(AddressFamily::INET6, kind, None)?;
            sockopt::set_ipv6_v6only(&socket, only)?;
            rustix::net::bind(&socket, &"[::]:0".parse::<SocketAddr>().unwrap())?;
            if kind == SocketType::STREAM {
                rustix::net::listen(&socket, 1)?;
            }
            Ok::<_, rustix::io::Errno>(socket)
        };
        let mut sockets = Vec::new();
        for kind in [SocketType::STREAM, SocketType::DGRAM] {
            let (Ok(only), Ok(both)) = (open(kind, true), open(kind, false)) else {
                println!("skipped: no IPv6 here");
                return;
            };
            sockets.push((kind, only, both));
        }
        let inode = |fd: OwnedFd| std::fs::File::from(fd).metadata().unwrap().ino();
        let found = match only_ipv6(diag_socket().unwrap()) {
            Err(error) => return println!("skipped: {error}"),
            Ok(found) => found,
        };
        for (kind, only, both) in sockets {
            assert!(found.contains(&inode(only)), "{kind:?} {found:?}");
            assert!(!found.contains(&inode(both)), "{kind:?} {found:?}");
        }
    }
}

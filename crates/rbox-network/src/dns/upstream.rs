//! The name servers that are asked what is not ours, and sockets to them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use rbox_sys::process;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::ADDRESS;

/// As many as resolv.conf(5) and Docker use.
pub(super) const MOST: usize = 3;

/// resolv.conf is a few lines.
const LONGEST_CONF: usize = 64 * 1024;

/// The servers for one question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Servers {
    pub(super) list: Vec<SocketAddr>,
    /// Asked from the container's network namespace.
    pub(super) inside: bool,
}

pub(super) struct Upstreams {
    /// The container's network namespace and the servers that its user named; they are asked from there.
    given: Option<(OwnedFd, Vec<SocketAddr>)>,
    /// The host's servers, and the file that names them.
    host: Vec<SocketAddr>,
    conf: PathBuf,
    seen: Option<Stamp>,
    /// Whether the host's servers may be asked at all.
    pub(super) host_allowed: bool,
}

/// Which content of a file was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: (u64, u64),
    modified: (i64, i64),
    size: u64,
}

impl Upstreams {
    pub(super) fn new(given: Option<(OwnedFd, Vec<IpAddr>)>, conf: PathBuf, host_allowed: bool) -> Self {
        let given = given.map(|(netns, servers)| {
            // Our own address would be ourselves.
            let others = servers.into_iter().filter(|ip| *ip != IpAddr::V4(ADDRESS)).take(MOST);
            (netns, others.map(|ip| SocketAddr::new(ip, 53)).collect())
        });
        Self { given, host: Vec::new(), conf, seen: None, host_allowed }
    }

    /// Who is to be asked now.
    pub(super) fn servers(&mut self) -> Servers {
        if let Some((_, list)) = &self.given {
            return Servers { list: list.clone(), inside: true };
        }
        if !self.host_allowed {
            return Servers::default();
        }
        self.refresh();
        Servers { list: self.host.clone(), inside: false }
    }

    /// Reads the host's file again when it is another one by now: hosts move between networks.
    fn refresh(&mut self) {
        let stamp = std::fs::metadata(&self.conf).ok().map(|meta| Stamp {
            inode: (meta.dev(), meta.ino()),
            modified: (meta.mtime(), meta.mtime_nsec()),
            size: meta.size(),
        });
        if !self.host.is_empty() && stamp == self.seen {
            return;
        }
        self.seen = stamp;
        let mut text = std::fs::read(&self.conf).unwrap_or_default();
        text.truncate(LONGEST_CONF);
        self.host = host_servers(&String::from_utf8_lossy(&text));
    }

    /// A socket to the server, which may still be connecting.
    pub(super) fn connect(
        &self,
        server: SocketAddr,
        inside: bool,
        kind: SocketType,
    ) -> Result<OwnedFd, Errno> {
        let open = || {
            let family = if server.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = rustix::net::socket_with(family, kind, flags, None)?;
            match rustix::net::connect(&socket, &server) {
                Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
                Err(errno) => Err(errno),
            }
        };
        match &self.given {
            Some((netns, _)) if inside => process::in_network(netns.as_fd(), open)
                .map_err(|error| Errno::from_raw_os_error(error.errno as i32))?,
            _ => open(),
        }
    }
}

/// The name servers of a resolv.conf; without any, a resolver of the C library asks this host.
pub(crate) fn host_servers(conf: &str) -> Vec<SocketAddr> {
    let mut servers: Vec<SocketAddr> = conf
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            (words.next()? == "nameserver").then(|| server(words.next()?)).flatten()
        })
        .take(MOST)
        .collect();
    if servers.is_empty() {
        servers.push(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 53));
    }
    servers
}

/// `192.0.2.1`, `2001:db8::1`, `fe80::1%eth0`.
fn server(text: &str) -> Option<SocketAddr> {
    let Some((ip, link)) = text.split_once('%') else {
        return Some(SocketAddr::new(text.parse().ok()?, 53));
    };
    let ip: Ipv6Addr = ip.parse().ok()?;
    let scope = link.parse().ok().or_else(|| link_index(link))?;
    Some(SocketAddr::V6(SocketAddrV6::new(ip, 53, 0, scope)))
}

fn link_index(link: &str) -> Option<u32> {
    let any = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None);
    rustix::net::netdevice::name_to_index(any.ok()?, link).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn servers_of_a_resolv_conf() {
        let list = |conf: &str| host_servers(conf).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(list("nameserver 127.0.0.53\n"), ["127.0.0.53:53"]);
        assert_eq!(list("# nameserver 9.9.9.9\n nameserver\t::1 # c\nnameserver x\n"), ["[::1]:53"]);
        assert_eq!(list("nameserver fe80::1%lo\nnameserver fe80::1%7"), ["[fe80::1%1]:53", "[fe80::1%7]:53"]);
        assert_eq!(list("nameserver fe80::1%nosuchlink"), ["127.0.0.1:53"]);
        assert_eq!(list("search a\n"), ["127.0.0.1:53"]);
        assert_eq!(list(&"nameserver 1.1.1.1\n".repeat(9)).len(), MOST);
    }
}

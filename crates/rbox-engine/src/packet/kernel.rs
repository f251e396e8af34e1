//! What depends on where one stands: routes, sockets and names of a container or of the host.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use rbox_network::{Lookup, Seen, Way};
use rbox_spec::container::NetworkMode;
use rbox_spec::mac::Mac;
use rbox_sys::process;

use crate::containers::find;
use crate::containers::running::pidfd;
use crate::error::EngineError;
use crate::networks::dns;
use crate::networks::sockets::{self, Socket};
use crate::packet::world::Node;
use crate::record::container::Container;
use crate::record::paths::Paths;

/// What a name leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// It stands in /etc/hosts.
    Hosts(Vec<IpAddr>),
    /// It is a name of a container on one of the networks.
    Names(Vec<IpAddr>),
    /// It is neither; these servers are asked for it, if there are any.
    Elsewhere(Vec<String>),
}

/// A container that a user named, whether it runs or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// `running`, `exited`, …
    pub status: &'static str,
    /// Its network mode.
    pub mode: NetworkMode,
    /// The names of its networks.
    pub networks: Vec<String>,
}

/// Questions to the kernel and to the name index; `None` stands for the host.
pub trait Kernel {
    /// Where packets to `to` go.
    fn way(&self, from: Option<&Node>, to: IpAddr) -> Result<Way, EngineError>;
    /// The Ethernet address of a container's link.
    fn mac(&self, of: &Node, link: &str) -> Result<Option<Mac>, EngineError>;
    /// The sockets that listen.
    fn sockets(&self, of: Option<&Node>) -> Result<Vec<Socket>, EngineError>;
    /// What a name leads to.
    fn resolve(&self, from: Option<&Node>, name: &str) -> Result<Found, EngineError>;
    /// The addresses that a container is answered for a name that is none of its networks'; none when nobody answers.
    fn ask(&self, from: &Node, name: &str) -> Result<Option<Vec<IpAddr>>, EngineError>;
    /// The container that a user means by `name`.
    fn container(&self, name: &str) -> Option<Known>;
}

/// This host's.
pub struct Live<'a> {
    paths: &'a Paths,
    seen: RefCell<HashMap<String, Seen>>,
}

impl<'a> Live<'a> {
    /// For the containers of these paths.
    pub fn new(paths: &'a Paths) -> Self {
        Self { paths, seen: RefCell::default() }
    }

    /// Lends `work` a look from where `from` is.
    fn look<T>(&self, from: Option<&Node>, work: impl FnOnce(&mut Seen) -> T) -> Result<T, EngineError> {
        let key = from.map_or_else(String::new, |node| node.id.clone());
        let mut kept = self.seen.borrow_mut();
        if let Some(seen) = kept.get_mut(&key) {
            return Ok(work(seen));
        }
        let socket = match from {
            None => rbox_network::route_socket()?,
            Some(node) => {
                let netns = self.netns(node)?;
                process::in_network(netns.as_fd(), rbox_network::route_socket)??
            }
        };
        let mut seen = Seen::through(socket)?;
        let out = work(&mut seen);
        kept.insert(key, seen);
        Ok(out)
    }

    /// A container's network namespace. Opened first, then seen to be its: a number may be another process's by now.
    fn netns(&self, node: &Node) -> Result<File, EngineError> {
        let path = format!("/proc/{}/ns/net", node.pid);
        let netns = File::open(&path).map_err(EngineError::file("open", path))?;
        pidfd(&find::find(self.paths, &node.id)?)?;
        Ok(netns)
    }

    /// The container, and the one whose network it has: mostly the same.
    fn owner(&self, node: &Node) -> Result<Container, EngineError> {
        let own = find::find(self.paths, &node.id)?;
        match &own.record.host.network {
            NetworkMode::Container(id) => Ok(find::find(self.paths, id).unwrap_or(own)),
            _ => Ok(own),
        }
    }
}

impl Kernel for Live<'_> {
    fn way(&self, from: Option<&Node>, to: IpAddr) -> Result<Way, EngineError> {
        Ok(self.look(from, |seen| seen.way(to))??)
    }

    fn mac(&self, of: &Node, link: &str) -> Result<Option<Mac>, EngineError> {
        self.look(Some(of), |seen| {
            seen.links().iter().find(|found| found.name == link).and_then(|found| found.mac)
        })
    }

    fn sockets(&self, of: Option<&Node>) -> Result<Vec<Socket>, EngineError> {
        let pid = of.map_or_else(|| "self".to_owned(), |node| node.pid.to_string());
        let mut found = sockets::sockets(&pid);
        if let Some(netns) = sockets::netns_of(&pid) {
            sockets::find_processes(&mut found, netns);
        }
        if found.iter().any(|socket| socket.address.is_ipv6()) {
            let open = || rbox_network::diag_socket();
            let asked = match of {
                None => open(),
                Some(node) => process::in_network(self.netns(node)?.as_fd(), open)?,
            };
            // On a kernel that cannot be asked, they take both: that is the default.
            let only = asked.and_then(rbox_network::only_ipv6).unwrap_or_default();
            for socket in &mut found {
                socket.only_ipv6 = only.contains(&socket.inode);
            }
        }
        Ok(found)
    }

    fn resolve(&self, from: Option<&Node>, name: &str) -> Result<Found, EngineError> {
        let Some(node) = from else {
            let text = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
            let found = in_hosts(&text, name);
            return Ok(if found.is_empty() { Found::Elsewhere(Vec::new()) } else { Found::Hosts(found) });
        };
        let owner = self.owner(node)?;
        let path = self.paths.given_file(&owner.record.id, crate::record::paths::HOSTS);
        let found = in_hosts(&crate::networks::links::read_hosts(&path).unwrap_or_default(), name);
        if !found.is_empty() {
            return Ok(Found::Hosts(found));
        }
        let Some(live) = owner.live.as_ref().filter(|_| owner.record.host.network == NetworkMode::Bridge)
        else {
            return Ok(Found::Elsewhere(Vec::new()));
        };
        let asked = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        match dns::known_names(self.paths, &owner.record, live).addresses(&asked) {
            Some(addresses) => Ok(Found::Names(addresses)),
            None => Ok(Found::Elsewhere(dns::upstreams(&owner.record, live))),
        }
    }

    fn ask(&self, from: &Node, name: &str) -> Result<Option<Vec<IpAddr>>, EngineError> {
        const PATIENCE: Duration = Duration::from_secs(5);
        let server = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 11), 53));
        let netns = self.netns(from)?;
        let asked = process::in_network(netns.as_fd(), || rbox_network::ask(name, server, PATIENCE))?;
        // Refused or unreachable is no answer either.
        Ok(asked.unwrap_or_default())
    }

    fn container(&self, name: &str) -> Option<Known> {
        let container = find::find(self.paths, name).ok()?;
        let host = container.record.host;
        Some(Known {
            name: container.record.name.into(),
            id: container.record.id.as_str().to_owned(),
            status: container.status.as_str(),
            networks: host.attachments.iter().map(|wanted| wanted.network.clone()).collect(),
            mode: host.network,
        })
    }
}

/// The addresses that a hosts(5) file has for a name, those of IPv4 first, as most programs try them.
pub(crate) fn in_hosts(text: &str, name: &str) -> Vec<IpAddr> {
    let of_line = |line: &str| {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_ascii_whitespace();
        let ip = words.next()?.parse().ok()?;
        words.any(|word| word.eq_ignore_ascii_case(name)).then_some(ip)
    };
    let mut found: Vec<IpAddr> = text.lines().filter_map(of_line).collect();
    found.sort_by_key(IpAddr::is_ipv6);
    found
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn lines_of_hosts() {
        let text =
            "::1 localhost ip6-localhost\n127.0.0.1\tlocalhost # db\n10.1.2.3 db DB.example\nbroken db\n";
        let found = |name| in_hosts(text, name).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(found("localhost"), ["127.0.0.1", "::1"]);
        assert_eq!(found("db.example"), ["10.1.2.3"]);
        assert_eq!(found("db"), ["10.1.2.3"]);
        assert!(found("nobody").is_empty());
    }
}

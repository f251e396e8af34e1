//! Links of containers on the host, whoever they belong to.

use std::collections::HashSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use rbox_spec::mac::Mac;
use rbox_spec::port::PublishedPort;

use crate::endpoint::Endpoint;
use crate::error::Result;
use crate::link;
use crate::nft::{Member, PublishedElement, Table};
use crate::socket::Netlink;
use crate::store::NetworkStore;

/// What the rules have for one container on a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StrayRule {
    /// A published port.
    Port(PublishedElement),
    /// That a link may send with these addresses.
    Guest(String, Mac, IpAddr),
}

impl fmt::Display for StrayRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(port) => write!(f, "published port {}/{} to {}", port.port, port.proto, port.target),
            Self::Guest(link, _, ip) => write!(f, "guard of link {link} for {ip}"),
        }
    }
}

impl NetworkStore {
    /// What the rules have for containers that are not among these.
    pub fn stray_rules(&self, live: &[Endpoint]) -> Result<Vec<StrayRule>> {
        let rules = self.rules()?;
        let addresses: HashSet<IpAddr> = live.iter().flat_map(Endpoint::addresses).collect();
        let links: HashSet<&str> = live.iter().map(|endpoint| endpoint.host_link.as_str()).collect();
        let ports = [rules.ip, rules.ip6].into_iter().flatten().flat_map(|between| between.published);
        let ports = ports.filter(|port| !addresses.contains(&port.target.ip())).map(StrayRule::Port);
        let guests = rules.guard.into_iter().flat_map(|guard| guard.guests);
        let guests = guests.filter(|(link, ..)| !links.contains(link.as_str()));
        Ok(ports.chain(guests.map(|(link, mac, ip)| StrayRule::Guest(link, mac, ip))).collect())
    }

    /// Takes it out of the rules.
    pub fn remove_stray_rule(&self, rule: &StrayRule) -> Result<()> {
        let (ip, six) = match rule {
            StrayRule::Port(port) => of_family(port.target.ip()),
            StrayRule::Guest(_, _, ip) => of_family(*ip),
        };
        let ports = match rule {
            StrayRule::Port(port) => vec![PublishedPort {
                host_ip: port.at.unwrap_or(if six.is_some() {
                    Ipv6Addr::UNSPECIFIED.into()
                } else {
                    Ipv4Addr::UNSPECIFIED.into()
                }),
                host_port: port.port,
                container_port: port.target.port(),
                proto: port.proto,
            }],
            StrayRule::Guest(..) => Vec::new(),
        };
        let (host_link, mac, guarded) = match rule {
            StrayRule::Port(_) => ("", Mac([0; 6]), false),
            StrayRule::Guest(link, mac, _) => (link.as_str(), *mac, true),
        };
        let member = Member { host_link, mac, ip, ip6: six, guarded, ports: &ports };
        Table::with(&self.names().table, |table| table.dismiss(&member))
    }

    /// The ports of our bridges that have names as containers' links have, each behind its bridge. What somebody else has put there has
    /// another.
    pub fn container_links(&self) -> Result<Vec<(String, String)>> {
        let mut found = Vec::new();
        for network in self.list()? {
            let ports = Path::new("/sys/class/net").join(&network.bridge).join("brif");
            let names = std::fs::read_dir(ports).into_iter().flatten().flatten();
            let names = names.filter_map(|entry| entry.file_name().into_string().ok());
            found.extend(
                names.filter(|name| is_of_container(name)).map(|name| (network.bridge.clone(), name)),
            );
        }
        found.sort();
        Ok(found)
    }

    /// Deletes a link of the host's.
    pub fn remove_link(&self, name: &str) -> Result<()> {
        link::delete(&mut Netlink::route()?, name)
    }
}

/// The address as a member has it: one of IPv4, and perhaps one of IPv6.
fn of_family(ip: IpAddr) -> (Ipv4Addr, Option<Ipv6Addr>) {
    match ip {
        IpAddr::V4(ip) => (ip, None),
        IpAddr::V6(ip) => (Ipv4Addr::UNSPECIFIED, Some(ip)),
    }
}

/// `rb` and the beginning of an id, perhaps with a digit behind (see `endpoint`).
fn is_of_container(name: &str) -> bool {
    name.strip_prefix("rb").is_some_and(|rest| {
        (12..=13).contains(&rest.len())
            && rest.bytes().take(12).all(|b| b.is_ascii_hexdigit())
            && rest.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_containers_links() {
        for name in ["rb3f3f3f3f3f3f", "rb3f3f3f3f3f3fz"] {
            assert!(is_of_container(name), "{name}");
        }
        for name in
            ["rb", "rbox0", "rb-3f3f3f3f3f3f", "rb3f3f3f3f3f3fzz", "eth0", "rb3f3f3f3f3fgg", "veth3f3f3f3f3f"]
        {
            assert!(!is_of_container(name), "{name}");
        }
    }
}

//! Links of containers on the host, whoever they belong to.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use rbox_spec::mac::Mac;
use rbox_spec::port::PublishedPort;

use crate::endpoint::host_link;
use crate::error::Result;
use crate::link;
use crate::network::Network;
use crate::nft::{Member, PublishedElement, Table};
use crate::socket::Netlink;
use crate::store::NetworkStore;

/// What the rules have for one container on a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContainerRule {
    /// A published port.
    Port(PublishedElement),
    /// That a link may send with these addresses.
    Guest(String, Mac, IpAddr),
}

impl ContainerRule {
    /// The container's address.
    pub fn address(&self) -> IpAddr {
        match self {
            Self::Port(port) => port.target.ip(),
            Self::Guest(_, _, ip) => *ip,
        }
    }

    /// Its link on the host, where the rule has that.
    pub fn link(&self) -> Option<&str> {
        match self {
            Self::Port(_) => None,
            Self::Guest(link, ..) => Some(link),
        }
    }
}

/// Whether a link of this name is the container's.
pub fn is_link_of(link: &str, container: &str) -> bool {
    let first = host_link(container, 0);
    is_of_container(link) && link.starts_with(&first)
}

impl fmt::Display for ContainerRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(port) => write!(f, "published port {}/{} to {}", port.port, port.proto, port.target),
            Self::Guest(link, _, ip) => write!(f, "guard of link {link} for {ip}"),
        }
    }
}

impl NetworkStore {
    /// What the rules have for containers, whoever they are.
    pub fn container_rules(&self) -> Result<Vec<ContainerRule>> {
        let rules = self.rules()?;
        let ports = [rules.ip, rules.ip6].into_iter().flatten().flat_map(|between| between.published);
        let guests = rules.guard.into_iter().flat_map(|guard| guard.guests);
        let guests = guests.map(|(link, mac, ip)| ContainerRule::Guest(link, mac, ip));
        Ok(ports.map(ContainerRule::Port).chain(guests).collect())
    }

    /// Takes it out of the rules, if `is_stray` still says so: meanwhile nobody gets an address of its network. Whether it did.
    pub fn remove_rule(&self, rule: &ContainerRule, is_stray: &dyn Fn() -> bool) -> Result<bool> {
        let ip = rule.address();
        let has = |network: &Network| match ip {
            IpAddr::V4(ip) => network.subnet.is_some_and(|subnet| subnet.contains(ip)),
            IpAddr::V6(ip) => network.subnet6.is_some_and(|subnet| subnet.contains(ip)),
        };
        let _held = self.hold_alone(&has)?;
        if !is_stray() {
            return Ok(false);
        }
        self.take_out(rule).map(|()| true)
    }

    /// Nobody gets an address of these networks as long as this is kept, nor makes or removes any.
    fn hold_alone(&self, which: &dyn Fn(&Network) -> bool) -> Result<impl Sized + use<>> {
        let alone = self.lock()?;
        let mut held = Vec::new();
        for network in self.list()?.iter().filter(|network| !network.bridge.is_empty() && which(network)) {
            let addresses = self.addresses(network)?;
            addresses.hold_alone()?;
            held.push(addresses);
        }
        Ok((alone, held))
    }

    fn take_out(&self, rule: &ContainerRule) -> Result<()> {
        let (ip, six) = of_family(rule.address());
        let ports = match rule {
            ContainerRule::Port(port) => vec![PublishedPort {
                host_ip: port.at.unwrap_or(if six.is_some() {
                    Ipv6Addr::UNSPECIFIED.into()
                } else {
                    Ipv4Addr::UNSPECIFIED.into()
                }),
                host_port: port.port,
                container_port: port.target.port(),
                proto: port.proto,
            }],
            ContainerRule::Guest(..) => Vec::new(),
        };
        let (host_link, mac, guarded) = match rule {
            ContainerRule::Port(_) => ("", Mac([0; 6]), false),
            ContainerRule::Guest(link, mac, _) => (link.as_str(), *mac, true),
        };
        let member = Member { host_link, mac, ip, ip6: six, link_local: &[], guarded, ports: &ports };
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

    /// Deletes a port of a bridge, if `is_stray` still says so: meanwhile nobody gets onto the network. Whether it did.
    pub fn remove_link(&self, bridge: &str, name: &str, is_stray: &dyn Fn() -> bool) -> Result<bool> {
        let _held = self.hold_alone(&|network| network.bridge == bridge)?;
        if !is_stray() {
            return Ok(false);
        }
        link::delete(&mut Netlink::route()?, name).map(|()| true)
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
            assert!(is_link_of(name, &"3f".repeat(32)) && !is_link_of(name, &"3e".repeat(32)), "{name}");
        }
        for name in
            ["rb", "rbox0", "rb-3f3f3f3f3f3f", "rb3f3f3f3f3f3fzz", "eth0", "rb3f3f3f3f3fgg", "veth3f3f3f3f3f"]
        {
            assert!(!is_of_container(name), "{name}");
        }
    }
}

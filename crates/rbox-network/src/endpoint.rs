//! A container's place on a network: what goes into its record, so that everything can be found again.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rbox_spec::mac::Mac;
use rbox_spec::port::PublishedPort;
use serde::{Deserialize, Serialize};

/// One container on one network. Nothing of it exists in the kernel before [`crate::NetworkStore::attach`],
/// so it can be recorded first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The network's name.
    pub network: String,
    /// The network's id.
    pub network_id: String,
    /// The container's id.
    pub container: String,
    /// The bridge the host's end of the veth is a port of.
    pub bridge: String,
    /// The host's end of the veth.
    pub host_link: String,
    /// The name of the container's end.
    pub link: String,
    /// The container's address.
    pub ip: Ipv4Addr,
    /// The length of its subnet's prefix.
    pub prefix: u8,
    /// The bridge's own address.
    pub gateway: Ipv4Addr,
    /// Whether the default route is through this network: it is not through an internal one, and through one only.
    #[serde(default)]
    pub default_route: bool,
    /// Its IPv6 address, on a network that has IPv6.
    #[serde(default)]
    pub ip6: Option<Endpoint6>,
    /// The Ethernet address of the container's end.
    pub mac: Mac,
    /// Further addresses, which no network allots.
    #[serde(default)]
    pub link_local: Vec<IpAddr>,
    /// The largest packet, in bytes; none for the kernel's default.
    #[serde(default)]
    pub mtu: Option<u32>,
    /// What it is called on this network, in lower case: its name first.
    #[serde(default)]
    pub names: Vec<String>,
    /// It may send only with its own addresses.
    #[serde(default)]
    pub guarded: bool,
    /// It and the other containers of the network do not reach each other.
    #[serde(default)]
    pub isolated: bool,
    /// The published ports.
    #[serde(default)]
    pub ports: Vec<PublishedPort>,
}

/// The IPv6 side of an [`Endpoint`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint6 {
    /// The container's address.
    pub ip: Ipv6Addr,
    /// The length of its subnet's prefix.
    pub prefix: u8,
    /// The bridge's own address.
    pub gateway: Ipv6Addr,
}

impl Endpoint {
    /// Its addresses, the IPv4 one first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        [Some(IpAddr::V4(self.ip)), self.ip6.map(|six| IpAddr::V6(six.ip))].into_iter().flatten()
    }
}

/// How many networks a container can be on: the name of the host's end of each veth has one digit for it.
pub const MOST_NETWORKS: usize = 36;

/// The name of the host's end of a container's veth: `rb` and the start of the id, then, but for the first, a digit
/// (base 36) for which one it is. Link names hold 15 characters.
pub(crate) fn host_link(container: &str, number: usize) -> String {
    let start: String = container.chars().filter(char::is_ascii_alphanumeric).take(12).collect();
    match u32::try_from(number).ok().filter(|n| *n > 0).and_then(|n| char::from_digit(n, 36)) {
        Some(digit) => format!("rb{start}{digit}"),
        None => format!("rb{start}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_names_fit() {
        assert_eq!(host_link(&"3f".repeat(32), 0), "rb3f3f3f3f3f3f");
        assert_eq!(host_link(&"3f".repeat(32), 35), "rb3f3f3f3f3f3fz");
        assert_eq!(host_link("../x", 0), "rbx");
    }
}

//! What a network namespace looks like from inside: its links, its addresses, and where it sends what is for an address.
//! Nothing is changed; the kernel is asked each time, so rules and routes of others count too.

use std::net::IpAddr;
use std::os::fd::OwnedFd;

use netlink_packet_core::{Emitable, Parseable};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkFlags, LinkMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use rbox_spec::mac::Mac;
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::nft::encode::attribute;
use crate::socket::{DUMP, Netlink, Request};

const RTM_GETLINK: u16 = 18;
const RTM_GETADDR: u16 = 22;
const RTM_GETROUTE: u16 = 26;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;

/// A link of a network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenLink {
    /// Its number there.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Whether it is up.
    pub up: bool,
    /// Its Ethernet address, when it has one.
    pub mac: Option<Mac>,
    /// Its addresses, each with the length of its prefix.
    pub addresses: Vec<(IpAddr, u8)>,
}

/// Where a network namespace sends what is for an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// The address is its own.
    Local,
    /// It leaves over a link.
    Over {
        /// The link's name.
        link: String,
        /// The router it is handed to; none when the address is on the link itself.
        gateway: Option<IpAddr>,
        /// The address it is sent from.
        source: Option<IpAddr>,
    },
    /// Nowhere: what the kernel says to who tries.
    Nowhere(String),
}

/// One network namespace, seen through a socket that was opened in it.
pub struct Seen {
    socket: Netlink,
    links: Vec<SeenLink>,
}

impl Seen {
    /// Looks at the network namespace in which `socket` (`NETLINK_ROUTE`) was opened.
    pub fn through(socket: OwnedFd) -> Result<Self> {
        let mut socket = Netlink::from_fd(socket);
        let mut links = links(&mut socket)?;
        for (index, ip, prefix) in addresses(&mut socket)? {
            if let Some(link) = links.iter_mut().find(|link| link.index == index) {
                link.addresses.push((ip, prefix));
            }
        }
        Ok(Self { socket, links })
    }

    /// Its links.
    pub fn links(&self) -> &[SeenLink] {
        &self.links
    }

    /// Where it sends what is for `to`.
    pub fn way(&mut self, to: IpAddr) -> Result<Way> {
        let mut message = RouteMessage::default();
        let (family, address, bits) = match to {
            IpAddr::V4(ip) => (AddressFamily::Inet, RouteAddress::Inet(ip), 32),
            IpAddr::V6(ip) => (AddressFamily::Inet6, RouteAddress::Inet6(ip), 128),
        };
        message.header.address_family = family;
        message.header.destination_prefix_length = bits;
        message.attributes = vec![RouteAttribute::Destination(address)];
        let told = format!("RTM_GETROUTE {to}");
        let request =
            Request { kind: RTM_GETROUTE, flags: 0, body: body(&message), told: told.clone(), accept: None };
        let answers = match self.socket.ask(&request) {
            Err(error) if error.errno().is_some_and(is_refusal) => {
                return Ok(Way::Nowhere(refusal(error.errno())));
            }
            answers => answers?,
        };
        let Some(answer) = answers.first() else {
            return Err(Error::Answer { what: told, why: "no route in it".into() });
        };
        let route = RouteMessage::parse(&answer.body)
            .map_err(|error| Error::Answer { what: told, why: error.to_string() })?;
        Ok(self.read(&route))
    }

    fn read(&self, route: &RouteMessage) -> Way {
        match route.header.kind {
            RouteType::Local => return Way::Local,
            RouteType::Unreachable | RouteType::BlackHole | RouteType::Prohibit => {
                return Way::Nowhere(refusal(None));
            }
            _ => {}
        }
        let (mut link, mut gateway, mut source) = (String::new(), None, None);
        for attribute in &route.attributes {
            match attribute {
                RouteAttribute::Oif(index) => {
                    let found = self.links.iter().find(|link| link.index == *index);
                    link = found.map_or_else(|| format!("link {index}"), |link| link.name.clone());
                }
                RouteAttribute::Gateway(address) => gateway = ip_of(address),
                RouteAttribute::PrefSource(address) => source = ip_of(address),
                _ => {}
            }
        }
        Way::Over { link, gateway, source }
    }
}

fn ip_of(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    }
}

/// Whether this is how the kernel says that there is no way, and not that it could not be asked.
fn is_refusal(errno: Errno) -> bool {
    [Errno::NETUNREACH, Errno::HOSTUNREACH, Errno::ACCESS, Errno::INVAL, Errno::AFNOSUPPORT].contains(&errno)
}

fn refusal(errno: Option<Errno>) -> String {
    match errno {
        Some(Errno::NETUNREACH) => "network unreachable",
        Some(Errno::AFNOSUPPORT) => "the kernel has no IPv6",
        _ => "host unreachable",
    }
    .to_owned()
}

fn body(message: &impl Emitable) -> Vec<u8> {
    let mut out = vec![0; message.buffer_len()];
    message.emit(&mut out);
    out
}

fn links(socket: &mut Netlink) -> Result<Vec<SeenLink>> {
    let told = "RTM_GETLINK, all";
    let request = Request {
        kind: RTM_GETLINK,
        flags: DUMP,
        body: body(&LinkMessage::default()),
        told: told.into(),
        accept: None,
    };
    Ok(socket.ask(&request)?.iter().filter_map(|answer| read_link(&answer.body)).collect())
}

/// struct ifinfomsg, then attributes of which two are of interest.
pub(crate) fn read_link(body: &[u8]) -> Option<SeenLink> {
    let ([_, _, _, _, i0, i1, i2, i3, f0, f1, f2, f3, _, _, _, _], attributes) =
        body.split_first_chunk::<16>()?;
    let flags = LinkFlags::from_bits_retain(u32::from_ne_bytes([*f0, *f1, *f2, *f3]));
    let name = attribute(attributes, IFLA_IFNAME)?;
    let mac = attribute(attributes, IFLA_ADDRESS).and_then(|bytes| bytes.try_into().ok()).map(Mac);
    Some(SeenLink {
        index: u32::from_ne_bytes([*i0, *i1, *i2, *i3]),
        name: crate::nft::encode::text(name),
        up: flags.contains(LinkFlags::Up),
        mac,
        addresses: Vec::new(),
    })
}

/// All addresses, each with the number of its link and the length of its prefix; IPv4 first.
fn addresses(socket: &mut Netlink) -> Result<Vec<(u32, IpAddr, u8)>> {
    let told = "RTM_GETADDR, all";
    let request = Request {
        kind: RTM_GETADDR,
        flags: DUMP,
        body: body(&AddressMessage::default()),
        told: told.into(),
        accept: None,
    };
    let mut found = Vec::new();
    for answer in socket.ask(&request)? {
        let address = AddressMessage::parse(&answer.body)
            .map_err(|error| Error::Answer { what: told.into(), why: error.to_string() })?;
        for attribute in &address.attributes {
            // Of IPv4 the local address counts, and IPv6 has only the other kind.
            let ip = match attribute {
                AddressAttribute::Local(ip) => *ip,
                AddressAttribute::Address(ip) if ip.is_ipv6() => *ip,
                _ => continue,
            };
            found.push((address.header.index, ip, address.header.prefix_len));
        }
    }
    found.sort_by_key(|(index, ip, _)| (*index, ip.is_ipv6()));
    Ok(found)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn this_namespace_has_a_loopback() {
        let mut seen = Seen::through(crate::route_socket().unwrap()).unwrap();
        let lo = seen.links().iter().find(|link| link.name == "lo").unwrap();
        assert!(lo.index == 1 && lo.up, "{lo:?}");
        assert!(lo.addresses.contains(&("127.0.0.1".parse().unwrap(), 8)), "{lo:?}");
        assert_eq!(seen.way("127.5.6.7".parse().unwrap()).unwrap(), Way::Local);
    }

    #[test]
    fn a_link_that_is_cut_short_is_none() {
        assert_eq!(read_link(&[0; 15]), None);
        assert_eq!(read_link(&[0; 16]), None, "it has no name");
    }
}

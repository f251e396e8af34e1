//! What is put into the tables' sets: networks, containers that are guarded, published ports.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rbox_spec::mac::Mac;
use rbox_spec::port::PublishedPort;

use super::chain::ifname;
use super::encode::{Attributes, Family, attribute, attributes};
use super::guard;
use super::ruleset::{BRIDGES, INTERNAL, PUBLISHED, PUBLISHED_AT, SAME, SUBNETS};
use crate::endpoint::Endpoint;
use crate::subnet::{Subnet, Subnet6};

/// What the rules know of a network.
#[derive(Clone, Copy)]
pub(crate) struct Network<'a> {
    pub(crate) bridge: &'a str,
    pub(crate) subnet: Subnet,
    pub(crate) subnet6: Option<Subnet6>,
    pub(crate) internal: bool,
}

/// What the rules know of a container on a network.
#[derive(Clone, Copy)]
pub(crate) struct Member<'a> {
    pub(crate) host_link: &'a str,
    pub(crate) mac: Mac,
    pub(crate) ip: Ipv4Addr,
    pub(crate) ip6: Option<Ipv6Addr>,
    /// Further addresses that it may have.
    pub(crate) link_local: &'a [IpAddr],
    pub(crate) guarded: bool,
    pub(crate) ports: &'a [PublishedPort],
}

/// A published port and the container address behind it, of the same family.
pub(crate) type Published = (PublishedPort, IpAddr);

/// One element of a set or map.
pub(super) struct Element {
    pub(super) family: Family,
    pub(super) set: &'static str,
    key: Vec<u8>,
    /// What a map holds for the key.
    pub(super) value: Option<Vec<u8>>,
    /// The key after the last one of an interval.
    end: Option<Vec<u8>>,
}

impl Element {
    fn new(family: Family, set: &'static str, key: impl Into<Vec<u8>>) -> Self {
        Self { family, set, key: key.into(), value: None, end: None }
    }

    /// The body of a message that adds it to its table, deletes it, or asks for it.
    pub(super) fn message(&self, table: &str, purpose: Purpose) -> Attributes {
        let key = |key: &[u8]| Attributes::default().nest(1, &Attributes::default().bytes(1, key));
        let mut element = key(&self.key);
        if let (Purpose::Add, Some(value)) = (purpose, &self.value) {
            element = element.nest(2, &Attributes::default().bytes(1, value));
        }
        let mut list = Attributes::default().nest(1, &element);
        if let (Purpose::Add | Purpose::Delete, Some(end)) = (purpose, &self.end) {
            const INTERVAL_END: u32 = 1;
            list = list.nest(1, &key(end).u32(3, INTERVAL_END));
        }
        Attributes::message(self.family).text(1, table).text(2, self.set).nest(3, &list)
    }

    /// Whether the answer to a question for the key shows this element and no other container's.
    pub(super) fn is_in(&self, answer: &[u8]) -> bool {
        let Some(wanted) = &self.value else { return true };
        let found = || {
            let list = attribute(answer.get(4..)?, 3)?;
            let (_, element) = attributes(list).next()?;
            attribute(attribute(element, 2)?, 1)
        };
        found() == Some(wanted.as_slice())
    }
}

/// What a message about an element is for.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    Add,
    Delete,
    Ask,
}

impl Network<'_> {
    /// The families that this network needs between networks.
    pub(super) fn families(&self) -> impl Iterator<Item = Family> {
        [Family::Ip].into_iter().chain(self.subnet6.map(|_| Family::Ip6))
    }

    /// By which the tables know it.
    pub(super) fn elements(&self) -> Vec<Element> {
        let name = ifname(self.bridge);
        let mut all = Vec::with_capacity(8);
        for family in self.families() {
            all.push(Element::new(family, BRIDGES, name));
            all.push(Element::new(family, SAME, [name, name].concat()));
            if self.internal {
                all.push(Element::new(family, INTERNAL, name));
            }
        }
        let after = u32::from(self.subnet.broadcast()).checked_add(1);
        all.push(Element {
            end: after.map(|after| after.to_be_bytes().to_vec()),
            ..Element::new(Family::Ip, SUBNETS, self.subnet.base().octets())
        });
        if let Some(subnet) = self.subnet6 {
            let last = u128::from(subnet.base()) | u128::MAX.checked_shr(subnet.prefix().into()).unwrap_or(0);
            all.push(Element {
                end: last.checked_add(1).map(|after| after.to_be_bytes().to_vec()),
                ..Element::new(Family::Ip6, SUBNETS, subnet.base().octets())
            });
        }
        all
    }
}

impl<'a> Member<'a> {
    pub(crate) fn of(endpoint: &'a Endpoint) -> Self {
        Self {
            host_link: &endpoint.host_link,
            mac: endpoint.mac,
            ip: endpoint.ip,
            ip6: endpoint.ip6.map(|six| six.ip),
            link_local: &endpoint.link_local,
            guarded: endpoint.guarded,
            ports: &endpoint.ports,
        }
    }

    /// Each published port with the address behind it.
    pub(super) fn published(&self) -> Vec<Published> {
        let behind = |port: &PublishedPort| match port.host_ip {
            IpAddr::V4(_) => Some(IpAddr::V4(self.ip)),
            // Refused when it is reserved, where the network has no IPv6.
            IpAddr::V6(_) => self.ip6.map(IpAddr::V6),
        };
        self.ports.iter().filter_map(|port| Some((*port, behind(port)?))).collect()
    }

    /// All that the tables have of it.
    pub(super) fn elements(&self) -> Vec<Element> {
        let mut all = Vec::with_capacity(8);
        if self.guarded {
            let guests = guard::elements(self.host_link, self.mac, self.ip, self.ip6, self.link_local);
            all.extend(guests.into_iter().map(|(set, key)| Element::new(Family::Bridge, set, key)));
        }
        all.extend(self.published().iter().map(published));
        all
    }
}

/// The element of a published port.
fn published((port, target): &Published) -> Element {
    let octets = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    // Each part fills registers of four bytes.
    let number = |port: u16| [port.to_be_bytes(), [0, 0]].concat();
    let mut key = vec![port.proto.number(), 0, 0, 0];
    let set = if port.host_ip.is_unspecified() {
        PUBLISHED
    } else {
        key.extend(octets(port.host_ip));
        PUBLISHED_AT
    };
    key.extend(number(port.host_port));
    let family = if target.is_ipv4() { Family::Ip } else { Family::Ip6 };
    let value = [octets(*target), number(port.container_port)].concat();
    Element { value: Some(value), ..Element::new(family, set, key) }
}

/// Ports for errors: the first few of many. For `--explain`, which makes commands of them: all.
pub(super) fn listed(published: &[Published]) -> String {
    let most = if rbox_sys::trace::enabled() { usize::MAX } else { 4 };
    let one = |(port, ip): &Published| {
        let target = std::net::SocketAddr::new(*ip, port.container_port);
        format!("{}/{} -> {target}", port.host(), port.proto)
    };
    let shown = published.iter().take(most).map(one).collect::<Vec<_>>().join(", ");
    match published.len().saturating_sub(most) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

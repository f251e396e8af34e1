//! Forgetting UDP flows that lead to the wrong place.
//!
//! A flow is translated as it was when its first packet came. A client that keeps sending from one port would stay
//! with a container that is gone, or with none when it began before the port was published. TCP clients notice.
//!
//! Source: `linux/netfilter/nfnetlink_conntrack.h`.

use std::net::{IpAddr, SocketAddr};

use rbox_spec::port::Protocol;
use rustix::io::Errno;

use crate::error::Result;
use crate::nft::Published;
use crate::nft::encode::{Attributes, Family, attribute};
use crate::socket::{DUMP, Netlink, Request};

const SUBSYSTEM: u16 = 1 << 8;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;

/// `CTA_*`.
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;

/// One direction of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tuple {
    source: IpAddr,
    destination: IpAddr,
    proto: u8,
    destination_port: u16,
}

impl Tuple {
    pub(crate) fn parse(body: &[u8], direction: u16) -> Option<Self> {
        let tuple = attribute(body, direction)?;
        let (ip, proto) = (attribute(tuple, 1)?, attribute(tuple, 2)?);
        // One kind of attribute for an IPv4 address, another for an IPv6 one.
        let address = |v4, v6| match (attribute(ip, v4), attribute(ip, v6)) {
            (Some(octets), _) => octets.first_chunk::<4>().map(|octets| IpAddr::from(*octets)),
            (_, Some(octets)) => octets.first_chunk::<16>().map(|octets| IpAddr::from(*octets)),
            _ => None,
        };
        Some(Self {
            source: address(1, 3)?,
            destination: address(2, 4)?,
            proto: *attribute(proto, 1)?.first()?,
            destination_port: u16::from_be_bytes(*attribute(proto, 3)?.first_chunk::<2>()?),
        })
    }
}

/// Whether the flow goes to one of the published UDP ports, or to the container behind them.
fn concerns(original: Tuple, reply: Tuple, ports: &[Published]) -> bool {
    original.proto == Protocol::Udp.number()
        && ports.iter().filter(|(port, _)| port.proto == Protocol::Udp).any(|(port, ip)| {
            let addressed = port.host_ip.is_unspecified() || port.host_ip == original.destination;
            let published = addressed && original.destination_port == port.host_port;
            // The container's own flows out begin at its address; those are no business of the port.
            (published && original.source != *ip) || (reply.source == *ip && original.destination != *ip)
        })
}

/// Makes the kernel forget the UDP flows of these ports. Without a UDP port among them it does nothing.
pub(crate) fn forget(socket: &mut Netlink, ports: &[Published]) -> Result<()> {
    for family in [Family::Ip, Family::Ip6] {
        let of_family = |(port, _): &&Published| port.host_ip.is_ipv6() == (family == Family::Ip6);
        let ports: Vec<Published> = ports.iter().filter(of_family).copied().collect();
        if ports.iter().any(|(port, _)| port.proto == Protocol::Udp) {
            forget_of(socket, family, &ports)?;
        }
    }
    Ok(())
}

fn forget_of(socket: &mut Netlink, family: Family, ports: &[Published]) -> Result<()> {
    let dump = Request {
        kind: GET,
        flags: DUMP,
        body: Attributes::message(family).into_body(),
        told: "IPCTNL_MSG_CT_GET".into(),
        accept: None,
    };
    let mut deletions = Vec::new();
    for message in socket.ask(&dump)? {
        let Some(body) = message.body.get(4..) else { continue };
        let (Some(original), Some(reply)) = (Tuple::parse(body, ORIGINAL), Tuple::parse(body, REPLY)) else {
            continue;
        };
        if !concerns(original, reply, ports) {
            continue;
        }
        let copied = [ORIGINAL, ID, ZONE].into_iter().fold(Attributes::message(family), |out, kind| {
            match attribute(body, kind) {
                Some(value) if kind == ORIGINAL => out.nested_bytes(kind, value),
                Some(value) => out.bytes(kind, value),
                None => out,
            }
        });
        deletions.push(Request {
            kind: DELETE,
            flags: 0,
            body: copied.into_body(),
            told: format!(
                "IPCTNL_MSG_CT_DELETE udp {} -> {}",
                original.source,
                SocketAddr::new(original.destination, original.destination_port)
            ),
            accept: Some(Errno::NOENT),
        });
    }
    // In portions, so that the acknowledgements fit the socket's buffer.
    deletions.chunks(64).try_for_each(|portion| socket.batch(portion))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use rbox_spec::port::PublishedPort;

    #[test]
    fn which_flows_are_forgotten() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let tuple = |source: &str, destination: &str, proto, destination_port| Tuple {
            source: ip(source),
            destination: ip(destination),
            proto,
            destination_port,
        };
        let port = |host_ip: &str| PublishedPort {
            host_ip: host_ip.parse().unwrap(),
            host_port: 53,
            container_port: 5353,
            proto: Protocol::Udp,
        };
        let any = [(port("0.0.0.0"), ip("172.30.0.2"))];
        let to_host = tuple("192.0.2.9", "192.0.2.1", 17, 53);
        let from_host = tuple("192.0.2.1", "192.0.2.9", 17, 999);
        let from_container = tuple("172.30.0.2", "192.0.2.9", 17, 999);
        assert!(concerns(to_host, from_host, &any), "begun before it was published");
        assert!(concerns(to_host, from_container, &any));
        let before = Tuple { destination_port: 54, ..to_host };
        assert!(concerns(before, from_container, &any), "led there by another port");
        assert!(!concerns(Tuple { proto: 6, ..to_host }, from_host, &any));
        assert!(!concerns(Tuple { destination_port: 54, ..to_host }, from_host, &any));
        assert!(
            !concerns(to_host, from_host, &[(port("127.0.0.1"), ip("172.30.0.2"))]),
            "on another address"
        );
        let any6 = [(port("::"), ip("fd00::2"))];
        let to_host6 = tuple("2001:db8::9", "2001:db8::1", 17, 53);
        assert!(concerns(to_host6, tuple("fd00::2", "2001:db8::9", 17, 999), &any6));
        assert!(!concerns(to_host6, from_host, &[(port("::1"), ip("fd00::2"))]), "on another address");
        let out = tuple("172.30.0.2", "8.8.8.8", 17, 53);
        assert!(!concerns(out, tuple("8.8.8.8", "192.0.2.1", 17, 999), &any), "the container's own question");
    }
}

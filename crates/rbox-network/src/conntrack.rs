//! Forgetting UDP flows that lead to the wrong place.
//!
//! A flow is translated as it was when its first packet came. A client that keeps sending from one port would stay
//! with a container that is gone, or with none when it began before the port was published. TCP clients notice.
//!
//! Source: `linux/netfilter/nfnetlink_conntrack.h`.

use std::net::{IpAddr, Ipv4Addr};

use rbox_spec::port::{Protocol, PublishedPort};
use rustix::io::Errno;

use crate::error::Result;
use crate::nft::encode::{Attributes, NFPROTO_IPV4, attribute};
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
struct Tuple {
    source: Ipv4Addr,
    destination: Ipv4Addr,
    proto: u8,
    destination_port: u16,
}

impl Tuple {
    fn parse(body: &[u8], direction: u16) -> Option<Self> {
        let tuple = attribute(body, direction)?;
        let (ip, proto) = (attribute(tuple, 1)?, attribute(tuple, 2)?);
        let address = |kind| attribute(ip, kind)?.first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets));
        Some(Self {
            source: address(1)?,
            destination: address(2)?,
            proto: *attribute(proto, 1)?.first()?,
            destination_port: u16::from_be_bytes(*attribute(proto, 3)?.first_chunk::<2>()?),
        })
    }
}

/// Whether the flow goes to one of the published UDP ports, or to the container behind them.
fn concerns(original: Tuple, reply: Tuple, ports: &[(PublishedPort, Ipv4Addr)]) -> bool {
    original.proto == Protocol::Udp.number()
        && ports.iter().filter(|(port, _)| port.proto == Protocol::Udp).any(|(port, ip)| {
            let addressed = port.host_ip.is_unspecified() || port.host_ip == IpAddr::V4(original.destination);
            let published = addressed && original.destination_port == port.host_port;
            // The container's own flows out begin at its address; those are no business of the port.
            (published && original.source != *ip) || (reply.source == *ip && original.destination != *ip)
        })
}

/// Makes the kernel forget the UDP flows of these ports. Without a UDP port among them it does nothing.
pub(crate) fn forget(socket: &mut Netlink, ports: &[(PublishedPort, Ipv4Addr)]) -> Result<()> {
    if !ports.iter().any(|(port, _)| port.proto == Protocol::Udp) {
        return Ok(());
    }
    let dump = Request {
        kind: GET,
        flags: DUMP,
        body: Attributes::message(NFPROTO_IPV4).into_body(),
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
        let copied = [ORIGINAL, ID, ZONE].into_iter().fold(Attributes::message(NFPROTO_IPV4), |out, kind| {
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
                "IPCTNL_MSG_CT_DELETE udp {} -> {}:{}",
                original.source, original.destination, original.destination_port
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

    #[test]
    fn which_flows_are_forgotten() {
        let ip = |text: &str| text.parse::<Ipv4Addr>().unwrap();
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
        assert!(!concerns(Tuple { proto: 6, ..to_host }, from_host, &any));
        assert!(!concerns(Tuple { destination_port: 54, ..to_host }, from_host, &any));
        assert!(
            !concerns(to_host, from_host, &[(port("127.0.0.1"), ip("172.30.0.2"))]),
            "on another address"
        );
        let out = tuple("172.30.0.2", "8.8.8.8", 17, 53);
        assert!(!concerns(out, tuple("8.8.8.8", "192.0.2.1", 17, 999), &any), "the container's own question");
    }
}

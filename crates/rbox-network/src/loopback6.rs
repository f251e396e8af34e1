//! Published ports at `[::1]`.
//!
//! A connection of the host to `[::1]:PORT` is translated to the container and masqueraded like one to 127.0.0.1. The
//! answers are translated back when they come over the bridge, to `::1`; there is no `route_localnet` for IPv6, but
//! the kernel takes a packet for `::1` on a link that has a local route to it (it looks for one on that very link, as it
//! does for link-local addresses). What comes for `::1` from outside is dropped before any translation.
//!
//! Where frames between a bridge's ports go through the IPv6 hooks (`bridge-nf-call-ip6tables`), the answers are
//! translated before that drop, and so are lost. There, the rules leave `[::1]` alone ([`is_translated`] is
//! false), and the monitor relays ([`crate::relay`]).

use netlink_packet_core::Emitable;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rustix::io::Errno;

use crate::socket::{CREATE, EXCL, Request};

const RTM_NEWROUTE: u16 = 24;
const RT_TABLE_LOCAL: u8 = 255;
/// After the route over `lo`, which has 0.
const METRIC: u32 = 1024;

/// Whether the kernel can lead connections to `[::1]` into containers.
pub(crate) fn is_translated() -> bool {
    !std::fs::read("/proc/sys/net/bridge/bridge-nf-call-ip6tables").is_ok_and(|text| text.starts_with(b"1"))
}

/// The request for the local route to `::1` on the bridge `name`.
pub(crate) fn route(index: u32, name: &str) -> Request {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet6;
    message.header.destination_prefix_length = 128;
    message.header.table = RT_TABLE_LOCAL;
    message.header.protocol = RouteProtocol::Boot;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Local;
    message.attributes = vec![
        RouteAttribute::Destination(RouteAddress::Inet6(std::net::Ipv6Addr::LOCALHOST)),
        RouteAttribute::Oif(index),
        RouteAttribute::Priority(METRIC),
    ];
    let mut body = vec![0; message.buffer_len()];
    message.emit(&mut body);
    let told = format!("RTM_NEWROUTE local ::1 dev {name}");
    Request { kind: RTM_NEWROUTE, flags: CREATE | EXCL, body, told, accept: Some(Errno::EXIST) }
}

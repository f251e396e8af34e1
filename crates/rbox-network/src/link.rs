//! Links, addresses and routes over rtnetlink. Source: rtnetlink(7).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use netlink_packet_core::{Emitable, Parseable};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoBridgePort, InfoData, InfoKind, InfoPortData,
    InfoPortKind, InfoVeth, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rbox_sys::trace;
use rustix::io::Errno;

use rbox_spec::mac::Mac;

use crate::endpoint::Endpoint;
use crate::error::{Error, Result};
use crate::nft::encode::attribute;
use crate::socket::{CREATE, DUMP, EXCL, Message, Netlink, Request};
use crate::subnet::{Subnet, Subnet6};

/// `RTM_*`, linux/rtnetlink.h.
mod rtm {
    pub(super) const NEWLINK: u16 = 16;
    pub(super) const DELLINK: u16 = 17;
    pub(super) const GETLINK: u16 = 18;
    pub(super) const SETLINK: u16 = 19;
    pub(super) const NEWADDR: u16 = 20;
    pub(super) const GETADDR: u16 = 22;
    pub(super) const NEWROUTE: u16 = 24;
    pub(super) const DELROUTE: u16 = 25;
    pub(super) const GETROUTE: u16 = 26;
    pub(super) const GETMULTICAST: u16 = 58;
}

fn body(message: &impl Emitable) -> Vec<u8> {
    let mut out = vec![0; message.buffer_len()];
    message.emit(&mut out);
    out
}

fn link(name: &str, attributes: Vec<LinkAttribute>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.into()));
    message.attributes.extend(attributes);
    message
}

fn up(name: &str) -> Request {
    let mut message = link(name, Vec::new());
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    let told = format!("RTM_SETLINK {name} up");
    Request { kind: rtm::SETLINK, flags: 0, body: body(&message), told, accept: None }
}

/// No IPv6 link-local address comes by itself, so nothing waits a second for its duplicate check.
/// A kernel without IPv6 refuses, which is as good.
fn no_link_local(name: &str) -> Request {
    let inet6 = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
    let message = link(name, vec![LinkAttribute::AfSpecUnspec(vec![inet6])]);
    let told = format!("RTM_SETLINK {name} addrgenmode none");
    Request { kind: rtm::SETLINK, flags: 0, body: body(&message), told, accept: Some(Errno::AFNOSUPPORT) }
}

fn add_address(index: u32, name: &str, ip: Ipv4Addr, prefix: u8) -> Request {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = prefix;
    message.header.index = index;
    message.attributes =
        vec![AddressAttribute::Local(IpAddr::V4(ip)), AddressAttribute::Address(IpAddr::V4(ip))];
    if let Some(subnet) = Subnet::new(ip, prefix) {
        message.attributes.push(AddressAttribute::Broadcast(subnet.broadcast()));
    }
    Request {
        kind: rtm::NEWADDR,
        flags: CREATE | EXCL,
        body: body(&message),
        told: format!("RTM_NEWADDR {ip}/{prefix} on {name}"),
        accept: Some(Errno::EXIST),
    }
}

/// Without the check for a duplicate, which takes a second: who has which address is written down.
fn add_address6(index: u32, name: &str, ip: Ipv6Addr, prefix: u8) -> Request {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet6;
    message.header.prefix_len = prefix;
    message.header.index = index;
    message.header.flags = AddressHeaderFlags::Nodad;
    message.attributes =
        vec![AddressAttribute::Address(IpAddr::V6(ip)), AddressAttribute::Flags(AddressFlags::Nodad)];
    Request {
        kind: rtm::NEWADDR,
        flags: CREATE | EXCL,
        body: body(&message),
        told: format!("RTM_NEWADDR {ip}/{prefix} nodad on {name}"),
        accept: Some(Errno::EXIST),
    }
}

fn default_route(index: u32, name: &str, gateway: IpAddr) -> Request {
    let mut message = RouteMessage::default();
    let (family, address) = match gateway {
        IpAddr::V4(ip) => (AddressFamily::Inet, RouteAddress::Inet(ip)),
        IpAddr::V6(ip) => (AddressFamily::Inet6, RouteAddress::Inet6(ip)),
    };
    message.header.address_family = family;
    message.header.table = netlink_packet_route::route::RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Boot;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![RouteAttribute::Gateway(address), RouteAttribute::Oif(index)];
    Request {
        kind: rtm::NEWROUTE,
        flags: CREATE | EXCL,
        body: body(&message),
        told: format!("RTM_NEWROUTE default via {gateway} dev {name}"),
        accept: Some(Errno::EXIST),
    }
}

/// A link as the kernel shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) up: bool,
    /// Whether the carrier is there and its users were notified (`IF_OPER_UP`).
    operational: bool,
}

/// The operational state among the attributes of a link, and its value "up" (RFC 2863).
const IFLA_OPERSTATE: u16 = 16;
const IF_OPER_UP: u8 = 6;

/// The link `name`; none when there is none.
pub(crate) fn find(socket: &mut Netlink, name: &str) -> Result<Option<Link>> {
    let message = link(name, vec![LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])]);
    let told = format!("RTM_GETLINK {name}");
    let request =
        Request { kind: rtm::GETLINK, flags: 0, body: body(&message), told: told.clone(), accept: None };
    let answer = match socket.ask(&request) {
        Err(error) if error.errno() == Some(Errno::NODEV) => return Ok(None),
        answer => answer?,
    };
    // struct ifinfomsg, then attributes of which one is of interest.
    let body = answer.first().map(|message| message.body.as_slice()).unwrap_or_default();
    let Some(([_, _, _, _, i0, i1, i2, i3, f0, f1, f2, f3, _, _, _, _], attributes)) =
        body.split_first_chunk::<16>()
    else {
        return Err(Error::Answer { what: told, why: "no link in it".into() });
    };
    let state = attribute(attributes, IFLA_OPERSTATE).and_then(|value| value.first());
    let flags = LinkFlags::from_bits_retain(u32::from_ne_bytes([*f0, *f1, *f2, *f3]));
    Ok(Some(Link {
        index: u32::from_ne_bytes([*i0, *i1, *i2, *i3]),
        up: flags.contains(LinkFlags::Up),
        operational: state == Some(&IF_OPER_UP),
    }))
}

/// Every subnet this network namespace has an address in or a route to; not the default route.
pub(crate) fn taken(socket: &mut Netlink) -> Result<Vec<Subnet>> {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    let mut all: Vec<(IpAddr, u8)> = routes(socket, AddressFamily::Inet, "RTM_GETROUTE, all tables")?
        .into_iter()
        .map(|route| (route.ip, route.prefix))
        .collect();
    all.extend(addresses(socket, &message, "RTM_GETADDR")?);
    // A route to everything, or to half of it as VPNs set, says nothing about what is in use.
    Ok(only_v4(all).filter(|(_, prefix)| *prefix > 1).filter_map(|(ip, p)| Subnet::new(ip, p)).collect())
}

/// Every IPv6 subnet that this network namespace has a route to; not the default route, nor the links' own.
pub(crate) fn taken6(socket: &mut Netlink) -> Result<Vec<Subnet6>> {
    let all = routes(socket, AddressFamily::Inet6, "RTM_GETROUTE of IPv6, all tables")?
        .into_iter()
        .map(|route| (route.ip, route.prefix))
        .collect();
    Ok(only_v6(all).filter(|(_, prefix)| *prefix > 3).filter_map(|(ip, p)| Subnet6::new(ip, p)).collect())
}

/// Where a route leads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Destination {
    pub(crate) ip: IpAddr,
    pub(crate) prefix: u8,
    /// The number of the link that it leads over, when it is one.
    pub(crate) link: Option<u32>,
}

/// Where the routes of all tables lead, but for the default ones.
pub(crate) fn destinations(socket: &mut Netlink) -> Result<Vec<Destination>> {
    let mut all = routes(socket, AddressFamily::Inet, "RTM_GETROUTE, all tables")?;
    all.extend(routes(socket, AddressFamily::Inet6, "RTM_GETROUTE of IPv6, all tables")?);
    Ok(all)
}

fn routes(socket: &mut Netlink, family: AddressFamily, what: &str) -> Result<Vec<Destination>> {
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    let request =
        Request { kind: rtm::GETROUTE, flags: DUMP, body: body(&message), told: what.into(), accept: None };
    let mut found = Vec::new();
    for answer in socket.ask(&request)? {
        let route = RouteMessage::parse(&answer.body)
            .map_err(|error| Error::Answer { what: what.into(), why: error.to_string() })?;
        let prefix = route.header.destination_prefix_length;
        let link = route.attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::Oif(index) => Some(*index),
            _ => None,
        });
        found.extend(route.attributes.iter().filter_map(|attribute| match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(base)) => {
                Some(Destination { ip: IpAddr::V4(*base), prefix, link })
            }
            RouteAttribute::Destination(RouteAddress::Inet6(base)) => {
                Some(Destination { ip: IpAddr::V6(*base), prefix, link })
            }
            _ => None,
        }));
    }
    Ok(found)
}

fn addresses(socket: &mut Netlink, ask: &AddressMessage, what: &str) -> Result<Vec<(IpAddr, u8)>> {
    let request =
        Request { kind: rtm::GETADDR, flags: DUMP, body: body(ask), told: what.into(), accept: None };
    let mut found = Vec::new();
    for answer in socket.ask(&request)? {
        let address = AddressMessage::parse(&answer.body)
            .map_err(|error| Error::Answer { what: what.into(), why: error.to_string() })?;
        if ask.header.index != 0 && address.header.index != ask.header.index {
            continue;
        }
        for attribute in &address.attributes {
            // Of IPv4 the local address counts, and IPv6 has only the other kind.
            let ip = match attribute {
                AddressAttribute::Local(ip) => *ip,
                AddressAttribute::Address(ip) if ip.is_ipv6() => *ip,
                _ => continue,
            };
            found.push((ip, address.header.prefix_len));
        }
    }
    Ok(found)
}

/// Of these only the IPv4 ones.
fn only_v4(addresses: Vec<(IpAddr, u8)>) -> impl Iterator<Item = (Ipv4Addr, u8)> {
    addresses.into_iter().filter_map(|(ip, prefix)| match ip {
        IpAddr::V4(ip) => Some((ip, prefix)),
        IpAddr::V6(_) => None,
    })
}

/// Of these only the IPv6 ones.
fn only_v6(addresses: Vec<(IpAddr, u8)>) -> impl Iterator<Item = (Ipv6Addr, u8)> {
    addresses.into_iter().filter_map(|(ip, prefix)| match ip {
        IpAddr::V6(ip) => Some((ip, prefix)),
        IpAddr::V4(_) => None,
    })
}

/// The IPv4 addresses of the link `index`, each with the length of its prefix.
pub(crate) fn addresses_of(socket: &mut Netlink, index: u32) -> Result<Vec<(Ipv4Addr, u8)>> {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.index = index;
    Ok(only_v4(addresses(socket, &message, "RTM_GETADDR of the bridge")?).collect())
}

/// The same for IPv6.
pub(crate) fn addresses6_of(socket: &mut Netlink, index: u32) -> Result<Vec<(Ipv6Addr, u8)>> {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet6;
    message.header.index = index;
    Ok(only_v6(addresses(socket, &message, "RTM_GETADDR of the bridge, IPv6")?).collect())
}

/// A network's bridge as it is to be.
pub(crate) struct Bridge<'a> {
    pub(crate) name: &'a str,
    pub(crate) ip: Ipv4Addr,
    pub(crate) prefix: u8,
    pub(crate) mtu: Option<u32>,
}

/// Makes the bridge, or what is missing of it. Two processes may do so at once.
pub(crate) fn make_bridge(socket: &mut Netlink, bridge: &Bridge<'_>) -> Result<Link> {
    let Bridge { name, ip, prefix, mtu } = *bridge;
    // A fixed address: a bridge without one takes that of a port, and changes it as ports come and go.
    let mac = Mac::of(ip);
    let mut attributes = vec![
        LinkAttribute::Address(mac.0.to_vec()),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]),
    ];
    attributes.extend(mtu.map(LinkAttribute::Mtu));
    socket.batch(&[
        Request {
            kind: rtm::NEWLINK,
            flags: CREATE | EXCL,
            body: body(&link(name, attributes)),
            told: format!("RTM_NEWLINK bridge {name} {mac}"),
            accept: Some(Errno::EXIST),
        },
        no_link_local(name),
    ])?;
    let Some(found) = find(socket, name)? else {
        return Err(Error::Kernel { what: format!("RTM_GETLINK {name}"), errno: Errno::NODEV });
    };
    socket.batch(&[add_address(found.index, name, ip, prefix), up(name)])?;
    Ok(Link { up: true, ..found })
}

/// Gives the bridge its IPv6 address.
pub(crate) fn add_bridge_address6(
    socket: &mut Netlink,
    bridge: Link,
    name: &str,
    ip: Ipv6Addr,
    prefix: u8,
) -> Result<()> {
    socket.batch(&[add_address6(bridge.index, name, ip, prefix)])
}

/// Makes the veth pair: one end a port of the bridge, the other in `netns`; one request, then two to raise it.
pub(crate) fn make_veth(
    socket: &mut Netlink,
    endpoint: &Endpoint,
    bridge: Link,
    netns: BorrowedFd<'_>,
    hairpin: bool,
) -> Result<()> {
    let host = endpoint.host_link.as_str();
    let mtu = || endpoint.mtu.map(LinkAttribute::Mtu);
    let mut inside = queues();
    inside
        .extend([LinkAttribute::Address(endpoint.mac.0.to_vec()), LinkAttribute::NetNsFd(netns.as_raw_fd())]);
    inside.extend(mtu());
    let peer = link(&endpoint.link, inside);
    let info = vec![LinkInfo::Kind(InfoKind::Veth), LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer)))];
    let mut outside = queues();
    outside.extend([LinkAttribute::Controller(bridge.index), LinkAttribute::LinkInfo(info)]);
    outside.extend(mtu());
    let create = link(host, outside);
    let mut requests = vec![
        Request {
            kind: rtm::NEWLINK,
            flags: CREATE | EXCL,
            body: body(&create),
            told: format!(
                "RTM_NEWLINK veth {host} master {}, peer {} {} in netns {}",
                endpoint.bridge,
                endpoint.link,
                endpoint.mac,
                trace::fd(netns),
            ),
            accept: None,
        },
        no_link_local(host),
    ];
    requests.extend(as_port(endpoint, hairpin));
    socket.batch(&requests)
}

/// Makes a veth that is there a port of the bridge, which was made anew. One that is gone is no failure.
pub(crate) fn join_bridge(
    socket: &mut Netlink,
    endpoint: &Endpoint,
    bridge: Link,
    hairpin: bool,
) -> Result<()> {
    let host = endpoint.host_link.as_str();
    let join = Request {
        kind: rtm::NEWLINK,
        flags: 0,
        body: body(&link(host, vec![LinkAttribute::Controller(bridge.index)])),
        told: format!("RTM_NEWLINK {host} master {}", endpoint.bridge),
        accept: None,
    };
    let all = [vec![join], as_port(endpoint, hairpin)].concat();
    match socket.batch(&all) {
        Err(error) if error.errno() == Some(Errno::NODEV) => Ok(()),
        done => done,
    }
}

/// What makes a link that has a bridge a port as the endpoint wants it, and raises it.
fn as_port(endpoint: &Endpoint, hairpin: bool) -> Vec<Request> {
    let host = endpoint.host_link.as_str();
    let mut requests = Vec::new();
    if hairpin {
        requests.push(port_option(host, InfoBridgePort::HairpinMode(true), "hairpin on"));
    }
    if endpoint.isolated {
        requests.push(port_option(host, InfoBridgePort::Isolated(true), "isolated on"));
    }
    requests.push(up(host));
    requests
}

/// One queue: a veth otherwise has one a CPU, each with its objects in sysfs, which is most of what making it costs on
/// a large host. Its transmission takes no lock, so more of them gain nothing.
fn queues() -> Vec<LinkAttribute> {
    vec![LinkAttribute::NumTxQueues(1), LinkAttribute::NumRxQueues(1)]
}

/// An option of a bridge's port. `hairpin` lets the bridge send a frame back out of the port it came from: with
/// `bridge-nf-call-iptables` on, a container that reaches its own published port is translated inside the bridge.
/// Isolated ports get nothing from each other.
fn port_option(name: &str, option: InfoBridgePort, told: &str) -> Request {
    let message = link(
        name,
        vec![LinkAttribute::LinkInfo(vec![
            LinkInfo::PortKind(InfoPortKind::Bridge),
            LinkInfo::PortData(InfoPortData::BridgePort(vec![option])),
        ])],
    );
    let told = format!("RTM_NEWLINK {name} {told}");
    Request { kind: rtm::NEWLINK, flags: 0, body: body(&message), told, accept: None }
}

/// Deletes the link and, of a veth, its peer. One that is gone is no failure.
pub(crate) fn delete(socket: &mut Netlink, name: &str) -> Result<()> {
    let message = link(name, Vec::new());
    let told = format!("RTM_DELLINK {name}");
    socket.batch(&[Request {
        kind: rtm::DELLINK,
        flags: 0,
        body: body(&message),
        told,
        accept: Some(Errno::NODEV),
    }])
}

/// Deletes the veth of a container that has ended, unless it goes by itself. The kernel deletes it with its namespace,
/// many at once; asked to delete one, it waits 10 to 30 ms for a grace period in which no other link can be made.
/// So the kernel is given a second.
pub(crate) fn delete_if_left(socket: &mut Netlink, name: &str) -> Result<()> {
    let begin = Instant::now();
    let mut pause = Duration::from_millis(1);
    while begin.elapsed() < Duration::from_secs(1) {
        if find(socket, name)?.is_none() {
            return Ok(());
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
    delete(socket, name)
}

/// How long to wait for the kernel's link watch; it takes microseconds, or a second when it was not asked.
const CARRIER: Duration = Duration::from_millis(100);

/// Waits until the bridge forwards to the port, and sends itself: it has no carrier before its first port has. The
/// kernel acts on a carrier from a work queue, up to a second later; what is sent before is lost, and a lost ARP
/// request costs a second. Asking for the link makes the kernel act at once (since 6.8; before, it is waited for).
fn settle(inside: &mut Netlink, endpoint: &Endpoint) -> Result<()> {
    let mut host = Netlink::route()?;
    let begin = Instant::now();
    for name in [&endpoint.host_link, &endpoint.bridge] {
        await_carrier(&mut host, name, begin)?;
    }
    match endpoint.ip6 {
        None => Ok(()),
        Some(six) => {
            await_carrier(inside, &endpoint.link, begin)?;
            await_group(inside, &endpoint.link, six.ip, begin)
        }
    }
}

/// Waits until the link is in the group by which neighbours ask for its address: the kernel joins it from another
/// work queue, and a lost question costs a second here too.
fn await_group(socket: &mut Netlink, name: &str, ip: Ipv6Addr, begin: Instant) -> Result<()> {
    const IFA_MULTICAST: u16 = 7;
    let [.., x, y, z] = ip.octets();
    let group = [0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, x, y, z];
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet6;
    let request = Request {
        kind: rtm::GETMULTICAST,
        flags: DUMP,
        body: body(&message),
        told: format!("RTM_GETMULTICAST {name}"),
        accept: None,
    };
    let has = |message: &Message| {
        // struct ifaddrmsg is before the attributes.
        message.body.get(8..).and_then(|body| attribute(body, IFA_MULTICAST)) == Some(&group)
    };
    while !socket.ask(&request)?.iter().any(has) && begin.elapsed() < CARRIER {
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}

fn await_carrier(socket: &mut Netlink, name: &str, begin: Instant) -> Result<()> {
    let mut asked = 0;
    while find(socket, name)?.is_some_and(|link| !link.operational) && begin.elapsed() < CARRIER {
        // The work queue mostly is at it already, on another CPU.
        asked += 1;
        if asked < 10 {
            std::thread::yield_now();
        } else {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
    Ok(())
}

/// The length of the prefix of link-local addresses (RFC 3927), in bits.
const LINK_LOCAL_PREFIX: u8 = 16;
/// The same of IPv6 (RFC 4291).
const LINK_LOCAL_PREFIX6: u8 = 64;

/// Configures the inside of a container: loopback and the endpoints' links up, addresses, default route; returns when
/// the bridges forward to it. `socket` is a `NETLINK_ROUTE` socket that was opened in the container's network
/// namespace; the caller is in the host's.
pub fn configure_inside(socket: OwnedFd, endpoints: &[Endpoint]) -> Result<()> {
    let mut socket = Netlink::from_fd(socket);
    let mut requests = vec![up("lo")];
    for endpoint in endpoints {
        let name = endpoint.link.as_str();
        let Some(found) = find(&mut socket, name)? else {
            return Err(Error::Kernel {
                what: format!("RTM_GETLINK {name} in the container"),
                errno: Errno::NODEV,
            });
        };
        requests.extend([
            no_link_local(name),
            up(name),
            add_address(found.index, name, endpoint.ip, endpoint.prefix),
        ]);
        if let Some(six) = endpoint.ip6 {
            requests.push(add_address6(found.index, name, link_local(endpoint.mac), 64));
            requests.push(add_address6(found.index, name, six.ip, six.prefix));
        }
        requests.extend(endpoint.link_local.iter().map(|ip| match ip {
            IpAddr::V4(ip) => add_address(found.index, name, *ip, LINK_LOCAL_PREFIX),
            IpAddr::V6(ip) => add_address6(found.index, name, *ip, LINK_LOCAL_PREFIX6),
        }));
        if endpoint.default_route {
            requests.push(default_route(found.index, name, endpoint.gateway.into()));
            requests.extend(endpoint.ip6.map(|six| default_route(found.index, name, six.gateway.into())));
        }
    }
    socket.batch(&requests)?;
    endpoints.iter().try_for_each(|endpoint| settle(&mut socket, endpoint))
}

/// Makes the default route of a container lead through `endpoint`; with none, removes it. What it was before does not matter.
pub fn route_inside(socket: OwnedFd, endpoint: Option<&Endpoint>) -> Result<()> {
    let mut socket = Netlink::from_fd(socket);
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut message = RouteMessage::default();
        message.header.address_family = family;
        message.header.table = netlink_packet_route::route::RouteHeader::RT_TABLE_MAIN;
        message.header.scope = RouteScope::Universe;
        let told = format!("RTM_DELROUTE default, {family:?}");
        let delete =
            Request { kind: rtm::DELROUTE, flags: 0, body: body(&message), told, accept: Some(Errno::SRCH) };
        match socket.batch(&[delete]) {
            // IPv6's way to say that there is none; a kernel without IPv6.
            Err(error) if matches!(error.errno(), Some(Errno::NOENT | Errno::AFNOSUPPORT)) => {}
            done => done?,
        }
    }
    let Some(endpoint) = endpoint else { return Ok(()) };
    let name = endpoint.link.as_str();
    let Some(found) = find(&mut socket, name)? else { return Ok(()) };
    let mut requests = vec![default_route(found.index, name, endpoint.gateway.into())];
    requests.extend(endpoint.ip6.map(|six| default_route(found.index, name, six.gateway.into())));
    socket.batch(&requests)
}

/// The link-local address that goes with an Ethernet address (RFC 4291, appendix A).
pub(crate) fn link_local(mac: Mac) -> Ipv6Addr {
    let mut ip = [0; 16];
    ip[..2].copy_from_slice(&[0xfe, 0x80]);
    ip[8..11].copy_from_slice(&mac.0[..3]);
    ip[8] ^= 2;
    ip[11..13].copy_from_slice(&[0xff, 0xfe]);
    ip[13..].copy_from_slice(&mac.0[3..]);
    ip.into()
}

/// A `NETLINK_ROUTE` socket in the network namespace that this thread is in.
pub fn route_socket() -> Result<OwnedFd> {
    Netlink::route().map(Netlink::into_fd)
}

/// Raises the loopback of the network namespace that `socket` (`NETLINK_ROUTE`) was opened in: all that
/// `--network none` has.
pub fn loopback_up(socket: OwnedFd) -> Result<()> {
    Netlink::from_fd(socket).batch(&[up("lo")])
}

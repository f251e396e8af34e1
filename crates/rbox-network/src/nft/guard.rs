//! The guard on a bridge's ports: a container speaks with its own hardware and network addresses only.
//!
//! ```text
//! table bridge rbox { chain guard { type filter hook prerouting priority dstnat   # -300, before all else
//!   iifname != @links accept
//!   ether type ip iifname . ether saddr . ip saddr @guests accept
//!   ether type arp <Ethernet and IPv4> iifname . ether saddr . arp saddr ip @guests
//!                                      iifname . arp saddr ether . arp saddr ip @guests accept
//!   ether type ip6 icmpv6 type nd-router-advert drop               # CVE-2020-13401
//!   ether type ip6 icmpv6 type nd-redirect drop
//!   ether type ip6 icmpv6 type nd-neighbor-advert iifname . ether saddr . <target> != @guests6 drop
//!   ether type ip6 ip6 saddr :: icmpv6 type nd-neighbor-solicit iifname . ether saddr . <target> @guests6 accept
//!   ether type ip6 ip6 saddr :: icmpv6 type mld2-listener-report iifname . ether saddr . ip6 saddr @guests6 accept
//!   ether type ip6 ip6 saddr :: drop
//!   ether type ip6 iifname . ether saddr . ip6 saddr @guests6 accept
//!   drop
//! } }
//! ```
//!
//! The last rule is for everything else, frames with a VLAN tag included. It is also before the bridge learns where an
//! address is, so a forged one takes nobody's frames away.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rbox_spec::mac::Mac;

use super::chain::{Chain, Set, datatype, ifname};
use super::encode::{Family, R0, R4, R6, Rule};
use crate::link::link_local;

/// The ports that are guarded.
pub(super) const LINKS: &str = "links";
/// Which port speaks for which hardware and IPv4 address.
pub(super) const GUESTS: &str = "guests";
/// The same for IPv6. With `::` a port may say which groups it listens to before it has an address.
pub(super) const GUESTS6: &str = "guests6";
pub(super) const CHAIN: &str = "guard";

const IPV4: [u8; 2] = [0x08, 0x00];
const ARP: [u8; 2] = [0x08, 0x06];
const IPV6: [u8; 2] = [0x86, 0xdd];
/// How an ARP message between Ethernet and IPv4 begins.
const ETHERNET_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];
const ICMPV6: u8 = 58;

/// `ICMPv6` types, RFC 4861 and RFC 3810.
const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const REDIRECT: u8 = 137;
const LISTENER_REPORT: u8 = 143;

pub(super) fn sets() -> Vec<Set> {
    use datatype::{ADDRESS, ADDRESS6, HARDWARE, IFNAME};
    let guest = (IFNAME << 12) | (HARDWARE << 6);
    vec![
        Set(LINKS, 0, IFNAME, 16, None),
        Set(GUESTS, 0, guest | ADDRESS, 28, None),
        Set(GUESTS6, 0, guest | ADDRESS6, 40, None),
    ]
}

pub(super) fn chains() -> Vec<Chain> {
    let carrying = |kind: [u8; 2]| Rule::new(Family::Bridge).ether_type(R0).compare(R0, false, &kind);
    let icmp = |rule: Rule, kind: u8| {
        rule.l4proto(R0).compare(R0, false, &[ICMPV6]).transport(0, 1, R0).compare(R0, false, &[kind])
    };
    // The address that neighbour discovery is about.
    let target = |rule: Rule| rule.speaker().transport(8, 16, R6);
    let nobody = || carrying(IPV6).ip6_saddr(R0).compare(R0, false, &Ipv6Addr::UNSPECIFIED.octets());
    let arp = carrying(ARP).network(0, 6, R0).compare(R0, false, &ETHERNET_IPV4);
    let arp_sender = |rule: Rule| rule.network(14, 4, R6).lookup(GUESTS, false);
    let rules = vec![
        Rule::new(Family::Bridge).iifname(R0).lookup(LINKS, true).accept(),
        carrying(IPV4).speaker().network(12, 4, R6).lookup(GUESTS, false).accept(),
        arp_sender(arp_sender(arp.speaker()).iifname(R0).network(8, 6, R4)).accept(),
        icmp(carrying(IPV6), ROUTER_ADVERTISEMENT).drop(),
        icmp(carrying(IPV6), REDIRECT).drop(),
        target(icmp(carrying(IPV6), NEIGHBOUR_ADVERTISEMENT)).lookup(GUESTS6, true).drop(),
        target(icmp(nobody(), NEIGHBOUR_SOLICITATION)).lookup(GUESTS6, false).accept(),
        icmp(nobody(), LISTENER_REPORT).speaker().ip6_saddr(R6).lookup(GUESTS6, false).accept(),
        nobody().drop(),
        carrying(IPV6).speaker().ip6_saddr(R6).lookup(GUESTS6, false).accept(),
        Rule::new(Family::Bridge).drop(),
    ];
    vec![Chain::filter(CHAIN, 0, -300, rules)]
}

impl Rule {
    /// Loads the first two parts of a guest: port and hardware address.
    fn speaker(self) -> Self {
        self.iifname(R0).ether_saddr(R4)
    }

    fn ip6_saddr(self, register: u32) -> Self {
        self.network(8, 16, register)
    }
}

/// The elements that let a container's port speak: each with its set.
pub(super) fn elements(
    link: &str,
    mac: Mac,
    ip: Ipv4Addr,
    ip6: Option<Ipv6Addr>,
    more: &[IpAddr],
) -> Vec<(&'static str, Vec<u8>)> {
    let port = ifname(link);
    let guest = |address: &[u8]| [&port[..], &mac.0, &[0, 0], address].concat();
    let mut all = vec![(LINKS, port.to_vec()), (GUESTS, guest(&ip.octets()))];
    if let Some(ip6) = ip6 {
        let addresses = [ip6, link_local(mac), Ipv6Addr::UNSPECIFIED];
        all.extend(addresses.map(|address| (GUESTS6, guest(&address.octets()))));
    }
    all.extend(more.iter().map(|address| match address {
        IpAddr::V4(ip) => (GUESTS, guest(&ip.octets())),
        IpAddr::V6(ip) => (GUESTS6, guest(&ip.octets())),
    }));
    all
}

//! The rules between networks, as one list. `nft list table ip rbox` shows them as:
//!
//! ```text
//! chain guard { type filter hook prerouting priority raw
//!   iifname @bridges ip saddr 169.254.0.0/16 ip daddr 169.254.0.0/16 accept   # neighbours, where bridges ask here
//!   iifname @bridges fib saddr . iif oif 0 drop            # spoofed source
//!   iifname != "lo" ip daddr 127.0.0.0/8 drop              # CVE-2020-8558
//!   iifname != "lo" iifname != @bridges ip daddr @subnets drop   # not published
//! }
//! chain local { type filter hook input priority filter
//!   iifname @internal fib daddr . iif type != local … != broadcast … != multicast drop
//! }
//! chain publish / publish_local { type nat hook prerouting / output priority dstnat
//!   fib daddr type local dnat ip to meta l4proto . ip daddr . th dport map @published_at
//!   fib daddr type local dnat ip to meta l4proto . th dport map @published
//! }
//! chain leave { type nat hook postrouting priority srcnat
//!   oifname @bridges ip saddr 127.0.0.0/8 masquerade       # the host through 127.0.0.1
//!   oifname @bridges ip saddr @subnets ct status dnat masquerade  # containers through the host's address
//!   oifname != @bridges ip saddr @subnets masquerade       # out
//! }
//! chain user { }                                           # the administrator's
//! chain forward { type filter hook forward priority filter
//!   jump user
//!   iifname . oifname @same accept
//!   iifname @internal drop
//!   oifname @internal drop
//!   oifname @bridges ct state established,related accept
//!   oifname @bridges ct status dnat accept
//!   oifname @bridges drop
//! }
//! ```
//!
//! The table of family ip6 is the same, and is there when a network has IPv6. Its differences: what comes from `::` or a
//! link-local address has no route to be checked by (the bridge's own guard knows those); the kernel itself drops what
//! comes for `::1` from outside; and `::1` leads to a container only where the kernel can do it ([`crate::loopback6`]).
//!
//! Networks and ports are elements of sets and maps, so the rules never change: publishing is one element, found
//! by hashing. An accept here does not outrule another table's drop: on a host whose own forward policy is drop, its
//! administrator lets the bridge through; for Docker's see [`super::firewall`].

use super::chain::{Chain, Set, datatype, ifname};
use super::encode::{Attributes, Batch, Family, R0, R4, Rule, msg};
use crate::socket::{APPEND, CREATE};

pub(super) const BRIDGES: &str = "bridges";
pub(super) const INTERNAL: &str = "internal";
pub(super) const SUBNETS: &str = "subnets";
pub(super) const SAME: &str = "same";
pub(super) const PUBLISHED: &str = "published";
pub(super) const PUBLISHED_AT: &str = "published_at";
/// The chain that rbox makes and leaves alone.
pub(super) const USER: &str = "user";

const ESTABLISHED_RELATED: u32 = 2 | 4;
const DNATED: u32 = 1 << 5;

/// `NF_INET_*` and `NF_BR_*` have the same order.
const PREROUTING: u32 = 0;
const INPUT: u32 = 1;
const FORWARD: u32 = 2;
const OUTPUT: u32 = 3;
const POSTROUTING: u32 = 4;

/// The chains with a hook and how many rules each has: what [`chains`] makes, without making it at every start.
pub(super) fn counts(family: Family, loopback: bool) -> Vec<(&'static str, u32)> {
    if family == Family::Bridge {
        return vec![(super::guard::CHAIN, 11)];
    }
    vec![
        ("guard", if family == Family::Ip6 { 2 } else { 4 }),
        ("local", 1),
        ("publish", 2),
        ("publish_local", if loopback { 2 } else { 3 }),
        ("leave", 3),
        ("forward", 7),
    ]
}

/// The chains of a table. `loopback` says whether a published port is also at the loopback's address.
fn chains(family: Family, loopback: bool) -> Vec<Chain> {
    if family == Family::Bridge {
        return super::guard::chains();
    }
    vec![
        Chain::filter("guard", PREROUTING, -300, guard(family)),
        Chain::filter("local", INPUT, 0, vec![from_internal(family).if_beyond_its_link().drop()]),
        Chain::nat("publish", PREROUTING, -100, published(family)),
        Chain::nat("publish_local", OUTPUT, -100, published_local(family, loopback)),
        Chain::nat("leave", POSTROUTING, 100, leave(family)),
        Chain { name: USER, hook: None, rules: Vec::new() },
        Chain::filter("forward", FORWARD, 0, forward(family)),
    ]
}

fn from_internal(family: Family) -> Rule {
    Rule::new(family).iifname(R0).lookup(INTERNAL, false)
}

/// Goes on with what leaves over a bridge of ours, or over none.
fn out(family: Family, elsewhere: bool) -> Rule {
    Rule::new(family).oifname(R0).lookup(BRIDGES, elsewhere)
}

fn guard(family: Family) -> Vec<Rule> {
    let not_loopback = || Rule::new(family).iifname(R0).compare(R0, true, &ifname("lo"));
    let from_bridge = Rule::new(family).iifname(R0).lookup(BRIDGES, false);
    let others = not_loopback().lookup(BRIDGES, true).daddr(R0).lookup(SUBNETS, false).drop();
    match family {
        Family::Ip6 => {
            let routed = from_bridge.saddr(R0).compare(R0, true, &[0; 16]).if_link_local(true);
            vec![routed.if_source_is_foreign().drop(), others]
        }
        _ => vec![
            neighbours(family).accept(),
            from_bridge.if_source_is_foreign().drop(),
            not_loopback().daddr(R0).if_loopback().drop(),
            others,
        ],
    }
}

/// Goes on with what is sent from one IPv4 link-local address to another, on a bridge. No route leads back to the first, and none is
/// needed: they are neighbours, and only a bridge that asks these rules (`br_netfilter`) shows them such a packet.
fn neighbours(family: Family) -> Rule {
    let link_local = |rule: Rule| rule.mask(&[255, 255, 0, 0]).compare(R0, false, &[169, 254, 0, 0]);
    let from_bridge = Rule::new(family).iifname(R0).lookup(BRIDGES, false);
    link_local(link_local(from_bridge.saddr(R0)).daddr(R0))
}

fn published(family: Family) -> Vec<Rule> {
    let port = R0 + 1 + family.registers();
    let here = || Rule::new(family).if_to_this_host().l4proto(R0);
    vec![
        here().daddr(R0 + 1).dport(port).map(PUBLISHED_AT).dnat(),
        here().dport(R0 + 1).map(PUBLISHED).dnat(),
    ]
}

fn published_local(family: Family, loopback: bool) -> Vec<Rule> {
    let passed_by = Rule::new(family).daddr(R0).if_loopback().leave_chain();
    let mut rules = published(family);
    if !loopback {
        rules.insert(0, passed_by);
    }
    rules
}

fn leave(family: Family) -> Vec<Rule> {
    vec![
        out(family, false).saddr(R0).if_loopback().masquerade(),
        out(family, false).saddr(R0).lookup(SUBNETS, false).ct_status(DNATED).masquerade(),
        out(family, true).saddr(R0).lookup(SUBNETS, false).masquerade(),
    ]
}

fn forward(family: Family) -> Vec<Rule> {
    vec![
        Rule::new(family).jump(USER),
        Rule::new(family).iifname(R0).oifname(R4).lookup(SAME, false).accept(),
        from_internal(family).drop(),
        Rule::new(family).oifname(R0).lookup(INTERNAL, false).drop(),
        out(family, false).ct_state(ESTABLISHED_RELATED).accept(),
        out(family, false).ct_status(DNATED).accept(),
        out(family, false).drop(),
    ]
}

impl Rule {
    /// Goes on when the address in `R0` is the loopback's.
    fn if_loopback(self) -> Self {
        match self.family() {
            Family::Ip6 => self.compare(R0, false, &std::net::Ipv6Addr::LOCALHOST.octets()),
            _ => self.mask(&[255, 0, 0, 0]).compare(R0, false, &[127, 0, 0, 0]),
        }
    }

    /// Goes on when the IPv6 address in `R0` is link-local; not so, when `differ`.
    fn if_link_local(self, differ: bool) -> Self {
        let prefix = |first, second| {
            let mut bytes = [0; 16];
            [bytes[0], bytes[1]] = [first, second];
            bytes
        };
        self.mask(&prefix(0xff, 0xc0)).compare(R0, differ, &prefix(0xfe, 0x80))
    }
}

fn sets(family: Family) -> Vec<Set> {
    use datatype::{ADDRESS, ADDRESS6, IFNAME, PROTOCOL, SERVICE};
    const INTERVAL: u32 = 4;
    const MAP: u32 = 8;
    if family == Family::Bridge {
        return super::guard::sets();
    }
    let (address, length) = (if family == Family::Ip6 { ADDRESS6 } else { ADDRESS }, family.address());
    let target = Some(((address << 6) | SERVICE, length + 4));
    vec![
        Set(BRIDGES, 0, IFNAME, 16, None),
        Set(INTERNAL, 0, IFNAME, 16, None),
        Set(SUBNETS, INTERVAL, address, length, None),
        Set(SAME, 0, (IFNAME << 6) | IFNAME, 32, None),
        Set(PUBLISHED, MAP, (PROTOCOL << 6) | SERVICE, 8, target),
        Set(PUBLISHED_AT, MAP, (PROTOCOL << 12) | (address << 6) | SERVICE, length + 8, target),
    ]
}

/// Adds the table with its sets and maps; those that exist are left as they are.
pub(super) fn add_table(batch: &mut Batch, family: Family, table: &str) {
    batch.push(msg::NEWTABLE, CREATE, Attributes::message(family).text(1, table).u32(2, 0));
    for (id, Set(name, flags, key_type, key_length, data)) in sets(family).into_iter().enumerate() {
        let mut body = Attributes::message(family)
            .text(1, table)
            .text(2, name)
            .u32(3, flags)
            .u32(4, key_type)
            .u32(5, key_length);
        if let Some((data_type, data_length)) = data {
            body = body.u32(6, data_type).u32(7, data_length);
        }
        if key_type == datatype::IFNAME {
            // Tells `nft list` that the key is text in host order; the kernel only keeps it.
            const KEY_BYTE_ORDER: [u8; 2] = [0, 4];
            body = body.bytes(13, &[&KEY_BYTE_ORDER[..], &1_u32.to_ne_bytes()].concat());
        }
        // Ids differ by table.
        batch.push(msg::NEWSET, CREATE, body.u32(10, id as u32 + 1));
    }
}

/// Adds the chains that are missing and gives those with a hook exactly our rules; how many rules.
pub(super) fn set_rules(batch: &mut Batch, family: Family, table: &str, loopback: bool) -> u32 {
    let named = || Attributes::message(family).text(1, table);
    let chains = chains(family, loopback);
    for chain in &chains {
        let mut body = named().text(3, chain.name);
        if let Some(hook) = &chain.hook {
            let place = Attributes::default().u32(1, hook.number).u32(2, hook.priority as u32);
            body = body.nest(4, &place).u32(5, 1).text(7, hook.kind);
        }
        batch.push(msg::NEWCHAIN, CREATE, body);
    }
    let count = chains.iter().filter_map(Chain::count).sum();
    for chain in chains.into_iter().filter(|chain| chain.hook.is_some()) {
        batch.push(msg::DELRULE, 0, named().text(2, chain.name));
        for rule in chain.rules {
            let body = named().text(2, chain.name).nest(4, &rule.into_attributes());
            batch.push(msg::NEWRULE, CREATE | APPEND, body);
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counts_are_those_of_the_chains() {
        for family in [Family::Ip, Family::Ip6, Family::Bridge] {
            for loopback in [true, false] {
                let made = chains(family, loopback);
                let made: Vec<_> =
                    made.iter().filter_map(|chain| Some((chain.name, chain.count()?))).collect();
                assert_eq!(counts(family, loopback), made, "{family} {loopback}");
            }
        }
    }
}

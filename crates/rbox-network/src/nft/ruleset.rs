//! The rules, as one list. `nft list table ip rbox` shows them as:
//!
//! ```text
//! chain guard { type filter hook prerouting priority raw
//!   iifname @bridges fib saddr . iif oif 0 drop            # spoofed source
//!   iifname != "lo" ip daddr 127.0.0.0/8 drop              # CVE-2020-8558
//!   iifname != "lo" iifname != @bridges ip daddr @subnets drop   # not published
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
//! chain forward { type filter hook forward priority filter
//!   iifname . oifname @same accept
//!   oifname @bridges ct state established,related accept
//!   oifname @bridges ct status dnat accept
//!   oifname @bridges drop
//! }
//! ```
//!
//! Networks and ports are elements of sets and maps, so the rules never change: publishing is one element, found
//! by hashing. An accept here does not outrule another table's drop: on a host whose own forward policy is drop
//! (a firewall, or Docker's), its administrator lets the bridge through, for example with
//! `nft add rule inet filter forward iifname rbox0 accept` and the same for `oifname`, or
//! `firewall-cmd --zone=trusted --add-interface=rbox0`, or `iptables -I DOCKER-USER`.

use super::encode::{Attributes, Batch, NFPROTO_IPV4, R0, R1, R2, R4, Rule, msg};
use crate::socket::{APPEND, CREATE};

pub(super) const BRIDGES: &str = "bridges";
pub(super) const SUBNETS: &str = "subnets";
pub(super) const SAME: &str = "same";
pub(super) const PUBLISHED: &str = "published";
pub(super) const PUBLISHED_AT: &str = "published_at";

/// nft's numbers for data types; a concatenation shifts the earlier ones left by six bits.
mod datatype {
    pub(super) const ADDRESS: u32 = 7;
    pub(super) const PROTOCOL: u32 = 12;
    pub(super) const SERVICE: u32 = 13;
    pub(super) const IFNAME: u32 = 41;
}

const LOOPBACK_NET: [u8; 1] = [127];
const ESTABLISHED_RELATED: u32 = 2 | 4;
const DNATED: u32 = 1 << 5;

/// An interface name as sets and registers hold it.
pub(super) fn ifname(name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(name.bytes().take(15)) {
        *to = from;
    }
    bytes
}

struct Chain {
    name: &'static str,
    kind: &'static str,
    hook: u32,
    priority: i32,
    rules: Vec<Rule>,
}

fn chains() -> Vec<Chain> {
    let published = || {
        vec![
            Rule::new().if_to_this_host().l4proto(R0).daddr(R1).dport(R2).map(PUBLISHED_AT).dnat(),
            Rule::new().if_to_this_host().l4proto(R0).dport(R1).map(PUBLISHED).dnat(),
        ]
    };
    let not_loopback = || Rule::new().iifname(R0).compare(R0, true, &ifname("lo"));
    let into = || Rule::new().oifname(R0).lookup(BRIDGES, false);
    vec![
        Chain {
            name: "guard",
            kind: "filter",
            hook: 0,
            priority: -300,
            rules: vec![
                Rule::new().iifname(R0).lookup(BRIDGES, false).if_source_is_foreign().drop(),
                not_loopback().daddr(R0).mask_first_octet(LOOPBACK_NET).drop(),
                not_loopback().lookup(BRIDGES, true).daddr(R0).lookup(SUBNETS, false).drop(),
            ],
        },
        Chain { name: "publish", kind: "nat", hook: 0, priority: -100, rules: published() },
        Chain { name: "publish_local", kind: "nat", hook: 3, priority: -100, rules: published() },
        Chain {
            name: "leave",
            kind: "nat",
            hook: 4,
            priority: 100,
            rules: vec![
                into().saddr(R0).mask_first_octet(LOOPBACK_NET).masquerade(),
                into().saddr(R0).lookup(SUBNETS, false).ct_status(DNATED).masquerade(),
                Rule::new().oifname(R0).lookup(BRIDGES, true).saddr(R0).lookup(SUBNETS, false).masquerade(),
            ],
        },
        Chain {
            name: "forward",
            kind: "filter",
            hook: 2,
            priority: 0,
            rules: vec![
                Rule::new().iifname(R0).oifname(R4).lookup(SAME, false).accept(),
                into().ct_state(ESTABLISHED_RELATED).accept(),
                into().ct_status(DNATED).accept(),
                into().drop(),
            ],
        },
    ]
}

impl Rule {
    /// Goes on when the address in `R0` begins with this octet.
    fn mask_first_octet(self, octet: [u8; 1]) -> Self {
        self.mask(&[255, 0, 0, 0]).compare(R0, false, &[octet[0], 0, 0, 0])
    }
}

/// How many rules there are: a table with another number was touched.
pub(super) fn rule_count() -> usize {
    chains().iter().map(|chain| chain.rules.len()).sum()
}

/// Adds the sets and maps; those that exist are left as they are.
pub(super) fn add_sets(batch: &mut Batch, table: &str) {
    use datatype::{ADDRESS, IFNAME, PROTOCOL, SERVICE};
    const INTERVAL: u32 = 4;
    const MAP: u32 = 8;
    let target = Some(((ADDRESS << 6) | SERVICE, 8));
    // Name, flags, type and length of the key, type and length of a map's values.
    let sets = [
        (BRIDGES, 0, IFNAME, 16_u32, None),
        (SUBNETS, INTERVAL, ADDRESS, 4, None),
        (SAME, 0, (IFNAME << 6) | IFNAME, 32, None),
        (PUBLISHED, MAP, (PROTOCOL << 6) | SERVICE, 8, target),
        (PUBLISHED_AT, MAP, (PROTOCOL << 12) | (ADDRESS << 6) | SERVICE, 12, target),
    ];
    for (id, (name, flags, key_type, key_length, data)) in sets.into_iter().enumerate() {
        let mut body = Attributes::message(NFPROTO_IPV4)
            .text(1, table)
            .text(2, name)
            .u32(3, flags)
            .u32(4, key_type)
            .u32(5, key_length);
        if let Some((data_type, data_length)) = data {
            body = body.u32(6, data_type).u32(7, data_length);
        }
        if key_type == IFNAME {
            // Tells `nft list` that the key is text in host order; the kernel only keeps it.
            const KEY_BYTE_ORDER: [u8; 2] = [0, 4];
            body = body.bytes(13, &[&KEY_BYTE_ORDER[..], &1_u32.to_ne_bytes()].concat());
        }
        batch.push(msg::NEWSET, CREATE, body.u32(10, id as u32 + 1));
    }
}

/// Adds the chains that are missing and gives all of them exactly our rules.
pub(super) fn set_rules(batch: &mut Batch, table: &str) {
    let chains = chains();
    for chain in &chains {
        let hook = Attributes::default().u32(1, chain.hook).u32(2, chain.priority as u32);
        let body = Attributes::message(NFPROTO_IPV4)
            .text(1, table)
            .text(3, chain.name)
            .nest(4, &hook)
            .u32(5, 1)
            .text(7, chain.kind);
        batch.push(msg::NEWCHAIN, CREATE, body);
    }
    for chain in chains {
        batch.push(msg::DELRULE, 0, Attributes::message(NFPROTO_IPV4).text(1, table).text(2, chain.name));
        for rule in chain.rules {
            let body = Attributes::message(NFPROTO_IPV4)
                .text(1, table)
                .text(2, chain.name)
                .nest(4, &rule.into_attributes());
            batch.push(msg::NEWRULE, CREATE | APPEND, body);
        }
    }
}

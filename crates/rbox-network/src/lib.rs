//! Bridges, veths, address allocation, nftables, published ports, and names.
//!
//! A container's place on a network is one veth from a Linux bridge into its namespace, an address, its names, and
//! elements of sets and maps in rbox's own nftables tables: what it may send as, and what the host passes on to it. All of it is
//! made over netlink by the process that starts the container. What stays behind belongs to the container's monitor:
//! the sockets that hold its host ports, and its name server ([`Dns`]), which have no thread and no wait of their own.
//!
//! ```text
//!  host                                       container
//!  eth0 ── nftables rbox ─┬─ rbox0 ─ rb<id> ═══ eth0 172.30.0.2/16
//!          publish,       │  172.30.0.1         default via 172.30.0.1
//!          masquerade     └─ rb-… ── rb<id>1 ═ eth1 172.29.0.2/16
//!                                              127.0.0.11:53 ─▶ Dns, in the monitor
//! ```
//!
//! | module | its one job |
//! |---|---|
//! | `network`, `store` | networks as users make them, and their records |
//! | `subnet`, `address` | which subnet, which address |
//! | `endpoint`, `place` | a container on a network: planned, made, taken away |
//! | `link`, `host` | links, addresses, routes; the host's bridges and settings |
//! | `nft`, `conntrack`, `loopback6` | the rules, and what the kernel is to forget with them |
//! | `reserve` | holding host ports |
//! | `names`, `dns`, `files` | names on disk, the name server, /etc/hosts and /etc/resolv.conf |
//! | `stray` | what is there and may belong to nobody |
//! | `socket` | netlink |
#![forbid(unsafe_code)]

mod address;
mod conntrack;
mod deaf;
mod diag;
mod dns;
mod endpoint;
mod error;
mod files;
#[cfg(fuzzing)]
pub mod fuzzing;
mod host;
mod link;
mod look;
mod loopback6;
mod names;
mod network;
mod nft;
mod overlap;
mod place;
mod relay;
mod reserve;
mod socket;
mod store;
mod stray;
mod subnet;

pub use deaf::set_inside;
pub use diag::{diag_socket, only_ipv6};
pub use dns::ask::ask;
pub use dns::local::{Action, decide};
pub use dns::lookup::{Lookup, NamedNetwork, NetworkNames};
pub use dns::message::{Verdict, judge};
pub use dns::{Dns, DnsConfig};
pub use endpoint::{Endpoint, Endpoint6, MOST_NETWORKS};
pub use error::{Error, Result};
pub use files::{
    RESOLVED_CONF, host_resolv_conf, host_servers, hosts_file, ndots_set, own_line, parse_add_host,
    resolv_conf, resolv_conf_inside,
};
pub use link::{configure_inside, loopback_up, route_inside, route_socket};
pub use look::{Seen, SeenLink, Way};
pub use names::{NameStore, dns_name};
pub use network::{Network, NewNetwork, is_link_name};
pub use nft::{BetweenRules, GuardRules, OtherChain, OtherHook, PublishedElement, Rules, redirect_dns};
pub use place::Wish;
pub use relay::Relay;
pub use reserve::reserve;
pub use store::{Names, NetworkStore};
pub use stray::{ContainerRule, is_link_of};
pub use subnet::{Subnet, Subnet6, choose as choose_subnet};

//! Bridge, veth, address allocation, nftables and published ports.
//!
//! A container's network is one veth from a Linux bridge into its namespace, an address, and, for what it publishes,
//! elements of maps in rbox's own nftables table. All of it is made over netlink by the process that starts the
//! container; nothing stays behind to serve it.
//!
//! ```text
//!  host                                   container
//!  eth0 ── nftables ip rbox ── rbox0 ── rb<id> ═══ eth0 172.30.0.2/16
//!           publish, masquerade  172.30.0.1           default via 172.30.0.1
//! ```
#![forbid(unsafe_code)]

mod address;
mod conntrack;
mod endpoint;
mod error;
mod files;
mod link;
mod nft;
mod reserve;
mod socket;
mod store;
mod subnet;

pub use endpoint::{Endpoint, Mac};
pub use error::{Error, Result};
pub use files::{RESOLVED_CONF, host_resolv_conf, hosts_file, parse_add_host, resolv_conf};
pub use link::{configure_inside, loopback_up};
pub use reserve::reserve;
pub use store::{Names, Network, NetworkStore};
pub use subnet::{Subnet, choose as choose_subnet};

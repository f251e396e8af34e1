//! The name server of one container, at 127.0.0.11 in its network namespace.
//!
//! It answers for the names on the container's networks, and passes everything else on as it came. It belongs to the
//! container's monitor: no thread of its own, no wait of its own, only descriptors for the monitor's one poll(2).
//!
//! ```text
//!  container                        monitor                            host, or container for --dns
//!  127.0.0.11:53 ─ nft ─▶ 127.0.0.11:P ─ ours? answer
//!                                        else: other id, other port ─▶ 192.0.2.53:53
//! ```
//!
//! All that comes in is hostile: from the container, and from whoever can send to the port a question was sent from.
//! What waits is bounded in number, in size and in time.

pub(crate) mod ask;
pub(crate) mod forward;
pub(crate) mod local;
pub(crate) mod lookup;
pub(crate) mod message;
mod server;
pub(crate) mod tcp;
pub(crate) mod upstream;

use std::net::Ipv4Addr;

pub use server::{Dns, DnsConfig};

/// Where a container's resolver finds the server, as in Docker.
pub(crate) const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// A question is a name and a few options; longer ones are refused. What fits into a packet everywhere.
const LONGEST_QUERY: u16 = 1232;

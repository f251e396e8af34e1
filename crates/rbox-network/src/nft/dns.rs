//! The way from 127.0.0.11:53 inside a container to the sockets of the name server there.
//!
//! ```text
//! table ip rbox {                                        # in the container's network namespace
//!   chain ask { type filter hook output priority 300
//!     ip daddr 127.0.0.11 udp dport 53 udp dport set 40001
//!     ip daddr 127.0.0.11 tcp dport 53 tcp dport set 40002
//!   }
//!   chain answer { type filter hook output priority raw
//!     ip saddr 127.0.0.11 udp sport 40001 udp sport set 53
//!     ip saddr 127.0.0.11 tcp sport 40002 tcp sport set 53
//!   }
//! }
//! ```
//!
//! The server's sockets are on ports of the kernel's choice, so a program in the container can have port 53 itself,
//! 0.0.0.0:53 included. The ports are written into the packets: nothing is tracked, so nothing fills up or times out.
//! A container that tracks connections for rules of its own sees port 53 both ways: questions are changed after, and
//! answers before, its tracking.

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use super::encode::{Attributes, Batch, Family, R0, Rule, msg};
use crate::error::Result;
use crate::socket::{APPEND, CREATE, Netlink};

/// Where a container asks for names, as in Docker.
const SERVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
const DOMAIN: u16 = 53;
const TABLE: &str = "rbox";
const HOOK_OUTPUT: u32 = 3;

/// A transport protocol: its number and where its checksum is.
struct Transport {
    number: u8,
    checksum: u32,
}

const UDP: Transport = Transport { number: 17, checksum: 6 };
const TCP: Transport = Transport { number: 6, checksum: 16 };

/// Leads what is sent to 127.0.0.11:53 to that address's `udp_port` and `tcp_port`, and makes the answers come from
/// port 53. `socket` is a `NETLINK_NETFILTER` socket that was opened in the container's network namespace; the
/// caller may be in another. Can be repeated with other ports.
pub fn redirect_dns(socket: OwnedFd, udp_port: u16, tcp_port: u16) -> Result<()> {
    let told = format!(
        "nftables in the container: {SERVER}:{DOMAIN} is {SERVER}:{udp_port}/udp and {SERVER}:{tcp_port}/tcp"
    );
    let ports = [(UDP, udp_port), (TCP, tcp_port)];
    let mut batch = Batch::new();
    batch.push(msg::NEWTABLE, CREATE, Attributes::message(Family::Ip).text(1, TABLE).u32(2, 0));
    // Beyond all that is tracked, filtered and translated on the way out, and before all of it.
    let ask = ports.iter().map(|(transport, port)| ask(transport, *port));
    add_chain(&mut batch, "ask", 300, ask);
    let answer = ports.iter().map(|(transport, port)| answer(transport, *port));
    add_chain(&mut batch, "answer", -300, answer);
    let mut socket = Netlink::from_fd(socket);
    let (bytes, messages) = batch.encode(socket.next_sequence());
    socket.transaction(&bytes, messages, &told)
}

fn add_chain(batch: &mut Batch, name: &str, priority: i32, rules: impl Iterator<Item = Rule>) {
    let hook = Attributes::default().u32(1, HOOK_OUTPUT).u32(2, priority as u32);
    let chain = || Attributes::message(Family::Ip).text(1, TABLE);
    batch.push(msg::NEWCHAIN, CREATE, chain().text(3, name).nest(4, &hook).u32(5, 1).text(7, "filter"));
    batch.push(msg::DELRULE, 0, chain().text(2, name));
    for rule in rules {
        batch.push(msg::NEWRULE, CREATE | APPEND, chain().text(2, name).nest(4, &rule.into_attributes()));
    }
}

fn ask(transport: &Transport, port: u16) -> Rule {
    Rule::new(Family::Ip)
        .daddr(R0)
        .compare(R0, false, &SERVER.octets())
        .l4proto(R0)
        .compare(R0, false, &[transport.number])
        .dport(R0)
        .compare(R0, false, &DOMAIN.to_be_bytes())
        .value(port.to_be_bytes())
        .write_port(2, transport.checksum)
}

fn answer(transport: &Transport, port: u16) -> Rule {
    Rule::new(Family::Ip)
        .saddr(R0)
        .compare(R0, false, &SERVER.octets())
        .l4proto(R0)
        .compare(R0, false, &[transport.number])
        .sport(R0)
        .compare(R0, false, &port.to_be_bytes())
        .value(DOMAIN.to_be_bytes())
        .write_port(0, transport.checksum)
}

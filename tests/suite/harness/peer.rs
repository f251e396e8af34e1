//! Another host: a network namespace at the other end of a link of this one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Command;
use std::time::Duration;

use super::command::Running;
use super::{Cmd, has, skipped, wait_until};

/// Another host on a link of ours, which is its router. Gone when dropped.
pub(crate) struct Peer {
    name: String,
    link: String,
}

impl Peer {
    /// This host's address on the link, and the other's: of the networks that are set apart for documentation.
    pub(crate) const HERE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
    pub(crate) const THERE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
    pub(crate) const HERE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x51, 0, 0, 0, 0, 1);
    pub(crate) const THERE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x51, 0, 0, 0, 0, 2);

    /// Makes the namespace and the link. None, having said why, when this host cannot.
    pub(crate) fn new() -> Option<Self> {
        if !has("ip") || !has("nc") {
            skipped("ip or nc is not installed");
            return None;
        }
        let pid = std::process::id();
        let peer = Self { name: format!("rbt-peer-{pid}"), link: format!("rbtp{pid}") };
        let name = &peer.name;
        ip(&["netns", "add", name]);
        ip(&["link", "add", &peer.link, "type", "veth", "peer", "name", "eth0", "netns", name]);
        for (address, prefix) in [(Self::HERE.to_string(), 24), (Self::HERE6.to_string(), 64)] {
            ip(&["address", "add", &format!("{address}/{prefix}"), "dev", &peer.link, "nodad"]);
        }
        ip(&["link", "set", &peer.link, "up"]);
        ip(&["-n", name, "link", "set", "lo", "up"]);
        ip(&["-n", name, "link", "set", "eth0", "up"]);
        for (address, prefix) in [(Self::THERE.to_string(), 24), (Self::THERE6.to_string(), 64)] {
            ip(&["-n", name, "address", "add", &format!("{address}/{prefix}"), "dev", "eth0", "nodad"]);
        }
        ip(&["-n", name, "route", "add", "default", "via", &Self::HERE.to_string()]);
        ip(&["-n", name, "-6", "route", "add", "default", "via", &Self::HERE6.to_string()]);
        Some(peer)
    }

    /// A program on the other host.
    pub(crate) fn cmd(&self, args: &[&str]) -> Cmd {
        Cmd::new("ip", ["netns", "exec", &self.name]).args(args)
    }

    /// Whether a TCP connection from there comes about.
    pub(crate) fn reaches(&self, address: &str, port: u16) -> bool {
        self.cmd(&["nc", "-z", "-w", "2", address, &port.to_string()]).run().code == 0
    }

    /// A server over there that accepts connections on `port` until it is dropped.
    pub(crate) fn listen(&self, port: u16) -> Listener {
        self.listen_at(Self::THERE.into(), port)
    }

    /// One at one of its addresses.
    pub(crate) fn listen_at(&self, address: IpAddr, port: u16) -> Listener {
        let address = address.to_string();
        let listener = Listener(Some(self.cmd(&["nc", "-lk", &address, &port.to_string()]).spawn()));
        wait_until("the other host's server answers", || {
            Cmd::new("nc", ["-z", "-w", "2", &address, &port.to_string()]).run().code == 0
        });
        listener
    }
}

/// A server on the other host.
pub(crate) struct Listener(Option<Running>);

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(server) = self.0.take() {
            server.signal("KILL");
            server.finish(Duration::from_secs(10));
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).status();
        // With the namespace its end of the link goes, and ours with that, when the kernel comes to it.
        let _ = Command::new("ip").args(["link", "delete", &self.link]).output();
    }
}

#[track_caller]
fn ip(args: &[&str]) {
    Cmd::new("ip", args).run().ok();
}

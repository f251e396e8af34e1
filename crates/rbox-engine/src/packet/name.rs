//! Where a user wants to go, and what the words for it lead to.

use std::net::{IpAddr, Ipv4Addr};

use rbox_network::Way;
use rbox_spec::container::NetworkMode;

use crate::packet::kernel::{Found, Known};
use crate::packet::trace::Verdict;
use crate::packet::walk::{Halt, Place, Walk};
use crate::packet::world::{ELSEWHERE, Node};

impl Walk<'_> {
    /// The address that `host` means at `from`.
    pub(super) fn resolve(&mut self, from: &Place, host: &str) -> Result<IpAddr, Halt> {
        if let Ok(ip) = host.parse() {
            return Ok(ip);
        }
        match (from, host) {
            (Place::Outside, "localhost") => {
                let by = "the loopback of that other host";
                Err(self.stop(
                    "name",
                    "there, localhost is that other host",
                    by,
                    "name an address of this host, or `host`",
                ))
            }
            (_, "localhost") => Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            (_, "host") => self.host_address(from),
            (Place::Container(at), _) => {
                let node = &self.world.nodes[*at];
                self.by_name(node, host)
            }
            (Place::Host | Place::Outside, _) => self.hosts_name(from, host),
        }
    }

    /// An address of this host, as seen from `from`.
    fn host_address(&mut self, from: &Place) -> Result<IpAddr, Halt> {
        let found = match from {
            Place::Container(at) => {
                let node = &self.world.nodes[*at];
                let main = node.endpoints.iter().find(|e| e.default_route).or(node.endpoints.first());
                match (&node.mode, main) {
                    (NetworkMode::Host, _) => {
                        Some((IpAddr::V4(Ipv4Addr::LOCALHOST), "its own network".to_owned()))
                    }
                    (_, Some(e)) => {
                        Some((IpAddr::V4(e.gateway), format!("the bridge of network {}", e.network)))
                    }
                    (_, None) => None,
                }
            }
            Place::Host => Some((IpAddr::V4(Ipv4Addr::LOCALHOST), "itself".to_owned())),
            Place::Outside => self.uplink_address()?,
        };
        match found {
            Some((ip, whose)) => {
                self.ok("name", format!("the host is {ip} here, {whose}"));
                Ok(ip)
            }
            None if matches!(from, Place::Outside) => {
                let text = "this host has no address but those of its own bridges";
                Err(self.stop("name", text, "a host without an address", "name the address that is meant"))
            }
            None => {
                let text = "it is on no network, so the host has no address there";
                Err(self.stop("name", text, "it is on no network", "run it with --network NETWORK"))
            }
        }
    }

    /// The host's address on the link to the outside.
    fn uplink_address(&mut self) -> Result<Option<(IpAddr, String)>, Halt> {
        if let Way::Over { link, source: Some(source), .. } = self.kernel.way(None, ELSEWHERE)?
            && self.world.on(&link).is_none()
        {
            return Ok(Some((source, format!("on {link}"))));
        }
        let first = self.world.uplinks().next();
        Ok(first.and_then(|(link, wide)| Some((wide.first()?.0, format!("on {}", link.name)))))
    }

    /// What a container's resolver finds: /etc/hosts, its networks' names, the servers beyond.
    fn by_name(&mut self, node: &Node, host: &str) -> Result<IpAddr, Halt> {
        match self.kernel.resolve(Some(node), host)? {
            Found::Hosts(ips) => self.choose(host, &ips, "from its /etc/hosts"),
            Found::Names(ips) if ips.is_empty() => Err(self.unknown(node, host)),
            Found::Names(ips) => {
                let on = ips.first().and_then(|ip| {
                    let at = |e: &&rbox_network::Endpoint| self.world.owner(&e.bridge, *ip).is_some();
                    node.endpoints.iter().find(at).map(|e| e.network.clone())
                });
                let on = on.map(|network| format!(" on network {network}")).unwrap_or_default();
                let how = format!("{on} (127.0.0.11: monitor, pid {})", node.monitor);
                self.choose(host, &ips, how.trim_start())
            }
            Found::Elsewhere(servers) if servers.is_empty() => Err(self.unknown(node, host)),
            // Another container's name is hardly one of the outside, too.
            Found::Elsewhere(_) if self.kernel.container(host).is_some() => Err(self.unknown(node, host)),
            Found::Elsewhere(servers) => {
                let asked = servers.join(", ");
                match self.kernel.ask(node, host)? {
                    Some(ips) if !ips.is_empty() => self.choose(
                        host,
                        &ips,
                        &format!("from {asked} (127.0.0.11: monitor, pid {})", node.monitor),
                    ),
                    _ => {
                        let text = format!(
                            "no container's name on its networks, and {asked} has no address for {host}"
                        );
                        Err(self.stop(
                            "name",
                            &text,
                            "the name, which nobody knows",
                            "check the name, or --dns",
                        ))
                    }
                }
            }
        }
    }

    /// Why a name leads nowhere, and what would help.
    fn unknown(&mut self, node: &Node, host: &str) -> Halt {
        let own: Vec<&str> = node.endpoints.iter().map(|e| e.network.as_str()).collect();
        let on = match own.as_slice() {
            [] if node.mode == NetworkMode::Host => {
                "it has the host's network, which has no names of containers".to_owned()
            }
            [] => "it is on no network".to_owned(),
            [one] => format!("it is on network {one}"),
            more => format!("it is on networks {}", more.join(", ")),
        };
        let Some(known) = self.kernel.container(host) else {
            let text = format!("NXDOMAIN: {on}, where nobody is called {host}");
            return self.stop("name", &text, "the name, which nobody has", "check the name: rbox ps");
        };
        let name = &known.name;
        let runs = matches!(known.status, "running" | "paused");
        let (why, advice) = match &known.mode {
            _ if !runs => (format!("{name} does not run ({})", known.status), format!("rbox start {name}")),
            NetworkMode::Host => (
                format!("{name} has the host's network, where containers have no names"),
                "use host and the port".to_owned(),
            ),
            NetworkMode::None => {
                (format!("{name} is on no network"), "run it with --network NETWORK".to_owned())
            }
            NetworkMode::Container(_) => (
                format!("{name} has another container's network, and is called as that one"),
                "use that one's name".to_owned(),
            ),
            NetworkMode::Bridge => Self::apart(node, &own, &known),
        };
        self.stop(
            "name",
            &format!("NXDOMAIN: {on}, and {why}"),
            &format!("the name {host}, which is not known there"),
            &advice,
        )
    }

    /// Two containers that share no network, or do and have other names there.
    fn apart(node: &Node, own: &[&str], known: &Known) -> (String, String) {
        let name = &known.name;
        if known.networks.iter().any(|network| own.contains(&network.as_str())) {
            return (
                format!("{name} is there under other names"),
                format!("use one of them: rbox net {name}"),
            );
        }
        let theirs = known.networks.join(", ");
        let why = format!("{name} is on {theirs}: they would have to share one");
        let advice = match (&node.mode, known.networks.first()) {
            (NetworkMode::Host, _) => format!("use its address: rbox net {name}"),
            (NetworkMode::Bridge, Some(network)) => {
                format!("rbox network connect {network} {}", node.shares.as_ref().unwrap_or(&node.name))
            }
            _ => "run it with --network of the other one".to_owned(),
        };
        (why, advice)
    }

    /// A name that the host, or one outside, gives: a container, or a line of the host's /etc/hosts.
    fn hosts_name(&mut self, from: &Place, host: &str) -> Result<IpAddr, Halt> {
        let Some(known) = self.kernel.container(host) else {
            if let Found::Hosts(ips) = self.kernel.resolve(None, host)? {
                return self.choose(host, &ips, "from the host's /etc/hosts");
            }
            let text = format!("no container is called {host}, and no line of the host's /etc/hosts has it");
            let advice = "give the address: the host's resolver is not asked";
            return Err(self.stop("name", &text, "the name, which nobody has", advice));
        };
        let name = known.name.clone();
        let Some(node) = self.world.node(&known.id).map(|at| &self.world.nodes[at]) else {
            let text = format!("{name} does not run ({})", known.status);
            return Err(self.stop(
                "name",
                &text,
                &format!("{name}, which does not run"),
                &format!("rbox start {name}"),
            ));
        };
        if node.mode == NetworkMode::Host {
            self.ok("name", format!("{name} has the host's network"));
            return self.host_address(from);
        }
        // What is published leads to the default route's network; the others are as good for the host.
        let main = node.endpoints.iter().find(|e| e.default_route).or(node.endpoints.first());
        let Some(endpoint) = main else {
            let text = format!("{name} is on no network: it has no address but its own loopback");
            return Err(self.stop(
                "name",
                &text,
                &format!("{name}, which is on no network"),
                "run it with --network NETWORK",
            ));
        };
        let text = format!(
            "the container {name} is {} on network {}; the host's resolver does not know it",
            endpoint.ip, endpoint.network
        );
        self.ok("name", text);
        Ok(IpAddr::V4(endpoint.ip))
    }

    /// The address that is traced among those of a name.
    fn choose(&mut self, host: &str, ips: &[IpAddr], how: &str) -> Result<IpAddr, Halt> {
        let four = ips.iter().find(|ip| ip.is_ipv4()).or(ips.first());
        let Some(ip) = four.copied() else {
            return Err(self.stop(
                "name",
                &format!("{host} has no address"),
                "the name, which has no address",
                "",
            ));
        };
        let others: Vec<String> = ips.iter().filter(|other| **other != ip).map(ToString::to_string).collect();
        let more = match others.as_slice() {
            [] => String::new(),
            _ => format!("; also {}", others.join(", ")),
        };
        self.step(Verdict::Ok, "name", format!("{host} is {ip} {how}{more}"), None);
        Ok(ip)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {

    use crate::packet::target::Target;

    #[test]
    fn destinations() {
        let target =
            |text: &str| text.parse::<Target>().map(|t| format!("{} {} {}", t.host, t.port, t.protocol));
        assert_eq!(target("db:5432").unwrap(), "db 5432 tcp");
        assert_eq!(target("10.0.0.1:53/udp").unwrap(), "10.0.0.1 53 udp");
        assert_eq!(target("[fd00::1]:80").unwrap(), "fd00::1 80 tcp");
        for bad in [
            "",
            "db",
            ":80",
            "db:",
            "db:0",
            "db:65536",
            "db:80-90",
            "db:80/xyz",
            "fd00::1:80",
            "[fd00::1:80",
            "db:-1",
        ] {
            let error = target(bad).unwrap_err();
            assert!(error.contains("DST:PORT") && !error.contains('\n'), "{bad:?}: {error}");
        }
    }
}

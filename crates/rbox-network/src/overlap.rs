//! What a network's subnet would take from the host: a bridge with it has a route to all of it, so what the host reached there
//! until then, it reaches no more. The host's own link, and with it whoever works on the host from afar, may be among that.

use std::net::{IpAddr, Ipv4Addr};

use crate::error::{Error, Result};
use crate::link::{self, Destination};
use crate::look::{Seen, SeenLink};
use crate::network::{Network, OVERLAP};
use crate::socket::Netlink;
use crate::subnet::{Subnet, Subnet6};

/// Addresses that anybody may use inside: a route to all of one of these, such as a VPN's, says as little about what is in
/// use as the default route does.
const PRIVATE: [(Ipv4Addr, u8); 4] = [
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
];

/// Refuses a subnet that takes what the host's routes lead to, unless the network is to have it all the same.
pub(crate) fn refuse_routes(network: &Network) -> Result<()> {
    if network.may_overlap() {
        return Ok(());
    }
    let links = links(network)?;
    refuse_links(network, &links)?;
    let destinations = link::destinations(&mut Netlink::route()?)?;
    for route in &destinations {
        let via = links.iter().find(|link| Some(link.index) == route.link);
        // Its own bridge may be there already.
        if (route.link.is_some() && via.is_none()) || is_general(route) {
            continue;
        }
        if let Some(subnet) = overlapped(network, route.ip, route.prefix) {
            let over = via.map(|link| format!(" over {}", link.name)).unwrap_or_default();
            let what = format!("{}/{}, to which this host has a route{over}", route.ip, route.prefix);
            return Err(Error::RouteTaken { subnet, what, remedy: remedy(network) });
        }
    }
    for server in nameservers() {
        if let Some(subnet) = overlapped(network, server.base().into(), server.prefix()) {
            let what = format!("{}, the name server of this host", server.base());
            return Err(Error::RouteTaken { subnet, what, remedy: remedy(network) });
        }
    }
    Ok(())
}

/// Refuses a subnet in which this host has an address on another link: what is on that link could not be reached any more.
pub(crate) fn refuse_own_link(network: &Network) -> Result<()> {
    if network.may_overlap() { Ok(()) } else { refuse_links(network, &links(network)?) }
}

/// The host's nameservers, which the subnet must not hide even when only the default route leads to them.
pub(crate) fn nameservers() -> Vec<Subnet> {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver")?.trim().parse().ok())
        .filter_map(|ip: Ipv4Addr| Subnet::new(ip, 32))
        .collect()
}

/// The host's links but the network's bridge.
fn links(network: &Network) -> Result<Vec<SeenLink>> {
    let seen = Seen::through(Netlink::route()?.into_fd())?;
    Ok(seen.links().iter().filter(|link| link.name != network.bridge).cloned().collect())
}

fn refuse_links(network: &Network, links: &[SeenLink]) -> Result<()> {
    for link in links {
        for (ip, prefix) in &link.addresses {
            if let Some(subnet) = overlapped(network, *ip, *prefix) {
                let what = format!("{}, the subnet of this host's link {}", base(*ip, *prefix), link.name);
                return Err(Error::RouteTaken { subnet, what, remedy: remedy(network) });
            }
        }
    }
    Ok(())
}

/// The default network takes no options; its subnet is chosen when it has no record.
fn remedy(network: &Network) -> String {
    if network.is_builtin() {
        return format!(
            "use another network (rbox network create NAME, then --network NAME); or, when no container of this one runs, remove \
             network/networks/{}.json below rbox's root, and it gets another subnet",
            network.bridge
        );
    }
    format!("use another subnet, or -o {OVERLAP}=true for this one all the same")
}

fn base(ip: IpAddr, prefix: u8) -> String {
    match ip {
        IpAddr::V4(ip) => Subnet::new(ip, prefix).map(|subnet| subnet.to_string()),
        IpAddr::V6(ip) => Subnet6::new(ip, prefix).map(|subnet| subnet.to_string()),
    }
    .unwrap_or_else(|| ip.to_string())
}

/// The network's subnet that shares an address with this one.
fn overlapped(network: &Network, ip: IpAddr, prefix: u8) -> Option<String> {
    match ip {
        IpAddr::V4(ip) => {
            let (other, own) = (Subnet::new(ip, prefix)?, network.subnet?);
            own.overlaps(&other).then(|| own.to_string())
        }
        IpAddr::V6(ip) => {
            let (other, own) = (Subnet6::new(ip, prefix)?, network.subnet6?);
            own.overlaps(&other).then(|| own.to_string())
        }
    }
}

/// Whether a route leads to so much that it says nothing about what is in use.
fn is_general(route: &Destination) -> bool {
    match route.ip {
        IpAddr::V4(ip) => {
            let private = PRIVATE.iter().filter_map(|(base, prefix)| Subnet::new(*base, *prefix));
            Subnet::new(ip, route.prefix).is_none_or(|all| private.into_iter().any(|one| all.holds(&one)))
        }
        // fc00::/7 and its half that is used.
        IpAddr::V6(ip) => route.prefix <= 3 || (route.prefix <= 8 && ip.octets()[0] & 0xfe == 0xfc),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn which_routes_are_general() {
        let route = |text: &str| {
            let (ip, prefix) = text.split_once('/').unwrap();
            is_general(&Destination { ip: ip.parse().unwrap(), prefix: prefix.parse().unwrap(), link: None })
        };
        for text in
            ["0.0.0.0/0", "128.0.0.0/1", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "192.0.0.0/8"]
        {
            assert!(route(text), "{text}");
        }
        for text in ["::/0", "2000::/3", "fc00::/7", "fd00::/8"] {
            assert!(route(text), "{text}");
        }
        for text in
            ["10.0.0.0/9", "172.16.0.0/16", "192.168.1.0/24", "1.2.3.4/32", "fd00::/64", "2001:db8::/32"]
        {
            assert!(!route(text), "{text}");
        }
    }
}

//! What networks need of the host: their bridges and its settings.

use std::path::Path;

use rbox_spec::mac::Mac;
use rbox_sys::file::write_setting;

use crate::endpoint::Endpoint;
use crate::error::{Error, Result};
use crate::network::Network;
use crate::socket::Netlink;
use crate::{link, loopback6, overlap};

/// Makes the network's bridge, or what is missing of it. `live` are the endpoints in use: those whose bridge somebody deleted
/// are put on the new one.
pub(crate) fn ensure_bridge(network: &Network, live: &dyn Fn() -> Vec<Endpoint>) -> Result<()> {
    let (range, router) = (network.range()?, network.router()?);
    let six = network.six();
    let mut socket = Netlink::route()?;
    if let Some(found) = link::find(&mut socket, &network.bridge)?
        && found.up
    {
        let whole = link::addresses_of(&mut socket, found.index)?.contains(&(router, range.prefix()))
            && match six {
                None => true,
                Some((subnet, ip)) => {
                    link::addresses6_of(&mut socket, found.index)?.contains(&(ip, subnet.prefix()))
                }
            };
        if whole {
            return Ok(());
        }
    }
    overlap::refuse_own_link(network)?;
    let bridge =
        link::Bridge { name: &network.bridge, ip: router, prefix: range.prefix(), mtu: network.mtu() };
    let made = link::make_bridge(&mut socket, &bridge)?;
    if let Some((subnet, ip)) = six {
        // An address needs IPv6 on the link.
        ensure_sysctls(network)?;
        link::add_bridge_address6(&mut socket, made, &network.bridge, ip, subnet.prefix())?;
        // From it the host asks its neighbours there for those whose packets it passes on.
        let own = link::link_local(Mac::of(router));
        link::add_bridge_address6(&mut socket, made, &network.bridge, own, 64)?;
        socket.batch(&[loopback6::route(made.index, &network.bridge)])?;
    }
    let hairpin = bridge_calls_iptables();
    let own = live().into_iter().filter(|endpoint| endpoint.network_id == network.id);
    for endpoint in own {
        link::join_bridge(&mut socket, &endpoint, made, hairpin)?;
    }
    Ok(())
}

/// The host's settings that the network needs.
pub(crate) fn ensure_sysctls(network: &Network) -> Result<()> {
    // Packets pass between the bridge and the other links.
    sysctl("/proc/sys/net/ipv4/ip_forward", "1")?;
    // 127.0.0.1:PORT of the host leads to a container; the guard chain keeps others from using it.
    sysctl(&format!("/proc/sys/net/ipv4/conf/{}/route_localnet", network.bridge), "1")?;
    if !Path::new("/proc/sys/net/ipv6").exists() {
        return if network.subnet6.is_none() { Ok(()) } else { Err(Error::NoIpv6(network.name.clone())) };
    }
    let of_bridge = |key: &str| format!("/proc/sys/net/ipv6/conf/{}/{key}", network.bridge);
    if network.subnet6.is_none() {
        // With IPv6 on its bridge the host would take routes from a container's router advertisements (CVE-2020-13401).
        return sysctl(&of_bridge("disable_ipv6"), "1");
    }
    sysctl(&of_bridge("accept_ra"), "0")?;
    sysctl(&of_bridge("disable_ipv6"), "0")?;
    forward_ipv6()
}

/// Lets IPv6 packets pass between links. A host that forwards takes no more router advertisements on links that take
/// them only while it does not (`accept_ra` 1), and so would lose its own default route: those get the value that takes them
/// all the same (2).
fn forward_ipv6() -> Result<()> {
    let forwarding = "/proc/sys/net/ipv6/conf/all/forwarding";
    if std::fs::read_to_string(forwarding).is_ok_and(|now| now.trim() == "1") {
        return Ok(());
    }
    let links = Path::new("/proc/sys/net/ipv6/conf");
    for entry in std::fs::read_dir(links).map_err(|e| Error::file("read", links, e))?.flatten() {
        let accept = entry.path().join("accept_ra");
        if entry.file_name() != "all" && std::fs::read_to_string(&accept).is_ok_and(|now| now.trim() == "1") {
            // A link that goes just now needs nothing.
            let _ = sysctl(&accept.to_string_lossy(), "2");
        }
    }
    sysctl(forwarding, "1")
}

/// Writes `value` unless the file has it.
fn sysctl(path: &str, value: &str) -> Result<()> {
    let now = std::fs::read_to_string(path).map_err(|e| Error::file("read", path, e))?;
    if now.trim() == value {
        return Ok(());
    }
    write_setting(Path::new(path), value).map_err(|e| Error::file("write", path, e))
}

/// Whether frames between the ports of a bridge go through the hooks of IPv4 or IPv6 too.
pub(crate) fn bridge_calls_iptables() -> bool {
    let calls = |key: &str| {
        std::fs::read(Path::new("/proc/sys/net/bridge").join(key)).is_ok_and(|text| text.starts_with(b"1"))
    };
    calls("bridge-nf-call-iptables") || calls("bridge-nf-call-ip6tables")
}

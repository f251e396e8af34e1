//! The part of `inspect` that shows a container's networks.

use rbox_network::Endpoint;
use rbox_spec::container::{Attachment, NetworkMode};
use serde_json::{Map, Value, json};

use crate::record::container::Container;
use rbox_spec::docker::list;

/// `NetworkSettings`, with its `Ports`.
pub(super) fn network_settings(container: &Container, ports: &Value) -> Value {
    let record = &container.record;
    let running = container.is_running();
    let bridge = endpoints(container).iter().find(|endpoint| endpoint.network == "bridge");
    let place = place(bridge);
    let namespace = match &container.live {
        Some(live) if record.host.network != NetworkMode::Host => format!("/proc/{}/ns/net", live.pid),
        _ => String::new(),
    };
    json!({
        "Bridge": "",
        "SandboxID": if running { record.id.as_str() } else { "" },
        "SandboxKey": namespace,
        "Ports": ports,
        "HairpinMode": false,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": null,
        "SecondaryIPv6Addresses": null,
        "EndpointID": place.id,
        "Gateway": place.gateway,
        "GlobalIPv6Address": place.ip6,
        "GlobalIPv6PrefixLen": place.prefix6,
        "IPAddress": place.ip,
        "IPPrefixLen": place.prefix,
        "IPv6Gateway": place.gateway6,
        "MacAddress": place.mac,
        "Networks": networks(container),
    })
}

fn endpoints(container: &Container) -> &[Endpoint] {
    container.live.as_ref().map_or(&[], |live| live.endpoints.as_slice())
}

/// Each network the container is on, by name.
fn networks(container: &Container) -> Value {
    let host = &container.record.host;
    let mut out = Map::new();
    match &host.network {
        NetworkMode::Bridge => {
            for wanted in &host.attachments {
                let of_network = |endpoint: &&Endpoint| endpoint.network == wanted.network;
                let endpoint = endpoints(container).iter().find(of_network);
                out.insert(wanted.network.clone(), network(container, wanted, endpoint));
            }
        }
        NetworkMode::Host | NetworkMode::None => {
            let name = host.network_mode();
            out.insert(name.clone(), network(container, &Attachment::to(&name), None));
        }
        // Its network is the other one's to tell.
        NetworkMode::Container(_) => {}
    }
    out.sort_keys();
    out.into()
}

fn network(container: &Container, wanted: &Attachment, endpoint: Option<&Endpoint>) -> Value {
    let host = &container.record.host;
    let place = place(endpoint);
    let links: Vec<String> = host.links.iter().map(|link| format!("{}:{}", link.name, link.alias)).collect();
    let ipam = if wanted.ip.is_none() && wanted.ip6.is_none() && wanted.link_local.is_empty() {
        Value::Null
    } else {
        let mut ipam = Map::new();
        ipam.extend(wanted.ip.map(|ip| ("IPv4Address".to_owned(), ip.to_string().into())));
        ipam.extend(wanted.ip6.map(|ip| ("IPv6Address".to_owned(), ip.to_string().into())));
        if !wanted.link_local.is_empty() {
            ipam.insert("LinkLocalIPs".to_owned(), json!(wanted.link_local));
        }
        ipam.into()
    };
    let driver_opts = if wanted.driver_opts.is_empty() { Value::Null } else { json!(wanted.driver_opts) };
    json!({
        "IPAMConfig": ipam,
        "Links": list(&links),
        "Aliases": list(&wanted.aliases),
        "MacAddress": place.mac,
        "DriverOpts": driver_opts,
        "GwPriority": wanted.priority,
        "NetworkID": endpoint.map_or(wanted.network_id.as_str(), |endpoint| endpoint.network_id.as_str()),
        "EndpointID": place.id,
        "Gateway": place.gateway,
        "IPAddress": place.ip,
        "IPPrefixLen": place.prefix,
        "IPv6Gateway": place.gateway6,
        "GlobalIPv6Address": place.ip6,
        "GlobalIPv6PrefixLen": place.prefix6,
        "DNSNames": endpoint.map_or(Value::Null, |endpoint| list(&endpoint.names)),
    })
}

/// An endpoint as texts and numbers; all empty when there is none.
#[derive(Default)]
struct Place {
    id: String,
    mac: String,
    gateway: String,
    ip: String,
    prefix: u8,
    gateway6: String,
    ip6: String,
    prefix6: u8,
}

fn place(endpoint: Option<&Endpoint>) -> Place {
    let Some(endpoint) = endpoint else { return Place::default() };
    let six = endpoint.ip6;
    Place {
        id: id(endpoint),
        mac: endpoint.mac.to_string(),
        gateway: endpoint.gateway.to_string(),
        ip: endpoint.ip.to_string(),
        prefix: endpoint.prefix,
        gateway6: six.map(|six| six.gateway.to_string()).unwrap_or_default(),
        ip6: six.map(|six| six.ip.to_string()).unwrap_or_default(),
        prefix6: six.map_or(0, |six| six.prefix),
    }
}

/// An endpoint's id: its container's and its network's, laid over each other.
pub(super) fn id(endpoint: &Endpoint) -> String {
    let digit = |c: char| c.to_digit(16).unwrap_or(0);
    let pairs = endpoint.container.chars().zip(endpoint.network_id.chars());
    pairs.filter_map(|(a, b)| char::from_digit(digit(a) ^ digit(b), 16)).collect()
}

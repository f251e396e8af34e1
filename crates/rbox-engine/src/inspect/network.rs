//! `network inspect`.

use jiff::Timestamp;
use rbox_network::Network;
use rbox_spec::container::NetworkMode;
use serde_json::{Map, Value, json};

use crate::inspect::time;
use crate::record::container::Container;

/// The JSON of one network and of the containers, among all those given, that are on it.
pub fn network(network: &Network, containers: &[Container]) -> Value {
    let created = Timestamp::try_from(network.created).ok();
    let mut ipam: Vec<Value> = Vec::new();
    if let (Some(subnet), Some(gateway)) = (network.subnet, network.gateway) {
        let mut one = json!({ "Subnet": subnet.to_string() });
        if let Some(fields) = one.as_object_mut() {
            fields.extend(network.ip_range.map(|range| ("IPRange".to_owned(), range.to_string().into())));
            fields.insert("Gateway".into(), gateway.to_string().into());
            fields.extend(auxiliary(network, false));
        }
        ipam.push(one);
    }
    if let (Some(subnet), Some(gateway)) = (network.subnet6, network.gateway6) {
        let mut one = json!({ "Subnet": subnet.to_string(), "Gateway": gateway.to_string() });
        if let Some(fields) = one.as_object_mut() {
            fields.extend(auxiliary(network, true));
        }
        ipam.push(one);
    }
    let mut options = network.options.clone();
    if !network.bridge.is_empty() {
        options.entry("com.docker.network.bridge.name".into()).or_insert_with(|| network.bridge.clone());
    }
    json!({
        "Name": network.name,
        "Id": network.id,
        "Created": time(created),
        "Scope": network.scope(),
        "Driver": network.driver,
        "EnableIPv4": true,
        "EnableIPv6": network.subnet6.is_some(),
        "IPAM": { "Driver": "default", "Options": null, "Config": ipam },
        "Internal": network.internal,
        "Attachable": network.attachable,
        "Ingress": false,
        "ConfigFrom": { "Network": "" },
        "ConfigOnly": false,
        "Containers": on_network(network, containers),
        "Options": options,
        "Labels": network.labels,
    })
}

/// The addresses of one family that no container is given; none when there are none.
fn auxiliary(network: &Network, six: bool) -> Option<(String, Value)> {
    let of_family = network.auxiliary.iter().filter(|(_, ip)| ip.is_ipv6() == six);
    let addresses: Map<String, Value> =
        of_family.map(|(name, ip)| (name.clone(), ip.to_string().into())).collect();
    (!addresses.is_empty()).then(|| ("AuxiliaryAddresses".to_owned(), Value::Object(addresses)))
}

fn on_network(network: &Network, containers: &[Container]) -> Value {
    let mut out = Map::new();
    for container in containers.iter().filter(|container| container.is_running()) {
        let record = &container.record;
        let endpoints = container.live.as_ref().map_or(&[][..], |live| &live.endpoints);
        let endpoint = endpoints.iter().find(|endpoint| endpoint.network_id == network.id);
        let builtin = matches!(record.host.network, NetworkMode::Host | NetworkMode::None);
        if endpoint.is_none() && !(builtin && record.host.network_mode() == network.name) {
            continue;
        }
        let text = |text: Option<String>| text.unwrap_or_default();
        let six = endpoint.and_then(|endpoint| endpoint.ip6);
        let entry = json!({
            "Name": record.name,
            "EndpointID": endpoint.map_or_else(|| record.id.as_str().to_owned(), crate::inspect::endpoint::id),
            "MacAddress": text(endpoint.map(|endpoint| endpoint.mac.to_string())),
            "IPv4Address": text(endpoint.map(|endpoint| format!("{}/{}", endpoint.ip, endpoint.prefix))),
            "IPv6Address": text(six.map(|six| format!("{}/{}", six.ip, six.prefix))),
        });
        out.insert(record.id.as_str().to_owned(), entry);
    }
    out.into()
}

//! `network inspect`.

use jiff::Timestamp;
use rbox_network::Network;
use serde_json::{Map, Value, json};

use super::time;
use crate::record::Container;

/// The JSON of one network and of the containers, among all those given, that are on it.
pub fn network(network: &Network, containers: &[Container]) -> Value {
    let created = Timestamp::try_from(network.created).ok();
    let ipam: Vec<Value> = match (network.subnet, network.gateway) {
        (Some(subnet), Some(gateway)) => {
            vec![json!({ "Subnet": subnet.to_string(), "Gateway": gateway.to_string() })]
        }
        _ => Vec::new(),
    };
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
        "EnableIPv6": false,
        "IPAM": { "Driver": "default", "Options": null, "Config": ipam },
        "Internal": network.internal,
        "Attachable": false,
        "Ingress": false,
        "ConfigFrom": { "Network": "" },
        "ConfigOnly": false,
        "Containers": on_network(network, containers),
        "Options": options,
        "Labels": network.labels,
    })
}

fn on_network(network: &Network, containers: &[Container]) -> Value {
    let mut out = Map::new();
    for container in containers.iter().filter(|container| container.is_running()) {
        let record = &container.record;
        let endpoint = container.live.as_ref().and_then(|live| live.endpoint.as_ref());
        let (mac, address) = match endpoint {
            Some(endpoint) if endpoint.network == network.name => {
                (endpoint.mac.to_string(), format!("{}/{}", endpoint.ip, endpoint.prefix))
            }
            None if record.host.network.as_str() == network.name => (String::new(), String::new()),
            _ => continue,
        };
        let entry = json!({
            "Name": record.name,
            "EndpointID": record.id.as_str(),
            "MacAddress": mac,
            "IPv4Address": address,
            "IPv6Address": "",
        });
        out.insert(record.id.as_str().to_owned(), entry);
    }
    out.into()
}

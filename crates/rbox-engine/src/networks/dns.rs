//! What the name server of a container knows and asks.

use std::os::fd::BorrowedFd;

use rbox_network::{Dns, DnsConfig, Endpoint, NamedNetwork, NetworkNames};
use rbox_spec::container::Attachment;

use crate::error::EngineError;
use crate::networks::files::servers;
use crate::networks::store::{is_live, networks};
use crate::record::container::{ContainerRecord, LiveState};
use crate::record::paths::Paths;

/// What a container is called on a network: its name, its aliases there, its short id, and its host name.
pub(crate) fn names(record: &ContainerRecord, wanted: &Attachment) -> Vec<String> {
    let own = [record.name.as_str()].into_iter().chain(wanted.aliases.iter().map(String::as_str));
    let mut all: Vec<String> = Vec::new();
    for name in own.chain([record.id.short(), record.config.hostname.as_str()]) {
        if let Some(name) = rbox_network::dns_name(name)
            && !all.contains(&name)
        {
            all.push(name);
        }
    }
    all
}

pub(crate) fn open_dns(
    record: &ContainerRecord,
    live: &LiveState,
    netns: BorrowedFd<'_>,
) -> Result<Dns, EngineError> {
    let host_conf = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let config = DnsConfig {
        servers: servers(record)?,
        ndots_set: rbox_network::ndots_set(&host_conf, &record.host.dns_options),
        host_allowed: has_way_out(live),
        ..DnsConfig::default()
    };
    Ok(Dns::open(netns, config)?)
}

/// Whether names of the outside are of use to it: a container on internal networks only has no way there.
pub(crate) fn has_way_out(live: &LiveState) -> bool {
    live.endpoints.iter().any(|endpoint| endpoint.default_route)
}

/// Who is asked for names that are not its networks': the servers of `--dns`, or the host's.
pub(crate) fn upstreams(record: &ContainerRecord, live: &LiveState) -> Vec<String> {
    if !record.host.dns.is_empty() {
        return record.host.dns.clone();
    }
    if !has_way_out(live) {
        return Vec::new();
    }
    rbox_network::host_servers(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default())
}

/// The names that a container knows: those of its networks, and its links.
pub(crate) fn known_names<'a>(
    paths: &'a Paths,
    record: &ContainerRecord,
    live: &LiveState,
) -> NetworkNames<'a> {
    let store = networks(paths);
    let links: Vec<(String, String)> = record
        .host
        .links
        .iter()
        .map(|link| (link.alias.clone(), link.container.get(..12).unwrap_or(&link.container).to_owned()))
        .collect();
    let one = |endpoint: &Endpoint| NamedNetwork {
        name: endpoint.network.clone(),
        names: store.names_on(&endpoint.bridge),
        links: links.clone(),
    };
    NetworkNames {
        networks: live.endpoints.iter().map(one).collect(),
        is_live: Box::new(move |id| is_live(paths, id)),
    }
}

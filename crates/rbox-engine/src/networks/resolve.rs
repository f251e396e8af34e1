//! The networks a container is to be on: from the user's words to what its record holds.

use rbox_network::{MOST_NETWORKS, Network, NetworkStore};
use rbox_spec::container::{ANY_LINK, Attachment, LINK_NAME, LINK_SYSCTLS, Link, NetworkMode};

use crate::containers::find;
use crate::error::EngineError;
use crate::networks::store::networks;
use crate::oci::config::of_link;
use crate::record::container::ContainerRecord;
use crate::record::paths::Paths;

pub(crate) fn refuse<T>(message: impl Into<String>) -> Result<T, EngineError> {
    Err(EngineError::Invalid(message.into()))
}

/// Finds the containers that links name, and refuses aliases that are no names.
pub(crate) fn resolve_links(paths: &Paths, links: &mut [Link]) -> Result<(), EngineError> {
    for link in links {
        let other = find::find(paths, &link.container).map_err(|error| EngineError::Link {
            container: link.container.clone(),
            source: Box::new(error),
        })?;
        link.container = other.record.id.to_string();
        link.name = other.record.name.into();
        link.alias = alias(&link.alias)?;
    }
    Ok(())
}

/// Finds the networks and containers that the record names, and puts their ids in.
pub(crate) fn resolve(paths: &Paths, record: &mut ContainerRecord) -> Result<(), EngineError> {
    if let NetworkMode::Container(named) = &record.host.network {
        let mut other = find::find(paths, named)?.record;
        // One that shares the network of another leads to that: as a start sees to it, none of them leads to itself.
        for _ in 0..MOST_NETWORKS {
            let NetworkMode::Container(next) = &other.host.network else { break };
            other = find::find(paths, next)?.record;
        }
        record.config.hostname = other.config.hostname;
        record.host.network = NetworkMode::Container(other.id.to_string());
    }
    resolve_links(paths, &mut record.host.links)?;
    let store = networks(paths);
    let mut attachments = std::mem::take(&mut record.host.attachments);
    for index in 0..attachments.len() {
        let (before, rest) = attachments.split_at_mut(index);
        let Some(wanted) = rest.first_mut() else { continue };
        resolve_one(&store, wanted)?;
        if before.iter().any(|other| other.network_id == wanted.network_id) {
            return refuse(format!("network \"{}\" is specified multiple times", wanted.network));
        }
        wanted.number = Some(index);
    }
    if attachments.len() > MOST_NETWORKS {
        return refuse(format!("a container can be on {MOST_NETWORKS} networks at most"));
    }
    record.host.attachments = attachments;
    Ok(())
}

/// Finds the network, and sees that what is wanted of it can be had there.
pub(crate) fn resolve_one(store: &NetworkStore, wanted: &mut Attachment) -> Result<Network, EngineError> {
    let network = store.find(&wanted.network)?;
    if network.driver != "bridge" {
        return refuse(format!(
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes ({})",
            network.name
        ));
    }
    if let Some(ip) = wanted.ip {
        network.check_address(ip.into()).map_err(|error| EngineError::Invalid(error.to_string()))?;
    }
    if let Some(ip) = wanted.ip6 {
        network.check_address(ip.into()).map_err(|error| EngineError::Invalid(error.to_string()))?;
    }
    check_link(wanted)?;
    wanted.aliases.iter().try_for_each(|name| alias(name).map(drop))?;
    wanted.network.clone_from(&network.name);
    wanted.network_id.clone_from(&network.id);
    Ok(network)
}

/// Refuses what no link can be called or have.
fn check_link(wanted: &Attachment) -> Result<(), EngineError> {
    if let Some(name) = wanted.link_name()
        && (!rbox_network::is_link_name(name) || name == "lo")
    {
        return refuse(format!(
            "invalid driver option {LINK_NAME}: {name:?} is no name of a link: 1 to 15 letters, digits, '-', '_' and '.'"
        ));
    }
    for text in wanted.driver_opts.get(LINK_SYSCTLS).into_iter().flat_map(|all| all.split(',')) {
        let key = text.trim().split_once('=').map(|(key, _)| key);
        if key.and_then(|key| of_link(&key.replace(ANY_LINK, "eth0"))).is_none_or(|path| path.contains(".."))
        {
            return refuse(format!(
                "invalid driver option {LINK_SYSCTLS}: {text:?} is not of the form net.X.Y.{ANY_LINK}.Z=VALUE (X ipv4 or ipv6, Y conf or neigh)"
            ));
        }
    }
    Ok(())
}

/// A further name as the name server has it.
fn alias(name: &str) -> Result<String, EngineError> {
    rbox_network::dns_name(name).map_or_else(
        || {
            let shown: String = name.chars().take(60).collect();
            refuse(format!("invalid alias {shown:?}: letters, digits, '-', '_' and '.', at most 253 of them"))
        },
        Ok,
    )
}

//! The networks and volumes of a project: made when they are missing, and removed.

use std::collections::{BTreeMap, BTreeSet};

use rbox_engine::engine::{Engine, NewVolume, StopRequest};
use rbox_engine::network::{Error as NetworkError, Network as Made, NewNetwork};
use rbox_spec::VolumeName;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{Narrator, Stage, Thing};
use crate::error::RunError;
use crate::labels;
use crate::model::{Network, Project, Volume};
use crate::observed::Observed;

/// The ids of the networks that services are on, by the names that the files give them; those that are missing are made.
pub(super) fn networks(
    engine: &Engine,
    project: &Project,
    narrator: &dyn Narrator,
) -> Result<BTreeMap<String, String>, RunError> {
    let mut ids = BTreeMap::new();
    for (key, network) in used_networks(project) {
        ids.insert(key.clone(), one_network(engine, project, key, network, narrator)?);
    }
    Ok(ids)
}

/// Those that services are on.
fn used_networks(project: &Project) -> impl Iterator<Item = (&String, &Network)> {
    let used: BTreeSet<&String> =
        project.services.values().flat_map(|service| service.networks.keys()).collect();
    project.networks.iter().filter(move |(key, _)| used.contains(key))
}

/// Those that services have something of mounted.
fn used_volumes(project: &Project) -> impl Iterator<Item = (&String, &Volume)> {
    let mounts = project.services.values().flat_map(|service| &service.volumes);
    let used: BTreeSet<&str> =
        mounts.filter(|mount| mount.kind == "volume").map(|mount| mount.source.as_str()).collect();
    project.volumes.iter().filter(move |(key, _)| used.contains(key.as_str()))
}

/// Tells which networks and volumes would be made, and makes none.
///
/// # Errors
/// Records cannot be read.
pub fn tell_missing(engine: &Engine, project: &Project, narrator: &dyn Narrator) -> Result<(), RunError> {
    let tell = |thing: Thing, name: &str, stages: &[Stage]| {
        for stage in stages {
            narrator.tell(thing, name, *stage);
        }
    };
    for (_, network) in used_networks(project).filter(|(_, network)| !network.external) {
        match engine.networks().find(&network.name) {
            Ok(there) => {
                let before = there.labels.get(labels::CONFIG_HASH);
                if before.is_some_and(|before| *before != network_hash(network)) {
                    tell(Thing::Network, &network.name, &[Stage::Removing, Stage::Removed]);
                    tell(Thing::Network, &network.name, &[Stage::Creating, Stage::Created]);
                }
            }
            Err(NetworkError::NoNetwork(_)) => {
                tell(Thing::Network, &network.name, &[Stage::Creating, Stage::Created]);
            }
            Err(error) => return Err(error.into()),
        }
    }
    for (key, volume) in used_volumes(project).filter(|(_, volume)| !volume.external) {
        let name: VolumeName =
            volume.name.parse().map_err(|error| RunError::Invalid(format!("volume {key}: {error}")))?;
        if engine.volumes().get(&name)?.is_none() {
            tell(Thing::Volume, &volume.name, &[Stage::Creating, Stage::Created]);
        }
    }
    Ok(())
}

fn one_network(
    engine: &Engine,
    project: &Project,
    key: &str,
    network: &Network,
    narrator: &dyn Narrator,
) -> Result<String, RunError> {
    let there = match engine.networks().find(&network.name) {
        Ok(there) if there.name == network.name || network.external => Some(there),
        Ok(_) | Err(NetworkError::NoNetwork(_)) => None,
        Err(error) => return Err(error.into()),
    };
    if network.external {
        return there.map(|there| there.id).ok_or_else(|| {
            RunError::NotFound(format!(
                "network {} declared as external, but could not be found",
                network.name
            ))
        });
    }
    let hash = network_hash(network);
    if let Some(there) = there {
        match there.labels.get(labels::PROJECT) {
            Some(owner) if *owner == project.name => {}
            owner => warn_of_foreign(narrator, "network", &network.name, &project.name, owner),
        }
        if there.labels.get(labels::CONFIG_HASH).is_none_or(|before| *before == hash) {
            return Ok(there.id);
        }
        give_up_network(engine, project, &there, narrator)?;
    }
    narrator.tell(Thing::Network, &network.name, Stage::Creating);
    let request = new_network(project, key, network, &hash)?;
    let made = engine.create_network(&request).inspect_err(|_| {
        narrator.tell(Thing::Network, &network.name, Stage::Error);
    })?;
    narrator.tell(Thing::Network, &network.name, Stage::Created);
    Ok(made.id)
}

fn warn_of_foreign(narrator: &dyn Narrator, kind: &str, name: &str, project: &str, owner: Option<&String>) {
    narrator.warn(&match owner {
        None => format!(
            "a {kind} with name {name} exists but was not created by compose.\nSet `external: true` to use an existing {kind}"
        ),
        Some(owner) => format!(
            "a {kind} with name {name} exists but was not created for project {project:?} (it is of {owner:?}).\nSet `external: true` to use an existing {kind}"
        ),
    });
}

/// A network that is to be another one is removed, and its containers leave it first.
fn give_up_network(
    engine: &Engine,
    project: &Project,
    network: &Made,
    narrator: &dyn Narrator,
) -> Result<(), RunError> {
    for instance in Observed::of(engine, &project.name)?.instances {
        let attachments = &instance.container.record.host.attachments;
        if !attachments.iter().any(|wanted| wanted.network_id == network.id) {
            continue;
        }
        if instance.container.is_active() {
            narrator.tell(Thing::Container, instance.name(), Stage::Stopping);
            engine.stop(&instance.container, StopRequest::default())?;
            narrator.tell(Thing::Container, instance.name(), Stage::Stopped);
        }
        engine.disconnect(&engine.container(instance.container.record.id.as_str())?, &network.id)?;
    }
    narrator.tell(Thing::Network, &network.name, Stage::Removing);
    engine.remove_network(network)?;
    narrator.tell(Thing::Network, &network.name, Stage::Removed);
    Ok(())
}

/// Refuses networks that cannot be, by what is said of them.
pub(super) fn check(project: &Project) -> Result<(), RunError> {
    let own = project.networks.iter().filter(|(_, network)| !network.external);
    own.into_iter().try_for_each(|(key, network)| new_network(project, key, network, "").map(drop))
}

fn new_network(project: &Project, key: &str, network: &Network, hash: &str) -> Result<NewNetwork, RunError> {
    let refused = |why: String| RunError::Invalid(format!("network {key}: {why}"));
    if !matches!(network.driver.as_str(), "" | "bridge" | "default") {
        return Err(refused(format!("driver {:?} is not supported: it is bridge", network.driver)));
    }
    if network.enable_ipv4 == Some(false) {
        return Err(refused("enable_ipv4: false: every network of rbox has IPv4: take it out".to_owned()));
    }
    let mut made = NewNetwork {
        name: network.name.clone(),
        ipv6: network.enable_ipv6.unwrap_or(false),
        internal: network.internal,
        attachable: network.attachable,
        labels: network.labels.clone(),
        options: network.driver_opts.clone(),
        ..NewNetwork::default()
    };
    for pool in &network.ipam.config {
        for (name, ip) in &pool.aux_addresses {
            let ip = ip.parse().map_err(|_| refused(format!("invalid auxiliary address {name}: {ip:?}")))?;
            made.auxiliary.insert(name.clone(), ip);
        }
        made.subnets.extend(Some(pool.subnet.clone()).filter(|text| !text.is_empty()));
        made.ip_ranges.extend(Some(pool.ip_range.clone()).filter(|text| !text.is_empty()));
        if !pool.gateway.is_empty() {
            let gateway = pool.gateway.parse();
            made.gateways.push(gateway.map_err(|_| refused(format!("invalid gateway {:?}", pool.gateway)))?);
        }
    }
    let own = [
        (labels::PROJECT, project.name.as_str()),
        (labels::NETWORK, key),
        (labels::VERSION, labels::COMPOSE_VERSION),
        (labels::CONFIG_HASH, hash),
    ];
    made.labels.extend(own.map(|(key, value)| (key.to_owned(), value.to_owned())));
    Ok(made)
}

fn network_hash(network: &Network) -> String {
    let pools: Vec<_> = network
        .ipam
        .config
        .iter()
        .map(|pool| json!([pool.subnet, pool.gateway, pool.ip_range, pool.aux_addresses]))
        .collect();
    hash(&json!({
        "name": network.name,
        "driver": network.driver,
        "options": network.driver_opts,
        "internal": network.internal,
        "ipv4": network.enable_ipv4,
        "ipv6": network.enable_ipv6,
        "labels": network.labels,
        "pools": pools,
    }))
}

fn hash(of: &serde_json::Value) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    for byte in Sha256::digest(of.to_string()) {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Makes the volumes of the services that are missing.
pub(super) fn volumes(engine: &Engine, project: &Project, narrator: &dyn Narrator) -> Result<(), RunError> {
    for (key, volume) in used_volumes(project) {
        one_volume(engine, project, key, volume, narrator)?;
    }
    Ok(())
}

fn one_volume(
    engine: &Engine,
    project: &Project,
    key: &str,
    volume: &Volume,
    narrator: &dyn Narrator,
) -> Result<(), RunError> {
    let name: VolumeName =
        volume.name.parse().map_err(|error| RunError::Invalid(format!("volume {key}: {error}")))?;
    let there = engine.volumes().get(&name)?;
    if volume.external {
        return match there {
            Some(_) => Ok(()),
            None => Err(RunError::NotFound(format!("external volume {:?} not found", volume.name))),
        };
    }
    if !matches!(volume.driver.as_str(), "" | "local") {
        return Err(RunError::Invalid(format!(
            "volume {key}: driver {:?} is not supported: it is local",
            volume.driver
        )));
    }
    let hash = hash(&json!({ "name": volume.name, "options": volume.driver_opts, "labels": volume.labels }));
    if let Some(there) = there {
        match there.labels.get(labels::PROJECT) {
            Some(owner) if *owner == project.name => {}
            owner => warn_of_foreign(narrator, "volume", &volume.name, &project.name, owner),
        }
        if there.labels.get(labels::CONFIG_HASH).is_some_and(|before| *before != hash) {
            narrator.warn(&format!(
                "volume {} exists but does not match the configuration in the compose file: it is kept as it is, since it holds data",
                volume.name
            ));
        }
        return Ok(());
    }
    narrator.tell(Thing::Volume, &volume.name, Stage::Creating);
    let own = [
        (labels::PROJECT, project.name.as_str()),
        (labels::VOLUME, key),
        (labels::VERSION, labels::COMPOSE_VERSION),
        (labels::CONFIG_HASH, hash.as_str()),
    ];
    let mut labels = volume.labels.clone();
    labels.extend(own.map(|(key, value)| (key.to_owned(), value.to_owned())));
    let new = NewVolume { labels, options: volume.driver_opts.clone(), ..NewVolume::default() };
    engine.volumes().create(Some(&name), &new)?;
    narrator.tell(Thing::Volume, &volume.name, Stage::Created);
    Ok(())
}

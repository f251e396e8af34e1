//! What the kernel has for containers: control groups, links, rules, addresses, mounts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;

use rbox_network::{Endpoint, Network, NetworkStore};
use rbox_sys::mount::is_mount_root;

use crate::check::finding::{Finding, Fix, Trouble};
use crate::error::EngineError;
use crate::networks::store::{is_live, live_endpoints, networks};
use crate::oci::cgroup::group_ids;
use crate::record::paths::Paths;
use crate::volume::holders;
use crate::volume::store::VolumeStore;

/// The kernel is asked before the records: what a container gets is in its record first.
pub(super) fn look(paths: &Paths) -> Result<Vec<Finding>, EngineError> {
    let mut found = Vec::new();
    for id in group_ids(paths) {
        if !is_live(paths, id.as_str()) && !paths.live_of(&id).exists() {
            let why = "no container that runs has it";
            found.push(Finding::repairable(
                Trouble::Stray,
                format!("control group of {id}"),
                why,
                Fix::Group(id),
            ));
        }
    }
    found.extend(of_networks(paths, &networks(paths))?);
    for volume in VolumeStore::of(paths).list()?.iter().filter(|volume| volume.has_file_system()) {
        let mounted = VolumeStore::of(paths)
            .open_data(&volume.name)
            .is_ok_and(|data| is_mount_root(&data).unwrap_or(false));
        if mounted && !holders::is_held(paths, &volume.name) {
            let what = format!("mount on {}", volume.mountpoint.display());
            let why = format!("no container that runs uses volume {}", volume.name);
            found.push(Finding::repairable(Trouble::Stray, what, why, Fix::Volume(volume.name.clone())));
        }
    }
    Ok(found)
}

fn of_networks(paths: &Paths, store: &NetworkStore) -> Result<Vec<Finding>, EngineError> {
    let mut found = Vec::new();
    let links = store.container_links()?;
    let live = live_endpoints(paths);
    for (bridge, link) in
        links.iter().filter(|(_, link)| !live.iter().any(|endpoint| endpoint.host_link == *link))
    {
        let why = "no container that runs has it";
        found.push(Finding::repairable(
            Trouble::Stray,
            format!("link {link} of bridge {bridge}"),
            why,
            Fix::Link(link.clone()),
        ));
    }
    for rule in store.stray_rules(&live)? {
        let why = format!("no container that runs has it (nftables, table {})", store.names().table);
        found.push(Finding::repairable(Trouble::Stray, rule.to_string(), why, Fix::Rule(rule)));
    }
    for network in store.list()? {
        found.extend(held_addresses(paths, store, &network)?);
    }
    found.extend(missing(store, &live)?);
    Ok(found)
}

fn held_addresses(
    paths: &Paths,
    store: &NetworkStore,
    network: &Network,
) -> Result<Vec<Finding>, EngineError> {
    let mut of: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
    for (ip, owner) in store.in_use(network)? {
        of.entry(owner).or_default().push(ip);
    }
    let gone = of.into_iter().filter(|(owner, _)| !is_live(paths, owner));
    Ok(gone
        .map(|(owner, ips)| {
            let ips: Vec<String> = ips.iter().map(ToString::to_string).collect();
            let what = format!("address {} of network {}", ips.join(", "), network.name);
            let why = format!("it is held for {owner}, which does not run");
            Finding::repairable(Trouble::Stray, what, why, Fix::Addresses(Box::new(network.clone()), owner))
        })
        .collect())
}

/// Bridges and rules that containers which run are without.
fn missing(store: &NetworkStore, live: &[Endpoint]) -> Result<Vec<Finding>, EngineError> {
    let mut found = Vec::new();
    let used: BTreeSet<&str> = live.iter().map(|endpoint| endpoint.network.as_str()).collect();
    for network in store.list()?.iter().filter(|network| used.contains(network.name.as_str())) {
        if !Path::new("/sys/class/net").join(&network.bridge).exists() {
            let what = format!("bridge {} of network {}", network.bridge, network.name);
            let why = "it is gone; containers on it are cut off, and have to be restarted once it is back";
            found.push(Finding::repairable(Trouble::Damaged, what, why, Fix::Networks));
        } else if !store.is_whole(network)? {
            let what = format!("firewall rules of network {}", network.name);
            let why = format!("they are not in nftables' table {}", store.names().table);
            found.push(Finding::repairable(Trouble::Damaged, what, why, Fix::Networks));
        }
    }
    Ok(found)
}

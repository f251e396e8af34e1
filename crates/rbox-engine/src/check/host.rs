//! What the kernel has for containers: control groups, links, rules, addresses, mounts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use rbox_network::{ContainerRule, Network, NetworkStore};
use rbox_spec::id::ContainerId;
use rbox_sys::mount::is_mount_root;

use crate::check::finding::{Finding, Fix, Trouble};
use crate::cleanup::free;
use crate::error::EngineError;
use crate::networks::store::{Live, is_live, networks};
use crate::oci::cgroup::group_ids;
use crate::record::lock::Lock;
use crate::record::paths::Paths;
use crate::volume::holders;
use crate::volume::store::VolumeStore;

/// The kernel is asked before the records: what a container gets is in its record first.
pub(super) fn look(paths: &Paths) -> Result<Vec<Finding>, EngineError> {
    let mut found = Vec::new();
    for id in group_ids(paths) {
        if !may_run(paths, id.as_str()) {
            let why = "no container that runs has it";
            found.push(Finding::repairable(
                Trouble::Stray,
                format!("control group of {id}"),
                why,
                Fix::Group(id),
            ));
        } else if is_unnoted(paths, &id) {
            let what = format!("container {id}");
            let why = "it runs, and what was noted of that is gone";
            found.push(Finding::repairable(Trouble::Damaged, what, why, Fix::Unnoted(id)));
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

/// How long a start may take from its lock to its live state.
const STARTING: Duration = Duration::from_mins(1);

/// Whether a monitor looks after a container of which no live state is there. One that is being started has none either, for a while.
pub(super) fn is_unnoted(paths: &Paths, id: &ContainerId) -> bool {
    let dir = paths.live_of(id);
    Lock::age(&dir).is_some_and(|age| age > STARTING)
        && Lock::is_held(&dir)
        && !paths.live_state(id).exists()
        && free::has_processes(paths, id)
}

/// What there is of containers on networks, and who has it.
struct Owners {
    live: Live,
    /// Who holds each address.
    of_address: BTreeMap<IpAddr, String>,
}

impl Owners {
    /// Read after what they are asked of.
    fn read(paths: &Paths, store: &NetworkStore) -> Result<Self, EngineError> {
        let mut of_address = BTreeMap::new();
        for network in store.list()? {
            of_address.extend(store.in_use(&network)?);
        }
        Ok(Self { of_address, live: Live::read(paths)? })
    }

    /// A link of a container that may run is none, whether that one's records can be read or not.
    fn is_stray_link(&self, link: &str) -> bool {
        !self.live.may_have(link) && !self.live.endpoints.iter().any(|endpoint| endpoint.host_link == link)
    }

    fn is_stray_rule(&self, rule: &ContainerRule) -> bool {
        if let Some(link) = rule.link() {
            return self.is_stray_link(link);
        }
        let ip = rule.address();
        let held =
            self.of_address.get(&ip).is_some_and(|owner| self.live.ids.iter().any(|id| id.as_str() == owner));
        !held && !self.live.endpoints.iter().any(|endpoint| endpoint.addresses().any(|other| other == ip))
    }
}

/// Deletes a link, or takes what the rules have out, if nobody has it by now. Whether it did.
pub(super) fn remove_link(paths: &Paths, bridge: &str, link: &str) -> Result<bool, rbox_network::Error> {
    let store = networks(paths);
    let is_stray =
        || Owners::read(paths, &store).is_ok_and(|owners| owners.allows() && owners.is_stray_link(link));
    store.remove_link(bridge, link, &is_stray)
}

/// The same of what the rules have.
pub(super) fn remove_rule(paths: &Paths, rule: &ContainerRule) -> Result<bool, rbox_network::Error> {
    let store = networks(paths);
    let is_stray =
        || Owners::read(paths, &store).is_ok_and(|owners| owners.allows() && owners.is_stray_rule(rule));
    store.remove_rule(rule, &is_stray)
}

impl Owners {
    /// Whether it is known of all that may run what they have.
    fn allows(&self) -> bool {
        self.live.unreadable.is_empty()
    }

    /// What to do first, where it is not.
    fn todo(&self) -> Option<String> {
        let id = self.live.unreadable.first()?;
        Some(format!(
            "it stays: the live state of container {} cannot be read, see to that first",
            id.short()
        ))
    }

    fn finding(&self, trouble: Trouble, what: String, why: String, fix: Fix) -> Finding {
        match self.todo() {
            Some(todo) => Finding::by_hand(trouble, what, why, todo),
            None => Finding::repairable(trouble, what, why, fix),
        }
    }
}

fn of_networks(paths: &Paths, store: &NetworkStore) -> Result<Vec<Finding>, EngineError> {
    let (links, rules) = (store.container_links()?, store.container_rules()?);
    let owners = Owners::read(paths, store)?;
    let mut found = Vec::new();
    for (bridge, link) in links.into_iter().filter(|(_, link)| owners.is_stray_link(link)) {
        let what = format!("link {link} of bridge {bridge}");
        let why = "no container that runs has it".to_owned();
        found.push(owners.finding(Trouble::Stray, what, why, Fix::Link(bridge, link)));
    }
    for rule in rules.into_iter().filter(|rule| owners.is_stray_rule(rule)) {
        let why = format!("no container that runs has it (nftables, table {})", store.names().table);
        found.push(owners.finding(Trouble::Stray, rule.to_string(), why, Fix::Rule(rule)));
    }
    for network in store.list()? {
        found.extend(held_addresses(paths, store, &network)?);
    }
    found.extend(missing(store, &owners)?);
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
    let gone = of.into_iter().filter(|(owner, _)| !may_run(paths, owner));
    Ok(gone
        .map(|(owner, ips)| {
            let ips: Vec<String> = ips.iter().map(ToString::to_string).collect();
            let what = format!("address {} of network {}", ips.join(", "), network.name);
            let why = format!("it is held for {owner}, which does not run");
            Finding::repairable(Trouble::Stray, what, why, Fix::Addresses(Box::new(network.clone()), owner))
        })
        .collect())
}

/// Whether a container of this id runs, or somebody is at it.
pub(super) fn may_run(paths: &Paths, id: &str) -> bool {
    is_live(paths, id) || id.parse().is_ok_and(|id| paths.live_of(&id).exists())
}

/// Bridges and rules that containers which run are without.
fn missing(store: &NetworkStore, owners: &Owners) -> Result<Vec<Finding>, EngineError> {
    let mut found = Vec::new();
    let used: BTreeSet<&str> =
        owners.live.endpoints.iter().map(|endpoint| endpoint.network.as_str()).collect();
    for network in store.list()?.iter().filter(|network| used.contains(network.name.as_str())) {
        if !Path::new("/sys/class/net").join(&network.bridge).exists() {
            let what = format!("bridge {} of network {}", network.bridge, network.name);
            let why = "it is gone; containers on it are cut off, and have to be restarted once it is back";
            found.push(owners.finding(Trouble::Damaged, what, why.to_owned(), Fix::Networks));
        } else if !store.is_whole(network)? {
            let what = format!("firewall rules of network {}", network.name);
            let why = format!("they are not in nftables' table {}", store.names().table);
            found.push(owners.finding(Trouble::Damaged, what, why, Fix::Networks));
        }
    }
    Ok(found)
}

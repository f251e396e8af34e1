//! Networks as users know them: their records, which survive a reboot.
//!
//! On disk: `<root>/networks/<bridge>.json` is the default network's record, `<root>/networks/<id>.json` one of a user's;
//! `<state>/networks/<bridge>/` holds a network's addresses in use and its names, which need not survive.
//!
//! Networks are made and removed by one process at a time, under a lock on `<root>/networks`. Starts do not take that: a
//! start holds the one network it takes an address of ([`NetworkStore::plan`]), and a removal waits for those who do and is
//! refused while an address is in use. A kill in the middle of a removal leaves the record, so that the network is
//! whole again as soon as it is used.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rbox_sys::lock::{self, How, Patience};
use rbox_sys::{own, trace};

use crate::address::Addresses;
use crate::endpoint::Endpoint;
use crate::error::{Error, Result};
use crate::host::{ensure_bridge, ensure_sysctls};
use crate::link;
use crate::network::{BRIDGE_NAME, DEFAULT_BRIDGE, Network, NewNetwork, names_files};
use crate::nft::{self, Table};
use crate::overlap::{self, nameservers};
use crate::socket::Netlink;
use crate::subnet::{self, Subnet, Subnet6};

/// The names of what rbox makes on the host; they differ by state directory, so that two installations, or a test
/// and an installation, do not meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// The default network's bridge.
    pub bridge: String,
    /// The nftables tables, of the families ip, ip6 and bridge.
    pub table: String,
}

impl Names {
    /// `rbox0` and `rbox` for `/run/rbox`; `rbox-<6 hex>` for any other state directory.
    pub fn for_state(state_dir: &Path) -> Self {
        if state_dir == Path::new("/run/rbox") {
            return Self { bridge: "rbox0".into(), table: "rbox".into() };
        }
        // FNV-1a: it has to be stable between builds, not secret.
        let hash =
            state_dir.as_os_str().as_encoded_bytes().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
            });
        let name = format!("rbox-{:06x}", (hash ^ (hash >> 32)) & 0xff_ffff);
        Self { bridge: name.clone(), table: name }
    }
}

/// The networks of one installation.
#[derive(Clone, Debug)]
pub struct NetworkStore {
    pub(crate) root: PathBuf,
    pub(crate) state: PathBuf,
    pub(crate) names: Names,
}

impl NetworkStore {
    /// `root_dir` holds what survives a reboot (`/var/lib/rbox`), `state_dir` what need not (`/run/rbox`).
    /// Nothing is made yet.
    pub fn open(root_dir: &Path, state_dir: &Path, names: Names) -> Self {
        Self { root: root_dir.join("networks"), state: state_dir.join("networks"), names }
    }

    /// The bridge and table names.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// The default network `bridge`; its subnet is chosen, and recorded, the first time.
    pub fn bridge(&self) -> Result<Network> {
        let path = self.default_path();
        match read_record(&path) {
            Ok(Some(network)) => return Ok(network),
            Ok(None) => {}
            // All it held can be made again: the subnet is that of the bridge, if that is there. It is set aside, not lost.
            Err(_) => {
                let aside = path.with_extension("json.damaged");
                std::fs::rename(&path, &aside).map_err(|e| Error::file("rename", &path, e))?;
            }
        }
        let network = self.new_default(Some(self.choose_subnet()?))?;
        self.write_record(&path, &network)?;
        // Another process may have been first.
        let network = read_record(&path)?
            .ok_or_else(|| Error::file("read", &path, std::io::Error::other("it has gone")))?;
        // At once, so that nobody else on this host, such as a second installation, finds the subnet free. When it cannot
        // be made, the first container that needs it reports why.
        let _ = ensure_bridge(&network, &Vec::new);
        Ok(network)
    }

    /// The default network, for who only looks: without a subnet, and not recorded, while none is free.
    pub fn default_network(&self) -> Result<Network> {
        match self.bridge() {
            Err(Error::NoSubnet) => {
                let id = derived_id(&self.names.bridge, "bridge");
                Ok(Network { id, created: SystemTime::UNIX_EPOCH, ..self.new_default(None)? })
            }
            found => found,
        }
    }

    fn new_default(&self, subnet: Option<Subnet>) -> Result<Network> {
        Ok(Network {
            id: random_id()?,
            name: "bridge".into(),
            driver: "bridge".into(),
            subnet,
            gateway: subnet.map(|subnet| subnet.gateway()),
            ip_range: None,
            auxiliary: BTreeMap::new(),
            subnet6: None,
            gateway6: None,
            bridge: self.names.bridge.clone(),
            created: SystemTime::now(),
            labels: BTreeMap::new(),
            options: BTreeMap::from([
                (BRIDGE_NAME.into(), self.names.bridge.clone()),
                (DEFAULT_BRIDGE.into(), "true".into()),
                ("com.docker.network.bridge.enable_icc".into(), "true".into()),
                ("com.docker.network.bridge.enable_ip_masquerade".into(), "true".into()),
            ]),
            internal: false,
            attachable: false,
        })
    }

    /// The subnet of a bridge that is there already, because only the record was lost; else one that is free.
    fn choose_subnet(&self) -> Result<Subnet> {
        let mut socket = Netlink::route()?;
        if let Some(found) = link::find(&mut socket, &self.names.bridge)? {
            let addresses = link::addresses_of(&mut socket, found.index)?;
            let own = addresses.into_iter().filter(|(ip, _)| ip.is_private()).find_map(|(ip, prefix)| {
                Subnet::new(ip, prefix).filter(|subnet| subnet.gateway() == ip && subnet.hosts() > 0)
            });
            if let Some(subnet) = own {
                return Ok(subnet);
            }
        }
        self.free_subnet()
    }

    /// A subnet that overlaps nothing on this host and no network of ours.
    fn free_subnet(&self) -> Result<Subnet> {
        let mut taken = link::taken(&mut Netlink::route()?)?;
        taken.extend(nameservers());
        taken.extend(self.records()?.iter().filter_map(|network| network.subnet));
        // Its bridge may not be there yet, so no route shows it.
        taken.extend(read_record(&self.default_path())?.and_then(|network: Network| network.subnet));
        subnet::choose(&taken)
    }

    fn free_subnet6(&self) -> Result<Subnet6> {
        let mut taken = link::taken6(&mut Netlink::route()?)?;
        taken.extend(self.records()?.iter().filter_map(|network| network.subnet6));
        let random = random_bytes()?;
        subnet::choose6(random.first_chunk().copied().unwrap_or_default(), &taken)
    }

    /// Makes a network: its record, then its bridge and its place in the rules. `live` are the endpoints in use, for rules
    /// that have to be made anew.
    pub fn create(&self, asked: &NewNetwork, live: &dyn Fn() -> Vec<Endpoint>) -> Result<Network> {
        let plan = asked.plan()?;
        let _alone = self.lock()?;
        let (records, bridge) = (self.records()?, self.default_network()?);
        if records.iter().any(|network| network.name == asked.name) {
            return Err(Error::NetworkExists(asked.name.clone()));
        }
        let clash = records.iter().chain([&bridge]).find(|other| {
            plan.subnet.zip(other.subnet).is_some_and(|(a, b)| a.overlaps(&b))
                || plan.subnet6.zip(other.subnet6).is_some_and(|(a, b)| a.overlaps(&b))
        });
        if let Some(other) = clash {
            return Err(Error::SubnetTaken(other.name.clone()));
        }
        let id = random_id()?;
        let name_of_bridge = match asked.options.get(BRIDGE_NAME) {
            Some(given) => self.free_bridge(given, &records)?,
            None => format!("rb-{}", id.get(..12).unwrap_or(&id)),
        };
        let subnet = plan.subnet.map_or_else(|| self.free_subnet(), Ok)?;
        let subnet6 = match plan.subnet6 {
            None if asked.ipv6 => Some(self.free_subnet6()?),
            given => given,
        };
        let network = Network {
            name: asked.name.clone(),
            driver: "bridge".into(),
            subnet: Some(subnet),
            gateway: Some(plan.gateway.unwrap_or(subnet.gateway())),
            ip_range: plan.ip_range,
            auxiliary: asked.auxiliary.clone(),
            subnet6,
            gateway6: subnet6.map(|subnet| plan.gateway6.unwrap_or(subnet.gateway())),
            bridge: name_of_bridge,
            created: SystemTime::now(),
            labels: asked.labels.clone(),
            options: asked.options.clone(),
            internal: asked.internal,
            attachable: asked.attachable,
            id,
        };
        if plan.subnet.is_some() || plan.subnet6.is_some() {
            overlap::refuse_routes(&network)?;
        }
        self.write_record(&self.path_of(&network), &network)?;
        if let Err(error) = self.ensure(&network, live) {
            // Half of it would be mended by its first container; who asked was told that it failed.
            let _ = self.take_down(&network);
            return Err(error);
        }
        Ok(network)
    }

    /// The name for a bridge that the user gave, which nothing else has.
    fn free_bridge(&self, name: &str, records: &[Network]) -> Result<String> {
        let refuse = |why: &str| Err(Error::Invalid(format!("network option {BRIDGE_NAME}={name}: {why}")));
        if name == self.names.bridge || records.iter().any(|network| network.bridge == name) {
            return refuse("another network has it");
        }
        if link::find(&mut Netlink::route()?, name)?.is_some() {
            return refuse("this host has a link of that name");
        }
        Ok(name.to_owned())
    }

    /// Removes a user's network. One that a container has an address of is refused; `is_live` says of a container's id
    /// whether it can still use its address.
    pub fn remove(&self, network: &Network, is_live: &dyn Fn(&str) -> bool) -> Result<()> {
        if network.is_builtin() {
            return Err(Error::Predefined(network.name.clone()));
        }
        let _alone = self.lock()?;
        if read_record(&self.path_of(network))?.is_none() {
            return Err(Error::NoNetwork(network.name.clone()));
        }
        let addresses = self.addresses(network)?;
        addresses.hold_alone()?;
        addresses.sweep(is_live)?;
        let mut owners: Vec<String> = addresses.owners()?.into_iter().map(|(_, owner)| owner).collect();
        owners.sort_unstable();
        owners.dedup();
        if !owners.is_empty() {
            return Err(Error::NetworkInUse { network: network.name.clone(), owners });
        }
        self.take_down(network)
    }

    /// What a network has on the host, then its record: while that is there, the rest can be found.
    fn take_down(&self, network: &Network) -> Result<()> {
        Table::with(&self.names.table, |table| table.remove_network(&in_rules(network)?))?;
        link::delete(&mut Netlink::route()?, &network.bridge)?;
        let (state, record) = (self.state.join(&network.bridge), self.path_of(network));
        gone(rbox_sys::removal::remove_tree(&state), &state)?;
        gone(std::fs::remove_file(&record), &record)
    }

    /// The lock of who makes or removes networks.
    pub(crate) fn lock(&self) -> Result<std::fs::File> {
        own::make_private(&self.root).map_err(|e| Error::file("create", &self.root, e))?;
        let file = std::fs::File::open(&self.root).map_err(|e| Error::file("open", &self.root, e))?;
        lock::take(&file, How::Exclusive, Patience::MOMENT)
            .map_err(|e| Error::file("lock", &self.root, e))?;
        Ok(file)
    }

    /// `bridge`, `host` and `none`, then those of users, oldest first.
    pub fn list(&self) -> Result<Vec<Network>> {
        let bridge = self.default_network()?;
        let (host, none) = (without_places(&bridge, "host", "host"), without_places(&bridge, "none", "null"));
        let mut all = vec![bridge, host, none];
        all.extend(self.records()?);
        Ok(all)
    }

    /// The network `host`.
    pub fn host(&self) -> Result<Network> {
        Ok(without_places(&self.default_network()?, "host", "host"))
    }

    /// The network `none`.
    pub fn none(&self) -> Result<Network> {
        Ok(without_places(&self.default_network()?, "none", "null"))
    }

    /// The network of this name, id, or unique beginning of an id.
    pub fn find(&self, name: &str) -> Result<Network> {
        let networks = self.list()?;
        if let Some(network) = networks.iter().find(|network| network.name == name || network.id == name) {
            return Ok(network.clone());
        }
        let begin = |network: &&Network| !name.is_empty() && network.id.starts_with(name);
        let matching: Vec<&Network> = networks.iter().filter(begin).collect();
        match matching.as_slice() {
            [network] => Ok((*network).clone()),
            [] => Err(Error::NoNetwork(name.into())),
            several => Err(Error::Ambiguous { prefix: name.into(), count: several.len() }),
        }
    }

    /// The network of this id, or, when that is empty or gone, of this name: one that was removed and made again is the
    /// one that is meant.
    pub fn attached(&self, id: &str, name: &str) -> Result<Network> {
        if name == "bridge" {
            return self.bridge();
        }
        let plain = !id.is_empty() && id.bytes().all(|b| b.is_ascii_hexdigit());
        if plain && let Some(network) = read_record(&self.root.join(format!("{id}.json")))? {
            return Ok(network);
        }
        let named = self.records()?.into_iter().find(|network| network.name == name);
        named.ok_or_else(|| Error::NoNetwork(name.into()))
    }

    /// Makes the bridge, the rules and the settings of the host that `network` needs, as far as they are missing:
    /// after a reboot, a `nft flush ruleset`, a deleted link. When the table was missing it is made with all
    /// networks and the endpoints `live` returns. When all is there it costs a few requests.
    pub fn ensure(&self, network: &Network, live: &dyn Fn() -> Vec<Endpoint>) -> Result<()> {
        trace::step(
            "check the bridge and the rules",
            "A reboot or a flushed firewall takes them away.",
            || {
                ensure_bridge(network, live)?;
                ensure_sysctls(network)?;
                Table::with(&self.names.table, |table| {
                    if table.is_whole(&in_rules(network)?)? {
                        Ok(())
                    } else {
                        self.build(table, network, &live())
                    }
                })
            },
        )
    }

    /// Makes everything right again, whatever happened to it: bridges, rules, the ports and guards of `live` endpoints, the
    /// addresses of containers that are gone (`is_live` is false for their id). Goes on past failures.
    pub fn reconcile(&self, live: &[Endpoint], is_live: &dyn Fn(&str) -> bool) -> Result<(), Vec<Error>> {
        let alone = self.lock().map_err(|error| vec![error])?;
        let networks = match self.default_network().and_then(|bridge| Ok((bridge, self.records()?))) {
            // Without a subnet there is nothing of it.
            Ok((bridge, records)) if bridge.subnet.is_none() => records,
            Ok((bridge, records)) => [vec![bridge], records].concat(),
            Err(error) => return Err(vec![error]),
        };
        let each = networks.iter().flat_map(|network| {
            [
                ensure_bridge(network, &|| live.to_vec()),
                ensure_sysctls(network),
                self.addresses(network).and_then(|addresses| addresses.sweep(is_live).map(drop)),
                self.names_on(&network.bridge).sweep(is_live).map(drop),
            ]
        });
        let rules =
            |network: &Network| Table::with(&self.names.table, |table| self.build(table, network, live));
        let done: Vec<Result<()>> = each.chain(networks.first().map(rules)).collect();
        drop(alone);
        collected(done)
    }

    /// Makes the table with `network`, whose record may be gone, all others, and what `live` endpoints have in it.
    fn build(&self, table: &mut Table<'_>, network: &Network, live: &[Endpoint]) -> Result<()> {
        let mut all = vec![network.clone()];
        all.extend(read_record(&self.default_path())?.into_iter().filter(|other| other.id != network.id));
        all.extend(self.records()?.into_iter().filter(|other| other.id != network.id));
        let networks = all.iter().map(in_rules).collect::<Result<Vec<_>>>()?;
        let members: Vec<_> = live.iter().map(nft::Member::of).collect();
        table.build(&networks, &members)
    }

    /// The chains of the host's own firewall (`ip filter FORWARD`) that drop what they do not accept between links. An
    /// accept of ours does not outrule them, so with one of these a container may have no default route: `info` and errors
    /// say so. Empty on most hosts; old iptables-legacy rules are not seen.
    pub fn forward_drops() -> Result<Vec<String>> {
        nft::forward_drops()
    }

    /// What the rules hold now.
    pub fn rules(&self) -> Result<nft::Rules> {
        nft::rules(&self.names.table)
    }

    /// Whether the rules are all there and know `network`.
    pub fn is_whole(&self, network: &Network) -> Result<bool> {
        Table::with(&self.names.table, |table| table.is_whole(&in_rules(network)?))
    }

    /// Whether containers are not held to their own addresses, because the kernel has no nftables for bridges.
    pub fn guard_missing(&self) -> Result<bool> {
        nft::guard_missing(&self.names.table)
    }

    /// Removes every network's bridge, the table, the records and the addresses.
    pub fn destroy(&self) -> Result<(), Vec<Error>> {
        let mut steps = vec![Table::delete(&self.names.table)];
        let records = self.records().unwrap_or_default();
        let bridges =
            records.iter().map(|network| network.bridge.as_str()).chain([self.names.bridge.as_str()]);
        for bridge in bridges {
            steps.push(Netlink::route().and_then(|mut socket| link::delete(&mut socket, bridge)));
        }
        for dir in [&self.state, &self.root] {
            steps.push(gone(rbox_sys::removal::remove_tree(dir), dir));
        }
        collected(steps)
    }

    pub(crate) fn addresses(&self, network: &Network) -> Result<Addresses> {
        Addresses::open(&self.state.join(&network.bridge))
    }

    /// Frees the addresses that `container` holds, for one whose record does not tell them: its monitor was killed
    /// between taking the address and writing it down. Reads every address in use.
    pub fn release_all(&self, network: &Network, container: &str) -> Result<()> {
        if network.subnet.is_none() {
            return Ok(());
        }
        let addresses = self.addresses(network)?;
        for (ip, _) in addresses.owners()?.into_iter().filter(|(_, owner)| owner == container) {
            addresses.release(ip, container)?;
        }
        Ok(())
    }

    /// Takes away the names on every network that a killed command left: those of addresses that were given back, and of containers
    /// that are gone (`is_live` is false for their id).
    pub fn sweep_names(&self, is_live: &dyn Fn(&str) -> bool) -> Result<()> {
        for network in self.list()? {
            self.names_on(&network.bridge).sweep(is_live)?;
        }
        Ok(())
    }

    /// The addresses of `network` in use, each with its container's id.
    pub fn in_use(&self, network: &Network) -> Result<Vec<(IpAddr, String)>> {
        if network.subnet.is_none() { Ok(Vec::new()) } else { self.addresses(network)?.owners() }
    }

    fn default_path(&self) -> PathBuf {
        self.root.join(format!("{}.json", self.names.bridge))
    }

    fn path_of(&self, network: &Network) -> PathBuf {
        self.root.join(format!("{}.json", network.id))
    }

    /// The users' networks, oldest first. A record that cannot be read is left out: see [`damaged`](Self::damaged). Its subnet
    /// is not given away while its bridge is on the host.
    pub fn records(&self) -> Result<Vec<Network>> {
        Ok(self.read_all()?.0)
    }

    /// Why the records that cannot be read cannot be.
    pub fn damaged(&self) -> Result<Vec<Error>> {
        Ok(self.read_all()?.1)
    }

    fn read_all(&self) -> Result<(Vec<Network>, Vec<Error>)> {
        let entries = match std::fs::read_dir(&self.root) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok((Vec::new(), Vec::new()));
            }
            entries => entries.map_err(|e| Error::file("read", &self.root, e))?,
        };
        let default = self.default_path();
        let (mut records, mut damaged) = (Vec::new(), Vec::new());
        for entry in entries {
            let path = entry.map_err(|e| Error::file("read", &self.root, e))?.path();
            sweep_temporary(&path);
            if path != default && path.extension().is_some_and(|extension| extension == "json") {
                match read_record(&path) {
                    Ok(record) => records.extend(record),
                    Err(error) => damaged.push(error),
                }
            }
        }
        records.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
        Ok((records, damaged))
    }

    /// Writes the record unless there is one: a complete file is given its name.
    fn write_record(&self, path: &Path, network: &Network) -> Result<()> {
        own::make_private(&self.root).map_err(|e| Error::file("create", &self.root, e))?;
        let temporary = self.root.join(format!(".{}.{}", network.bridge, std::process::id()));
        let text = serde_json::to_vec_pretty(&rbox_spec::record::Versioned::new(network))
            .map_err(|e| Error::file("encode", path, std::io::Error::other(e)))?;
        let written = std::fs::File::create(&temporary).and_then(|mut file| {
            file.write_all(&text)?;
            file.sync_all()
        });
        let linked = written.and_then(|()| match std::fs::hard_link(&temporary, path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            linked => linked.and_then(|()| std::fs::File::open(&self.root)?.sync_all()),
        });
        let _ = std::fs::remove_file(&temporary);
        linked.map_err(|e| Error::file("write", path, e))
    }
}

/// What the rules know of a network.
pub(crate) fn in_rules(network: &Network) -> Result<nft::Network<'_>> {
    Ok(nft::Network {
        bridge: &network.bridge,
        subnet: network.range()?,
        subnet6: network.subnet6,
        internal: network.internal,
    })
}

pub(crate) fn collected(steps: impl IntoIterator<Item = Result<()>>) -> Result<(), Vec<Error>> {
    let failures: Vec<Error> = steps.into_iter().filter_map(Result::err).collect();
    if failures.is_empty() { Ok(()) } else { Err(failures) }
}

fn gone(removed: std::io::Result<()>, path: &Path) -> Result<()> {
    match removed {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(|e| Error::file("remove", path, e)),
    }
}

/// No record is larger: a network has at most some labels and options.
const MOST_BYTES: u64 = 16 << 20;

fn read_record(path: &Path) -> Result<Option<Network>> {
    use rbox_sys::reading::{ReadError, read_file};
    match read_file(path, MOST_BYTES) {
        Err(ReadError::Call(error)) if error.errno as i32 == rustix::io::Errno::NOENT.raw_os_error() => {
            Ok(None)
        }
        Err(error) => Err(Error::file("read", path, std::io::Error::other(error))),
        Ok(text) => rbox_spec::record::decode(&text)
            .map_err(std::io::Error::other)
            .and_then(|network| {
                let wrong = || std::io::Error::other("its name, id or bridge is none that rbox gives");
                names_files(&network).then_some(Some(network)).ok_or_else(wrong)
            })
            .map_err(|error| Error::file("read", path, error)),
    }
}

/// Takes a half written record away whose writer was killed. Its name ends with the writer's number, which may be another
/// process's by now: an old one goes too.
fn sweep_temporary(path: &Path) {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let Some(pid) = name.strip_prefix('.').and_then(|name| name.rsplit_once('.')).map(|(_, pid)| pid) else {
        return;
    };
    let is_number = !pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit());
    let age = std::fs::symlink_metadata(path).and_then(|meta| meta.modified()).map(|at| at.elapsed());
    let old = age.is_ok_and(|age| age.is_ok_and(|age| age > std::time::Duration::from_mins(1)));
    if is_number && (old || !Path::new("/proc").join(pid).exists()) {
        let _ = std::fs::remove_file(path);
    }
}

fn random_bytes() -> Result<[u8; 32]> {
    let mut bytes = [0_u8; 32];
    let path = Path::new("/dev/urandom");
    std::fs::File::open(path)
        .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut bytes))
        .map_err(|e| Error::file("read", path, e))?;
    Ok(bytes)
}

fn random_id() -> Result<String> {
    Ok(hex(&random_bytes()?))
}

/// A network that is there by itself and has no addresses. Its id comes from the default network's.
fn without_places(bridge: &Network, name: &str, driver: &str) -> Network {
    Network {
        id: derived_id(&bridge.id, name),
        name: name.into(),
        driver: driver.into(),
        subnet: None,
        gateway: None,
        bridge: String::new(),
        labels: BTreeMap::new(),
        options: BTreeMap::new(),
        ..bridge.clone()
    }
}

/// A stable id for a network that has no record: the default network's, turned by the name.
fn derived_id(id: &str, name: &str) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut out = String::new();
    for round in 0..4_u8 {
        for byte in id.bytes().chain(name.bytes()).chain([round]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        out.push_str(&hex(&hash.to_be_bytes()));
    }
    out
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

//! Networks as users know them, and a container's way onto one and off again.
//!
//! On disk: `<root>/networks/<bridge>.json` is a network's record, which survives a reboot;
//! `<state>/networks/<bridge>/` holds its addresses in use, which need not.
//!
//! The order of a start, in which each step can be found again from what was recorded before it:
//! [`NetworkStore::ensure`], [`reserve`](crate::reserve), [`NetworkStore::plan`], (the endpoint goes into the
//! container's record), [`NetworkStore::attach`], [`configure_inside`](crate::configure_inside). At the end
//! [`NetworkStore::detach`].

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rbox_spec::port::PublishedPort;
use rbox_sys::trace;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::address::Addresses;
use crate::endpoint::{Endpoint, Mac, host_link};
use crate::error::{Error, Result};
use crate::link;
use crate::nft::{self, Table};
use crate::socket::Netlink;
use crate::subnet::{self, Subnet};

/// Makes a directory and those above it, for root only, as all below rbox's roots is.
pub(crate) fn make_private(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// The names of what rbox makes on the host; they differ by state directory, so that two installations, or a test
/// and an installation, do not meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// The default network's bridge.
    pub bridge: String,
    /// The nftables table, of family ip.
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

/// A network's record, and what `network ls` and `network inspect` show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// 64 hex.
    pub id: String,
    /// `bridge`, `host`, `none`.
    pub name: String,
    /// `bridge`, `host`, `null`.
    pub driver: String,
    /// The subnet of a bridge network.
    pub subnet: Option<Subnet>,
    /// The bridge's own address.
    pub gateway: Option<Ipv4Addr>,
    /// The Linux bridge; empty for host and none.
    #[serde(default)]
    pub bridge: String,
    /// When it was made.
    pub created: SystemTime,
    /// Labels of a user-defined network.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Options of the driver.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// Whether it has no way out.
    #[serde(default)]
    pub internal: bool,
}

impl Network {
    /// `local`, as Docker shows it for every network of one host.
    pub fn scope(&self) -> &'static str {
        "local"
    }

    fn range(&self) -> Result<Subnet> {
        self.subnet.ok_or_else(|| Error::Invalid(format!("network {} has no subnet", self.name)))
    }
}

/// The networks of one installation.
#[derive(Clone, Debug)]
pub struct NetworkStore {
    root: PathBuf,
    state: PathBuf,
    names: Names,
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
        let path = self.record_path();
        if let Some(network) = read_record(&path)? {
            return Ok(network);
        }
        let subnet = self.choose_subnet()?;
        let network = Network {
            id: random_id()?,
            name: "bridge".into(),
            driver: "bridge".into(),
            subnet: Some(subnet),
            gateway: Some(subnet.gateway()),
            bridge: self.names.bridge.clone(),
            created: SystemTime::now(),
            labels: BTreeMap::new(),
            options: BTreeMap::from([
                ("com.docker.network.bridge.name".into(), self.names.bridge.clone()),
                ("com.docker.network.bridge.default_bridge".into(), "true".into()),
                ("com.docker.network.bridge.enable_icc".into(), "true".into()),
                ("com.docker.network.bridge.enable_ip_masquerade".into(), "true".into()),
            ]),
            internal: false,
        };
        self.write_record(&path, &network)?;
        // Another process may have been first.
        read_record(&path)?.ok_or_else(|| Error::file("read", &path, std::io::Error::other("it has gone")))
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
        let mut taken = link::taken(&mut socket)?;
        taken.extend(nameservers());
        for network in self.records()? {
            taken.extend(network.subnet);
        }
        subnet::choose(&taken)
    }

    /// `bridge`, `host` and `none`, in Docker's order.
    pub fn list(&self) -> Result<Vec<Network>> {
        let bridge = self.bridge()?;
        let builtin = |name: &str, driver: &str| Network {
            id: derived_id(&bridge.id, name),
            name: name.into(),
            driver: driver.into(),
            subnet: None,
            gateway: None,
            bridge: String::new(),
            created: bridge.created,
            labels: BTreeMap::new(),
            options: BTreeMap::new(),
            internal: false,
        };
        let (host, none) = (builtin("host", "host"), builtin("none", "null"));
        Ok(vec![bridge, host, none])
    }

    /// The network of this name or unique id prefix.
    pub fn find(&self, name: &str) -> Result<Network> {
        let networks = self.list()?;
        if let Some(network) = networks.iter().find(|network| network.name == name) {
            return Ok(network.clone());
        }
        let mut matching = networks.iter().filter(|network| !name.is_empty() && network.id.starts_with(name));
        match (matching.next(), matching.next()) {
            (Some(network), None) => Ok(network.clone()),
            (Some(_), Some(_)) => {
                Err(Error::Invalid(format!("network {name} is ambiguous: it begins several ids")))
            }
            _ => Err(Error::NoNetwork(name.into())),
        }
    }

    /// Makes the bridge, the rules and the settings of the host that `network` needs, as far as they are missing:
    /// after a reboot, a `nft flush ruleset`, a deleted link. When the table was missing it is made with the
    /// published ports of the endpoints `live` returns. When all is there it costs five requests.
    pub fn ensure(&self, network: &Network, live: &dyn Fn() -> Vec<Endpoint>) -> Result<()> {
        trace::step(
            "check the bridge and the rules",
            "A reboot or a flushed firewall takes them away.",
            || {
                ensure_bridge(network)?;
                ensure_sysctls(network)?;
                Table::with(&self.names.table, |table| {
                    if table.is_whole(&in_rules(network)?)? { Ok(()) } else { build(table, network, &live()) }
                })
            },
        )
    }

    /// Makes everything right again, whatever happened to it: bridge, rules, the ports of `live` endpoints, the
    /// addresses of containers that are gone (`is_live` is false for their id).
    pub fn reconcile(
        &self,
        network: &Network,
        live: &[Endpoint],
        is_live: &dyn Fn(&str) -> bool,
    ) -> Result<()> {
        ensure_bridge(network)?;
        ensure_sysctls(network)?;
        Table::with(&self.names.table, |table| build(table, network, live))?;
        self.addresses(network)?.sweep(is_live).map(drop)
    }

    /// The chains of the host's own firewall (`ip filter FORWARD`) that drop what they do not accept between links. An
    /// accept of ours does not outrule them, so with one of these a container may have no way out: `info` and errors
    /// say so. Empty on most hosts; old iptables-legacy rules are not seen.
    pub fn forward_drops() -> Result<Vec<String>> {
        Table::forward_drops()
    }

    /// Takes an address for `container` (its id) and names everything its endpoint will consist of. The container's
    /// record must exist: `is_live` is asked of other ids whether their address is still in use.
    pub fn plan(
        &self,
        network: &Network,
        container: &str,
        ports: Vec<PublishedPort>,
        is_live: &dyn Fn(&str) -> bool,
    ) -> Result<Endpoint> {
        self.plan_again(network, container, ports, None, is_live)
    }

    /// The same for a container that is started again: with the address it had `before`, if that is still free.
    pub fn plan_again(
        &self,
        network: &Network,
        container: &str,
        ports: Vec<PublishedPort>,
        before: Option<Ipv4Addr>,
        is_live: &dyn Fn(&str) -> bool,
    ) -> Result<Endpoint> {
        let range = network.range()?;
        let why = "A file named for it, linked into place with the container's id in it: nobody else gets the address.";
        let before = before.filter(|ip| range.contains(*ip));
        let ip = trace::step("take an address", why, || {
            self.addresses(network)?.allocate(&network.name, container, before, is_live)
        })?;
        Ok(Endpoint {
            network: network.name.clone(),
            network_id: network.id.clone(),
            container: container.into(),
            bridge: network.bridge.clone(),
            host_link: host_link(container),
            link: "eth0".into(),
            ip,
            prefix: range.prefix(),
            gateway: network.gateway.unwrap_or_else(|| range.gateway()),
            mac: Mac::of(ip),
            ports,
        })
    }

    /// Makes the veth between the bridge and `netns` and publishes the ports. What was made is taken back on failure.
    pub fn attach(&self, endpoint: &Endpoint, netns: BorrowedFd<'_>) -> Result<()> {
        let wired = trace::step(
            "make the veth pair",
            "One end is a port of the bridge, the other the container's eth0.",
            || self.wire(endpoint, netns),
        )
        .and_then(|()| match endpoint.ports.as_slice() {
            [] => Ok(()),
            _ => trace::step(
                "publish the ports",
                "Packets for the host's port are sent on to the container's address.",
                || self.publish(endpoint),
            ),
        });
        if wired.is_err() {
            // The reason that is told is the first one; what remains is found from the record.
            let _ = self.unpublish(endpoint);
            let _ = Netlink::route().and_then(|mut socket| link::delete(&mut socket, &endpoint.host_link));
        }
        wired
    }

    /// Makes the veth.
    pub fn wire(&self, endpoint: &Endpoint, netns: BorrowedFd<'_>) -> Result<()> {
        let mut socket = Netlink::route()?;
        let Some(bridge) = link::find(&mut socket, &endpoint.bridge)? else {
            return Err(Error::Kernel {
                what: format!("RTM_GETLINK {}", endpoint.bridge),
                errno: Errno::NODEV,
            });
        };
        let hairpin = bridge_calls_iptables();
        let made = match link::make_veth(&mut socket, endpoint, bridge, netns, hairpin) {
            // The veth of this container's last run: its namespace is still being taken down.
            Err(error) if error.errno() == Some(Errno::EXIST) => {
                link::delete(&mut socket, &endpoint.host_link)?;
                link::make_veth(&mut socket, endpoint, bridge, netns, hairpin)
            }
            made => made,
        };
        made.map_err(|error| match error.errno() {
            Some(Errno::XFULL) => Error::BridgeFull(endpoint.bridge.clone()),
            _ => error,
        })
    }

    /// Publishes the endpoint's ports.
    pub fn publish(&self, endpoint: &Endpoint) -> Result<()> {
        if endpoint.ports.is_empty() {
            return Ok(());
        }
        Table::with(&self.names.table, |table| table.publish(&published(endpoint)))
    }

    /// Takes the endpoint's ports back; those that lead to another container by now stay.
    pub fn unpublish(&self, endpoint: &Endpoint) -> Result<()> {
        if endpoint.ports.is_empty() {
            return Ok(());
        }
        Table::with(&self.names.table, |table| table.unpublish(&published(endpoint)))
    }

    /// Gives the endpoint's address back.
    pub fn release(&self, endpoint: &Endpoint) -> Result<()> {
        let Some(range) = Subnet::new(endpoint.ip, endpoint.prefix) else { return Ok(()) };
        Addresses::open(&self.state.join(&endpoint.bridge), range)?.release(endpoint.ip, &endpoint.container)
    }

    /// Takes the endpoint apart: ports, veth, address. Can be repeated; goes on past failures and returns all.
    /// The container should have ended: a veth whose network namespace lives on is deleted only after a second.
    pub fn detach(&self, endpoint: &Endpoint) -> Result<(), Vec<Error>> {
        let gone = || link::delete_if_left(&mut Netlink::route()?, &endpoint.host_link);
        collected([self.unpublish(endpoint), gone(), self.release(endpoint)])
    }

    /// Removes every network's bridge, the table, the records and the addresses.
    pub fn destroy(&self) -> Result<(), Vec<Error>> {
        let bridge = || link::delete(&mut Netlink::route()?, &self.names.bridge);
        let table = || Table::delete(&self.names.table);
        let state = self.state.join(&self.names.bridge);
        let steps = [
            table(),
            bridge(),
            gone(std::fs::remove_dir_all(&state), &state),
            gone(std::fs::remove_file(self.record_path()), &self.record_path()),
        ];
        collected(steps)
    }

    fn addresses(&self, network: &Network) -> Result<Addresses> {
        Addresses::open(&self.state.join(&network.bridge), network.range()?)
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

    /// The addresses of `network` in use, each with its container's id.
    pub fn in_use(&self, network: &Network) -> Result<Vec<(Ipv4Addr, String)>> {
        if network.subnet.is_none() { Ok(Vec::new()) } else { self.addresses(network)?.owners() }
    }

    fn record_path(&self) -> PathBuf {
        self.root.join(format!("{}.json", self.names.bridge))
    }

    fn records(&self) -> Result<Vec<Network>> {
        let entries = match std::fs::read_dir(&self.root) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|e| Error::file("read", &self.root, e))?,
        };
        let mut records = Vec::new();
        for entry in entries {
            let path = entry.map_err(|e| Error::file("read", &self.root, e))?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                records.extend(read_record(&path)?);
            }
        }
        Ok(records)
    }

    /// Writes the record unless there is one: a complete file is given its name.
    fn write_record(&self, path: &Path, network: &Network) -> Result<()> {
        make_private(&self.root).map_err(|e| Error::file("create", &self.root, e))?;
        let temporary = self.root.join(format!(".{}.{}", self.names.bridge, std::process::id()));
        let text = serde_json::to_vec_pretty(network)
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

fn ensure_bridge(network: &Network) -> Result<()> {
    let range = network.range()?;
    let mut socket = Netlink::route()?;
    if let Some(found) = link::find(&mut socket, &network.bridge)?
        && found.up
        && link::addresses_of(&mut socket, found.index)?.contains(&(range.gateway(), range.prefix()))
    {
        return Ok(());
    }
    link::make_bridge(&mut socket, &network.bridge, range.gateway(), range.prefix()).map(drop)
}

fn ensure_sysctls(network: &Network) -> Result<()> {
    // Packets pass between the bridge and the other links.
    sysctl("/proc/sys/net/ipv4/ip_forward", "1")?;
    // 127.0.0.1:PORT of the host leads to a container; the guard chain keeps others from using it.
    sysctl(&format!("/proc/sys/net/ipv4/conf/{}/route_localnet", network.bridge), "1")?;
    // The network is IPv4 only. With IPv6 on its bridge the host would take routes from a container's router
    // advertisements (CVE-2020-13401).
    let ipv6 = format!("/proc/sys/net/ipv6/conf/{}/disable_ipv6", network.bridge);
    if Path::new("/proc/sys/net/ipv6").exists() { sysctl(&ipv6, "1") } else { Ok(()) }
}

fn build(table: &mut Table<'_>, network: &Network, live: &[Endpoint]) -> Result<()> {
    let ports: Vec<_> = live.iter().flat_map(published).collect();
    table.build(&[in_rules(network)?], &ports)
}

fn in_rules(network: &Network) -> Result<nft::Network<'_>> {
    Ok(nft::Network { bridge: &network.bridge, subnet: network.range()? })
}

fn published(endpoint: &Endpoint) -> Vec<(PublishedPort, Ipv4Addr)> {
    endpoint.ports.iter().map(|port| (*port, endpoint.ip)).collect()
}

fn collected(steps: impl IntoIterator<Item = Result<()>>) -> Result<(), Vec<Error>> {
    let failures: Vec<Error> = steps.into_iter().filter_map(Result::err).collect();
    if failures.is_empty() { Ok(()) } else { Err(failures) }
}

fn gone(removed: std::io::Result<()>, path: &Path) -> Result<()> {
    match removed {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(|e| Error::file("remove", path, e)),
    }
}

fn read_record(path: &Path) -> Result<Option<Network>> {
    match std::fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::file("read", path, error)),
        Ok(text) => serde_json::from_slice(&text)
            .map(Some)
            .map_err(|error| Error::file("read", path, std::io::Error::other(error))),
    }
}

/// Writes `value` unless the file has it.
fn sysctl(path: &str, value: &str) -> Result<()> {
    let now = std::fs::read_to_string(path).map_err(|e| Error::file("read", path, e))?;
    if now.trim() == value {
        return Ok(());
    }
    trace::call("write", || format!("{}, {value}", trace::quoted(path)), || std::fs::write(path, value))
        .map_err(|e| Error::file("write", path, e))
}

/// Whether frames between the ports of a bridge go through the IPv4 hooks too.
fn bridge_calls_iptables() -> bool {
    std::fs::read("/proc/sys/net/bridge/bridge-nf-call-iptables").is_ok_and(|text| text.starts_with(b"1"))
}

/// The host's nameservers, which the subnet must not hide even when only the default route leads to them.
fn nameservers() -> Vec<Subnet> {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver")?.trim().parse().ok())
        .filter_map(|ip: Ipv4Addr| Subnet::new(ip, 32))
        .collect()
}

fn random_id() -> Result<String> {
    let mut bytes = [0_u8; 32];
    let path = Path::new("/dev/urandom");
    std::fs::File::open(path)
        .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut bytes))
        .map_err(|e| Error::file("read", path, e))?;
    Ok(hex(&bytes))
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

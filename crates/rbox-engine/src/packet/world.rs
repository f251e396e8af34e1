//! All that is looked at once: networks, containers, the host's links, the rules.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use rbox_network::{Endpoint, Network, Rules, Seen, SeenLink, Way};
use rbox_spec::container::NetworkMode;

use crate::containers::find;
use crate::error::EngineError;
use crate::networks::store::networks;
use crate::record::container::{Container, Status};
use crate::record::paths::Paths;

/// A bridge network and what of it is there.
#[derive(Clone, Debug)]
pub struct Net {
    /// Its record.
    pub network: Network,
    /// Its bridge is there and up.
    pub up: bool,
    /// The rules are all there and know it.
    pub whole: bool,
}

/// A container that runs, as networks see it.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Its PID 1 on the host.
    pub pid: i32,
    /// Its monitor, which answers its questions for names.
    pub monitor: i32,
    /// It is frozen.
    pub paused: bool,
    /// Whose network it has; of one that shares another's, that one's.
    pub mode: NetworkMode,
    /// The container whose network it shares.
    pub shares: Option<String>,
    /// Its places on networks, or those of the one it shares with.
    pub endpoints: Vec<Endpoint>,
}

/// The host's end of a container's cable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cable {
    /// It is up.
    pub up: bool,
    /// The bridge it is a port of.
    pub bridge: Option<String>,
    /// It gets nothing from other isolated ports.
    pub isolated: bool,
}

/// What there is.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// The bridge networks: the default one, then users', oldest first.
    pub networks: Vec<Net>,
    /// The containers that run, oldest first.
    pub nodes: Vec<Node>,
    /// The host's links.
    pub links: Vec<SeenLink>,
    /// The names of those that lead to the outside.
    pub outward: Vec<String>,
    /// The host's ends of the containers' cables that are there, by name.
    pub cables: BTreeMap<String, Cable>,
    /// What the rules hold.
    pub rules: Rules,
    /// Whether the host passes packets on, IPv4 and IPv6.
    pub forwards: (bool, bool),
    /// Whether frames between the ports of a bridge go through the rules too, IPv4 and IPv6.
    pub bridged: (bool, bool),
    /// The bridges over which 127.0.0.1 leads to containers.
    pub loopback: Vec<String>,
    /// Whether the bridges' own tables cannot be had on this kernel.
    pub unguarded: bool,
}

impl World {
    /// Looks at everything.
    pub fn look(paths: &Paths) -> Result<Self, EngineError> {
        let store = networks(paths);
        let mut all = find::list_running(paths)?;
        all.reverse();
        let mut seen = Seen::through(rbox_network::route_socket()?)?;
        let default = match seen.way(ELSEWHERE)? {
            Way::Over { link, .. } => Some(link),
            _ => None,
        };
        let links = seen.links().to_vec();
        // A bridge is for machines inside, of rbox or of another engine, unless the default route leads over it.
        let outward = links.iter().map(|link| link.name.clone()).filter(|name| {
            default.as_ref() == Some(name)
                || name != "lo" && !Path::new("/sys/class/net").join(name).join("bridge").exists()
        });
        let outward = outward.collect();
        let on_bridges = [vec![store.default_network()?], store.records()?].concat();
        let nets = on_bridges.into_iter().map(|network| {
            let up = links.iter().any(|link| link.name == network.bridge && link.up);
            Ok(Net { up, whole: up && store.is_whole(&network)?, network })
        });
        let networks = nets.collect::<Result<Vec<_>, EngineError>>()?;
        let nodes: Vec<Node> = all.iter().filter_map(|container| node(container, &all)).collect();
        let cables =
            nodes.iter().flat_map(|node| &node.endpoints).filter_map(|e| cable(&e.host_link, &links));
        let is_set = |path: &str| flag(Path::new(path));
        let localnet = |bridge: &str| is_set(&format!("/proc/sys/net/ipv4/conf/{bridge}/route_localnet"));
        Ok(Self {
            cables: cables.collect(),
            rules: store.rules()?,
            forwards: (
                is_set("/proc/sys/net/ipv4/ip_forward"),
                is_set("/proc/sys/net/ipv6/conf/all/forwarding"),
            ),
            bridged: (
                is_set("/proc/sys/net/bridge/bridge-nf-call-iptables"),
                is_set("/proc/sys/net/bridge/bridge-nf-call-ip6tables"),
            ),
            loopback: networks.iter().map(|n| n.network.bridge.clone()).filter(|b| localnet(b)).collect(),
            unguarded: store.guard_missing()?,
            networks,
            nodes,
            links,
            outward,
        })
    }

    /// The container of this name, id or unique beginning of an id, among those that run.
    pub fn node(&self, id: &str) -> Option<usize> {
        self.nodes.iter().position(|node| node.id == id)
    }

    /// The network whose bridge is called `link`.
    pub(crate) fn on(&self, link: &str) -> Option<&Net> {
        self.networks.iter().find(|net| net.network.bridge == link)
    }

    /// Who has the address `ip` on the network of `bridge`.
    pub(crate) fn owner(&self, bridge: &str, ip: IpAddr) -> Option<(&Node, &Endpoint)> {
        // One that shares another's network has the same endpoints: the owner is shown.
        self.nodes.iter().filter(|node| node.shares.is_none()).find_map(|node| {
            let has = |e: &&Endpoint| e.bridge == bridge && e.addresses().any(|own| own == ip);
            Some((node, node.endpoints.iter().find(has)?))
        })
    }

    /// Whether `ip` is an address of the host, and of which link.
    pub(crate) fn host_link(&self, ip: IpAddr) -> Option<&SeenLink> {
        self.links.iter().find(|link| link.addresses.iter().any(|(own, _)| *own == ip))
    }

    /// The host's links to the outside, with addresses of more than the link itself.
    pub fn uplinks(&self) -> impl Iterator<Item = (&SeenLink, Vec<(IpAddr, u8)>)> {
        self.links.iter().filter(|link| self.outward.contains(&link.name)).filter_map(|link| {
            let wide: Vec<_> = link.addresses.iter().copied().filter(|(ip, _)| !is_link_local(*ip)).collect();
            (!wide.is_empty()).then_some((link, wide))
        })
    }
}

/// An address of elsewhere: this one is for documentation (RFC 5737).
pub(super) const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// Whether an address means something on its link only.
pub(crate) fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

fn flag(path: &Path) -> bool {
    std::fs::read(path).is_ok_and(|text| text.starts_with(b"1"))
}

fn node(container: &Container, all: &[Container]) -> Option<Node> {
    let live = container.live.as_ref()?;
    let record = &container.record;
    let owner = match &record.host.network {
        NetworkMode::Container(id) => all.iter().find(|other| other.record.id.as_str() == id),
        _ => None,
    };
    let (mode, endpoints) = match owner {
        Some(owner) => (
            owner.record.host.network.clone(),
            owner.live.as_ref().map_or_else(Vec::new, |live| live.endpoints.clone()),
        ),
        None => (record.host.network.clone(), live.endpoints.clone()),
    };
    Some(Node {
        name: record.name.to_string(),
        id: record.id.as_str().to_owned(),
        pid: live.pid,
        monitor: owner.and_then(|owner| owner.live.as_ref()).map_or(live.monitor, |live| live.monitor),
        paused: container.status == Status::Paused,
        mode,
        shares: owner.map(|owner| owner.record.name.to_string()),
        endpoints,
    })
}

fn cable(name: &str, links: &[SeenLink]) -> Option<(String, Cable)> {
    let link = links.iter().find(|link| link.name == name)?;
    let dir = Path::new("/sys/class/net").join(name);
    let bridge = std::fs::read_link(dir.join("master")).ok();
    let bridge = bridge.and_then(|path| Some(path.file_name()?.to_str()?.to_owned()));
    Some((name.to_owned(), Cable { up: link.up, bridge, isolated: flag(&dir.join("brport/isolated")) }))
}

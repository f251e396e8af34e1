//! What `rbox net` draws, as data: the keys of its JSON.

use std::net::IpAddr;

use rbox_network::{BetweenRules, Endpoint};
use rbox_spec::container::NetworkMode;
use rbox_spec::port::PublishedPort;
use serde::Serialize;

use crate::containers::find;
use crate::error::EngineError;
use crate::networks::sockets::{Socket, netns_of};
use crate::networks::{dns, store};
use crate::packet::arrive::RESOLVER;
use crate::packet::kernel::Kernel;
use crate::packet::world::{Net, Node, World};
use crate::record::paths::Paths;

/// A drawing: from the outside to the programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Drawing {
    /// The host's side.
    pub host: HostDrawing,
    /// What lies between host and networks.
    pub rules: RulesDrawing,
    /// The networks, each with its containers.
    pub networks: Vec<NetworkDrawing>,
    /// Containers on no network of ours: with the host's, with another one's, with none.
    pub others: Vec<ContainerDrawing>,
}

/// The host's links to the outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct HostDrawing {
    /// The links, but for the loopback and rbox's bridges.
    pub links: Vec<LinkDrawing>,
    /// Whether it passes IPv4 packets on.
    pub forwarding: bool,
    /// Whether it passes IPv6 packets on.
    pub forwarding6: bool,
}

/// A link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct LinkDrawing {
    /// Its name.
    pub name: String,
    /// It is up.
    pub up: bool,
    /// Its addresses, `192.0.2.10/24`.
    pub addresses: Vec<String>,
}

/// What the nftables tables say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct RulesDrawing {
    /// The name of rbox's tables.
    pub table: String,
    /// The families that have one: `ip`, `ip6`, `bridge`.
    pub families: Vec<&'static str>,
    /// How many rules the administrator has put into the chain `user` of `ip`.
    pub user_rules: usize,
    /// The same of `ip6`.
    pub user_rules6: usize,
    /// Chains of others that drop what they do not accept on its way between links: `inet filter forward`.
    pub dropping_chains: Vec<String>,
    /// Whether all of it is as rbox makes it.
    pub whole: bool,
}

/// A network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
#[allow(clippy::struct_excessive_bools, reason = "each is a property of its own")]
pub struct NetworkDrawing {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// The Linux bridge.
    pub bridge: String,
    /// The bridge is there and up.
    pub up: bool,
    /// The subnet and the bridge's address in it.
    pub subnet: Option<String>,
    /// The bridge's address.
    pub gateway: Option<IpAddr>,
    /// The IPv6 subnet.
    pub subnet6: Option<String>,
    /// The bridge's IPv6 address.
    pub gateway6: Option<IpAddr>,
    /// Nothing leads out of it, and nothing in.
    pub internal: bool,
    /// Its containers do not reach each other.
    pub isolated: bool,
    /// What leaves it has the host's address.
    pub masquerade: bool,
    /// The containers on it that run.
    pub containers: Vec<ContainerDrawing>,
}

/// A container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerDrawing {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Its PID 1 on the host.
    pub pid: i32,
    /// It is frozen.
    pub paused: bool,
    /// Its network mode: `bridge`, `host`, `none`, `container:NAME`.
    pub mode: String,
    /// Its place on the network it is drawn in.
    pub place: Option<PlaceDrawing>,
    /// The inode number of its network namespace.
    pub namespace: Option<u64>,
    /// Who listens in it; only in the drawing of one container or network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listeners: Option<Vec<Socket>>,
    /// Its name server; only in the drawing of one container or network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns: Option<Dns>,
}

/// A container's place on a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct PlaceDrawing {
    /// `172.30.0.2/16`.
    pub address: String,
    /// The same of IPv6.
    pub address6: Option<String>,
    /// Its Ethernet address.
    pub mac: String,
    /// Its link inside.
    pub link: String,
    /// The host's end of that.
    pub host_link: String,
    /// The host's end is up and a port of the bridge.
    pub connected: bool,
    /// It may send with its own addresses only.
    pub guarded: bool,
    /// Its default route leads through this network.
    pub default_route: bool,
    /// What is published through this network.
    pub ports: Vec<PortDrawing>,
    /// What it is called on this network.
    pub names: Vec<String>,
}

/// A published port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct PortDrawing {
    /// The host's address; unspecified for every one.
    pub host_ip: IpAddr,
    /// The host's port.
    pub host_port: u16,
    /// The container's port.
    pub port: u16,
    /// The protocol.
    pub protocol: String,
    /// The rules know it.
    pub in_rules: bool,
}

/// A container's name server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Dns {
    /// Where it is asked.
    pub server: IpAddr,
    /// The process that answers.
    pub monitor: i32,
    /// The names that it knows.
    pub names: Vec<NamesDrawing>,
    /// Who is asked for other names; `host(IP)` is asked from the host.
    pub upstreams: Vec<String>,
}

/// The names on one network, or of `--link`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct NamesDrawing {
    /// The network; none for the container's own links.
    pub network: Option<String>,
    /// Names and aliases, without the containers' ids.
    pub names: Vec<String>,
}

/// What is drawn.
enum Wanted<'a> {
    All,
    Network(&'a str),
    Container(&'a str),
}

/// Draws everything, or the container or else the network called `name`; none when there is neither.
pub fn draw(
    paths: &Paths,
    world: &World,
    kernel: &dyn Kernel,
    name: Option<&str>,
) -> Result<Option<Drawing>, EngineError> {
    let container = name.and_then(|name| kernel.container(name));
    let network = name.and_then(|name| store::networks(paths).find(name).ok());
    let wanted = match (&name, &container, &network) {
        (None, ..) => Wanted::All,
        (_, Some(known), _) => {
            if world.node(&known.id).is_none() {
                let text = format!("container {} is not running ({})", known.name, known.status);
                return Err(EngineError::Conflict(text));
            }
            Wanted::Container(&known.id)
        }
        (_, None, Some(network)) => Wanted::Network(&network.id),
        (_, None, None) => return Ok(None),
    };
    let details = !matches!(wanted, Wanted::All);
    let mut networks = Vec::new();
    for net in &world.networks {
        if matches!(wanted, Wanted::Network(id) if id != net.network.id) {
            continue;
        }
        let mut on = Vec::new();
        for (node, endpoint) in on_network(world, net) {
            let is_meant = match wanted {
                Wanted::Container(id) => id == node.id,
                // One that shares another's network is drawn beside the networks.
                _ => node.shares.is_none(),
            };
            if is_meant {
                on.push(crate::packet::drawing::container(
                    paths,
                    world,
                    kernel,
                    node,
                    Some(endpoint),
                    details,
                )?);
            }
        }
        if !(on.is_empty() && matches!(wanted, Wanted::Container(_))) {
            networks.push(drawn(world, net, on));
        }
    }
    let mut others = Vec::new();
    for node in world.nodes.iter().filter(|node| node.endpoints.is_empty() || node.shares.is_some()) {
        let is_meant = match wanted {
            Wanted::All => true,
            Wanted::Container(id) => id == node.id,
            Wanted::Network(_) => {
                network.as_ref().is_some_and(|n| n.is_builtin() && n.name == node.mode_name())
            }
        };
        if is_meant && (!details || node.endpoints.is_empty()) {
            others.push(crate::packet::drawing::container(paths, world, kernel, node, None, details)?);
        }
    }
    Ok(Some(Drawing { host: host(world), rules: rules(world), networks, others }))
}

/// The containers on a network, in the order in which they started.
fn on_network<'a>(world: &'a World, net: &'a Net) -> impl Iterator<Item = (&'a Node, &'a Endpoint)> {
    let on = move |node: &'a Node| {
        let endpoint = node.endpoints.iter().find(|endpoint| endpoint.bridge == net.network.bridge)?;
        Some((node, endpoint))
    };
    world.nodes.iter().filter_map(on)
}

fn host(world: &World) -> HostDrawing {
    let link = |(link, wide): (&rbox_network::SeenLink, Vec<(IpAddr, u8)>)| LinkDrawing {
        name: link.name.clone(),
        up: link.up,
        addresses: wide.iter().map(|(ip, prefix)| format!("{ip}/{prefix}")).collect(),
    };
    HostDrawing {
        links: world.uplinks().map(link).collect(),
        forwarding: world.forwards.0,
        forwarding6: world.forwards.1,
    }
}

fn rules(world: &World) -> RulesDrawing {
    let there = [
        ("ip", world.rules.ip.is_some()),
        ("ip6", world.rules.ip6.is_some()),
        ("bridge", world.rules.guard.is_some()),
    ];
    let user = |rules: &Option<BetweenRules>| rules.as_ref().map_or(0, |rules| rules.user.len());
    let forward = world.rules.others.iter().filter(|chain| chain.hook == rbox_network::OtherHook::Forward);
    RulesDrawing {
        table: world.rules.table.clone(),
        families: there.iter().filter(|(_, there)| *there).map(|(family, _)| *family).collect(),
        user_rules: user(&world.rules.ip),
        user_rules6: user(&world.rules.ip6),
        dropping_chains: forward.map(|chain| chain.name.clone()).collect(),
        whole: world
            .networks
            .iter()
            .all(|net| net.whole || !net.up && on_network(world, net).next().is_none()),
    }
}

fn drawn(world: &World, net: &Net, containers: Vec<ContainerDrawing>) -> NetworkDrawing {
    let network = &net.network;
    NetworkDrawing {
        name: network.name.clone(),
        id: network.id.clone(),
        bridge: network.bridge.clone(),
        up: net.up,
        subnet: network.subnet.map(|subnet| subnet.to_string()),
        gateway: network.gateway.map(IpAddr::V4),
        subnet6: network.subnet6.map(|subnet| subnet.to_string()),
        gateway6: network.gateway6.map(IpAddr::V6),
        internal: network.internal,
        isolated: !network.talks(),
        masquerade: !network.internal && world.rules.ip.is_some(),
        containers,
    }
}

fn container(
    paths: &Paths,
    world: &World,
    kernel: &dyn Kernel,
    node: &Node,
    endpoint: Option<&Endpoint>,
    details: bool,
) -> Result<ContainerDrawing, EngineError> {
    Ok(ContainerDrawing {
        name: node.name.clone(),
        id: node.id.clone(),
        pid: node.pid,
        paused: node.paused,
        mode: node.mode_name(),
        place: endpoint.map(|endpoint| place(world, endpoint)),
        namespace: netns_of(&node.pid.to_string()),
        listeners: if details && node.mode != NetworkMode::Host {
            Some(programs(kernel, node)?)
        } else {
            None
        },
        dns: if details && !node.endpoints.is_empty() { Some(dns(paths, world, node)?) } else { None },
    })
}

/// Who listens in a container, but for its name server, which is no process of its own.
fn programs(kernel: &dyn Kernel, node: &Node) -> Result<Vec<Socket>, EngineError> {
    let is_name_server = |socket: &Socket| socket.address == RESOLVER && socket.process.is_empty();
    let mut found = kernel.sockets(Some(node))?;
    found.retain(|socket| !is_name_server(socket));
    Ok(found)
}

impl Node {
    /// Its network mode as it is shown.
    pub(crate) fn mode_name(&self) -> String {
        match (&self.shares, &self.mode) {
            (Some(other), _) => format!("container:{other}"),
            (None, NetworkMode::Container(id)) => format!("container:{id}"),
            (None, NetworkMode::Host) => "host".into(),
            (None, NetworkMode::None) => "none".into(),
            (None, NetworkMode::Bridge) => "bridge".into(),
        }
    }
}

fn dns(paths: &Paths, world: &World, node: &Node) -> Result<Dns, EngineError> {
    let asked = node.shares.as_deref().unwrap_or(&node.id);
    let owner = find::find(paths, asked)?;
    let upstreams = owner.live.as_ref().map(|live| dns::upstreams(&owner.record, live));
    let links: Vec<String> = owner.record.host.links.iter().map(|link| link.alias.clone()).collect();
    let of_links = (!links.is_empty()).then_some(NamesDrawing { network: None, names: links });
    let on = |endpoint: &Endpoint| NamesDrawing {
        network: Some(endpoint.network.clone()),
        names: names_on(world, &endpoint.bridge),
    };
    Ok(Dns {
        server: RESOLVER,
        monitor: node.monitor,
        names: of_links.into_iter().chain(node.endpoints.iter().map(on)).collect(),
        upstreams: upstreams.unwrap_or_default(),
    })
}

/// What containers are called on a network, but for their ids.
fn names_on(world: &World, bridge: &str) -> Vec<String> {
    let nodes = world.nodes.iter().filter(|node| node.shares.is_none());
    let on = nodes.flat_map(|node| node.endpoints.iter().map(move |endpoint| (node, endpoint)));
    let mut names: Vec<String> = on
        .filter(|(_, endpoint)| endpoint.bridge == bridge)
        .flat_map(|(node, endpoint)| endpoint.names.iter().filter(|name| !node.id.starts_with(name.as_str())))
        .cloned()
        .collect();
    names.sort();
    names.dedup();
    names
}

fn place(world: &World, endpoint: &Endpoint) -> PlaceDrawing {
    let cable = world.cables.get(&endpoint.host_link);
    let in_rules = |port: &PublishedPort| {
        let rules = if port.host_ip.is_ipv4() { world.rules.ip.as_ref() } else { world.rules.ip6.as_ref() };
        let at = (!port.host_ip.is_unspecified()).then_some(port.host_ip);
        rules.is_some_and(|rules| {
            rules.published.iter().any(|e| e.at == at && e.port == port.host_port && e.proto == port.proto)
        })
    };
    let ports = endpoint.ports.iter().map(|port| PortDrawing {
        host_ip: port.host_ip,
        host_port: port.host_port,
        port: port.container_port,
        protocol: port.proto.to_string(),
        in_rules: in_rules(port),
    });
    PlaceDrawing {
        address: format!("{}/{}", endpoint.ip, endpoint.prefix),
        address6: endpoint.ip6.map(|six| format!("{}/{}", six.ip, six.prefix)),
        mac: endpoint.mac.to_string(),
        link: endpoint.link.clone(),
        host_link: endpoint.host_link.clone(),
        connected: cable.is_some_and(|cable| cable.up && cable.bridge.as_ref() == Some(&endpoint.bridge)),
        guarded: world.rules.guard.as_ref().is_some_and(|guard| guard.links.contains(&endpoint.host_link)),
        default_route: endpoint.default_route,
        ports: ports.collect(),
        names: endpoint.names.clone(),
    }
}

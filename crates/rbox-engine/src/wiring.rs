//! A container's networks at its start: addresses, host ports, names, the files that tell of them, the cables.
//!
//! What is planned is in the live record before any of it is made, so that a kill leaves all of it to be found.

use std::cmp::Reverse;
use std::fs::File;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rbox_network::{
    Dns, DnsConfig, Endpoint, NamedNetwork, Names, Network, NetworkNames, NetworkStore, Wish,
};
use rbox_runtime::Created;
use rbox_spec::container::{Attachment, NetworkMode};
use rbox_spec::id::ContainerId;
use rbox_spec::port::{ContainerPort, PortMapping, PublishedPort};
use rbox_sys::trace;

use crate::containers;
use crate::error::EngineError;
use crate::paths::Paths;
use crate::record::{Container, ContainerRecord, LiveState};

/// A published port and the socket that keeps it ours; none of SCTP on a host without it.
pub(crate) type HeldPort = (PublishedPort, Option<OwnedFd>);

/// The networks of these paths.
pub fn networks(paths: &Paths) -> NetworkStore {
    NetworkStore::open(
        &paths.root.join("network"),
        &paths.state.join("network"),
        Names::for_state(&paths.state),
    )
}

/// Takes addresses and the host ports. Nothing of the network exists in the kernel yet. What the container had `before` is
/// tried first: who uses that goes on after a restart.
pub(crate) fn plan(
    paths: &Paths,
    record: &ContainerRecord,
    live: &mut LiveState,
    before: &[Endpoint],
) -> Result<Vec<HeldPort>, EngineError> {
    if record.host.network != NetworkMode::Bridge {
        return Ok(Vec::new());
    }
    let store = networks(paths);
    let found = record
        .host
        .attachments
        .iter()
        .map(|wanted| Ok((wanted, store.attached(&wanted.network_id, &wanted.network)?)))
        .collect::<Result<Vec<_>, EngineError>>()?;
    let main = way_out(&found);
    let held = match main.and_then(|main| found.get(main)) {
        Some((_, network)) => reserve(paths, record, network, before)?,
        // There is no way to it from the host's ports.
        None => Vec::new(),
    };
    let published: Vec<PublishedPort> = held.iter().map(|(port, _)| *port).collect();
    for (index, (wanted, network)) in found.iter().enumerate() {
        let is_main = main == Some(index);
        let ports = if is_main { published.clone() } else { Vec::new() };
        let had = before.iter().filter(|endpoint| endpoint.network_id == network.id);
        let wish = Wish {
            number: wanted.number.unwrap_or(index),
            before: had.flat_map(Endpoint::addresses).collect(),
            default_route: is_main,
            ports,
            ..wish(record, wanted)
        };
        live.endpoints.push(store.plan(network, &wish, &|id| is_live(paths, id))?);
        store.ensure(network, &|| live_endpoints(paths))?;
    }
    live.published = published;
    Ok(held)
}

/// Which of these networks the way out leads through: of those that have one that of the highest priority, and of equals the first by
/// name, as with Docker.
pub(crate) fn way_out(networks: &[(&Attachment, Network)]) -> Option<usize> {
    let open = networks.iter().enumerate().filter(|(_, (_, network))| !network.internal);
    open.max_by_key(|(_, (wanted, network))| (wanted.priority, Reverse(&network.name)))
        .map(|(index, _)| index)
}

/// What a container wants of one network, but for its place among the others.
pub(crate) fn wish(record: &ContainerRecord, wanted: &Attachment) -> Wish {
    Wish {
        container: record.id.as_str().to_owned(),
        ip: wanted.ip,
        ip6: wanted.ip6,
        mac: wanted.mac,
        names: names(record, wanted),
        ..Wish::default()
    }
}

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

/// Takes the host ports, those it had before where they are free.
fn reserve(
    paths: &Paths,
    record: &ContainerRecord,
    network: &Network,
    before: &[Endpoint],
) -> Result<Vec<HeldPort>, EngineError> {
    let kept: Vec<PublishedPort> = before.iter().flat_map(|endpoint| endpoint.ports.clone()).collect();
    let wanted = wanted_ports(record);
    match reserve_all(paths, network, &as_before(&wanted, &kept)) {
        Err(_) if !kept.is_empty() => reserve_all(paths, network, &wanted),
        done => done,
    }
}

/// Takes these host ports for a container that is reached through `network`.
pub(crate) fn reserve_all(
    paths: &Paths,
    network: &Network,
    wanted: &[PortMapping],
) -> Result<Vec<HeldPort>, EngineError> {
    let bound: Vec<PortMapping> = wanted
        .iter()
        .map(|mapping| PortMapping { host_ip: mapping.host_ip.or(network.host_binding()), ..mapping.clone() })
        .collect();
    let (ports, held) = rbox_network::reserve(&bound, network.subnet6.is_some(), &|port| holder(paths, port))
        .map_err(|error| match error {
            // Not one of ours: the program of the host's that has it is named.
            rbox_network::Error::PortTaken { address, proto, errno, .. } => {
                let by = crate::net::holder(&address, &proto).map(|process| format!(" by {process}"));
                rbox_network::Error::PortTaken { holder: by.unwrap_or_default(), address, proto, errno }
            }
            error => error,
        })?;
    Ok(ports.into_iter().zip(held).collect())
}

/// What is wanted, with the host ports that were chosen for it before.
fn as_before(wanted: &[PortMapping], kept: &[PublishedPort]) -> Vec<PortMapping> {
    let before = |mapping: &PortMapping| {
        let same = |port: &&PublishedPort| {
            port.container() == mapping.container()
                && mapping.host_ip.is_none_or(|ip| ip == port.host_ip)
                && mapping.host_ports.is_none_or(|(low, high)| (low..=high).contains(&port.host_port))
        };
        kept.iter().find(same).map(|port| (port.host_port, port.host_port))
    };
    let one = |mapping: &PortMapping| PortMapping {
        host_ports: before(mapping).or(mapping.host_ports),
        ..mapping.clone()
    };
    wanted.iter().map(one).collect()
}

/// `-p`, and with `-P` every exposed port that `-p` does not name, on a port of the kernel's choice.
pub(crate) fn wanted_ports(record: &ContainerRecord) -> Vec<PortMapping> {
    let mut wanted = record.host.ports.clone();
    if record.host.publish_all {
        for port in exposed(record) {
            if !wanted.iter().any(|m| m.container() == port) {
                wanted.push(PortMapping {
                    host_ip: None,
                    host_ports: None,
                    zero: false,
                    container_port: port.port,
                    proto: port.proto,
                });
            }
        }
    }
    wanted
}

/// The exposed ports of a record; what does not read as one was refused at create.
pub(crate) fn exposed(record: &ContainerRecord) -> Vec<ContainerPort> {
    let mut all: Vec<ContainerPort> = record
        .config
        .exposed_ports
        .iter()
        .filter_map(|text| rbox_spec::port::parse_expose(text).ok())
        .flatten()
        .collect();
    all.dedup();
    all
}

/// The endpoints of all containers that live.
pub fn live_endpoints(paths: &Paths) -> Vec<Endpoint> {
    containers::list_running(paths)
        .unwrap_or_default()
        .into_iter()
        .flat_map(|c| c.live.map(|live| live.endpoints).unwrap_or_default())
        .collect()
}

/// Whether an address held in this container's name is in use: its record is there and somebody has its lock, or
/// its process lives.
pub fn is_live(paths: &Paths, id: &str) -> bool {
    let Ok(id) = id.parse() else { return false };
    crate::lock::Lock::is_held(&paths.live_of(&id))
        || Container::read(paths, &id).ok().flatten().is_some_and(|c| c.is_running())
}

fn holder(paths: &Paths, port: &PublishedPort) -> Option<String> {
    let all = containers::list_running(paths).ok()?;
    all.into_iter()
        .find(|c| c.live.as_ref().is_some_and(|l| l.published.iter().any(|p| p.clashes(port))))
        .map(|c| c.record.name.into())
}

/// Removes a user's network. Containers that have ended give their addresses back soon after: that is waited for.
pub fn remove(paths: &Paths, network: &Network) -> Result<(), rbox_network::Error> {
    let begin = Instant::now();
    loop {
        match networks(paths).remove(network, &|id| is_live(paths, id)) {
            Err(rbox_network::Error::NetworkInUse { owners, .. })
                if begin.elapsed() < Duration::from_secs(10)
                    && !owners.iter().any(|id| is_active(paths, id)) =>
            {
                std::thread::sleep(Duration::from_millis(2));
            }
            done => return done,
        }
    }
}

/// Whether a container runs, or its monitor is starting it.
fn is_active(paths: &Paths, id: &str) -> bool {
    let Ok(id) = id.parse() else { return false };
    let Ok(Some(container)) = Container::read(paths, &id) else { return false };
    container.is_active() || (container.exit.is_none() && crate::lock::Lock::is_held(&paths.live_of(&id)))
}

/// The network namespace of the container whose network this one shares.
pub(crate) fn shared(paths: &Paths, record: &ContainerRecord) -> Result<Option<Shared>, EngineError> {
    let NetworkMode::Container(id) = &record.host.network else { return Ok(None) };
    let other = containers::find(paths, id)?;
    let Some(live) = other.live.as_ref() else {
        return Err(EngineError::Conflict(format!("cannot join network of a non running container: {id}")));
    };
    // Opened first, then seen to be its: a number may be another process's by now.
    let path = format!("/proc/{}/ns/net", live.pid);
    let netns = File::open(&path).map_err(EngineError::file("open", path))?;
    crate::control::pidfd(&other)?;
    Ok(Some(Shared { netns: netns.into(), owner: other.record.id }))
}

/// What a container has from another one whose network it shares.
pub(crate) struct Shared {
    /// The network namespace.
    pub(crate) netns: OwnedFd,
    /// Whose it is, and the files that tell of the network.
    pub(crate) owner: ContainerId,
}

/// The text of /etc/hosts.
pub(crate) fn hosts(
    paths: &Paths,
    record: &ContainerRecord,
    live: &LiveState,
) -> Result<String, EngineError> {
    let gateway = live.main_endpoint().map(|endpoint| endpoint.gateway);
    let mut extra = record
        .host
        .extra_hosts
        .iter()
        .map(|text| Ok(rbox_network::parse_add_host(text, gateway)?))
        .collect::<Result<Vec<_>, EngineError>>()?;
    if record.host.network == NetworkMode::Host {
        if extra.is_empty() {
            return Ok(std::fs::read_to_string("/etc/hosts").unwrap_or_default());
        }
    } else {
        extra.extend(crate::links::hosts(paths, record, live)?);
    }
    let own: Vec<IpAddr> = live.endpoints.iter().flat_map(Endpoint::addresses).collect();
    Ok(rbox_network::hosts_file(&record.config.full_hostname(), &own, &extra))
}

/// The text of /etc/resolv.conf.
pub(crate) fn resolv_conf(record: &ContainerRecord) -> Result<String, EngineError> {
    let host = &record.host;
    let etc = || std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let nothing_asked = host.dns.is_empty() && host.dns_search.is_empty() && host.dns_options.is_empty();
    let dns = servers(record)?;
    Ok(match host.network {
        NetworkMode::Host if nothing_asked => etc(),
        NetworkMode::Host => rbox_network::resolv_conf(&etc(), &dns, &host.dns_search, &host.dns_options),
        NetworkMode::Bridge => {
            rbox_network::resolv_conf_inside(&etc(), &dns, &host.dns_search, &host.dns_options)
        }
        NetworkMode::None | NetworkMode::Container(_) => {
            let looked_through = rbox_network::host_resolv_conf(|path| std::fs::read_to_string(path).ok());
            rbox_network::resolv_conf(&looked_through, &dns, &host.dns_search, &host.dns_options)
        }
    })
}

/// The servers of `--dns`.
fn servers(record: &ContainerRecord) -> Result<Vec<IpAddr>, EngineError> {
    let one = |text: &String| {
        text.parse().map_err(|_| EngineError::Invalid(format!("{text} is not an ip address")))
    };
    record.host.dns.iter().map(one).collect()
}

/// Wires the veths through the child's own socket while the child mounts, publishes the ports, and opens the name server.
pub(crate) fn attach(
    paths: &Paths,
    record: &ContainerRecord,
    live: &LiveState,
    created: &mut Created,
) -> Result<Option<Dns>, EngineError> {
    let Some(socket) = created.netlink.take() else { return Ok(None) };
    if record.host.network != NetworkMode::Bridge {
        trace::step("raise the loopback", "A network namespace begins with its loopback down.", || {
            rbox_network::loopback_up(socket)
        })?;
        return Ok(None);
    }
    let path = format!("/proc/{}/ns/net", created.pid());
    let netns = File::open(&path).map_err(EngineError::file("open", path))?;
    trace::step(
        "wire the network",
        "A cable with one end in the container and the other in the bridge.",
        || {
            let store = networks(paths);
            live.endpoints.iter().try_for_each(|endpoint| store.attach(endpoint, netns.as_fd()))?;
            set_of_links(record, netns.as_fd())?;
            rbox_network::configure_inside(socket, &live.endpoints)?;
            Ok::<_, EngineError>(())
        },
    )?;
    crate::links::announce(paths, &record.id);
    open_dns(record, live, netns.as_fd()).map(Some)
}

/// The path below /proc/sys of a setting that one link has, such as `net.ipv6.conf.eth0.accept_ra`.
pub(crate) fn of_link(key: &str) -> Option<String> {
    for family in ["net.ipv4.conf.", "net.ipv6.conf.", "net.ipv4.neigh.", "net.ipv6.neigh."] {
        if let Some((link, key)) = key.strip_prefix(family).and_then(|rest| rest.rsplit_once('.')) {
            let directory = family.replace('.', "/");
            return (!matches!(link, "all" | "default" | "lo")).then(|| format!("{directory}{link}/{key}"));
        }
    }
    None
}

/// Writes the settings of `--sysctl` that its links have.
fn set_of_links(record: &ContainerRecord, netns: BorrowedFd<'_>) -> Result<(), EngineError> {
    for (key, value) in &record.host.sysctls {
        let Some(path) = of_link(key) else { continue };
        rbox_network::set_inside(netns, [(path.as_str(), value.as_str())].into_iter(), false)
            .map_err(|error| EngineError::Invalid(format!("sysctl {key}={value}: {error}")))?;
    }
    Ok(())
}

fn open_dns(record: &ContainerRecord, live: &LiveState, netns: BorrowedFd<'_>) -> Result<Dns, EngineError> {
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

//! A container's networks at its start: addresses, host ports, names, the files that tell of them, the cables.
//!
//! What is planned is in the live record before any of it is made, so that a kill leaves all of it to be found.

use std::cmp::Reverse;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};

use rbox_network::{Dns, Endpoint, Network, Wish};
use rbox_runtime::Created;
use rbox_spec::container::{ANY_LINK, Attachment, LINK_SYSCTLS, NetworkMode};
use rbox_spec::port::PublishedPort;
use rbox_sys::trace;

use crate::error::EngineError;
use crate::networks::dns::{names, open_dns};
use crate::networks::ports::{HeldPort, reserve};
use crate::networks::store::{live_endpoints, networks, plan};
use crate::oci::config::of_link;
use crate::record::container::{ContainerRecord, LiveState};
use crate::record::paths::Paths;

/// How a container comes onto a network when it starts, and off it when it has ended. All that is made is in the live record first.
pub(crate) trait Attach {
    /// Takes addresses and the host ports. Nothing of the network exists in the kernel yet. What the container had `before` is
    /// tried first: who uses that goes on after a restart.
    fn plan(
        &self,
        _paths: &Paths,
        _record: &ContainerRecord,
        _live: &mut LiveState,
        _before: &[Endpoint],
    ) -> Result<Vec<HeldPort>, EngineError> {
        Ok(Vec::new())
    }

    /// Makes what was planned, while the container's first process mounts. The name server is the monitor's from then on.
    fn attach(
        &self,
        _paths: &Paths,
        _record: &ContainerRecord,
        _live: &LiveState,
        _created: &mut Created,
    ) -> Result<Option<Dns>, EngineError> {
        Ok(None)
    }

    /// Takes away what the live record tells of. What fails does not keep the rest from being tried.
    fn detach(&self, _paths: &Paths, _live: &LiveState) -> Vec<String> {
        Vec::new()
    }
}

/// By veths into the bridges of its networks.
struct Bridged;
/// In a network namespace of its own with a loopback only.
struct Alone;
/// In a network namespace that is somebody else's: the host's or another container's.
struct Guest;

/// How the container of this record comes onto networks.
pub(crate) fn way_of(record: &ContainerRecord) -> &'static dyn Attach {
    match record.host.network {
        NetworkMode::Bridge => &Bridged,
        NetworkMode::None => &Alone,
        NetworkMode::Host | NetworkMode::Container(_) => &Guest,
    }
}

/// Takes away what a container has of networks by its live record, which may be all that is left of it.
pub(crate) fn detach(paths: &Paths, live: &LiveState) -> Vec<String> {
    let ways: [&dyn Attach; 3] = [&Bridged, &Alone, &Guest];
    ways.into_iter().flat_map(|way| way.detach(paths, live)).collect()
}

impl Attach for Guest {}

impl Attach for Alone {
    fn attach(
        &self,
        _: &Paths,
        _: &ContainerRecord,
        _: &LiveState,
        created: &mut Created,
    ) -> Result<Option<Dns>, EngineError> {
        let Some(socket) = created.netlink.take() else { return Ok(None) };
        trace::step("raise the loopback", "A network namespace begins with its loopback down.", || {
            rbox_network::loopback_up(socket)
        })?;
        Ok(None)
    }
}

impl Attach for Bridged {
    fn plan(
        &self,
        paths: &Paths,
        record: &ContainerRecord,
        live: &mut LiveState,
        before: &[Endpoint],
    ) -> Result<Vec<HeldPort>, EngineError> {
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
            check_link_name(&live.endpoints, network, &wish)?;
            live.endpoints.push(plan(paths, &store, network, &wish)?);
            store.ensure(network, &|| live_endpoints(paths))?;
        }
        live.published = published;
        Ok(held)
    }

    fn attach(
        &self,
        paths: &Paths,
        record: &ContainerRecord,
        live: &LiveState,
        created: &mut Created,
    ) -> Result<Option<Dns>, EngineError> {
        let Some(socket) = created.netlink.take() else { return Ok(None) };
        let path = format!("/proc/{}/ns/net", created.pid());
        let netns = File::open(&path).map_err(EngineError::file("open", path))?;
        trace::step(
            "wire the network",
            "A cable with one end in the container and the other in the bridge.",
            || {
                let store = networks(paths);
                live.endpoints.iter().try_for_each(|endpoint| store.attach(endpoint, netns.as_fd()))?;
                set_of_links(record, netns.as_fd())?;
                for endpoint in &live.endpoints {
                    let attachments = &mut record.host.attachments.iter();
                    if let Some(wanted) = attachments.find(|one| one.network_id == endpoint.network_id) {
                        set_of_link(wanted, endpoint, netns.as_fd())?;
                    }
                }
                rbox_network::configure_inside(socket, &live.endpoints)?;
                Ok::<_, EngineError>(())
            },
        )?;
        crate::networks::links::announce(paths, &record.id);
        open_dns(record, live, netns.as_fd()).map(Some)
    }

    fn detach(&self, paths: &Paths, live: &LiveState) -> Vec<String> {
        let store = networks(paths);
        let failed = live.endpoints.iter().filter_map(|endpoint| store.detach(endpoint).err());
        failed.flatten().map(|error| error.to_string()).collect()
    }
}

/// Which of these networks the default route leads through: of those that have one that of the highest priority, and of equals the first by
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
        link: wanted.link_name().map(str::to_owned),
        link_local: wanted.link_local.clone(),
        names: names(record, wanted),
        ..Wish::default()
    }
}

/// Refuses a name for a link that another link of the container has.
pub(crate) fn check_link_name(
    others: &[Endpoint],
    network: &Network,
    wish: &Wish,
) -> Result<(), EngineError> {
    let name = wish.link.clone().unwrap_or_else(|| format!("{}{}", network.link_prefix(), wish.number));
    match others.iter().find(|other| other.link == name) {
        Some(other) => Err(EngineError::Conflict(format!(
            "the link to network {} cannot be called {name}: that to network {} is",
            network.name, other.network
        ))),
        None => Ok(()),
    }
}

/// Writes the settings that came with the attachment of one link.
pub(crate) fn set_of_link(
    wanted: &Attachment,
    endpoint: &Endpoint,
    netns: BorrowedFd<'_>,
) -> Result<(), EngineError> {
    for (key, value) in wanted.link_sysctls() {
        let Some(path) = of_link(&key.replace(ANY_LINK, &endpoint.link)) else { continue };
        rbox_network::set_inside(netns, [(path.as_str(), value)].into_iter(), false)
            .map_err(|error| EngineError::Invalid(format!("{LINK_SYSCTLS} {key}={value}: {error}")))?;
    }
    Ok(())
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

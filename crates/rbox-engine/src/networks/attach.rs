//! A container's networks at its start: addresses, host ports, names, the files that tell of them, the cables.
//!
//! What is planned is in the live record before any of it is made, so that a kill leaves all of it to be found.

use std::cmp::Reverse;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};

use rbox_network::{Dns, Endpoint, Network, Wish};
use rbox_runtime::Created;
use rbox_spec::container::{Attachment, NetworkMode};
use rbox_spec::port::PublishedPort;
use rbox_sys::trace;

use crate::error::EngineError;
use crate::networks::dns::{names, open_dns};
use crate::networks::ports::{HeldPort, reserve};
use crate::networks::store::{is_live, live_endpoints, networks};
use crate::oci::config::of_link;
use crate::record::container::{ContainerRecord, LiveState};
use crate::record::paths::Paths;

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
        names: names(record, wanted),
        ..Wish::default()
    }
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
    crate::networks::links::announce(paths, &record.id);
    open_dns(record, live, netns.as_fd()).map(Some)
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

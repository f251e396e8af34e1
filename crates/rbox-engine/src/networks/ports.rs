//! Published ports: those wanted, those held.

use std::collections::HashSet;
use std::os::fd::OwnedFd;

use rbox_network::{Endpoint, Network};
use rbox_spec::port::{ContainerPort, PortMapping, PublishedPort};
use rbox_sys::trace;

use crate::containers::find;
use crate::error::EngineError;
use crate::record::container::ContainerRecord;
use crate::record::paths::Paths;

/// A published port and the socket that keeps it ours; none of SCTP on a host without it.
pub(crate) type HeldPort = (PublishedPort, Option<OwnedFd>);

/// Takes the host ports, those it had before where they are free.
pub(crate) fn reserve(
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
    refuse_too_many(bound.len())?;
    let why = "A socket bound to each: nobody else on the host gets the port while the container runs.";
    let reserved = trace::step("hold the published ports", why, || {
        rbox_network::reserve(&bound, network.subnet6.is_some(), &|port| holder(paths, port))
    });
    let (ports, held) = reserved.map_err(|error| match error {
        // Not one of ours: the program of the host's that has it is named.
        rbox_network::Error::PortTaken { address, proto, errno, .. } => {
            let by =
                crate::networks::port_owner::holder(&address, &proto).map(|process| format!(" by {process}"));
            rbox_network::Error::PortTaken { holder: by.unwrap_or_default(), address, proto, errno }
        }
        error => error,
    })?;
    Ok(ports.into_iter().zip(held).collect())
}

/// Descriptors that a monitor needs besides those of published ports.
const OTHER_FILES: u64 = 64;

/// Each port is held by a socket: more than this process may have open would fail only after minutes of taking them one by one.
fn refuse_too_many(ports: usize) -> Result<(), EngineError> {
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    if ports as u64 <= most.saturating_sub(OTHER_FILES) {
        return Ok(());
    }
    Err(EngineError::Conflict(format!(
        "{ports} ports are to be published, each needs an open file, and this process may have {most}: publish fewer, or raise the \
         limit (ulimit -n)"
    )))
}

/// What is wanted, with the host ports that were chosen for it before.
pub(crate) fn as_before(wanted: &[PortMapping], kept: &[PublishedPort]) -> Vec<PortMapping> {
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
        let mut named: HashSet<ContainerPort> = wanted.iter().map(PortMapping::container).collect();
        let more = exposed(record).into_iter().filter(|port| named.insert(*port)).map(|port| PortMapping {
            host_ip: None,
            host_ports: None,
            zero: false,
            container_port: port.port,
            proto: port.proto,
        });
        wanted.extend(more);
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

pub(crate) fn holder(paths: &Paths, port: &PublishedPort) -> Option<String> {
    let all = find::list_running(paths).ok()?;
    all.into_iter()
        .find(|c| c.live.as_ref().is_some_and(|l| l.published.iter().any(|p| p.clashes(port))))
        .map(|c| c.record.name.into())
}

//! From one container to the next that takes its place: its names and its published ports, without a moment in which nobody has them.

use std::time::{Duration, Instant};

use rbox_spec::container::Attachment;
use rbox_spec::port::{ContainerPort, PortMapping, PublishedPort};

use crate::error::EngineError;
use crate::host::proc_text;
use crate::networks::change::{Change, follow_name};
use crate::networks::ports;
use crate::record::container::Container;
use crate::record::paths::Paths;

/// What the next container is reached by.
#[derive(Debug, Clone, Default)]
pub struct Reached {
    /// Its networks with its further names there; those of other networks stay as they are.
    pub attachments: Vec<Attachment>,
    /// Its published ports.
    pub ports: Vec<PortMapping>,
    /// Labels that it gets.
    pub labels: Vec<(String, String)>,
    /// Labels that it loses.
    pub unlabel: Vec<String>,
}

/// Makes `next` be reached by `reached`, of which `former` has the ports and names until then. What is under way to `former` goes on; what
/// begins from here on comes to `next`. A port that `former` has not is published as any other.
pub(crate) fn hand_over(
    paths: &Paths,
    former: &Container,
    next: &Container,
    reached: &Reached,
) -> Result<(), EngineError> {
    let held: Vec<PublishedPort> = former.live.iter().flat_map(|live| live.published.clone()).collect();
    let wanted = ports::as_before(&reached.ports, &held);
    let is_held = |mapping: &&PortMapping| held.iter().any(|port| leads(mapping, port));
    let fresh: Vec<PortMapping> = wanted.iter().filter(|mapping| !is_held(mapping)).cloned().collect();
    let taken: Vec<PublishedPort> =
        held.iter().copied().filter(|port| wanted.iter().any(|mapping| leads(mapping, port))).collect();
    // What may be refused comes first: until then everything leads to the former one.
    if !fresh.is_empty() {
        crate::networks::change::publish(paths, next, &fresh)?;
    }
    let mut change = Change::begin(paths, next)?;
    change.own_network()?;
    let record = &mut change.record;
    for attachment in &mut record.host.attachments {
        let same = reached.attachments.iter().find(|other| other.network == attachment.network);
        if let Some(same) = same {
            attachment.aliases.clone_from(&same.aliases);
        }
    }
    record.host.ports.extend(wanted.iter().filter(is_held).cloned());
    record.config.labels.extend(reached.labels.iter().cloned());
    record.config.labels.retain(|key, _| !reached.unlabel.contains(key));
    if let Some(live) = &mut change.live {
        let Some(endpoint) = live.main_endpoint().filter(|endpoint| endpoint.default_route).cloned() else {
            return Err(EngineError::Conflict(format!(
                "cannot publish ports of container {}: none of its networks has a way out",
                change.record.name
            )));
        };
        change.note(|all| all.extend(&taken));
        change.write_live()?;
        // One transaction: a port leads to the one or to the other.
        change.store.publish(&endpoint, &taken)?;
    }
    change.write_record()?;
    if let Some(live) = change.live.take() {
        change.live = Some(follow_name(paths, &change.record, live)?);
    }
    drop(change);
    unname(paths, former)
}

/// Whether a mapping asks for this port.
fn leads(mapping: &PortMapping, port: &PublishedPort) -> bool {
    mapping.container() == port.container()
        && mapping.host_ports.is_some_and(|(low, high)| (low..=high).contains(&port.host_port))
        && mapping.host_ip.is_none_or(|ip| ip == port.host_ip)
}

/// Whoever asks for its further names from here on gets those of the next one.
fn unname(paths: &Paths, former: &Container) -> Result<(), EngineError> {
    let mut change = Change::begin(paths, former)?;
    change.record.host.attachments.iter_mut().for_each(|attachment| attachment.aliases.clear());
    change.write_record()?;
    if let Some(live) = change.live.take() {
        change.live = Some(follow_name(paths, &change.record, live)?);
    }
    Ok(())
}

/// Holds the ports that a container took over, now that the one before it has let go of them. One that somebody else has meanwhile is
/// left: what comes to it from outside leads to the container all the same.
pub(crate) fn hold(paths: &Paths, container: &Container) -> Result<(), EngineError> {
    let change = Change::begin(paths, container)?;
    let Some(live) = &change.live else { return Ok(()) };
    let Some(endpoint) = live.main_endpoint() else { return Ok(()) };
    let network = change.store.attached(&endpoint.network_id, &endpoint.network)?;
    for port in &live.published {
        let exact = PortMapping {
            host_ip: Some(port.host_ip),
            host_ports: Some((port.host_port, port.host_port)),
            zero: false,
            container_port: port.container_port,
            proto: port.proto,
        };
        if let Ok(held) = ports::reserve_all(paths, &network, &[exact]) {
            for (port, socket) in &held {
                change.hold(*port, socket.as_ref());
            }
        }
    }
    Ok(())
}

/// Waits until nobody is connected any more to the ports of a container that were published, `at_most` so long.
pub(crate) fn drain(container: &Container, at_most: Duration) {
    const LOOK: Duration = Duration::from_millis(20);
    let Some(live) = &container.live else { return };
    let ports: Vec<ContainerPort> = container.record.host.ports.iter().map(PortMapping::container).collect();
    let begin = Instant::now();
    let is_used = |file: &&str| has_clients(&proc_text(&format!("/proc/{}/net/{file}", live.pid)), &ports);
    while begin.elapsed() < at_most && ["tcp", "tcp6"].iter().any(is_used) {
        std::thread::sleep(LOOK);
    }
}

/// Whether a table as /proc/net/tcp has a connection to one of these ports.
fn has_clients(table: &str, ports: &[ContainerPort]) -> bool {
    /// `TCP_ESTABLISHED` of `net/tcp_states.h`.
    const ESTABLISHED: &str = "01";
    table.lines().skip(1).any(|line| {
        let mut fields = line.split_whitespace();
        let local = fields.nth(1).and_then(|local| local.rsplit_once(':')).map(|(_, port)| port);
        let port = local.and_then(|port| u16::from_str_radix(port, 16).ok());
        let state = fields.nth(1);
        state == Some(ESTABLISHED) && ports.iter().any(|wanted| Some(wanted.port) == port)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_seen_in_the_table() {
        let head = "  sl  local_address rem_address   st tx_queue rx_queue\n";
        let line = |local: &str, state: &str| {
            format!("   0: 0100007F:{local} 0200000A:C350 {state} 00000000:00000000\n")
        };
        let port = |port| ContainerPort { port, proto: rbox_spec::port::Protocol::Tcp };
        let table = format!("{head}{}{}", line("0050", "0A"), line("0051", "01"));
        assert!(!has_clients(&table, &[port(80)]), "one that listens is no client");
        assert!(has_clients(&table, &[port(80), port(81)]));
        assert!(!has_clients("", &[port(81)]));
    }
}

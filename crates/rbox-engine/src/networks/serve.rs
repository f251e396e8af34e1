//! What a monitor serves on its container's networks: its name server, and the host ports that it holds or relays.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rbox_network::{Dns, Endpoint, NetworkNames, Relay};
use rbox_spec::id::ContainerId;
use rbox_spec::port::PublishedPort;
use rustix::event::PollFd;

use crate::networks::dns;
use crate::networks::ports::HeldPort;
use crate::record::container::{ContainerRecord, LiveState};
use crate::record::file::read_json;
use crate::record::paths::Paths;

/// The name server and the ports of one life of a container.
pub(crate) struct Served<'a> {
    dns: Option<Dns>,
    names: NetworkNames<'a>,
    ports: Vec<Port>,
}

/// A port that is held, and what it is relayed by when the kernel cannot lead there.
struct Port {
    published: PublishedPort,
    /// None where there is a relay, which has it, or where the kernel has no sockets of the protocol.
    socket: Option<OwnedFd>,
    relay: Option<Relay>,
}

impl<'a> Served<'a> {
    pub(crate) fn new(
        paths: &'a Paths,
        record: &ContainerRecord,
        live: &LiveState,
        dns: Option<Dns>,
        ports: Vec<HeldPort>,
    ) -> Self {
        let ports = ports.into_iter().map(|port| Port::new(port, &live.endpoints)).collect();
        Self { dns, names: dns::known_names(paths, record, live), ports }
    }

    /// Appends the descriptors to wait for.
    pub(crate) fn poll_fds<'b>(&'b self, fds: &mut Vec<PollFd<'b>>) {
        self.ports.iter().filter_map(|port| port.relay.as_ref()).for_each(|relay| relay.poll_fds(fds));
        if let Some(dns) = &self.dns {
            dns.poll_fds(fds);
        }
    }

    /// How long to wait at most.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        let relays = self.ports.iter().filter_map(|port| port.relay.as_ref()?.timeout());
        relays.chain(self.dns.as_ref().and_then(Dns::timeout)).min()
    }

    /// Does what is to be done for the descriptors that were appended last.
    pub(crate) fn turn(&mut self, ready: &[bool]) {
        let mut ready = ready.iter();
        for relay in self.ports.iter_mut().filter_map(|port| port.relay.as_mut()) {
            relay.turn(&mut ready.by_ref().copied());
        }
        if let Some(dns) = &mut self.dns {
            dns.turn(ready.as_slice(), &self.names);
        }
    }

    /// Keeps one more port. Where it leads is in the live record by now.
    pub(crate) fn hold(&mut self, paths: &Paths, id: &ContainerId, port: HeldPort) {
        let endpoints =
            LiveState::read(paths, id).ok().flatten().map_or_else(Vec::new, |live| live.endpoints);
        self.ports.push(Port::new(port, &endpoints));
    }

    /// The container joined a network, left one, has another name, or fewer ports: as the records say. A port that is
    /// published no more is given up.
    pub(crate) fn follow(&mut self, paths: &'a Paths, id: &ContainerId) {
        let record = read_json::<ContainerRecord>(&paths.config(id)).ok().flatten();
        if let (Some(record), Some(live)) = (record, LiveState::read(paths, id).ok().flatten()) {
            self.names = dns::known_names(paths, &record, &live);
            if let Some(dns) = &mut self.dns {
                dns.allow_host(dns::has_way_out(&live));
            }
            self.ports.retain(|port| live.published.contains(&port.published));
            for port in &mut self.ports {
                port.lead(&live.endpoints);
            }
        }
    }
}

impl Port {
    fn new((published, socket): HeldPort, endpoints: &[Endpoint]) -> Self {
        let mut held = Self { published, socket, relay: None };
        held.lead(endpoints);
        held
    }

    /// Relays to the endpoint that the port is published for, where that is needed.
    fn lead(&mut self, endpoints: &[Endpoint]) {
        let endpoint = endpoints.iter().find(|endpoint| endpoint.ports.contains(&self.published));
        let Some(container) = endpoint.and_then(|endpoint| endpoint.ip6) else { return };
        if let Some(relay) = &mut self.relay {
            relay.lead_to(container.ip);
        } else if Relay::is_needed(&self.published)
            && let Some(socket) = self.socket.take()
        {
            match Relay::open(&self.published, socket, container.ip) {
                Ok(relay) => self.relay = Some(relay),
                // It is published all the same, only not at [::1].
                Err((socket, _)) => self.socket = Some(socket),
            }
        }
    }
}

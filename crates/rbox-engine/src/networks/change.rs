//! Changing the networks of a container that exists, also while it runs: joining, leaving, publishing ports, other names.
//!
//! Whoever does so has the right to change the record ([`Editing`]); a monitor whose container ends waits for that, and
//! then takes apart what the live record says by then. So each thing is in the live record before it is made, and in
//! `config.json` from when it is whole until it is about to go. What the live record has beyond that is half made, or half taken
//! away: `<state>/changing/<id>` is there while somebody is at it, and when it is left, [`mend`] takes the rest away.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use rbox_network::{Endpoint, MOST_NETWORKS, Network, NetworkStore, Wish, own_line};
use rbox_spec::container::{Attachment, Link, NetworkMode};
use rbox_spec::id::ContainerId;
use rbox_spec::port::{ContainerPort, PortMapping, PublishedPort};
use rbox_sys::{channel, process};

use crate::error::EngineError;
use crate::journal::{self, Happening, NetworkAction, NetworkActor};
use crate::monitor::protocol::{self, ToMonitor};
use crate::networks::links::edit_hosts;
use crate::networks::ports::{self, HeldPort};
use crate::networks::resolve::{resolve_links, resolve_one};
use crate::networks::store::{self, networks};
use crate::networks::{attach, dns};
use crate::record::container::{Container, ContainerRecord, LiveState, keep, lasting};
use crate::record::file::write_json;
use crate::record::lock::Editing;
use crate::record::paths::Paths;

/// A container that is being changed.
pub(super) struct Change<'a> {
    paths: &'a Paths,
    pub(super) store: NetworkStore,
    pub(super) record: ContainerRecord,
    pub(super) live: Option<LiveState>,
    _mark: Changing,
    _editing: Editing,
}

/// The mark of a container that is being changed.
fn mark(paths: &Paths, id: &ContainerId) -> PathBuf {
    paths.changing().join(id.as_str())
}

impl<'a> Change<'a> {
    pub(super) fn begin(paths: &'a Paths, container: &Container) -> Result<Self, EngineError> {
        let id = &container.record.id;
        let editing =
            Editing::begin(paths, id)?.ok_or_else(|| crate::containers::running::missing(container))?;
        let mut change = Self::with(paths, id, editing)
            .map_err(|error| crate::containers::running::as_asked(container, error))?;
        let mark = mark(paths, id);
        if mark.exists() {
            change.mend()?;
        }
        // The guard that the change has takes it away.
        std::mem::forget(begin_change(paths, id)?);
        Ok(change)
    }

    fn with(paths: &'a Paths, id: &ContainerId, editing: Editing) -> Result<Self, EngineError> {
        let now =
            Container::read_whole(paths, id)?.ok_or_else(|| EngineError::NoContainer(id.to_string()))?;
        crate::containers::running::refuse_restarting(&now)?;
        Ok(Self {
            paths,
            store: networks(paths),
            record: now.record,
            live: now.live,
            _mark: Changing(mark(paths, id)),
            _editing: editing,
        })
    }

    /// Takes away what the live record has and the record has not.
    fn mend(&mut self) -> Result<(), EngineError> {
        let Some(live) = self.live.clone() else { return Ok(()) };
        // It may have been a rename: the names are those of the record.
        let live = follow_name(self.paths, &self.record, live)?;
        self.live = Some(live.clone());
        let host = self.record.host.clone();
        let is_wanted =
            |endpoint: &&Endpoint| host.attachments.iter().any(|wanted| wanted.network == endpoint.network);
        let asked = ports::wanted_ports(&self.record);
        let is_asked = |port: &&PublishedPort| {
            asked.iter().any(|mapping| {
                mapping.container() == port.container()
                    && mapping.host_ports.is_none_or(|(low, high)| (low..=high).contains(&port.host_port))
            })
        };
        for endpoint in live.endpoints.iter().filter(|endpoint| !is_wanted(endpoint)) {
            leave(self, endpoint);
        }
        let stray: Vec<PublishedPort> =
            live.published.iter().filter(|port| !is_asked(port)).copied().collect();
        self.take_back(&stray)?;
        if let Some((_, socket)) = self.inside()? {
            // What led in by a network that is left does so by the one that has the default route now; and that is
            // made again, as nobody knows how far it was made.
            let mut homeless = Vec::new();
            if let Some(live) = &mut self.live {
                let has_home = |port: &PublishedPort| live.endpoints.iter().any(|e| e.ports.contains(port));
                homeless.extend(live.published.iter().copied().filter(|port| !has_home(port)));
                live.endpoints.iter_mut().for_each(|endpoint| endpoint.default_route = false);
            }
            self.route(socket, homeless)?;
        }
        self.write_live()?;
        self.tell(&ToMonitor::Follow, None);
        Ok(())
    }

    /// Takes these ports back from whichever endpoint they lead to.
    fn take_back(&mut self, ports: &[PublishedPort]) -> Result<(), EngineError> {
        let endpoints = self.live.as_ref().map_or_else(Vec::new, |live| live.endpoints.clone());
        for endpoint in &endpoints {
            let own: Vec<PublishedPort> =
                endpoint.ports.iter().copied().filter(|port| ports.contains(port)).collect();
            self.store.unpublish(endpoint, &own)?;
        }
        self.note(|all| all.retain(|port| !ports.contains(port)));
        self.write_live()
    }

    /// Refuses a container whose network is not its own.
    pub(super) fn own_network(&self) -> Result<(), EngineError> {
        let name = &self.record.name;
        let why = match &self.record.host.network {
            NetworkMode::Bridge => return Ok(()),
            NetworkMode::Host => "it has the host's network: create it with another --network",
            NetworkMode::None => "it was created with --network none: create it with another one",
            NetworkMode::Container(_) => "it has another container's network: change that one's",
        };
        Err(EngineError::Conflict(format!("cannot change the networks of container {name}: {why}")))
    }

    pub(super) fn write_record(&self) -> Result<(), EngineError> {
        let path = self.paths.config(&self.record.id);
        Ok(keep(self.paths, &path, &self.record, lasting(&self.record.host))?)
    }

    pub(super) fn write_live(&self) -> Result<(), EngineError> {
        match &self.live {
            Some(live) => Ok(write_json(&self.paths.live_state(&self.record.id), live)?),
            None => Ok(()),
        }
    }

    /// The container's network namespace, and a `NETLINK_ROUTE` socket in it.
    fn inside(&self) -> Result<Option<(File, OwnedFd)>, EngineError> {
        let Some(live) = &self.live else { return Ok(None) };
        let path = format!("/proc/{}/ns/net", live.pid);
        let netns = File::open(&path).map_err(EngineError::file("open", path))?;
        let socket = process::in_network(netns.as_fd(), rbox_network::route_socket)??;
        Ok(Some((netns, socket)))
    }

    /// Whether it runs on no network that leads out of the host.
    fn has_no_way_out(&self) -> bool {
        self.live.as_ref().is_some_and(|live| !dns::has_way_out(live))
    }

    /// Tells the monitor; without one nobody holds ports or answers for names, and there is nobody to tell.
    fn tell(&self, message: &ToMonitor<'_>, passed: Option<&OwnedFd>) {
        if let Ok(socket) = protocol::connect(&self.paths.live_of(&self.record.id)) {
            let _ = channel::send(&socket, &message.encode(), passed.map(AsFd::as_fd));
        }
    }

    /// Has the monitor hold a port.
    pub(super) fn hold(&self, port: PublishedPort, socket: Option<&OwnedFd>) {
        self.tell(&ToMonitor::Hold(port), socket);
    }

    /// Makes the default route lead where the priorities say, now that the networks are others, and the published ports with it:
    /// what comes in through another network than the default route would be answered with the wrong address. `ports` have
    /// lost their network.
    fn route(&mut self, socket: OwnedFd, mut ports: Vec<PublishedPort>) -> Result<(), EngineError> {
        let found = self
            .record
            .host
            .attachments
            .iter()
            .map(|wanted| Ok((wanted, self.store.attached(&wanted.network_id, &wanted.network)?)))
            .collect::<Result<Vec<(&Attachment, Network)>, EngineError>>()?;
        let main =
            attach::way_out(&found).and_then(|main| found.get(main)).map(|(_, network)| network.id.clone());
        let Some(live) = &mut self.live else { return Ok(()) };
        let now = live.endpoints.iter().find(|endpoint| endpoint.default_route).map(|e| &e.network_id);
        if main.as_ref() == now && ports.is_empty() {
            return Ok(());
        }
        for endpoint in &mut live.endpoints {
            endpoint.default_route = main.as_ref() == Some(&endpoint.network_id);
            if !endpoint.default_route {
                self.store.unpublish(endpoint, &endpoint.ports)?;
                ports.append(&mut endpoint.ports);
            }
        }
        if let Some(endpoint) = live.endpoints.iter_mut().find(|endpoint| endpoint.default_route) {
            ports.retain(|port| port.host_ip.is_ipv4() || endpoint.ip6.is_some());
            self.store.publish(endpoint, &ports)?;
            endpoint.ports.extend(ports);
        }
        live.published = live.endpoints.iter().flat_map(|endpoint| endpoint.ports.clone()).collect();
        rbox_network::route_inside(socket, live.endpoints.iter().find(|endpoint| endpoint.default_route))?;
        Ok(())
    }
}

/// Puts the container on a network. The first of a running one that has a default route has its published ports, too: these were
/// given up when the last such network was left, or never taken when there was none. `links` are further ones of the container.
pub(crate) fn connect(
    paths: &Paths,
    container: &Container,
    mut wanted: Attachment,
    mut links: Vec<Link>,
) -> Result<(), EngineError> {
    let mut change = Change::begin(paths, container)?;
    change.own_network()?;
    let network = resolve_one(&change.store, &mut wanted)?;
    resolve_links(paths, &mut links)?;
    let attachments = &change.record.host.attachments;
    if attachments.iter().any(|other| other.network_id == network.id || other.network == network.name) {
        return Err(EngineError::Conflict(format!(
            "endpoint with name {} already exists in network {}",
            change.record.name, network.name
        )));
    }
    let number = (0..MOST_NETWORKS).find(|n| !attachments.iter().any(|other| other.number == Some(*n)));
    let Some(number) = number else {
        return Err(EngineError::Invalid(format!("a container can be on {MOST_NETWORKS} networks at most")));
    };
    wanted.number = Some(number);
    if let Some((netns, socket)) = change.inside()? {
        enter(&mut change, &network, &wanted, &netns, socket)?;
    }
    change.record.host.attachments.push(wanted);
    change.record.host.links.append(&mut links);
    let settled = settle(&mut change);
    if settled.is_err() {
        change.record.host.attachments.pop();
        // What cannot be taken back now goes with the container.
        let _ = change.mend();
    }
    change.tell(&ToMonitor::Follow, None);
    settled
}

/// Puts a container that runs on the network, with its published ports where it had no default route before. Its monitor holds
/// these from now on.
fn enter(
    change: &mut Change<'_>,
    network: &Network,
    wanted: &Attachment,
    netns: &File,
    socket: OwnedFd,
) -> Result<(), EngineError> {
    let paths = change.paths;
    let default_route = !network.internal && change.has_no_way_out();
    let held = if default_route {
        ports::reserve_all(paths, network, &ports::wanted_ports(&change.record))?
    } else {
        Vec::new()
    };
    let wish = Wish {
        number: wanted.number.unwrap_or_default(),
        default_route,
        ports: held.iter().map(|(port, _)| *port).collect(),
        ..attach::wish(&change.record, wanted)
    };
    attach::check_link_name(change.live.as_ref().map_or(&[], |live| &live.endpoints), network, &wish)?;
    let endpoint = store::plan(paths, &change.store, network, &wish)?;
    let joined = join(change, network, &endpoint, netns, socket)
        .and_then(|()| attach::set_of_link(wanted, &endpoint, netns.as_fd()));
    if let Err(error) = joined {
        let _ = change.mend();
        return Err(error);
    }
    for (port, socket) in &held {
        change.tell(&ToMonitor::Hold(*port), socket.as_ref());
    }
    Ok(())
}

/// Makes all else follow the networks, and what the records say of them lasting.
fn settle(change: &mut Change<'_>) -> Result<(), EngineError> {
    if let Some((_, socket)) = change.inside()? {
        change.route(socket, Vec::new())?;
        change.write_live()?;
    }
    if let Some(live) = &change.live {
        crate::networks::links::follow(change.paths, &change.record, live)?;
    }
    change.write_record()
}

/// Wires a planned endpoint into a container that runs.
fn join(
    change: &mut Change<'_>,
    network: &Network,
    endpoint: &Endpoint,
    netns: &File,
    socket: OwnedFd,
) -> Result<(), EngineError> {
    if let Some(live) = &mut change.live {
        live.endpoints.push(endpoint.clone());
        live.published.extend(&endpoint.ports);
    }
    change.write_live()?;
    let paths = change.paths;
    change.store.ensure(network, &|| store::live_endpoints(paths))?;
    change.store.attach(endpoint, netns.as_fd())?;
    rbox_network::configure_inside(socket, std::slice::from_ref(endpoint))?;
    let hostname = change.record.config.full_hostname();
    edit_hosts(paths, &change.record.id, |text| {
        endpoint.addresses().fold(text.to_owned(), |text, ip| text + &own_line(ip, &hostname))
    });
    crate::networks::links::announce(paths, &change.record.id);
    note(change, endpoint, NetworkAction::Connect(&change.record.id));
    Ok(())
}

fn note(change: &Change<'_>, endpoint: &Endpoint, action: NetworkAction<'_>) {
    journal::note(change.paths, &[Happening::Network(NetworkActor::of(endpoint), action)]);
}

/// Takes an endpoint away from a container that runs. Goes on past failures.
fn leave(change: &mut Change<'_>, endpoint: &Endpoint) -> Vec<rbox_network::Error> {
    let failures = change.store.disconnect(endpoint).err().unwrap_or_default();
    note(change, endpoint, NetworkAction::Disconnect(&change.record.id));
    if let Some(live) = &mut change.live {
        // Its ports stay published until they lead elsewhere or are given up, so that a kill loses none.
        live.endpoints.retain(|other| other.network_id != endpoint.network_id);
    }
    let hostname = change.record.config.full_hostname();
    edit_hosts(change.paths, &change.record.id, |text| {
        endpoint.addresses().fold(text.to_owned(), |text, ip| text.replace(&own_line(ip, &hostname), ""))
    });
    // What is said of it on disk can only be too much: the end of the container takes it.
    let _ = change.write_live();
    failures
}

/// Takes the container off a network. Ports published through it are published through the one that its default route leads
/// through then, and are given up when there is none.
pub(crate) fn disconnect(paths: &Paths, container: &Container, network: &str) -> Result<(), EngineError> {
    let mut change = Change::begin(paths, container)?;
    change.own_network()?;
    let attachments = &change.record.host.attachments;
    // The network itself may be gone; then the record knows its name and id.
    let id = change.store.find(network).map_or_else(|_| network.to_owned(), |network| network.id);
    let at = attachments.iter().position(|other| other.network_id == id || other.network == network);
    let Some(at) = at else {
        return Err(EngineError::Conflict(format!(
            "container {} is not connected to network {network}",
            change.record.id
        )));
    };
    let gone = change.record.host.attachments.remove(at);
    change.write_record()?;
    let endpoint = change
        .live
        .as_ref()
        .and_then(|live| live.endpoints.iter().find(|endpoint| endpoint.network == gone.network).cloned());
    let mut failures = Vec::new();
    if let Some(endpoint) = &endpoint {
        failures = leave(&mut change, endpoint);
        if let Some((_, socket)) = change.inside()? {
            change.route(socket, endpoint.ports.clone())?;
            change.write_live()?;
        }
    }
    change.tell(&ToMonitor::Follow, None);
    failures.into_iter().next().map_or(Ok(()), |failure| Err(failure.into()))
}

/// Publishes ports of a container that exists. What they are published as; empty for one that does not run.
pub(crate) fn publish(
    paths: &Paths,
    container: &Container,
    wanted: &[PortMapping],
) -> Result<Vec<PublishedPort>, EngineError> {
    let mut change = Change::begin(paths, container)?;
    change.own_network()?;
    let mut held = Vec::new();
    if let Some(live) = &change.live {
        let Some(endpoint) = live.main_endpoint().filter(|endpoint| endpoint.default_route).cloned() else {
            return Err(EngineError::Conflict(format!(
                "cannot publish ports of container {}: none of its networks has a way out",
                change.record.name
            )));
        };
        let network = change.store.attached(&endpoint.network_id, &endpoint.network)?;
        held = ports::reserve_all(paths, &network, wanted)?;
        let ports: Vec<PublishedPort> = held.iter().map(|(port, _)| *port).collect();
        change.note(|all| all.extend(&ports));
        change.write_live()?;
        if let Err(error) = change.store.publish(&endpoint, &ports) {
            let _ = change.store.unpublish(&endpoint, &ports);
            change.note(|all| all.retain(|port| !ports.contains(port)));
            change.write_live()?;
            return Err(error.into());
        }
        for (port, socket) in &held {
            change.hold(*port, socket.as_ref());
        }
    }
    change.record.host.ports.extend(wanted.iter().cloned());
    let exposed = &mut change.record.config.exposed_ports;
    exposed.extend(wanted.iter().map(|mapping| mapping.container().to_string()));
    exposed.sort();
    exposed.dedup();
    change.write_record()?;
    Ok(held.into_iter().map(|(port, _): HeldPort| port).collect())
}

/// Takes back the published ports of a container that lead to `inside`, or of these only the one on `host_port`.
pub(crate) fn unpublish(
    paths: &Paths,
    container: &Container,
    inside: ContainerPort,
    host_port: Option<u16>,
) -> Result<(), EngineError> {
    let mut change = Change::begin(paths, container)?;
    let is_meant = |port: &PublishedPort| {
        port.container() == inside && host_port.is_none_or(|wanted| wanted == port.host_port)
    };
    let exact = |mapping: &PortMapping| {
        mapping.container() == inside
            && host_port.is_none_or(|wanted| mapping.host_ports == Some((wanted, wanted)))
    };
    // One that was given any port, or any of a range, is meant only when no other asked for just this one.
    let has_exact = change.record.host.ports.iter().any(exact);
    let is_asked = |mapping: &PortMapping| {
        exact(mapping)
            || (!has_exact
                && mapping.container() == inside
                && mapping
                    .host_ports
                    .is_none_or(|(low, high)| host_port.is_some_and(|w| (low..=high).contains(&w))))
    };
    let published: Vec<PublishedPort> =
        change.live.iter().flat_map(|live| &live.published).copied().filter(is_meant).collect();
    if published.is_empty() && !change.record.host.ports.iter().any(is_asked) {
        let on = host_port.map(|port| format!(" on host port {port}")).unwrap_or_default();
        return Err(EngineError::Conflict(format!(
            "no public port '{inside}' published for {}{on}",
            change.record.name
        )));
    }
    // With the record first: a start in between does not publish them again.
    change.record.host.ports.retain(|mapping| !is_asked(mapping));
    change.write_record()?;
    let done = change.take_back(&published);
    change.tell(&ToMonitor::Follow, None);
    done
}

/// Finishes what commands that were killed had begun with containers that live on.
pub(crate) fn mend(paths: &Paths) {
    for id in crate::containers::find::marks(&paths.changing()).unwrap_or_default() {
        // Somebody may be at it: that one has the right.
        let Ok(Some(editing)) = Editing::begin_within(paths, &id, Duration::ZERO) else {
            if !paths.container(&id).exists() {
                // The names it was being given are in no record.
                let _ = networks(paths).sweep_names(&|id| store::is_live(paths, id));
                let _ = std::fs::remove_file(mark(paths, &id));
            }
            continue;
        };
        if let Ok(mut change) = Change::with(paths, &id, editing) {
            // What cannot be mended now goes with the container.
            let _ = change.mend();
        }
    }
}

impl Change<'_> {
    /// Changes the published ports in the live record: of the container, and of the endpoint they lead to.
    pub(super) fn note(&mut self, change: impl Fn(&mut Vec<PublishedPort>)) {
        let Some(live) = &mut self.live else { return };
        change(&mut live.published);
        let leads =
            live.endpoints.iter_mut().find(|endpoint| endpoint.default_route || !endpoint.ports.is_empty());
        if let Some(endpoint) = leads {
            change(&mut endpoint.ports);
        }
    }
}

/// `rm --link CONTAINER/ALIAS`: the container knows the other one by that alias no more.
pub(crate) fn unlink(paths: &Paths, path: &str) -> Result<(), EngineError> {
    let conflict = |message: String| Err(EngineError::Conflict(message));
    let Some((parent, alias)) = path.trim_start_matches('/').split_once('/') else {
        return conflict(format!("Conflict, cannot remove the default link name of the container: {path}"));
    };
    let container = crate::containers::find::find(paths, parent)?;
    let mut change = Change::begin(paths, &container)?;
    let links = &mut change.record.host.links;
    let Some(at) = links.iter().position(|link| link.alias.eq_ignore_ascii_case(alias)) else {
        return conflict(format!(
            "could not find link {path}: the container {parent} has no link of that alias"
        ));
    };
    let gone = links.remove(at);
    change.write_record()?;
    if change.live.is_some() {
        crate::networks::links::leave(paths, &change.record.id, &gone);
    }
    change.tell(&ToMonitor::Follow, None);
    Ok(())
}

/// Notes that the container `id` is being changed: until the guard goes, and when the command is killed until the next one
/// has mended it.
pub(crate) fn begin_change(paths: &Paths, id: &ContainerId) -> Result<Changing, EngineError> {
    let (dir, mark) = (paths.changing(), mark(paths, id));
    rbox_sys::own::make_private(&dir).map_err(EngineError::file("make directory", dir))?;
    rbox_sys::own::write(&mark, "").map_err(EngineError::file("write", &mark))?;
    Ok(Changing(mark))
}

/// The mark of a change, which goes with it.
pub(crate) struct Changing(PathBuf);

impl Drop for Changing {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// After a change of its name: the name server of its networks answers for the new one.
pub(crate) fn follow_name(
    paths: &Paths,
    record: &ContainerRecord,
    mut live: LiveState,
) -> Result<LiveState, EngineError> {
    let store = networks(paths);
    for endpoint in &mut live.endpoints {
        let wanted = record.host.attachments.iter().find(|wanted| wanted.network == endpoint.network);
        let names = wanted.map_or_else(Vec::new, |wanted| dns::names(record, wanted));
        store.rename(endpoint, &names)?;
        endpoint.names = names;
    }
    write_json(&paths.live_state(&record.id), &live)?;
    Ok(live)
}

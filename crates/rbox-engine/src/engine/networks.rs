//! Networks, and the containers on them.

use std::collections::HashSet;

use rbox_network::{Network, NetworkStore, NewNetwork};
use rbox_spec::container::{Attachment, Link};
use rbox_spec::port::{ContainerPort, PortMapping, PublishedPort};

use crate::containers::find;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::journal::{Happening, NetworkAction, NetworkActor, note};
use crate::networks::store::{is_live, live_endpoints, networks};
use crate::networks::{change, store};
use crate::packet::{Drawing, Live, World, draw};
use crate::record::container::Container;

impl Engine {
    /// The networks.
    pub fn networks(&self) -> NetworkStore {
        networks(&self.paths)
    }

    /// The ids of the networks that containers are on, running or not.
    ///
    /// # Errors
    /// The directory of records cannot be read.
    pub fn networks_in_use(&self) -> Result<HashSet<String>, EngineError> {
        let attachments =
            self.containers_and_steps()?.into_iter().flat_map(|container| container.record.host.attachments);
        Ok(attachments.map(|wanted| wanted.network_id).collect())
    }

    /// Makes a network. Its bridge comes with its first container.
    ///
    /// # Errors
    /// The request asks for what cannot be, the name is taken, or no subnet is free.
    pub fn create_network(&self, request: &NewNetwork) -> Result<Network, rbox_network::Error> {
        let network = self.networks().create(request, &|| live_endpoints(&self.paths))?;
        self.note_network(&network, NetworkAction::Create);
        Ok(network)
    }

    fn note_network(&self, network: &Network, action: NetworkAction<'_>) {
        note(&self.paths, &[Happening::Network(NetworkActor::new(network), action)]);
    }

    /// Removes a network that no container is on.
    ///
    /// # Errors
    /// A container is on it (they are named), it is one of rbox's own, or its bridge cannot be removed.
    pub fn remove_network(&self, network: &Network) -> Result<(), rbox_network::Error> {
        store::remove(&self.paths, network).map_err(|error| match error {
            rbox_network::Error::NetworkInUse { network, owners } => {
                let owners = owners.iter().map(|id| self.owner(id)).collect();
                rbox_network::Error::NetworkInUse { network, owners }
            }
            error => error,
        })?;
        self.note_network(network, NetworkAction::Destroy);
        Ok(())
    }

    /// A container as messages about networks name it.
    fn owner(&self, id: &str) -> String {
        match find::find(&self.paths, id) {
            Ok(Container { record, .. }) => format!("name:\"{}\" id:\"{}\"", record.name, record.id.short()),
            Err(_) => format!("id:\"{id}\""),
        }
    }

    /// Restores the bridges, rules and published ports of all networks.
    ///
    /// # Errors
    /// What could not be restored; the rest was.
    pub fn reconcile_networks(&self) -> Result<(), Vec<rbox_network::Error>> {
        let live = live_endpoints(&self.paths);
        self.networks().reconcile(&live, &|id| is_live(&self.paths, id))
    }

    /// Puts a container on a further network, at once when it runs.
    ///
    /// # Errors
    /// The network is not there, the container is on it or has no network of its own, or an address is taken.
    pub fn connect(
        &self,
        container: &Container,
        wanted: Attachment,
        links: Vec<Link>,
    ) -> Result<(), EngineError> {
        change::connect(&self.paths, container, wanted, links)
    }

    /// Takes a container off a network.
    ///
    /// # Errors
    /// It is not on it, or its link cannot be removed.
    pub fn disconnect(&self, container: &Container, network: &str) -> Result<(), EngineError> {
        change::disconnect(&self.paths, container, network)
    }

    /// Publishes further ports of a container, at once when it runs: which those are.
    ///
    /// # Errors
    /// A port is taken, or the container has no network of its own.
    pub fn publish(
        &self,
        container: &Container,
        wanted: &[PortMapping],
    ) -> Result<Vec<PublishedPort>, EngineError> {
        change::publish(&self.paths, container, wanted)
    }

    /// Takes back the published ports that lead to one of a container's; with `host_port` the one of that number only.
    ///
    /// # Errors
    /// There is none.
    pub fn unpublish(
        &self,
        container: &Container,
        inside: ContainerPort,
        host_port: Option<u16>,
    ) -> Result<(), EngineError> {
        change::unpublish(&self.paths, container, inside, host_port)
    }

    /// Removes a link of a container to another: `CONTAINER/ALIAS`.
    ///
    /// # Errors
    /// There is none.
    pub fn unlink(&self, path: &str) -> Result<(), EngineError> {
        change::unlink(&self.paths, path)
    }

    /// What the kernel has of networks now, for traces.
    ///
    /// # Errors
    /// The kernel cannot be asked.
    pub fn world(&self) -> Result<(World, Live<'_>), EngineError> {
        Ok((World::look(&self.paths)?, Live::new(&self.paths)))
    }

    /// All networks as they are now, or what has this name: a container or a network. None when nothing has.
    ///
    /// # Errors
    /// The kernel cannot be asked.
    pub fn draw_networks(&self, name: Option<&str>) -> Result<Option<Drawing>, EngineError> {
        let (world, live) = self.world()?;
        draw(&self.paths, &world, &live, name)
    }
}

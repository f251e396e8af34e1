//! Removing what nobody uses. Volumes and images have it in their stores.

use jiff::Timestamp;
use rbox_image::Pruned;
use rbox_spec::id::ContainerId;

use crate::engine::{Engine, RemoveRequest};
use crate::error::EngineError;
use crate::journal::{ActorType, Happening, note};
use crate::listing::filter::Filters;
use crate::volume::store::{self, disk_usage};

/// Containers that were removed.
#[derive(Debug, Default)]
pub struct PrunedContainers {
    /// Their ids.
    pub ids: Vec<ContainerId>,
    /// Bytes of disk given back.
    pub reclaimed: u64,
}

/// Networks that were removed.
#[derive(Debug, Default)]
pub struct PrunedNetworks {
    /// Their names.
    pub names: Vec<String>,
}

impl Engine {
    /// Removes the containers that do not run and pass the filters.
    ///
    /// # Errors
    /// A filter is none, or the records cannot be read. One container that cannot be removed keeps no other from it.
    pub fn prune_containers(&self, filters: &Filters) -> Result<PrunedContainers, EngineError> {
        let until = filters.until(Timestamp::now())?;
        let mut pruned = PrunedContainers::default();
        for container in self.containers()? {
            let record = &container.record;
            let wanted = !container.is_active()
                && filters.labels(&record.config.labels)
                && until.is_none_or(|until| record.created < until);
            if !wanted {
                continue;
            }
            let size = disk_usage(&record.upper(&self.paths));
            // One that was started since it was listed is refused, and stays.
            if self.remove(&container, RemoveRequest::default()).is_ok() {
                pruned.ids.push(record.id.clone());
                pruned.reclaimed += size;
            }
        }
        note(&self.paths, &[Happening::Pruned(ActorType::Container, pruned.reclaimed)]);
        Ok(pruned)
    }

    /// Removes the users' networks that no container is on, running or not.
    ///
    /// # Errors
    /// A filter is none, or the records cannot be read.
    pub fn prune_networks(&self, filters: &Filters) -> Result<PrunedNetworks, EngineError> {
        let until = filters.until(Timestamp::now())?;
        let used = self.networks_in_use()?;
        let mut pruned = PrunedNetworks::default();
        for network in self.networks().records()? {
            let created = Timestamp::try_from(network.created).unwrap_or(Timestamp::UNIX_EPOCH);
            let wanted = !used.contains(&network.id)
                && filters.labels(&network.labels)
                && until.is_none_or(|until| created < until);
            // One that is taken since it was listed is refused, and stays.
            if wanted && self.remove_network(&network).is_ok() {
                pruned.names.push(network.name);
            }
        }
        note(&self.paths, &[Happening::Pruned(ActorType::Network, 0)]);
        Ok(pruned)
    }

    /// Removes the volumes that no container mounts: anonymous ones, with `all` named ones too.
    ///
    /// # Errors
    /// The volumes or the records cannot be read. One that cannot be removed is part of the answer.
    pub fn prune_volumes(&self, filters: &Filters, all: bool) -> Result<store::Pruned, EngineError> {
        let pruned = self.volumes().prune(filters, all, &|| self.volume_users())?;
        note(&self.paths, &[Happening::Pruned(ActorType::Volume, pruned.reclaimed)]);
        Ok(pruned)
    }

    /// Removes the images that no container uses: those without a name, with `all` all of them.
    ///
    /// # Errors
    /// A filter is none, or the store cannot be read.
    pub fn prune_images(&self, filters: &Filters, all: bool) -> Result<Pruned, EngineError> {
        let until = filters.until(Timestamp::now())?;
        let store = self.images()?;
        let before = store.list()?;
        let pruned = store.prune(all, |image| {
            filters.labels(&image.config.config.labels)
                && until.is_none_or(|until| image.created.is_none_or(|created| created < until))
        })?;
        self.tell_removed(&before, &pruned.removed);
        note(&self.paths, &[Happening::Pruned(ActorType::Image, pruned.freed)]);
        Ok(pruned)
    }
}

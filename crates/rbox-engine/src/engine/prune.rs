//! Removing what nobody uses. Volumes and images have it in their stores.

use std::collections::HashSet;

use jiff::Timestamp;
use rbox_image::Pruned;
use rbox_spec::id::ContainerId;
use rbox_spec::{Digest, VolumeName};

use crate::engine::{Engine, RemoveRequest};
use crate::error::EngineError;
use crate::journal::{ActorType, Happening, Used, note};
use crate::listing::filter::Filters;
use crate::record::container::Container;
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
        let used = filters.last_used(Timestamp::now())?;
        let mut pruned = PrunedContainers::default();
        for container in self.containers()? {
            let record = &container.record;
            let wanted = !container.is_active()
                && filters.labels(&record.config.labels)
                && until.is_none_or(|until| record.created < until)
                && used.is_none_or(|used| last_use(&container) < used);
            if !wanted {
                continue;
            }
            // Another prune at the same moment may have been faster.
            if !self.paths.container(&record.id).exists() {
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
        let lately = self.used_since(filters)?;
        let mut pruned = PrunedNetworks::default();
        for network in self.networks().records()? {
            let created = Timestamp::try_from(network.created).unwrap_or(Timestamp::UNIX_EPOCH);
            let wanted = !used.contains(&network.id)
                && filters.labels(&network.labels)
                && until.is_none_or(|until| created < until)
                && !lately.as_ref().is_some_and(|lately| lately.may_have(&network.id));
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
        let lately = self.used_since(filters)?;
        let is_old =
            |name: &VolumeName| !lately.as_ref().is_some_and(|lately| lately.may_have(name.as_str()));
        let pruned = self.volumes().prune(filters, all, &is_old, &|| self.volume_users())?;
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
        let lately = self.used_since(filters)?;
        // Containers and pulls name the image by one of its names, which is looked up as it is now.
        let names = lately.iter().flat_map(Used::names);
        let kept: HashSet<Digest> =
            names.filter_map(|name| store.find(name).ok().flatten()).map(|image| image.id).collect();
        let is_known = lately.as_ref().is_none_or(Used::is_whole);
        let pruned = store.prune(all, |image| {
            is_known
                && !kept.contains(&image.id)
                && filters.labels(&image.config.config.labels)
                && until.is_none_or(|until| image.created.is_none_or(|created| created < until))
        })?;
        self.tell_removed(&before, &pruned.removed);
        note(&self.paths, &[Happening::Pruned(ActorType::Image, pruned.freed)]);
        Ok(pruned)
    }

    /// What was used since the moment of the filter `last-used`, if that was given.
    fn used_since(&self, filters: &Filters) -> Result<Option<Used>, EngineError> {
        let since = filters.last_used(Timestamp::now())?;
        Ok(since.map(|since| Used::since(&self.paths, since)))
    }
}

/// When a container that does not run was used last.
fn last_use(container: &Container) -> Timestamp {
    container.exit.as_ref().map_or(container.record.created, |exit| exit.finished)
}

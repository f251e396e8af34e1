//! `down`: containers, networks, and on request volumes and images of a project go, told from their labels.

use std::collections::BTreeSet;

use rbox_engine::engine::{Engine, RemoveRequest};
use rbox_engine::image::store::RemoveOptions;
use rbox_engine::network::Error as NetworkError;

use super::ending::Ending;
use super::providers::{self, Verb};
use super::{Narrator, Stage, Thing};
use crate::error::RunError;
use crate::labels;
use crate::model::Project;
use crate::observed::{Instance, Observed};

/// Which images go with a project.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemovedImages {
    /// Those that have no name of their own in the files: they were built.
    Local,
    /// All that its services use.
    All,
}

/// How a project is taken down.
#[derive(Clone, Debug, Default)]
pub struct DownRequest {
    /// Only these services; empty is all, and then the networks go too.
    pub services: BTreeSet<String>,
    /// Also containers of services that are not in the files.
    pub remove_orphans: bool,
    /// Seconds for a container to stop.
    pub timeout: Option<i64>,
    /// Named and anonymous volumes too.
    pub volumes: bool,
    /// Images too.
    pub images: Option<RemovedImages>,
    /// Only tell what would be done.
    pub rehearsal: bool,
}

/// Takes a project down. `project` is none where its files are not at hand: then all that carries its name goes.
///
/// # Errors
/// The first thing that cannot be done.
pub fn down(
    engine: &Engine,
    name: &str,
    project: Option<&Project>,
    request: &DownRequest,
    narrator: &dyn Narrator,
) -> Result<(), RunError> {
    let _alone = if request.rehearsal { None } else { Some(super::alone(engine, name, narrator)?) };
    let observed = Observed::of(engine, name)?;
    let is_known = |service: &str| project.is_none_or(|project| project.services.contains_key(service));
    let is_meant = |one: &&Instance| {
        let is_named = request.services.is_empty() || request.services.contains(&one.service);
        // Those of `run` and of services that are not meant are somebody's, and go only when everything is to.
        is_named && (request.remove_orphans || (is_known(&one.service) && (!one.one_off || one.hook)))
    };
    let meant: Vec<&Instance> = observed.instances.iter().filter(is_meant).collect();
    let images: BTreeSet<String> = meant.iter().map(|one| one.container.record.image.clone()).collect();
    let is_nothing = meant.is_empty();
    let removed = Some(RemoveRequest { force: true, volumes: request.volumes });
    let rehearsal = request.rehearsal;
    let timeout = request.timeout;
    Ending { engine, project, narrator, timeout, removed, rehearsal, tick: &|| () }.end(&meant)?;
    if let Some(project) = project.filter(|_| !rehearsal) {
        let is_meant = |name: &str| request.services.is_empty() || request.services.contains(name);
        providers::end(project, Verb::Down, &is_meant, narrator)?;
    }
    if !request.services.is_empty() {
        return Ok(());
    }
    // What cannot be removed does not keep the rest.
    let networks = remove_networks(engine, name, rehearsal, narrator);
    let volumes = if request.volumes { remove_volumes(engine, name, rehearsal, narrator) } else { Ok(0) };
    if let Some(which) = request.images {
        for image in images_of(name, project, images, which) {
            remove_image(engine, &image, rehearsal, narrator);
        }
    }
    let removed = networks? + volumes?;
    if is_nothing && removed == 0 && project.is_none() {
        narrator.warn("No resource found to remove");
    }
    Ok(())
}

/// Stops the containers of these services, those that depend on others first. `tick` is called now and then meanwhile.
///
/// # Errors
/// The first that does not end.
pub fn stop(
    engine: &Engine,
    name: &str,
    project: Option<&Project>,
    request: &DownRequest,
    narrator: &dyn Narrator,
    tick: &(dyn Fn() + Sync),
) -> Result<(), RunError> {
    let observed = Observed::of(engine, name)?;
    let is_meant = |one: &&Instance| {
        one.container.is_active() && !one.one_off && request.services.contains(&one.service)
    };
    let meant: Vec<&Instance> = observed.instances.iter().filter(is_meant).collect();
    let rehearsal = request.rehearsal;
    let timeout = request.timeout;
    Ending { engine, project, narrator, timeout, removed: None, rehearsal, tick }.end(&meant)?;
    match project {
        Some(project) if !rehearsal => {
            providers::end(project, Verb::Stop, &|name| request.services.contains(name), narrator)
        }
        _ => Ok(()),
    }
}

fn remove_networks(
    engine: &Engine,
    name: &str,
    rehearsal: bool,
    narrator: &dyn Narrator,
) -> Result<usize, RunError> {
    let (mut removed, mut failed) = (0, None);
    for network in engine.networks().list()? {
        if network.labels.get(labels::PROJECT).is_none_or(|owner| owner != name) {
            continue;
        }
        narrator.tell(Thing::Network, &network.name, Stage::Removing);
        removed += 1;
        let done = if rehearsal { Ok(()) } else { engine.remove_network(&network) };
        match done {
            Ok(()) | Err(NetworkError::NoNetwork(_)) => {
                narrator.tell(Thing::Network, &network.name, Stage::Removed);
            }
            Err(NetworkError::NetworkInUse { .. }) => {
                narrator.tell(Thing::Network, &network.name, Stage::StillInUse);
            }
            Err(error) => {
                narrator.tell(Thing::Network, &network.name, Stage::Error);
                failed.get_or_insert(error);
            }
        }
    }
    failed.map_or(Ok(removed), |error| Err(error.into()))
}

fn remove_volumes(
    engine: &Engine,
    name: &str,
    rehearsal: bool,
    narrator: &dyn Narrator,
) -> Result<usize, RunError> {
    let (mut removed, mut failed) = (0, None);
    for volume in engine.volumes().list()? {
        if volume.labels.get(labels::PROJECT).is_none_or(|owner| owner != name) {
            continue;
        }
        narrator.tell(Thing::Volume, volume.name.as_str(), Stage::Removing);
        removed += 1;
        let remove = || engine.volumes().remove(&volume.name, &|| engine.volume_users());
        let done = if rehearsal { Ok(()) } else { remove() };
        match done {
            Ok(()) => narrator.tell(Thing::Volume, volume.name.as_str(), Stage::Removed),
            Err(error) if error.kind() == rbox_spec::Kind::Conflict => {
                narrator.tell(Thing::Volume, volume.name.as_str(), Stage::StillInUse);
            }
            Err(error) => {
                narrator.tell(Thing::Volume, volume.name.as_str(), Stage::Error);
                failed.get_or_insert(error);
            }
        }
    }
    failed.map_or(Ok(removed), |error| Err(error.into()))
}

/// The names of the images that go: those of containers that were there, and of services.
fn images_of(
    name: &str,
    project: Option<&Project>,
    mut images: BTreeSet<String>,
    which: RemovedImages,
) -> BTreeSet<String> {
    let of_files = project.into_iter().flat_map(|project| {
        project.services.values().map(move |service| crate::request::image_name(project, service))
    });
    images.extend(of_files);
    if which == RemovedImages::Local {
        let named: BTreeSet<&String> =
            project.into_iter().flat_map(|project| project.services.values().map(|s| &s.image)).collect();
        images.retain(|image| !named.contains(image) && image.starts_with(&format!("{name}-")));
    }
    images
}

fn remove_image(engine: &Engine, image: &str, rehearsal: bool, narrator: &dyn Narrator) {
    if engine.images().and_then(|store| store.find(image)).is_ok_and(|found| found.is_none()) {
        return;
    }
    narrator.tell(Thing::Image, image, Stage::Removing);
    let remove = || engine.remove_image(image, RemoveOptions::default()).map(drop);
    let done = if rehearsal { Ok(()) } else { remove() };
    match done {
        Ok(()) => narrator.tell(Thing::Image, image, Stage::Removed),
        Err(error) => narrator.warn(&format!("image {image}: {error}")),
    }
}

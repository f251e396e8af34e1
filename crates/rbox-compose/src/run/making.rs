//! Making one container of a service, and what all that make containers share.

use std::collections::{BTreeMap, BTreeSet};

use rbox_engine::engine::{CreateRequest, Engine, ObtainedImage};
use rbox_engine::image::Image;
use rbox_spec::id::ContainerId;

use super::Narrator;
use crate::error::RunError;
use crate::model::{Project, Service};
use crate::observed::Observed;
use crate::request::{Kept, Making};

/// What converging needs to know.
pub(super) struct Converging<'a> {
    pub(super) engine: &'a Engine,
    pub(super) project: &'a Project,
    pub(super) narrator: &'a dyn Narrator,
    pub(super) images: &'a BTreeMap<String, ObtainedImage>,
    /// Anonymous volumes of containers that are made again are made again too.
    pub(super) renew_volumes: bool,
    /// Seconds for a container to stop.
    pub(super) timeout: Option<i64>,
    /// Containers that run are replaced only once the next one is ready, whatever the services say.
    pub(super) rolling: bool,
    /// What is made will be started.
    pub(super) start: bool,
    /// What there was of the project before.
    pub(super) observed: &'a Observed,
}

/// A container that is to be made.
pub(super) struct Place<'a> {
    pub(super) service: &'a Service,
    pub(super) number: u32,
    /// What it is called at first.
    pub(super) name: &'a str,
    /// What it will be called.
    pub(super) known_as: &'a str,
    /// The anonymous volumes of the one before it.
    pub(super) kept: &'a [Kept],
}

/// The containers of a project after converging.
#[derive(Debug, Default)]
pub(super) struct Converged {
    /// By service.
    pub(super) containers: BTreeMap<String, Vec<Made>>,
    /// The services of which a container was made again.
    pub(super) replaced: BTreeSet<String>,
    /// The first rolling update that failed: the container before it goes on.
    pub(super) failed: Option<RunError>,
}

/// A container of a service.
#[derive(Debug, Clone)]
pub(super) struct Made {
    pub(super) id: ContainerId,
    pub(super) name: String,
    /// It was there and is as it is wanted.
    pub(super) is_kept: bool,
}

impl Converging<'_> {
    /// Makes a container.
    pub(super) fn make(&self, place: &Place<'_>, converged: &Converged) -> Result<ContainerId, RunError> {
        let (request, image) = self.request(place, converged)?;
        let failed = |source| RunError::of_container(place.known_as, source);
        Ok(self.engine.create(request, image).map_err(failed)?.id)
    }

    /// The request for a container.
    pub(super) fn request(
        &self,
        place: &Place<'_>,
        converged: &Converged,
    ) -> Result<(CreateRequest, &Image), RunError> {
        let Place { service, number, name, known_as, kept } = *place;
        let Some(image) = self.images.get(&service.name) else {
            return Err(RunError::NotFound(format!("there is no image of service {:?}", service.name)));
        };
        let peer = |peer: &str| match converged.containers.get(peer).and_then(|made| made.first()) {
            Some(made) => Some(made.id.to_string()),
            None => self.observed.of_service(peer).next().map(|one| one.container.record.id.to_string()),
        };
        let image_id = image.image.id.to_string();
        let making = Making {
            project: self.project,
            service,
            number,
            name: known_as.to_owned(),
            image_id: &image_id,
            kept,
            peer: &peer,
            aliases: true,
        };
        let mut request = making.request()?;
        request.embedded = image.is_embedded;
        request.name = Some(name.parse().map_err(|error| RunError::Invalid(format!("{error}")))?);
        Ok((request, &image.image))
    }
}

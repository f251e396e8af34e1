//! Making, making again and removing containers, as a plan says.

use std::collections::{BTreeMap, BTreeSet};

use rbox_engine::engine::{CreateRequest, Engine, ObtainedImage, RemoveRequest, StopRequest};
use rbox_engine::error::EngineError;
use rbox_engine::image::Image;
use rbox_spec::id::ContainerId;

use super::{Narrator, Stage, Thing, rolling};
use crate::error::RunError;
use crate::model::{Project, Service};
use crate::observed::{Instance, Observed};
use crate::plan::{Action, Cause, Plan};
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
}

/// The containers of a project after converging.
#[derive(Debug, Default)]
pub(super) struct Converged {
    /// By service.
    pub(super) containers: BTreeMap<String, Vec<Made>>,
    /// The services of which a container was made again.
    pub(super) replaced: BTreeSet<String>,
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
    /// Carries out what the plan says of containers. Nothing is started.
    pub(super) fn carry_out(&self, plan: Plan, observed: &Observed) -> Result<Converged, RunError> {
        let mut converged = Converged::default();
        for planned in plan.services {
            let Some(service) = self.project.services.get(&planned.service) else { continue };
            for action in planned.actions {
                let made = self.act(service, action, observed, &mut converged)?;
                converged.containers.entry(service.name.clone()).or_default().extend(made);
            }
        }
        Ok(converged)
    }

    fn act(
        &self,
        service: &Service,
        action: Action,
        observed: &Observed,
        converged: &mut Converged,
    ) -> Result<Option<Made>, RunError> {
        match action {
            Action::Keep(instance) => {
                let (id, name) = (instance.container.record.id.clone(), instance.name().to_owned());
                if instance.container.is_active() {
                    self.narrator.tell(Thing::Container, &name, Stage::Running);
                }
                Ok(Some(Made { id, name, is_kept: true }))
            }
            Action::Create { number, name } => {
                self.narrator.tell(Thing::Container, &name, Stage::Creating);
                let id = self.make(service, number, &name, &name, &[], observed, converged);
                let id = id.inspect_err(|_| self.narrator.tell(Thing::Container, &name, Stage::Error))?;
                self.narrator.tell(Thing::Container, &name, Stage::Created);
                Ok(Some(Made { id, name, is_kept: false }))
            }
            Action::Recreate { old, name, why } => {
                converged.replaced.insert(service.name.clone());
                self.replace(service, &old, name, &why, observed, converged).map(Some)
            }
            Action::Remove(instance) => {
                remove(self.engine, self.narrator, &instance, self.timeout, true)?;
                Ok(None)
            }
        }
    }

    /// The new container is made before the old one goes: whatever kills this, one of the two has the anonymous volumes.
    fn replace(
        &self,
        service: &Service,
        old: &Instance,
        name: String,
        why: &[Cause],
        observed: &Observed,
        converged: &Converged,
    ) -> Result<Made, RunError> {
        self.narrator.tell(Thing::Container, &name, Stage::Recreate);
        self.narrator.because(&name, why);
        if self.start && (self.rolling || rolling::is_wanted(service)) && self.can_roll(service, old) {
            let made = self.roll(service, old, &name, observed, converged)?;
            self.narrator.tell(Thing::Container, &name, Stage::Recreated);
            return Ok(made);
        }
        let record = &old.container.record;
        let kept = if self.renew_volumes { Vec::new() } else { Kept::of(&record.host.mounts) };
        let meanwhile = format!("{}_{name}", record.id.short());
        let id = self.make(service, old.number, &meanwhile, &name, &kept, observed, converged)?;
        let failed = |source| RunError::Container { name: name.clone(), source };
        let timeout = self.timeout.or_else(|| old_timeout(service));
        self.engine.stop(&old.container, StopRequest { signal: None, timeout }).map_err(failed)?;
        let request = RemoveRequest { force: true, volumes: self.renew_volumes };
        unless_gone(self.engine.remove(&old.container, request)).map_err(failed)?;
        let made = self.engine.container(id.as_str()).map_err(failed)?;
        let target = name.parse().map_err(|error| RunError::Invalid(format!("{error}")))?;
        self.engine.rename(&made, &target).map_err(failed)?;
        self.narrator.tell(Thing::Container, &name, Stage::Recreated);
        Ok(Made { id, name, is_kept: false })
    }

    #[allow(clippy::too_many_arguments, reason = "each is another part of one container")]
    fn make(
        &self,
        service: &Service,
        number: u32,
        name: &str,
        known_as: &str,
        kept: &[Kept],
        observed: &Observed,
        converged: &Converged,
    ) -> Result<ContainerId, RunError> {
        let (request, image) = self.request(service, number, name, known_as, kept, observed, converged)?;
        let failed = |source| RunError::Container { name: known_as.to_owned(), source };
        Ok(self.engine.create(request, image).map_err(failed)?.id)
    }

    /// The request for a container that is called `name`, and will be `known_as`.
    #[allow(clippy::too_many_arguments, reason = "each is another part of one container")]
    pub(super) fn request(
        &self,
        service: &Service,
        number: u32,
        name: &str,
        known_as: &str,
        kept: &[Kept],
        observed: &Observed,
        converged: &Converged,
    ) -> Result<(CreateRequest, &Image), RunError> {
        let Some(image) = self.images.get(&service.name) else {
            return Err(RunError::NotFound(format!("there is no image of service {:?}", service.name)));
        };
        let peer = |peer: &str| match converged.containers.get(peer).and_then(|made| made.first()) {
            Some(made) => Some(made.id.to_string()),
            None => observed.of_service(peer).next().map(|one| one.container.record.id.to_string()),
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

fn old_timeout(service: &Service) -> Option<i64> {
    service.stop_grace_period.map(crate::request::whole_seconds)
}

/// Somebody else may have removed it meanwhile.
pub(super) fn unless_gone(done: Result<(), EngineError>) -> Result<(), EngineError> {
    match done {
        Err(EngineError::NoContainer(_)) => Ok(()),
        done => done,
    }
}

/// Stops a container that runs.
pub(super) fn stop_one(
    engine: &Engine,
    narrator: &dyn Narrator,
    instance: &Instance,
    timeout: Option<i64>,
) -> Result<(), RunError> {
    let name = instance.name();
    if !instance.container.is_active() {
        return Ok(());
    }
    narrator.tell(Thing::Container, name, Stage::Stopping);
    let stopped = unless_gone(engine.stop(&instance.container, StopRequest { signal: None, timeout }));
    stopped.map_err(|source| failed(narrator, name, source))?;
    narrator.tell(Thing::Container, name, Stage::Stopped);
    Ok(())
}

/// Stops and removes a container.
pub(super) fn remove(
    engine: &Engine,
    narrator: &dyn Narrator,
    instance: &Instance,
    timeout: Option<i64>,
    volumes: bool,
) -> Result<(), RunError> {
    stop_one(engine, narrator, instance, timeout)?;
    let name = instance.name();
    narrator.tell(Thing::Container, name, Stage::Removing);
    let request = RemoveRequest { force: true, volumes };
    unless_gone(engine.remove(&instance.container, request))
        .map_err(|source| failed(narrator, name, source))?;
    narrator.tell(Thing::Container, name, Stage::Removed);
    Ok(())
}

fn failed(narrator: &dyn Narrator, name: &str, source: EngineError) -> RunError {
    narrator.tell(Thing::Container, name, Stage::Error);
    RunError::Container { name: name.to_owned(), source }
}

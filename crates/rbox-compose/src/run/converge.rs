//! Making, making again and removing containers, as a plan says.

use rbox_engine::engine::{Engine, RemoveRequest, StopRequest};
use rbox_engine::error::EngineError;

use super::making::{Converged, Converging, Made, Place};
use super::{Narrator, Stage, Thing, rolling};
use crate::error::RunError;
use crate::model::Service;
use crate::observed::Instance;
use crate::plan::{Action, Cause, Plan};
use crate::request::{Kept, container_name};

impl Converging<'_> {
    /// Carries out what the plan says of containers. Nothing is started.
    pub(super) fn carry_out(&self, plan: Plan) -> Result<Converged, RunError> {
        let mut converged = Converged::default();
        for planned in plan.services {
            let Some(service) = self.project.services.get(&planned.service) else { continue };
            for action in planned.actions {
                let made = self.act(service, action, &mut converged)?;
                converged.containers.entry(service.name.clone()).or_default().extend(made);
            }
        }
        Ok(converged)
    }

    fn act(
        &self,
        service: &Service,
        action: Action,
        converged: &mut Converged,
    ) -> Result<Option<Made>, RunError> {
        match action {
            Action::Keep(instance) => {
                let id = instance.container.record.id.clone();
                let name = self.named_as_wanted(service, &instance);
                if instance.container.is_active() {
                    self.narrator.tell(Thing::Container, &name, Stage::Running);
                }
                Ok(Some(Made { id, name, is_kept: true }))
            }
            Action::Create { number, name } => {
                self.narrator.tell(Thing::Container, &name, Stage::Creating);
                let place = Place { service, number, name: &name, known_as: &name, kept: &[] };
                let id = self.make(&place, converged);
                let id = id.inspect_err(|_| self.narrator.tell(Thing::Container, &name, Stage::Error))?;
                self.narrator.tell(Thing::Container, &name, Stage::Created);
                Ok(Some(Made { id, name, is_kept: false }))
            }
            Action::Recreate { old, name, why } => {
                let is_first = converged.replaced.insert(service.name.clone());
                self.replace(service, &old, name, &why, is_first, converged).map(Some)
            }
            Action::Remove(instance) => {
                remove(self.engine, self.narrator, &instance, self.timeout, false)?;
                Ok(None)
            }
        }
    }

    /// The name of a container that stays. A command that was killed may have left it with the one that it had while it was made.
    fn named_as_wanted(&self, service: &Service, instance: &Instance) -> String {
        let wanted = container_name(self.project, service, instance.number);
        if instance.name() == wanted {
            return wanted;
        }
        let renamed = wanted.parse().ok().map(|name| self.engine.rename(&instance.container, &name));
        if let Some(Ok(())) = renamed {
            return wanted;
        }
        if let Some(Err(error)) = renamed {
            self.narrator
                .warn(&format!("container {} cannot be renamed to {wanted}: {error}", instance.name()));
        }
        instance.name().to_owned()
    }

    /// The new container is made before the old one goes: whatever kills this, one of the two has the anonymous volumes.
    fn replace(
        &self,
        service: &Service,
        old: &Instance,
        name: String,
        why: &[Cause],
        is_first: bool,
        converged: &mut Converged,
    ) -> Result<Made, RunError> {
        self.narrator.tell(Thing::Container, &name, Stage::Recreate);
        self.narrator.because(&name, why);
        if self.start && (self.rolling || rolling::is_wanted(service)) && rolling::is_possible(service, old) {
            return match self.roll(service, old, &name, is_first, converged) {
                Ok(made) => {
                    self.narrator.tell(Thing::Container, &name, Stage::Recreated);
                    Ok(made)
                }
                // The former one goes on, and so do the other services; it is told at the end.
                Err(error) => {
                    self.narrator.tell(Thing::Container, &name, Stage::Error);
                    converged.failed.get_or_insert(error);
                    Ok(Made {
                        id: old.container.record.id.clone(),
                        name: old.name().to_owned(),
                        is_kept: true,
                    })
                }
            };
        }
        let record = &old.container.record;
        let kept = if self.renew_volumes { Vec::new() } else { Kept::of(&record.host.mounts) };
        let meanwhile = format!("{}_{name}", record.id.short());
        let place = Place { service, number: old.number, name: &meanwhile, known_as: &name, kept: &kept };
        let id = self.make(&place, converged)?;
        let failed = |source| RunError::of_container(&name, source);
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
fn stop_one(
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
    remove_stopped(engine, narrator, instance, RemoveRequest { force: true, volumes })
}

/// Removes a container that was stopped.
pub(super) fn remove_stopped(
    engine: &Engine,
    narrator: &dyn Narrator,
    instance: &Instance,
    request: RemoveRequest,
) -> Result<(), RunError> {
    let name = instance.name();
    narrator.tell(Thing::Container, name, Stage::Removing);
    unless_gone(engine.remove(&instance.container, request))
        .map_err(|source| failed(narrator, name, source))?;
    narrator.tell(Thing::Container, name, Stage::Removed);
    Ok(())
}

pub(super) fn failed(narrator: &dyn Narrator, name: &str, source: EngineError) -> RunError {
    narrator.tell(Thing::Container, name, Stage::Error);
    RunError::of_container(name, source)
}

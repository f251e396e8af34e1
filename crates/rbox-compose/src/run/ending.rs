//! Ending containers of a project: those of a service as soon as the programs of all that depend on it have ended. Cleaning up and
//! removing go on beside that.

use std::collections::{BTreeMap, BTreeSet};

use rbox_engine::engine::{Engine, RemoveRequest, StopRequest};
use rbox_engine::error::EngineError;

use super::converge::{failed, remove_stopped};
use super::hooks::run_hook;
use super::walk::{Visit, walk};
use super::{Narrator, Stage, Thing};
use crate::error::RunError;
use crate::model::{Hook, Project};
use crate::observed::Instance;

/// How containers are ended.
pub(super) struct Ending<'a> {
    pub(super) engine: &'a Engine,
    /// None where the files are not at hand: then no hooks are run.
    pub(super) project: Option<&'a Project>,
    pub(super) narrator: &'a dyn Narrator,
    /// Seconds for a container to stop.
    pub(super) timeout: Option<i64>,
    /// How they are removed. None: they only stop.
    pub(super) removed: Option<RemoveRequest>,
    /// Only tell it.
    pub(super) rehearsal: bool,
    /// Called now and then meanwhile.
    pub(super) tick: &'a (dyn Fn() + Sync),
}

impl Ending<'_> {
    /// Ends these containers. After a failure no other one begins to end.
    pub(super) fn end(&self, meant: &[&Instance]) -> Result<(), RunError> {
        let mut before = BTreeMap::<&str, BTreeSet<&str>>::new();
        for one in meant {
            before.entry(&one.service).or_default();
        }
        for one in meant {
            for on in one.depends_on().filter(|on| *on != one.service) {
                if let Some(dependents) = before.get_mut(on) {
                    dependents.insert(&one.service);
                }
            }
        }
        walk(&before, &Meant { ending: self, meant })
    }

    /// `ended` is called when its program does not run any more.
    fn stop(&self, one: &Instance, ended: &dyn Fn()) -> Result<(), RunError> {
        // Compose says it of those that have ended as well, if they are removed.
        let is_told = self.removed.is_some() || one.container.is_active();
        let tell = |stage| {
            if is_told {
                self.narrator.tell(Thing::Container, one.name(), stage);
            }
        };
        tell(Stage::Stopping);
        let request = StopRequest { signal: None, timeout: self.timeout };
        let ended = || {
            tell(Stage::Stopped);
            ended();
        };
        if self.rehearsal {
            ended();
            return Ok(());
        }
        match self.engine.stop_and_tell(&one.container, request, &ended) {
            // Somebody else has removed it meanwhile.
            Err(EngineError::NoContainer(_)) => Ok(()),
            done => done.map(drop).map_err(|source| failed(self.narrator, one.name(), source)),
        }
    }

    fn hooks(&self, service: &str) -> &[Hook] {
        let service = self.project.and_then(|project| project.services.get(service));
        service.map_or(&[], |service| &service.pre_stop)
    }
}

/// The containers that are ended.
struct Meant<'a> {
    ending: &'a Ending<'a>,
    meant: &'a [&'a Instance],
}

impl<'a> Visit for Meant<'a> {
    type Error = RunError;
    type Part = &'a Instance;

    fn parts(&self, service: &str) -> Vec<&'a Instance> {
        self.meant.iter().copied().filter(|one| one.service == service).collect()
    }

    fn begins(&self, service: &str) -> bool {
        let runs = |one: &Instance| one.container.is_running();
        !self.ending.rehearsal
            && !self.ending.hooks(service).is_empty()
            && self.parts(service).into_iter().any(runs)
    }

    /// A hook that fails is told of, and its container is stopped all the same.
    fn begin(&self, service: &str) -> Result<(), RunError> {
        let Ending { engine, narrator, tick, .. } = self.ending;
        for one in self.parts(service).into_iter().filter(|one| one.container.is_running()) {
            let id = one.container.record.id.as_str();
            let mut hooks = self.ending.hooks(service).iter();
            let done = hooks.try_for_each(|hook| run_hook(engine, id, one.name(), hook, "pre_stop", tick));
            if let Err(error) = done {
                narrator.warn(&error.to_string());
            }
        }
        Ok(())
    }

    fn work(&self, one: &&'a Instance, enough: &dyn Fn()) -> Result<(), RunError> {
        let Ending { engine, narrator, removed, .. } = self.ending;
        self.ending.stop(one, enough)?;
        if self.ending.rehearsal {
            let stages = removed.map_or(&[][..], |_| &[Stage::Removing, Stage::Removed][..]);
            for stage in stages {
                narrator.tell(Thing::Container, one.name(), *stage);
            }
            return Ok(());
        }
        removed.map_or(Ok(()), |request| remove_stopped(engine, *narrator, one, request))
    }

    fn tick(&self) {
        (self.ending.tick)();
    }
}

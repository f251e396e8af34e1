//! Ending containers of a project: those of a service as soon as all that depend on it have stopped. Removing one goes on beside that.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::Scope;

use rbox_engine::engine::{Engine, RemoveRequest, StopRequest};
use rbox_engine::error::EngineError;

use super::converge::{failed, remove_stopped};
use super::hooks::run_hooks;
use super::{Narrator, Stage, Thing};
use crate::error::RunError;
use crate::model::Project;
use crate::observed::Instance;
use crate::plan;

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
}

/// What is heard of one of several containers that end at once.
enum Word<'a> {
    /// What it depends on may stop.
    Stopped(&'a str),
    /// Nothing more is done to it.
    Done(Result<(), RunError>),
}

impl Ending<'_> {
    /// Ends these containers. After a failure no other one begins to end.
    pub(super) fn end(&self, meant: &[&Instance]) -> Result<(), RunError> {
        let mut depends = BTreeMap::<String, BTreeSet<String>>::new();
        let mut left = BTreeMap::<&str, usize>::new();
        for one in meant {
            depends.entry(one.service.clone()).or_default().extend(one.depends_on().map(str::to_owned));
            *left.entry(&one.service).or_default() += 1;
        }
        let mut order = plan::Ending::of(depends);
        let (tell, told) = channel();
        let mut failed = None;
        std::thread::scope(|scope| {
            let mut going_on = 0;
            loop {
                let next = if failed.is_none() { order.begin() } else { Vec::new() };
                let begun: Vec<&Instance> =
                    meant.iter().copied().filter(|one| next.contains(&one.service)).collect();
                if self.has_hooks(&begun) {
                    // A hook is cloned, which this process may do only while it has one thread.
                    while going_on > 0 {
                        Self::hear(&told, &mut left, &mut order, &mut going_on, &mut failed);
                    }
                    self.run_pre_stop(&begun);
                }
                for one in begun {
                    going_on += 1;
                    self.end_beside(scope, one, tell.clone());
                }
                if going_on == 0 {
                    break;
                }
                Self::hear(&told, &mut left, &mut order, &mut going_on, &mut failed);
            }
        });
        failed.map_or(Ok(()), Err)
    }

    /// Takes in one word.
    fn hear<'a>(
        told: &Receiver<Word<'a>>,
        left: &mut BTreeMap<&'a str, usize>,
        order: &mut plan::Ending,
        going_on: &mut usize,
        failed: &mut Option<RunError>,
    ) {
        match told.recv() {
            Ok(Word::Stopped(service)) => {
                let count = left.entry(service).or_default();
                *count = count.saturating_sub(1);
                if *count == 0 {
                    order.ended(service);
                }
            }
            Ok(Word::Done(result)) => {
                *going_on -= 1;
                if let Err(error) = result {
                    failed.get_or_insert(error);
                }
            }
            Err(_) => *going_on = 0,
        }
    }

    fn end_beside<'scope, 'a: 'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        one: &'a Instance,
        tell: Sender<Word<'a>>,
    ) {
        scope.spawn(move || {
            // Who hears it is there until all are done.
            let stopped = self.stop(one, &|| drop(tell.send(Word::Stopped(&one.service))));
            let done = stopped.and_then(|()| match self.removed {
                Some(request) => remove_stopped(self.engine, self.narrator, one, request),
                None => Ok(()),
            });
            let _ = tell.send(Word::Done(done));
        });
    }

    /// `ended` is called when its program does not run any more: that is what those wait for that it depends on.
    fn stop(&self, one: &Instance, ended: &dyn Fn()) -> Result<(), RunError> {
        // Compose says it of those that have ended as well, if they are removed.
        if self.removed.is_some() || one.container.is_active() {
            self.narrator.tell(Thing::Container, one.name(), Stage::Stopping);
        }
        let is_told = Cell::new(false);
        let ended = || {
            if is_told.replace(true) {
                return;
            }
            if self.removed.is_some() || one.container.is_active() {
                self.narrator.tell(Thing::Container, one.name(), Stage::Stopped);
            }
            ended();
        };
        let request = StopRequest { signal: None, timeout: self.timeout };
        match self.engine.stop_and_tell(&one.container, request, &ended) {
            // Somebody else has removed it meanwhile.
            Err(EngineError::NoContainer(_)) => {
                ended();
                Ok(())
            }
            done => done.map_err(|source| failed(self.narrator, one.name(), source)),
        }
    }

    fn has_hooks(&self, begun: &[&Instance]) -> bool {
        begun.iter().any(|one| one.container.is_running() && !self.hooks(one).is_empty())
    }

    fn hooks(&self, one: &Instance) -> &[crate::model::Hook] {
        let service = self.project.and_then(|project| project.services.get(&one.service));
        service.map_or(&[], |service| &service.pre_stop)
    }

    fn run_pre_stop(&self, begun: &[&Instance]) {
        for one in begun.iter().filter(|one| one.container.is_running()) {
            if let Err(error) = run_hooks(self.engine, one, self.hooks(one), "pre_stop") {
                self.narrator.warn(&error.to_string());
            }
        }
    }
}

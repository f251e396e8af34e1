//! Starting the containers of a project: each as soon as what it depends on is far enough. One thread starts them all, since a start
//! forks; it waits for all conditions at once, woken by what happens.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rbox_engine::engine::{Begun, Container, Engine, Happenings, StartOptions};
use rbox_engine::error::EngineError;
use rbox_engine::session::SignalFd;

use super::hooks::run_hook;
use super::making::{Converged, Made};
use super::pre_start::Preparation;
use super::waiting::{Far, far, ready, said};
use super::{Narrator, Stage, Thing};
use crate::error::RunError;
use crate::model::{Condition, Project, Service};
use crate::plan::in_order;

/// What starting needs to know.
pub(super) struct Starting<'a> {
    pub(super) engine: &'a Engine,
    pub(super) project: &'a Project,
    pub(super) narrator: &'a dyn Narrator,
    pub(super) converged: &'a Converged,
    /// One-shots that have done their work are left alone.
    pub(super) wait: bool,
    /// A service that is not started, but whose dependencies are waited for as if it were.
    pub(super) until: Option<&'a Service>,
    /// Asks to give up.
    pub(super) interrupt: Option<&'a SignalFd>,
    /// How long all may take.
    pub(super) patience: Option<Duration>,
}

/// How many starts go on at once: more of them only get in each other's way.
const AT_ONCE: usize = 8;

/// What was said of which container.
type Told = BTreeSet<(String, Stage)>;

impl Starting<'_> {
    /// Starts all, and comes back when the last one runs.
    pub(super) fn start(&self) -> Result<(), RunError> {
        let happenings = self.engine.happenings()?;
        let begin = Instant::now();
        let mut left: Vec<&Service> = in_order(self.project);
        left.extend(self.until);
        let mut told = Told::new();
        let mut preparing = BTreeMap::new();
        while !left.is_empty() {
            let mut still: Vec<&Service> = Vec::new();
            let mut next: Vec<&Service> = Vec::new();
            for (at, service) in left.iter().enumerate() {
                // What a service depends on is looked at once it was started: before, it is as an earlier life left it.
                let others = || still.iter().chain(&next).chain(&left[at + 1..]);
                let waits = |name: &String| others().any(|other| other.name == *name);
                let may_start =
                    !service.depends_on.keys().any(waits) && self.may_start(service, &mut told)?;
                if may_start && self.is_prepared(service, &mut preparing)? {
                    next.push(service);
                } else {
                    still.push(service);
                }
            }
            if next.is_empty() {
                self.wait_for_more(&happenings, begin)?;
            } else {
                self.start_services(&next)?;
            }
            left = still;
        }
        Ok(())
    }

    /// Waits until all run, are healthy where they have a health check, or have ended with 0.
    pub(super) fn wait_until_ready(&self) -> Result<(), RunError> {
        let happenings = self.engine.happenings()?;
        let begin = Instant::now();
        let all: Vec<&Made> = self.converged.containers.values().flatten().collect();
        let mut left = all.clone();
        for made in &left {
            self.narrator.tell(Thing::Container, &made.name, Stage::Waiting);
        }
        loop {
            let mut still = Vec::new();
            for made in left {
                let container = self.current(made)?;
                match ready(&container) {
                    Far::Enough => {
                        let stage = if container.is_active() { Stage::Healthy } else { Stage::Exited };
                        self.narrator.tell(Thing::Container, &made.name, stage);
                    }
                    Far::NotYet => still.push(made),
                    Far::Failed(why) => {
                        self.tell_failed(&container);
                        return Err(RunError::NotReady(why));
                    }
                }
            }
            left = still;
            if left.is_empty() {
                // One that was ready may have ended while another was waited for.
                for made in &all {
                    if ready(&self.current(made)?) != Far::Enough {
                        left.push(made);
                    }
                }
                if left.is_empty() {
                    return Ok(());
                }
                continue;
            }
            self.wait_for_more(&happenings, begin)?;
        }
    }

    fn current(&self, made: &Made) -> Result<Container, RunError> {
        let current = self.engine.current(&made.id);
        current.ok_or_else(|| RunError::NotFound(format!("container {} was removed meanwhile", made.name)))
    }

    fn tell_failed(&self, container: &Container) {
        let name = container.record.name.as_str();
        self.narrator.tell(Thing::Container, name, Stage::Error);
        let said = said(self.engine, container);
        if !said.is_empty() {
            self.narrator.said(name, &said);
        }
    }

    fn wait_for_more(&self, happenings: &Happenings, begin: Instant) -> Result<(), RunError> {
        let left = self.patience.map(|patience| patience.saturating_sub(begin.elapsed()));
        if left.is_some_and(|left| left.is_zero()) {
            let seconds = self.patience.unwrap_or_default().as_secs();
            return Err(RunError::NotReady(format!("application not healthy after {seconds}s")));
        }
        // What ends a wait otherwise than by its time is looked at again anyway.
        let _ = happenings.wait(self.interrupt.map(AsFd::as_fd), left);
        if self.interrupt.is_some_and(SignalFd::asks_to_end) { Err(RunError::Interrupted) } else { Ok(()) }
    }

    /// Whether all that a service depends on is far enough.
    fn may_start(&self, service: &Service, told: &mut Told) -> Result<bool, RunError> {
        let has_none = self.converged.containers.get(&service.name).is_none_or(Vec::is_empty);
        if has_none && self.until.is_none_or(|until| until.name != service.name) {
            return Ok(true);
        }
        for (name, dependency) in &service.depends_on {
            let Some(containers) = self.converged.containers.get(name) else { continue };
            for made in containers {
                let condition = dependency.condition;
                let mut tell = |stage: Stage| {
                    // A service that has started was told so already, and the rest is told once.
                    if condition != Condition::Started && told.insert((made.name.clone(), stage)) {
                        self.narrator.tell(Thing::Container, &made.name, stage);
                    }
                };
                let container = self.current(made)?;
                match far(&container, condition) {
                    Far::Enough => tell(stage_of(condition)),
                    Far::NotYet => {
                        tell(Stage::Waiting);
                        return Ok(false);
                    }
                    Far::Failed(why) if dependency.required => {
                        self.tell_failed(&container);
                        return Err(match condition {
                            Condition::CompletedSuccessfully => {
                                RunError::NotReady(format!("service {name:?} {why}"))
                            }
                            _ => RunError::Dependency(why),
                        });
                    }
                    Far::Failed(why) => {
                        self.narrator.warn(&format!("optional dependency {name:?} failed to start: {why}"));
                    }
                }
            }
        }
        Ok(true)
    }

    /// Whether the steps before a service's start are over. Those that are not go on beside each other.
    fn is_prepared<'s>(
        &'s self,
        service: &'s Service,
        preparing: &mut BTreeMap<&'s str, Preparation<'s>>,
    ) -> Result<bool, RunError> {
        let preparation = preparing.entry(&service.name).or_insert_with(|| {
            let containers = self.converged.containers.get(&service.name).into_iter().flatten();
            let containers = containers.filter(|made| !self.has_done_its_work(service, made));
            let containers = containers.map(|made| (made.id.clone(), made.name.clone())).collect();
            Preparation::new(self.engine, self.project, service, self.narrator, containers)
        });
        preparation.go_on()
    }

    fn has_done_its_work(&self, service: &Service, made: &Made) -> bool {
        let current = self.engine.current(&made.id);
        made.is_kept && current.is_some_and(|container| self.is_done(service, &container))
    }

    /// Starts the containers of services that do not depend on each other: all begin before one of them is waited for. When one cannot
    /// be started, those that have begun go on and no other one begins; the first error is told.
    fn start_services(&self, services: &[&Service]) -> Result<(), RunError> {
        let mut begun = VecDeque::new();
        let mut done = Ok(());
        for service in services {
            for made in self.converged.containers.get(&service.name).into_iter().flatten() {
                if begun.len() == AT_ONCE {
                    done = done.and(self.finish(begun.pop_front()));
                }
                if done.is_err() {
                    break;
                }
                match self.begin(service, made) {
                    Ok(start) => begun.extend(start.map(|start| (*service, made, start))),
                    Err(error) => done = done.and(Err(error)),
                }
            }
        }
        while !begun.is_empty() {
            done = done.and(self.finish(begun.pop_front()));
        }
        done
    }

    /// None where there is nothing to start.
    fn begin(&self, service: &Service, made: &Made) -> Result<Option<Begun>, RunError> {
        let container = self.current(made)?;
        if container.is_active() || (made.is_kept && self.is_done(service, &container)) {
            return Ok(None);
        }
        self.narrator.tell(Thing::Container, &made.name, Stage::Starting);
        let begun = self.engine.begin_start(&container, StartOptions::default());
        begun.map(Some).map_err(|source| self.failed(made, source))
    }

    fn finish(&self, begun: Option<(&Service, &Made, Begun)>) -> Result<(), RunError> {
        let Some((service, made, start)) = begun else { return Ok(()) };
        start.wait().map_err(|source| self.failed(made, source))?;
        // With its container ends a hook that never comes back.
        let is_interrupted = Cell::new(false);
        let tick = || {
            if self.interrupt.is_some_and(SignalFd::asks_to_end) {
                is_interrupted.set(true);
                if let Ok(container) = self.engine.container(made.id.as_str()) {
                    self.engine.begin_kill(&container);
                }
            }
        };
        for hook in &service.post_start {
            let done = run_hook(self.engine, made.id.as_str(), &made.name, hook, "post_start", &tick);
            if is_interrupted.get() {
                return Err(RunError::Interrupted);
            }
            done?;
        }
        self.narrator.tell(Thing::Container, &made.name, Stage::Started);
        Ok(())
    }

    fn failed(&self, made: &Made, source: EngineError) -> RunError {
        self.narrator.tell(Thing::Container, &made.name, Stage::Error);
        RunError::of_container(&made.name, source)
    }

    /// Whether it is a one-shot whose work is done: it ended with 0 by itself, and nothing of it has changed.
    fn is_done(&self, service: &Service, container: &Container) -> bool {
        let is_waited_for = self.project.services.values().chain(self.until).any(|other| {
            let on = other.depends_on.get(&service.name);
            on.is_some_and(|on| on.condition == Condition::CompletedSuccessfully)
        });
        let exit = container.exit.as_ref();
        let ended = exit.is_some_and(|exit| exit.exit_code == 0 && !exit.stopped && exit.started.is_some());
        (self.wait || is_waited_for) && ended
    }
}

fn stage_of(condition: Condition) -> Stage {
    match condition {
        Condition::Started => Stage::Started,
        Condition::Healthy => Stage::Healthy,
        Condition::CompletedSuccessfully => Stage::Exited,
    }
}

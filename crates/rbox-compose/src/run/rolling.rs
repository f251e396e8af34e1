//! Making a container again without a moment in which nobody answers: the next one is started beside it, waited for, given its names
//! and ports, and only then it is stopped.

use std::time::{Duration, Instant};

use rbox_engine::engine::{CreateRequest, Reached, RemoveRequest, StartOptions, StopRequest};
use rbox_spec::container::NetworkMode;

use super::making::{Converged, Converging, Made, Place};
use super::pre_start::{self, Preparation};
use super::waiting::{Far, ready, said};
use super::{Stage, Thing};
use crate::error::RunError;
use crate::labels;
use crate::model::Service;
use crate::observed::Instance;
use crate::request::Kept;

/// How long a container may take to be healthy where nobody says.
const PATIENCE: Duration = Duration::from_mins(2);
/// How long those who are connected may stay with the container that goes.
const DRAINING: Duration = Duration::from_secs(10);

/// Whether a service is replaced in this way: it says so itself.
pub(super) fn is_wanted(service: &Service) -> bool {
    let update = service.deploy.as_ref().and_then(|deploy| deploy.update_config.as_ref());
    update.is_some_and(|update| update.order == "start-first")
}

/// Whether a container can be replaced in this way: it runs, and has names and ports of its own.
pub(super) fn is_possible(service: &Service, old: &Instance) -> bool {
    let mut wishes = service.networks.values().flatten();
    let has_fixed_address =
        wishes.any(|wanted| !wanted.ipv4_address.is_empty() || !wanted.ipv6_address.is_empty());
    old.container.is_running()
        && old.container.record.host.network == NetworkMode::Bridge
        && !has_fixed_address
}

impl Converging<'_> {
    /// Replaces a container by one that is ready. When that does not get ready it is removed, and the other one goes on.
    pub(super) fn roll(
        &self,
        service: &Service,
        old: &Instance,
        name: &str,
        is_first: bool,
        converged: &Converged,
    ) -> Result<Made, RunError> {
        let failed = |source| RunError::of_container(name, source);
        let meanwhile = format!("{}_{name}", old.container.record.id.short());
        let mounts = &old.container.record.host.mounts;
        let kept = if self.renew_volumes { Vec::new() } else { Kept::of(mounts) };
        let place = Place { service, number: old.number, name: &meanwhile, known_as: name, kept: &kept };
        let (mut request, image) = self.request(&place, converged)?;
        let reached = take_reached(&mut request, old);
        let made = self.engine.create(request, image).map_err(failed)?;
        let made = Made { id: made.id, name: meanwhile, is_kept: false };
        let prepared = self.prepare(service, &made, is_first, converged);
        if let Err(error) = prepared.and_then(|()| self.start_and_wait(service, &made)) {
            let half = self.engine.container(made.id.as_str()).map_err(failed)?;
            let _ = self.engine.remove(&half, RemoveRequest { force: true, volumes: false });
            return Err(error);
        }
        let next = self.engine.container(made.id.as_str()).map_err(failed)?;
        if let Err(source) = self.engine.hand_over(&old.container, &next, &reached) {
            let _ = self.engine.remove(&next, RemoveRequest { force: true, volumes: false });
            // What had been handed over leads to the former one again.
            let _ = self.engine.reconcile_networks();
            return Err(failed(source));
        }
        self.engine.drain(&old.container, DRAINING);
        let stop = StopRequest { signal: None, timeout: self.timeout };
        self.engine.stop(&old.container, stop).map_err(failed)?;
        let remove = RemoveRequest { force: true, volumes: self.renew_volumes };
        self.engine.remove(&old.container, remove).map_err(failed)?;
        self.engine.hold_ports(&next).map_err(failed)?;
        let target = name.parse().map_err(|error| RunError::Invalid(format!("{error}")))?;
        self.engine.rename(&next, &target).map_err(failed)?;
        Ok(Made { id: made.id, name: name.to_owned(), is_kept: false })
    }

    /// What is run before the first container of a service is run before the first one that is replaced.
    fn prepare(
        &self,
        service: &Service,
        made: &Made,
        is_first: bool,
        converged: &Converged,
    ) -> Result<(), RunError> {
        let earlier = converged.containers.get(&service.name).filter(|_| !is_first);
        let all = earlier.into_iter().flatten().chain([made]);
        let all = all.map(|made| (made.id.clone(), made.name.clone())).collect();
        pre_start::wait(Preparation::new(self.engine, self.project, service, self.narrator, all), None)
    }

    fn start_and_wait(&self, service: &Service, made: &Made) -> Result<(), RunError> {
        let failed = |source| RunError::of_container(&made.name, source);
        let happenings = self.engine.happenings()?;
        let container = self.engine.container(made.id.as_str()).map_err(failed)?;
        self.narrator.tell(Thing::Container, &made.name, Stage::Starting);
        let options = StartOptions::default();
        self.engine.start(&container, options).map_err(failed)?;
        self.narrator.tell(Thing::Container, &made.name, Stage::Waiting);
        let begin = Instant::now();
        let has_checks = container.record.config.health_command().is_some();
        let grace = grace(service);
        loop {
            let current = self.engine.container(made.id.as_str()).map_err(failed)?;
            let why = match ready(&current) {
                // Nothing but its life says that it is fine: it has to live for a moment.
                Far::Enough if !has_checks && begin.elapsed() < grace => {
                    let _ = happenings.wait(None, Some(grace.saturating_sub(begin.elapsed())));
                    continue;
                }
                Far::Enough => {
                    let stage = if has_checks { Stage::Healthy } else { Stage::Started };
                    self.narrator.tell(Thing::Container, &made.name, stage);
                    return Ok(());
                }
                Far::NotYet if begin.elapsed() < PATIENCE => {
                    let _ = happenings.wait(None, Some(PATIENCE.saturating_sub(begin.elapsed())));
                    continue;
                }
                Far::NotYet => {
                    format!("container {} is not healthy after {} s", made.name, PATIENCE.as_secs())
                }
                Far::Failed(why) => why,
            };
            self.narrator.tell(Thing::Container, &made.name, Stage::Error);
            let said = said(self.engine, &current);
            if !said.is_empty() {
                self.narrator.said(&made.name, &said);
            }
            return Err(RunError::NotReady(format!("{why}: the one before it goes on")));
        }
    }
}

/// How long a container without health checks has to live before it takes the place of another.
fn grace(service: &Service) -> Duration {
    let update = service.deploy.as_ref().and_then(|deploy| deploy.update_config.as_ref());
    let given = update.map(|update| update.monitor).filter(|monitor| !monitor.is_zero());
    given.unwrap_or(Duration::from_secs(1)).min(PATIENCE)
}

/// Takes out of a request what only one container can have. A label says what the container is for until it has that.
fn take_reached(request: &mut CreateRequest, old: &Instance) -> Reached {
    let attachments = request.host.attachments.clone();
    for attachment in &mut request.host.attachments {
        attachment.aliases.clear();
        attachment.mac = None;
    }
    let replaces = old.container.record.name.to_string();
    request.config.labels.insert(labels::REPLACE.into(), replaces);
    Reached {
        attachments,
        ports: std::mem::take(&mut request.host.ports),
        labels: Vec::new(),
        unlabel: vec![labels::REPLACE.into()],
    }
}

//! `up`: from a project to containers that run.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rbox_engine::engine::{Container, Engine, ObtainedImage, StopRequest};
use rbox_engine::session::SignalFd;
use rbox_spec::given::{Content, GivenFile};
use rbox_spec::id::ContainerId;

use super::converge::remove;
use super::making::{Converged, Converging};
use super::start::Starting;
use super::{Narrator, Stage, Thing, things};
use crate::error::RunError;
use crate::model::{Project, Service};
use crate::observed::Observed;
use crate::plan::{Outside, Plan, Wanted};
use crate::request::{Files, mounted_images};

/// How a project is brought up.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct UpRequest<'a> {
    /// What is wanted besides what the files say.
    pub wanted: Wanted,
    /// Start what was made.
    pub start: bool,
    /// Make anonymous volumes again.
    pub renew_volumes: bool,
    /// Remove containers of services that are not in the files any more.
    pub remove_orphans: bool,
    /// Say nothing of those.
    pub ignore_orphans: bool,
    /// Seconds for a container to stop.
    pub timeout: Option<i64>,
    /// Replace containers that run only once the next ones are ready, whatever the services say.
    pub rolling: bool,
    /// Come back only when all run, are healthy, or have done their work.
    pub wait: bool,
    /// How long that may take.
    pub patience: Option<Duration>,
    /// A service that is not of the project and not started, but whose dependencies are waited for as if it were.
    pub until: Option<Box<Service>>,
    /// Asks to give up while something is waited for.
    pub interrupt: Option<&'a SignalFd>,
}

impl UpRequest<'_> {
    /// Make what is wanted and start it, and nothing else.
    pub fn started(wanted: Wanted) -> Self {
        Self {
            wanted,
            start: true,
            renew_volumes: false,
            remove_orphans: false,
            ignore_orphans: false,
            timeout: None,
            rolling: false,
            wait: false,
            patience: None,
            until: None,
            interrupt: None,
        }
    }
}

/// Brings a project up, which was [checked](check). `images` are those of its services, by the services' names.
///
/// # Errors
/// The first thing that cannot be done. What was done stays, and the next call goes on with it.
pub fn up(
    engine: &Engine,
    project: &Project,
    images: &BTreeMap<String, ObtainedImage>,
    request: &UpRequest<'_>,
    narrator: &dyn Narrator,
) -> Result<(), RunError> {
    let mut converged = converge(engine, project, images, request, narrator)?;
    let failed = converged.failed.take();
    if !request.start {
        return failed.map_or(Ok(()), Err);
    }
    let starting = Starting {
        engine,
        project,
        narrator,
        converged: &converged,
        wait: request.wait,
        until: request.until.as_deref(),
        patience: request.patience,
        interrupt: request.interrupt,
    };
    starting.start()?;
    if let Some(error) = failed {
        return Err(error);
    }
    if request.wait { starting.wait_until_ready() } else { Ok(()) }
}

/// Refuses what can be refused before anything is pulled, built or made.
///
/// # Errors
/// A service or a network asks for what cannot be.
pub fn check(project: &Project, wanted: &Wanted) -> Result<(), RunError> {
    for service in project.services.values() {
        let refused = |why| RunError::Service { service: service.name.clone(), why };
        if u32::try_from(service.replicas()).is_err() {
            return Err(refused(format!("it cannot have {} containers", service.replicas())));
        }
        if wanted.count(service) > 1 && !service.container_name.is_empty() {
            let name = &service.container_name;
            return Err(refused(format!(
                "several containers cannot have the name {name:?}: take container_name out"
            )));
        }
        crate::request::check(project, service)?;
    }
    things::check(project)
}

/// Makes what is missing and makes again what has changed, alone: others wait.
fn converge(
    engine: &Engine,
    project: &Project,
    images: &BTreeMap<String, ObtainedImage>,
    request: &UpRequest<'_>,
    narrator: &dyn Narrator,
) -> Result<Converged, RunError> {
    let _alone = super::alone(engine, &project.name, narrator)?;
    let networks = things::networks(engine, project, narrator)?;
    things::volumes(engine, project, narrator)?;
    let observed = Observed::of(engine, &project.name)?;
    orphans(engine, project, &observed, request, narrator)?;
    let image_ids = images.iter().map(|(service, image)| (service.clone(), image.image.id.to_string()));
    let contents = changed_contents(engine, project, &observed);
    let mounted = mounted(engine, project)?;
    let provided = project.services.values().filter_map(|service| {
        Some((service.name.clone(), service.labels.get(crate::labels::PROVIDED)?.clone()))
    });
    let provided = Some(provided.collect());
    let outside = Outside { images: image_ids.collect(), mounted, networks, provided, contents };
    let plan = Plan::of(project, &observed, &outside, &request.wanted);
    let converging = Converging {
        engine,
        project,
        narrator,
        images,
        renew_volumes: request.renew_volumes,
        timeout: request.timeout,
        rolling: request.rolling,
        start: request.start,
        observed: &observed,
    };
    let converged = converging.carry_out(plan)?;
    stop_dependents(engine, project, &converged, request, narrator)?;
    Ok(converged)
}

/// What there would be to do, without doing it. Networks that are missing are not looked for in what runs.
///
/// # Errors
/// The directory of records cannot be read.
pub fn plan(
    engine: &Engine,
    project: &Project,
    images: BTreeMap<String, String>,
    wanted: &Wanted,
) -> Result<Plan, RunError> {
    check(project, wanted)?;
    let store = engine.networks();
    let id = |name: &str| store.find(name).ok().map(|network| network.id);
    let networks = project
        .networks
        .iter()
        .filter_map(|(key, network)| Some((key.clone(), id(&network.name)?)))
        .collect();
    let observed = Observed::of(engine, &project.name)?;
    let contents = changed_contents(engine, project, &observed);
    let mounted = mounted(engine, project)?;
    Ok(Plan::of(project, &observed, &Outside { images, mounted, networks, provided: None, contents }, wanted))
}

/// The ids of the images that services mount and that are here, by their names.
fn mounted(engine: &Engine, project: &Project) -> Result<BTreeMap<String, String>, RunError> {
    let names: BTreeSet<String> =
        project.services.values().flat_map(|service| mounted_images(project, service)).collect();
    let mut ids = BTreeMap::new();
    if names.is_empty() {
        return Ok(ids);
    }
    let store = engine.images()?;
    for name in names {
        if let Some(image) = store.find(&name)? {
            ids.insert(name, image.id.to_string());
        }
    }
    Ok(ids)
}

/// The places of secrets and configs whose contents are others by now, by container. What cannot be read is told when a container is
/// made.
fn changed_contents(
    engine: &Engine,
    project: &Project,
    observed: &Observed,
) -> BTreeMap<ContainerId, Vec<String>> {
    let mut changed = BTreeMap::new();
    for instance in &observed.instances {
        let record = &instance.container.record;
        let service = project.services.get(&instance.service).filter(|_| !record.host.files.is_empty());
        let Some(Ok(files)) = service.map(|service| Files::of(project, service)) else { continue };
        let known = engine.contents(record);
        let differs = |(file, content): &(GivenFile, Content)| {
            let before = record.host.files.iter().zip(&known).find(|(known, _)| known.target == file.target);
            before.is_some_and(|(_, before)| before != content)
        };
        let targets: Vec<String> =
            files.given.iter().filter(|one| differs(one)).map(|(file, _)| file.target.clone()).collect();
        if !targets.is_empty() {
            changed.insert(record.id.clone(), targets);
        }
    }
    changed
}

fn orphans(
    engine: &Engine,
    project: &Project,
    observed: &Observed,
    request: &UpRequest<'_>,
    narrator: &dyn Narrator,
) -> Result<(), RunError> {
    let known =
        |name: &str| project.services.contains_key(name) || project.disabled_services.contains_key(name);
    let orphans: Vec<_> = observed.orphans(&known).collect();
    if request.remove_orphans {
        for orphan in orphans {
            remove(engine, narrator, orphan, request.timeout, false)?;
        }
    } else if !orphans.is_empty() && !request.ignore_orphans {
        let names: Vec<&str> = orphans.iter().map(|orphan| orphan.name()).collect();
        narrator.warn(&format!(
            "Found orphan containers ([{}]) for this project. If you removed or renamed this service in your compose file, you can run this command with the --remove-orphans flag to clean it up.",
            names.join(" ")
        ));
    }
    Ok(())
}

/// A service that wants to be restarted with what it depends on is stopped when that was made again; it is started later.
fn stop_dependents(
    engine: &Engine,
    project: &Project,
    converged: &Converged,
    request: &UpRequest<'_>,
    narrator: &dyn Narrator,
) -> Result<(), RunError> {
    for service in project.services.values() {
        let is_meant =
            service.depends_on.iter().any(|(name, on)| on.restart && converged.replaced.contains(name));
        if !is_meant {
            continue;
        }
        for made in converged.containers.get(&service.name).into_iter().flatten().filter(|made| made.is_kept)
        {
            let Some(container) = engine.current(&made.id).filter(Container::is_active) else {
                continue;
            };
            narrator.tell(Thing::Container, &made.name, Stage::Stopping);
            let stop = StopRequest { signal: None, timeout: request.timeout };
            engine.stop(&container, stop).map_err(|source| RunError::of_container(&made.name, source))?;
            narrator.tell(Thing::Container, &made.name, Stage::Stopped);
        }
    }
    Ok(())
}

//! `pre_start`: commands that are run before the first container of a service starts, each in a container of its own beside it.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::AsFd;
use std::time::Duration;

use rbox_engine::engine::{
    Container, ContainerRecord, CreateRequest, Engine, ImageRequest, LogEntry, LogQuery, LogSink,
    ObtainedImage, ProjectLock, PullPolicy, RemoveRequest, StartOptions, Status,
};
use rbox_engine::error::EngineError;
use rbox_engine::session::SignalFd;
use rbox_spec::container::{Attached, Attachment, ContainerConfig, HostConfig};
use rbox_spec::id::ContainerId;
use rbox_spec::restart::RestartPolicy;

use super::hooks::value_of;
use super::one_off::random_slug;
use super::{Narrator, Stage, Thing, last_lines};
use crate::error::RunError;
use crate::labels;
use crate::model::{Hook, Project, Service};
use crate::observed::{Instance, Observed};

/// One of those that end at once when this ends: nobody waits for its step any more.
const GONE: RemoveRequest = RemoveRequest { force: true, volumes: true };

/// The steps of a service, carried out one after the other.
pub(super) struct Preparation<'a> {
    engine: &'a Engine,
    project: &'a Project,
    service: &'a Service,
    narrator: &'a dyn Narrator,
    /// The containers of the service, with their names; the first is the one whose volumes most steps see.
    containers: Vec<(ContainerId, String)>,
    /// Keeps another command from running the same steps meanwhile.
    lock: Option<ProjectLock>,
    left: VecDeque<Step<'a>>,
    under_way: Option<UnderWay>,
}

/// A step, and the container that it comes before.
struct Step<'a> {
    index: usize,
    hook: &'a Hook,
    before: ContainerId,
    name: String,
}

struct UnderWay {
    index: usize,
    id: ContainerId,
    /// The container that is to be started after it.
    name: String,
    output: Output,
}

/// Runs the steps of a service for these containers of it, and comes back when they are over. This process must have one thread.
///
/// # Errors
/// One cannot be run or does not end with 0, or `interrupt` asks to give up.
pub fn prepare(
    engine: &Engine,
    project: &Project,
    service: &Service,
    containers: &[&Instance],
    narrator: &dyn Narrator,
    interrupt: Option<&SignalFd>,
) -> Result<(), RunError> {
    let named = |one: &&Instance| (one.container.record.id.clone(), one.name().to_owned());
    let containers = containers.iter().map(named).collect();
    wait(Preparation::new(engine, project, service, narrator, containers), interrupt)
}

/// Comes back when all steps are over.
pub(super) fn wait(mut preparation: Preparation<'_>, interrupt: Option<&SignalFd>) -> Result<(), RunError> {
    let happenings = preparation.engine.happenings()?;
    while !preparation.go_on()? {
        // What ends a wait otherwise is looked at again anyway.
        let _ = happenings.wait(interrupt.map(AsFd::as_fd), Some(Duration::from_millis(500)));
        if interrupt.is_some_and(SignalFd::asks_to_end) {
            return Err(RunError::Interrupted);
        }
    }
    Ok(())
}

impl<'a> Preparation<'a> {
    pub(super) fn new(
        engine: &'a Engine,
        project: &'a Project,
        service: &'a Service,
        narrator: &'a dyn Narrator,
        containers: Vec<(ContainerId, String)>,
    ) -> Self {
        let (left, under_way) = (VecDeque::new(), None);
        Self { engine, project, service, narrator, containers, lock: None, left, under_way }
    }

    /// Does what can be done now, without waiting. True: all steps are over.
    pub(super) fn go_on(&mut self) -> Result<bool, RunError> {
        if self.service.pre_start.is_empty() || self.containers.is_empty() {
            return Ok(true);
        }
        if self.lock.is_none() {
            let purpose = format!("pre_start-{}", self.service.name);
            self.lock = self.engine.try_lock_project(&self.project.name, &purpose)?;
            if self.lock.is_none() {
                return Ok(false);
            }
            self.remove_former()?;
            self.left = self.steps();
        }
        loop {
            if !self.has_ended()? {
                return Ok(false);
            }
            let Some(step) = self.left.pop_front() else {
                self.lock = None;
                return Ok(true);
            };
            self.begin(&step)?;
        }
    }

    /// Those of an earlier command that failed, or was killed.
    fn remove_former(&self) -> Result<(), RunError> {
        let observed = Observed::of(self.engine, &self.project.name)?;
        for one in observed.instances.iter().filter(|one| one.hook && one.service == self.service.name) {
            match self.engine.remove(&one.container, GONE) {
                Ok(()) | Err(EngineError::NoContainer(_)) => {}
                Err(error) => self.narrator.warn(&format!("container {}: {error}", one.name())),
            }
        }
        Ok(())
    }

    /// What is to be run: each step for the first container, if none of them runs yet; and for the others those that are for each.
    fn steps(&self) -> VecDeque<Step<'a>> {
        let current = |id: &ContainerId| self.engine.current(id);
        let (running, waiting): (Vec<_>, Vec<_>) = self
            .containers
            .iter()
            .filter_map(|(id, name)| Some((current(id)?, name)))
            .partition(|(container, _)| container.is_active());
        let mut steps = VecDeque::new();
        for (number, (container, name)) in waiting.into_iter().enumerate() {
            let is_first = number == 0 && running.is_empty();
            for (index, hook) in self.service.pre_start.iter().enumerate() {
                if is_first || hook.per_replica == Some(true) {
                    let before = container.record.id.clone();
                    steps.push_back(Step { index, hook, before, name: name.clone() });
                }
            }
        }
        steps
    }

    fn begin(&mut self, step: &Step<'_>) -> Result<(), RunError> {
        let failed = |source: EngineError| RunError::Service {
            service: self.service.name.clone(),
            why: format!("pre_start[{}]: {source}", step.index),
        };
        let before = self.engine.container(step.before.as_str()).map_err(failed)?;
        let image = self.image(step.hook, &before).map_err(failed)?;
        // What its image has there is in the volumes before a step writes to them, as if it had been made by Docker.
        self.engine.fill_volumes(&before.record).map_err(failed)?;
        let request = self.request(step, &before.record, &image)?;
        let made = self.engine.create(request, &image.image).map_err(failed)?;
        // From here on it is removed with this.
        let output = Output::default();
        self.under_way =
            Some(UnderWay { index: step.index, id: made.id.clone(), name: step.name.clone(), output });
        self.engine.start_created(&made, StartOptions::default()).map(drop).map_err(|source| {
            self.narrator.tell(Thing::Container, &step.name, Stage::Error);
            failed(source)
        })
    }

    fn image(&self, hook: &Hook, before: &Container) -> Result<ObtainedImage, EngineError> {
        let record = &before.record;
        let pull = |name: &str| {
            self.engine.obtain_image(&ImageRequest {
                name: name.to_owned(),
                pull: PullPolicy::Missing,
                platform: None,
            })
        };
        if !hook.image.is_empty() {
            return pull(&hook.image);
        }
        match self.engine.images()?.find(&record.image_id)? {
            Some(image) => Ok(ObtainedImage { image, is_embedded: record.embedded }),
            None => pull(&record.image),
        }
    }

    /// A container beside the one that it comes before: on its networks, by its names, with its volumes, secrets and configs.
    fn request(
        &self,
        step: &Step<'_>,
        before: &ContainerRecord,
        image: &ObtainedImage,
    ) -> Result<CreateRequest, RunError> {
        let Step { index, hook, .. } = step;
        let given = &before.host;
        let attachment = |one: &Attachment| Attachment {
            network_id: String::new(),
            mac: None,
            number: None,
            ..one.clone()
        };
        let name = format!("{}-{}-pre_start-{}", self.project.name, self.service.name, &random_slug()[..12]);
        let labels = [
            (labels::PROJECT, self.project.name.clone()),
            (labels::SERVICE, self.service.name.clone()),
            (labels::VERSION, labels::COMPOSE_VERSION.to_owned()),
            (labels::HOOK, "pre_start".to_owned()),
        ];
        Ok(CreateRequest {
            image: if hook.image.is_empty() { before.image.clone() } else { hook.image.clone() },
            command: hook.command.clone().unwrap_or_default(),
            entrypoint: None,
            name: Some(
                name.parse().map_err(|error| RunError::Invalid(format!("pre_start[{index}]: {error}")))?,
            ),
            embedded: image.is_embedded,
            config: ContainerConfig {
                user: hook.user.clone(),
                env: self.environment(hook),
                working_dir: hook.working_dir.clone(),
                labels: labels.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
                attached: Attached::NONE,
                ..ContainerConfig::default()
            },
            host: HostConfig {
                network: given.network.clone(),
                attachments: given.attachments.iter().map(attachment).collect(),
                extra_hosts: given.extra_hosts.clone(),
                dns: given.dns.clone(),
                dns_search: given.dns_search.clone(),
                dns_options: given.dns_options.clone(),
                userns: given.userns.clone(),
                volumes_from: vec![before.id.to_string()],
                files: given.files.clone(),
                privileged: hook.privileged,
                restart: RestartPolicy::No,
                ..HostConfig::default()
            },
            contents: self.engine.contents(before),
        })
    }

    /// The service's variables, and the step's own over them.
    fn environment(&self, hook: &Hook) -> Vec<String> {
        let mut all: BTreeMap<&String, Option<String>> =
            self.service.environment.iter().map(|(name, value)| (name, value.clone())).collect();
        all.extend(hook.environment.iter().map(|(name, value)| (name, value_of(name, value.as_ref()))));
        let text = |(name, value): (&String, Option<String>)| match value {
            Some(value) => format!("{name}={value}"),
            None => name.clone(),
        };
        all.into_iter().map(text).collect()
    }

    /// Whether there is no step that goes on. One that has failed is told.
    fn has_ended(&mut self) -> Result<bool, RunError> {
        let Some(step) = &mut self.under_way else { return Ok(true) };
        let what = format!("service {:?} pre_start[{}]", self.service.name, step.index);
        let Some(container) = self.engine.current(&step.id) else {
            self.under_way = None;
            return Err(RunError::NotFound(format!("{what}: its container was removed meanwhile")));
        };
        let source = format!("{} pre_start[{}] ->", self.service.name, step.index);
        let has_ended = !container.is_active() && container.status != Status::Created;
        if self.narrator.shows_steps() {
            step.output.tell(self.engine, &container, &source, self.narrator, has_ended);
        }
        if !has_ended {
            return Ok(false);
        }
        let name = std::mem::take(&mut step.name);
        self.under_way = None;
        let code = container.exit.as_ref().map_or(0, |exit| exit.exit_code);
        if code != 0 {
            self.narrator.tell(Thing::Container, &name, Stage::Error);
            let said = last_lines(self.engine, &container);
            if !said.is_empty() && !self.narrator.shows_steps() {
                self.narrator.said(&source, &said);
            }
            let id = container.record.id.short();
            let why = format!("{what} exited with code {code} (hook container {id} retained for inspection)");
            return Err(RunError::NotReady(why));
        }
        match self.engine.remove(&container, GONE) {
            Ok(()) | Err(EngineError::NoContainer(_)) => {}
            Err(error) => self.narrator.warn(&format!("container {}: {error}", container.record.name)),
        }
        Ok(true)
    }
}

impl Drop for Preparation<'_> {
    /// Whoever waited for a step gave up.
    fn drop(&mut self) {
        if let Some(container) = self.under_way.take().and_then(|step| self.engine.current(&step.id)) {
            let _ = self.engine.remove(&container, GONE);
        }
    }
}

/// What of a step's output was shown.
#[derive(Default)]
struct Output {
    /// The entry that was read last.
    last: Option<LogEntry<'static>>,
    /// So many of its moment were read.
    of_moment: usize,
    /// A line that has not ended.
    line: Vec<u8>,
}

/// Takes what was not read before.
struct Rest<'a> {
    output: &'a mut Output,
    skip: usize,
    lines: Vec<String>,
}

impl LogSink for Rest<'_> {
    fn entry(&mut self, entry: &LogEntry<'_>) -> std::io::Result<()> {
        if self.skip > 0 {
            self.skip -= 1;
            return Ok(());
        }
        let is_same = self.output.last.as_ref().is_some_and(|last| last.time == entry.time);
        self.output.of_moment = if is_same { self.output.of_moment + 1 } else { 1 };
        self.output.last = Some(entry.to_static());
        self.output.line.extend_from_slice(&entry.text);
        if self.output.line.ends_with(b"\n") {
            let line = std::mem::take(&mut self.output.line);
            self.lines.push(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']).to_owned());
        }
        Ok(())
    }
}

impl Output {
    fn tell(
        &mut self,
        engine: &Engine,
        container: &Container,
        source: &str,
        narrator: &dyn Narrator,
        has_ended: bool,
    ) {
        let query = LogQuery { since: self.last.as_ref().map(|last| last.time), ..LogQuery::default() };
        let skip = self.of_moment;
        let mut rest = Rest { output: self, skip, lines: Vec::new() };
        // Without a log there is nothing to show.
        let _ = engine.logs(container, &query, false, &mut rest);
        let mut lines = rest.lines;
        if has_ended && !self.line.is_empty() {
            lines.push(String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned());
        }
        for line in lines {
            narrator.step_wrote(source, &line);
        }
    }
}

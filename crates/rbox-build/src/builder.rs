//! A build that is under way: what all its steps share.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::time::Instant;

use rbox_engine::engine::{Engine, StepRequest};
use rbox_image::{ImageStore, Transaction};
use rbox_spec::Platform;

use crate::allowed::HostCache;
use crate::cache::{Elsewhere, KnownFiles, Last, StepCache};
use crate::context::{OpenContext, Work};
use crate::dockerfile::{Dockerfile, InstructionKind, Lines};
use crate::error::BuildError;
use crate::expand::Words;
use crate::material::{Material, Used};
use crate::predefined;
use crate::progress::{BuildEvent, BuildProgress, Number};
use crate::request::BuildRequest;
use crate::stage::Stage;
use crate::steps::Forward;
use crate::targets::Targets;
use crate::tree::Source;

/// A build that is under way.
pub(crate) struct Builder<'b> {
    pub(crate) engine: &'b Engine,
    pub(crate) request: &'b BuildRequest,
    pub(crate) file: Dockerfile,
    /// Expands words.
    pub(crate) words: Words,
    pub(crate) transaction: &'b Transaction<'b>,
    pub(crate) cache: StepCache,
    /// Caches of other hosts.
    pub(crate) elsewhere: Vec<Rc<Elsewhere>>,
    pub(crate) context: Rc<OpenContext>,
    /// Contexts that were opened by their names.
    pub(crate) named: HashMap<String, Rc<OpenContext>>,
    pub(crate) known: RefCell<KnownFiles>,
    pub(crate) last: Last,
    /// What it makes images for.
    pub(crate) targets: Targets,
    /// Stages that are done, by the numbers of their tasks.
    pub(crate) stages: Vec<Option<Rc<Stage>>>,
    /// Images that COPY --from reads, by name and platform.
    pub(crate) from_images: HashMap<(String, Option<Platform>), Rc<Stage>>,
    /// Images that were looked for, by name and platform, and what a statement says of them.
    pub(crate) base_images: HashMap<(String, Option<Platform>), (Stage, Option<Material>)>,
    /// Trees of stages that are read, by the stages' keys.
    pub(crate) trees: HashMap<String, Rc<Source>>,
    /// Directories of the host's that are caches, by what the Dockerfile calls them.
    pub(crate) host_caches: HashMap<String, HostCache>,
    pub(crate) work: Work,
    /// Where secrets are, once there are some: in memory.
    pub(crate) secrets: Option<Work>,
    /// What leads a RUN to agents, and the shell after it.
    pub(crate) agents: Vec<Forward>,
    pub(crate) progress: &'b mut dyn BuildProgress,
    pub(crate) number: Number,
    /// What a RUN was that failed, if the user wants a shell there.
    pub(crate) failed_step: Option<StepRequest>,
    /// A step was carried out, or begun.
    pub(crate) has_made_layers: bool,
    /// When it began.
    pub(crate) begun: jiff::Timestamp,
    /// What it has used, for those who ask later.
    pub(crate) used: Used,
    /// Build arguments that some ARG has asked for.
    pub(crate) consumed: HashSet<String>,
}

impl<'b> Builder<'b> {
    pub(crate) fn new(
        engine: &'b Engine,
        request: &'b BuildRequest,
        progress: &'b mut dyn BuildProgress,
        images: &ImageStore,
        transaction: &'b Transaction<'b>,
    ) -> Result<Self, BuildError> {
        if let Some(frontend) = Dockerfile::frontend(request.file.text()) {
            check_frontend(&frontend.value).map_err(|error| error.at(Lines::one(frontend.line)))?;
        }
        let file = request.dockerfile()?;
        let dir = engine.build_dir();
        let work = Work::begin(&dir)?;
        let context = Rc::new(request.context.open(request.file_in_context.as_deref(), &work.empty()?)?);
        let identity = format!(
            "{}\n{}\n{}",
            context.name,
            request.file_in_context.as_deref().unwrap_or(&request.file_name),
            request.target.as_deref().unwrap_or_default()
        );
        let last = Last::of(&dir, &rbox_image::hash::sha256(identity.as_bytes()).hex());
        let targets = Targets::new(&request.platforms, file.stages.len());
        let mut builder = Self {
            engine,
            request,
            words: Words::new(file.escape),
            file,
            transaction,
            cache: StepCache::open(&dir, images.clone())?,
            elsewhere: Vec::new(),
            known: RefCell::new(KnownFiles::read(&dir, &context.name)),
            context,
            named: HashMap::new(),
            last,
            stages: vec![None; targets.tasks()],
            targets,
            from_images: HashMap::new(),
            base_images: HashMap::new(),
            trees: HashMap::new(),
            host_caches: HashMap::new(),
            work,
            secrets: None,
            agents: Vec::new(),
            progress,
            number: 0,
            failed_step: None,
            has_made_layers: false,
            begun: jiff::Timestamp::now(),
            used: Used::default(),
            consumed: HashSet::new(),
        };
        builder.read_global_args()?;
        Ok(builder)
    }

    /// The platforms' ARGs, and those before the first FROM.
    fn read_global_args(&mut self) -> Result<(), BuildError> {
        let stage = self.request.target.as_deref().unwrap_or("default");
        let (host, given) = (Platform::host(), &self.request.build_args);
        for target in self.targets.all_mut() {
            target.args = predefined::arguments(&host, &target.platform, stage, given);
            for instruction in &self.file.args {
                let InstructionKind::Arg(definitions) = &instruction.kind else { continue };
                for definition in definitions {
                    let value = match (given.get(&definition.name), &definition.default) {
                        (Some(given), _) => {
                            self.consumed.insert(definition.name.clone());
                            Some(given.clone())
                        }
                        (None, Some(default)) => {
                            let expanded = self.words.word(&default.0, &target.args);
                            Some(expanded.map_err(|error| BuildError::from(error).at(instruction.lines))?)
                        }
                        (None, None) => None,
                    };
                    if let Some(value) = value {
                        target.args.push((definition.name.clone(), value));
                    }
                }
            }
        }
        Ok(())
    }

    /// `SOURCE_DATE_EPOCH` in seconds, if it was given: the time of all that is new.
    pub(crate) fn epoch(&self) -> Result<Option<i64>, BuildError> {
        let Some(text) = self.request.build_args.get("SOURCE_DATE_EPOCH") else { return Ok(None) };
        let seconds = text.parse().map_err(|_| {
            BuildError::Invalid(format!("invalid SOURCE_DATE_EPOCH: {text}: expected seconds since 1970"))
        })?;
        Ok(Some(seconds))
    }

    /// The time in seconds that nothing in a layer may be younger than; what is gets that time.
    pub(crate) fn newest(&self) -> Result<Option<i64>, BuildError> {
        if self.request.rewrite_timestamps { self.epoch() } else { Ok(None) }
    }

    /// The number of the stage of this name or number. The last one of a name counts.
    pub(crate) fn stage_named(&self, name: &str) -> Option<usize> {
        self.file.stage_named(name)
    }

    /// The stage and the instruction that a line of the file belongs to: the one that is at it, or the next one.
    pub(crate) fn place_of(&self, line: usize) -> Option<(usize, usize)> {
        for (number, stage) in self.file.stages.iter().enumerate() {
            let place = stage.instructions.iter().position(|instruction| instruction.lines.end >= line);
            if line <= stage.lines.end {
                return Some((number, 0));
            }
            if let Some(place) = place {
                return Some((number, place));
            }
        }
        let last = self.file.stages.len().checked_sub(1)?;
        Some((last, self.file.stages.get(last)?.instructions.len()))
    }

    /// A step begins.
    pub(crate) fn begin(&mut self, name: &str) -> Number {
        self.number += 1;
        self.progress.event(BuildEvent::Begun { number: self.number, name });
        self.number
    }

    pub(crate) fn tell(&mut self, number: Number, line: &str) {
        self.progress.event(BuildEvent::Told { number, line });
    }

    pub(crate) fn event(&mut self, event: BuildEvent<'_>) {
        self.progress.event(event);
    }

    /// Who hears of what happens.
    pub(crate) fn progress(&mut self) -> &mut dyn BuildProgress {
        self.progress
    }

    pub(crate) fn done(&mut self, number: Number, begun: Instant) {
        self.progress.event(BuildEvent::Done { number, took: begun.elapsed() });
    }

    /// Writes down what the next build can use, also when this one failed: then it is not whole.
    pub(crate) fn end(self, is_whole: bool) {
        self.known.into_inner().save(&self.work);
        self.last.save(&self.work, is_whole);
    }
}

/// Whatever version of docker/dockerfile a file asks for, it gets the one that is built in.
fn check_frontend(name: &str) -> Result<(), BuildError> {
    let image = name.split_whitespace().next().unwrap_or_default();
    let repository = rbox_spec::Reference::parse(image).map(|image| image.familiar_name());
    if matches!(repository.as_deref(), Ok("docker/dockerfile" | "docker/dockerfile-upstream")) {
        return Ok(());
    }
    Err(BuildError::Invalid(format!(
        "# syntax={name}: no other frontend than docker/dockerfile is there, which is built in: what reads the file runs in no container"
    )))
}

//! What a stage stands on, and its steps in their order.

use std::rc::Rc;
use std::time::Instant;

use rbox_engine::engine::{ImageRequest, PullPolicy};
use rbox_spec::Platform;

use crate::builder::Builder;
use crate::context::NamedContext;
use crate::dockerfile::{Dockerfile, Instruction, InstructionKind, Lines};
use crate::error::BuildError;
use crate::material::Material;
use crate::progress::BuildEvent;
use crate::stage::Stage;

/// What FROM stands on.
#[derive(PartialEq, Eq)]
pub(crate) enum Base {
    /// Another stage, by its number.
    Stage(usize),
    /// Nothing.
    Scratch(Option<Platform>),
    /// An image, by the name it has in the file.
    Image(String, Option<Platform>),
}

impl Builder<'_> {
    /// A stage with all its steps carried out: the one of a task.
    pub(crate) fn stage(&mut self, task: usize) -> Result<Rc<Stage>, BuildError> {
        if let Some(Some(done)) = self.stages.get(task) {
            return Ok(Rc::clone(done));
        }
        let (place, number) = self.targets.split(task);
        let before = self.targets.go_to(place);
        let done = self.carry_out_stage(place, number);
        self.targets.go_to(before);
        Ok(self.keep(task, Rc::new(done?)))
    }

    fn carry_out_stage(&mut self, place: usize, number: usize) -> Result<Stage, BuildError> {
        let Some(planned) = self.file.stages.get(number).cloned() else {
            return Err(BuildError::Internal(format!("there is no stage {number}")));
        };
        if let Some(image) = self.image_instead(number).map(str::to_owned) {
            return self.image_stage(&image, None);
        }
        let base = self.base_of(place, number, &planned).map_err(|error| error.at(planned.lines))?;
        let is_shared = self.targets.is_shared(place);
        let share = self.targets.share(number);
        let (mut stage, triggers, done) = if let (Some(share), false) = (share, is_shared) {
            let shared = self.stage(self.targets.shared_task(number))?;
            let stage = Stage { trace: self.targets.trace(place), ..(*shared).clone() };
            let triggers = parsed(&self.triggers_of(place, &base), planned.lines)?;
            (stage, triggers, share.instructions)
        } else {
            let (stage, triggers) = self.begun(&base, number, &planned)?;
            (stage, triggers, 0)
        };
        let all = triggers.iter().map(|one| (true, one));
        // Before `--until` nothing is left out, from its line on everything is.
        let own = match self.request.until.and_then(|until| self.place_of(until.line)) {
            Some((of, place)) if of == number => planned.instructions.iter().take(place),
            _ => planned.instructions.iter().take(usize::MAX),
        };
        let all = all.chain(own.map(|one| (false, one)));
        let end = share.filter(|_| is_shared).map_or(usize::MAX, |share| share.instructions);
        for (is_on_build, instruction) in all.take(end).skip(done) {
            stage.is_on_build = is_on_build;
            self.step(&mut stage, instruction).map_err(|error| error.at(instruction.lines))?;
        }
        Ok(stage)
    }

    /// A stage before its first step, and the instructions that ONBUILD of its base wants first.
    fn begun(
        &mut self,
        base: &Base,
        number: usize,
        planned: &crate::dockerfile::Stage,
    ) -> Result<(Stage, Vec<Instruction>), BuildError> {
        let mut stage = self.base_stage(base).map_err(|error| error.at(planned.lines))?;
        let name = planned.name.clone().unwrap_or_else(|| format!("stage-{number}"));
        stage.no_cache = self.request.no_cache
            || self.request.no_cache_stages.iter().any(|one| *one == name || one.is_empty());
        stage.number = number;
        stage.id.clone_from(&name);
        stage.trace = self.targets.trace(self.targets.place());
        stage.name = if self.file.stages.len() > 1 { name } else { String::new() };
        let triggers = parsed(&std::mem::take(&mut stage.image.config.on_build), planned.lines)?;
        stage.steps = usize::from(stage.steps > 0)
            + triggers.iter().chain(&planned.instructions).filter(|one| makes_layer(one)).count();
        if let (1.., Base::Image(name, _)) = (stage.steps, base) {
            self.tell_base(&mut stage, name);
        }
        Ok((stage, triggers))
    }

    pub(crate) fn keep(&mut self, task: usize, stage: Rc<Stage>) -> Rc<Stage> {
        if let Some(place) = self.stages.get_mut(task) {
            *place = Some(Rc::clone(&stage));
        }
        stage
    }

    /// What FROM of a stage means for a platform.
    pub(crate) fn base_of(
        &self,
        place: usize,
        number: usize,
        planned: &crate::dockerfile::Stage,
    ) -> Result<Base, BuildError> {
        let args = &self.targets.at_place(place).args;
        let name = self.words.word(&planned.base.0, args)?;
        if name.is_empty() {
            return Err(BuildError::Invalid(format!("base name ({}) should not be blank", planned.base.0)));
        }
        let platform = match &planned.platform {
            Some(word) => {
                let text = self.words.word(&word.0, args)?;
                if text.is_empty() {
                    return Err(BuildError::Invalid(format!("empty platform value from expression {word}")));
                }
                Some(text.parse::<Platform>().map_err(|error| {
                    BuildError::Invalid(format!("failed to parse platform {word}: {error}"))
                })?)
            }
            None => None,
        };
        Ok(match self.file.base_stage(number, &name) {
            Some(before) => Base::Stage(before),
            None if name == "scratch" => Base::Scratch(platform),
            None => Base::Image(name, platform),
        })
    }

    /// A stage that stands on this, before its first step.
    fn base_stage(&mut self, base: &Base) -> Result<Stage, BuildError> {
        Ok(match base {
            Base::Stage(before) => {
                let base = self.stage(self.targets.task(self.targets.place(), *before))?;
                Stage { has_cmd: false, steps: 0, step: 0, ..(*base).clone() }
            }
            Base::Scratch(platform) => {
                Stage::empty(platform.clone().unwrap_or_else(|| self.targets.current().platform.clone()))
            }
            Base::Image(name, platform) => {
                let stage = self.image_stage(name, platform.clone())?;
                Stage { steps: 1, ..stage }
            }
        })
    }

    /// What ONBUILD of a base wants of those who stand on it; of an image, as far as it was looked for already.
    pub(crate) fn triggers_of(&self, place: usize, base: &Base) -> Vec<String> {
        let of_image = |name: &str, platform: &Option<Platform>| {
            let known = self.base_images.get(&self.known_as(place, name, platform.clone()));
            known.map(|(stage, _)| stage.image.config.on_build.clone()).unwrap_or_default()
        };
        let before = match base {
            Base::Scratch(_) => return Vec::new(),
            Base::Image(name, platform) => return of_image(name, platform),
            Base::Stage(before) => *before,
        };
        if let Some(image) = self.image_instead(before) {
            return of_image(image, &None);
        }
        let instructions = self.file.stages.get(before).map(|stage| stage.instructions.as_slice());
        let trigger = |instruction: &Instruction| match &instruction.kind {
            InstructionKind::Onbuild(onbuild) => Some(onbuild.trigger.clone()),
            _ => None,
        };
        instructions.unwrap_or_default().iter().filter_map(trigger).collect()
    }

    /// The image that `--build-context` has in place of a stage.
    pub(crate) fn image_instead(&self, number: usize) -> Option<&str> {
        let stage = self.file.stages.get(number)?;
        let name = stage.name.clone().unwrap_or_else(|| format!("stage-{number}"));
        match self.request.contexts.get(&name) {
            Some(NamedContext::Image(image)) => Some(image),
            _ => None,
        }
    }

    /// What an image is known by once it was looked for.
    fn known_as(&self, place: usize, name: &str, platform: Option<Platform>) -> (String, Option<Platform>) {
        let name = match self.request.contexts.get(name) {
            Some(NamedContext::Image(other)) => other.clone(),
            _ => name.to_owned(),
        };
        (name, platform.or_else(|| self.targets.at_place(place).wanted.clone()))
    }

    /// An image as a stage without steps.
    pub(crate) fn image_stage(
        &mut self,
        name: &str,
        platform: Option<Platform>,
    ) -> Result<Stage, BuildError> {
        let known_as = self.known_as(self.targets.place(), name, platform);
        let (name, wanted) = known_as.clone();
        if let Some((stage, material)) = self.base_images.get(&known_as) {
            let (stage, material) = (stage.clone(), material.clone());
            self.note_material(material);
            return Ok(stage);
        }
        let told = match &wanted {
            Some(platform) if self.targets.are_several() => format!("{platform} "),
            _ => String::new(),
        };
        let number = self.begin(&format!("[{told}internal] load metadata for {}", full_name(&name)));
        let begun = Instant::now();
        // An id is that of an image which is here: no registry has it by that.
        let is_id = name.parse::<rbox_spec::Digest>().is_ok();
        let policy = match self.request.pull {
            _ if is_id => PullPolicy::Never,
            true => PullPolicy::Always,
            false => PullPolicy::Missing,
        };
        let request = ImageRequest { name: name.clone(), pull: policy, platform: wanted };
        let obtained = self.engine.obtain_image(&request)?;
        self.done(number, begun);
        let stage = Stage::of_image(&obtained.image);
        let material = Material::image(&name, &obtained.image);
        self.base_images.insert(known_as, (stage.clone(), material.clone()));
        self.note_material(material);
        Ok(stage)
    }

    fn tell_base(&mut self, stage: &mut Stage, name: &str) {
        let label = stage.label(&format!("FROM {}", full_name(name)));
        let number = self.begin(&label);
        self.event(BuildEvent::Cached { number });
    }
}

/// The instructions that a base's ONBUILD wants first.
fn parsed(triggers: &[String], lines: Lines) -> Result<Vec<Instruction>, BuildError> {
    let read = |text: &String| {
        Dockerfile::parse_trigger(text, lines).map_err(|error| BuildError::from(error).at(lines))
    };
    triggers.iter().map(read).collect()
}

fn makes_layer(instruction: &Instruction) -> bool {
    matches!(
        instruction.kind,
        InstructionKind::Add(_)
            | InstructionKind::Copy(_)
            | InstructionKind::Run(_)
            | InstructionKind::Workdir(_)
    )
}

/// The full name of an image, or what it was called.
fn full_name(name: &str) -> String {
    rbox_spec::Reference::parse(name).map_or_else(|_| name.to_owned(), |name| name.with_default_tag().full())
}

//! What a stage stands on, and its steps in their order.

use std::rc::Rc;
use std::time::Instant;

use rbox_engine::engine::{ImageRequest, PullPolicy};
use rbox_spec::Platform;

use crate::builder::Builder;
use crate::context::NamedContext;
use crate::dockerfile::{Dockerfile, Instruction, InstructionKind, Lines};
use crate::error::BuildError;
use crate::progress::BuildEvent;
use crate::stage::Stage;

/// What FROM stands on.
pub(crate) enum Base {
    /// Another stage, by its number.
    Stage(usize),
    /// Nothing.
    Scratch(Option<Platform>),
    /// An image, by the name it has in the file.
    Image(String, Option<Platform>),
}

impl Builder<'_> {
    /// A stage with all its steps carried out.
    pub(crate) fn stage(&mut self, number: usize) -> Result<Rc<Stage>, BuildError> {
        if let Some(Some(done)) = self.stages.get(number) {
            return Ok(Rc::clone(done));
        }
        let Some(planned) = self.file.stages.get(number).cloned() else {
            return Err(BuildError::Internal(format!("there is no stage {number}")));
        };
        let name = planned.name.clone().unwrap_or_else(|| format!("stage-{number}"));
        if let Some(image) = self.image_instead(number).map(str::to_owned) {
            let stage = Rc::new(self.image_stage(&image, None)?);
            return Ok(self.keep(number, stage));
        }
        let base = self.base_of(number, &planned).map_err(|error| error.at(planned.lines))?;
        let mut stage = self.begun(&base).map_err(|error| error.at(planned.lines))?;
        stage.no_cache = self.request.no_cache
            || self.request.no_cache_stages.iter().any(|one| *one == name || one.is_empty());
        stage.number = number;
        stage.id.clone_from(&name);
        stage.name = if self.file.stages.len() > 1 { name } else { String::new() };
        let triggers = triggers(&mut stage, planned.lines)?;
        stage.steps = usize::from(stage.steps > 0)
            + triggers.iter().chain(&planned.instructions).filter(|one| makes_layer(one)).count();
        if let (1.., Base::Image(name, _)) = (stage.steps, &base) {
            self.tell_base(&mut stage, name);
        }
        // Before `--until` nothing is left out, from its line on everything is.
        let own = match self.request.until.and_then(|until| self.place_of(until.line)) {
            Some((of, place)) if of == number => planned.instructions.iter().take(place),
            _ => planned.instructions.iter().take(usize::MAX),
        };
        for (is_on_build, instruction) in
            triggers.iter().map(|one| (true, one)).chain(own.map(|one| (false, one)))
        {
            stage.is_on_build = is_on_build;
            self.step(&mut stage, instruction).map_err(|error| error.at(instruction.lines))?;
        }
        Ok(self.keep(number, Rc::new(stage)))
    }

    pub(crate) fn keep(&mut self, number: usize, stage: Rc<Stage>) -> Rc<Stage> {
        if let Some(place) = self.stages.get_mut(number) {
            *place = Some(Rc::clone(&stage));
        }
        stage
    }

    /// What FROM of a stage means.
    pub(crate) fn base_of(
        &self,
        number: usize,
        planned: &crate::dockerfile::Stage,
    ) -> Result<Base, BuildError> {
        let name = self.words.word(&planned.base.0, &self.global_args)?;
        if name.is_empty() {
            return Err(BuildError::Invalid(format!("base name ({}) should not be blank", planned.base.0)));
        }
        let platform = match &planned.platform {
            Some(word) => {
                let text = self.words.word(&word.0, &self.global_args)?;
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
    fn begun(&mut self, base: &Base) -> Result<Stage, BuildError> {
        Ok(match base {
            Base::Stage(before) => {
                let base = self.stage(*before)?;
                Stage { has_cmd: false, steps: 0, step: 0, ..(*base).clone() }
            }
            Base::Scratch(platform) => {
                Stage::empty(platform.clone().unwrap_or_else(|| self.platform.clone()))
            }
            Base::Image(name, platform) => {
                let stage = self.image_stage(name, platform.clone())?;
                Stage { steps: 1, ..stage }
            }
        })
    }

    /// What ONBUILD of a base wants of those who stand on it; of an image, as far as it was looked for already.
    pub(crate) fn triggers_of(&self, base: &Base) -> Vec<String> {
        let of_image = |name: &str, platform: &Option<Platform>| {
            let known = self.base_images.get(&self.known_as(name, platform.clone()));
            known.map(|stage| stage.image.config.on_build.clone()).unwrap_or_default()
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
    fn known_as(&self, name: &str, platform: Option<Platform>) -> (String, Option<Platform>) {
        let name = match self.request.contexts.get(name) {
            Some(NamedContext::Image(other)) => other.clone(),
            _ => name.to_owned(),
        };
        (name, platform.or_else(|| self.request.platform.clone()))
    }

    /// An image as a stage without steps.
    pub(crate) fn image_stage(
        &mut self,
        name: &str,
        platform: Option<Platform>,
    ) -> Result<Stage, BuildError> {
        let known_as = self.known_as(name, platform);
        let (name, wanted) = known_as.clone();
        if let Some(stage) = self.base_images.get(&known_as) {
            return Ok(stage.clone());
        }
        let number = self.begin(&format!("[internal] load metadata for {}", full_name(&name)));
        let begun = Instant::now();
        let policy = if self.request.pull { PullPolicy::Always } else { PullPolicy::Missing };
        let request = ImageRequest { name: name.clone(), pull: policy, platform: wanted };
        let obtained = self.engine.obtain_image(&request)?;
        self.done(number, begun);
        let stage = Stage::of_image(&obtained.image);
        self.base_images.insert(known_as, stage.clone());
        Ok(stage)
    }

    fn tell_base(&mut self, stage: &mut Stage, name: &str) {
        let label = stage.label(&format!("FROM {}", full_name(name)));
        let number = self.begin(&label);
        self.event(BuildEvent::Cached { number });
    }
}

/// The instructions that the base's ONBUILD wants first.
fn triggers(stage: &mut Stage, lines: Lines) -> Result<Vec<Instruction>, BuildError> {
    let triggers = std::mem::take(&mut stage.image.config.on_build);
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

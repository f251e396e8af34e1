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
        if let Some(NamedContext::Image(image)) = self.request.contexts.get(&name).cloned() {
            let stage = Rc::new(self.image_stage(&image, None)?);
            return Ok(self.keep(number, stage));
        }
        let mut stage = self.base(number, &planned).map_err(|error| error.at(planned.lines))?;
        stage.no_cache = self.request.no_cache
            || self.request.no_cache_stages.iter().any(|one| *one == name || one.is_empty());
        stage.number = number;
        stage.id.clone_from(&name);
        stage.name = if self.file.stages.len() > 1 { name } else { String::new() };
        let triggers = triggers(&mut stage, planned.lines)?;
        stage.steps = usize::from(stage.steps > 0)
            + triggers.iter().chain(&planned.instructions).filter(|one| makes_layer(one)).count();
        if stage.steps > 0 && self.has_base_image(number) {
            self.tell_base(&mut stage, &planned.base.0);
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

    /// The stage that FROM stands on, or the image.
    fn base(&mut self, number: usize, planned: &crate::dockerfile::Stage) -> Result<Stage, BuildError> {
        let name = self.lexer.word(&planned.base.0, &self.global_args)?.text;
        if name.is_empty() {
            return Err(BuildError::Invalid(format!("base name ({}) should not be blank", planned.base.0)));
        }
        let platform = match &planned.platform {
            Some(word) => {
                let text = self.lexer.word(&word.0, &self.global_args)?.text;
                if text.is_empty() {
                    return Err(BuildError::Invalid(format!("empty platform value from expression {word}")));
                }
                Some(text.parse::<Platform>().map_err(|error| {
                    BuildError::Invalid(format!("failed to parse platform {word}: {error}"))
                })?)
            }
            None => None,
        };
        if let Some(before) = self.base_stage(number, &name) {
            let base = self.stage(before)?;
            return Ok(Stage { has_cmd: false, steps: 0, step: 0, ..(*base).clone() });
        }
        if name == "scratch" {
            return Ok(Stage::empty(platform.unwrap_or_else(|| self.platform.clone())));
        }
        let mut stage = self.image_stage(&name, platform)?;
        stage.steps = 1;
        Ok(stage)
    }

    /// The stage before this one that FROM means by a name.
    pub(crate) fn base_stage(&self, number: usize, name: &str) -> Option<usize> {
        let lower = name.to_lowercase();
        self.file.stages.iter().take(number).rposition(|stage| stage.name.as_ref() == Some(&lower))
    }

    /// Whether FROM names an image.
    fn has_base_image(&self, number: usize) -> bool {
        let Some(planned) = self.file.stages.get(number) else { return false };
        let name =
            self.lexer.word(&planned.base.0, &self.global_args).map(|word| word.text).unwrap_or_default();
        name != "scratch" && self.base_stage(number, &name).is_none()
    }

    /// An image as a stage without steps.
    pub(crate) fn image_stage(
        &mut self,
        name: &str,
        platform: Option<Platform>,
    ) -> Result<Stage, BuildError> {
        let name = match self.request.contexts.get(name) {
            Some(NamedContext::Image(other)) => other.clone(),
            _ => name.to_owned(),
        };
        let wanted = platform.or_else(|| self.request.platform.clone());
        let known_as = (name.clone(), wanted.clone());
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
        let name = self.lexer.word(name, &self.global_args).map(|word| word.text).unwrap_or_default();
        let label = stage.label(&format!("FROM {}", full_name(&name)));
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

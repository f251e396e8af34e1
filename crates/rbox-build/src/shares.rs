//! How much of each stage is the same for all platforms of a build.

use crate::base::Base;
use crate::builder::Builder;
use crate::context::NamedContext;
use crate::dockerfile::{ArgDefinition, Dockerfile, Instruction, InstructionKind};
use crate::targets::Share;

impl Builder<'_> {
    /// Finds out how much of each stage is shared. ONBUILD of images counts as far as they were looked for.
    pub(crate) fn find_shares(&mut self) {
        if !self.targets.are_several() {
            return;
        }
        self.targets.clear_shares();
        for number in 0..self.file.stages.len() {
            let share = self.share_of(number);
            self.targets.add_share(share);
        }
    }

    fn share_of(&self, number: usize) -> Option<Share> {
        let planned = self.file.stages.get(number)?;
        if self.image_instead(number).is_some() {
            return None;
        }
        let base = self.base_of(0, number, planned).ok()?;
        let is_same = |place| self.base_of(place, number, planned).is_ok_and(|other| other == base);
        let is_pinned = match &base {
            Base::Stage(before) => self.is_whole(*before),
            Base::Scratch(platform) | Base::Image(_, platform) => platform.is_some(),
        };
        if !is_pinned || !(1..self.targets.all().len()).all(is_same) {
            return None;
        }
        let read = |text: &String| Dockerfile::parse_trigger(text, planned.lines).ok();
        let triggers: Vec<Instruction> = self.triggers_of(0, &base).iter().filter_map(read).collect();
        let all = triggers.len() + planned.instructions.len();
        let own = triggers.iter().chain(&planned.instructions);
        let instructions = own.take_while(|one| !self.depends(number, one)).count();
        Some(Share { instructions, is_whole: instructions == all })
    }

    fn is_whole(&self, number: usize) -> bool {
        self.targets.share(number).is_some_and(|share| share.is_whole)
    }

    /// Whether an instruction of a stage is another one for each platform.
    fn depends(&self, number: usize, instruction: &Instruction) -> bool {
        let is_open = |ArgDefinition { name, default, .. }: &ArgDefinition| {
            default.is_none() && !self.request.build_args.contains_key(name) && self.targets.differ(name)
        };
        let reads = |from: &String| match self.stage_named(from) {
            Some(before) => before >= number || !self.is_whole(before),
            // An image is that of the platform.
            None => !matches!(self.request.contexts.get(from), Some(NamedContext::Files(_))),
        };
        match &instruction.kind {
            InstructionKind::Arg(definitions) => definitions.iter().any(is_open),
            InstructionKind::Copy(copy) => {
                copy.from.as_ref().filter(|from| !from.is_empty()).is_some_and(reads)
            }
            InstructionKind::Run(run) => run.mounts.iter().filter_map(|flag| flag.from.as_ref()).any(reads),
            _ => false,
        }
    }
}

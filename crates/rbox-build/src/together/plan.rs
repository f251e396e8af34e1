//! Which tasks (stages, each for a platform) what is wanted needs, and which of them need each other.

use std::collections::{BTreeMap, BTreeSet};

use rbox_spec::Platform;

use crate::base::Base;
use crate::builder::Builder;
use crate::dockerfile::{Dockerfile, InstructionKind, Lines};

/// The tasks that are to be carried out, each with those that it needs first.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) needs: BTreeMap<usize, BTreeSet<usize>>,
    /// Images that stages stand on, by the names they have in the file, and the lines that say so; and the place of the platform.
    pub(super) images: Vec<(usize, String, Option<Platform>, Lines)>,
}

impl Plan {
    /// As far as the file tells, and of ONBUILD the images that were looked for already: what comes out of variables of a stage is found
    /// when it is carried out.
    pub(super) fn of(builder: &Builder<'_>, wanted: &[usize]) -> Self {
        let mut plan = Self::default();
        let mut left = wanted.to_vec();
        while let Some(task) = left.pop() {
            if plan.needs.contains_key(&task) {
                continue;
            }
            let needs = plan.needs_of(builder, task);
            left.extend(&needs);
            plan.needs.insert(task, needs);
        }
        plan
    }

    fn needs_of(&mut self, builder: &Builder<'_>, task: usize) -> BTreeSet<usize> {
        let mut needs = BTreeSet::new();
        let (place, number) = builder.targets.split(task);
        let Some(stage) = builder.file.stages.get(number) else { return needs };
        if let Some(image) = builder.image_instead(number) {
            self.images.push((place, image.to_owned(), None, stage.lines));
            return needs;
        }
        let mut triggers = Vec::new();
        let share = builder.targets.share(number);
        let is_shared = builder.targets.is_shared(place);
        if let Ok(base) = builder.base_of(place, number, stage) {
            let read = |text: &String| Dockerfile::parse_trigger(text, stage.lines).ok();
            triggers.extend(builder.triggers_of(place, &base).iter().filter_map(read));
            match base {
                _ if share.is_some() && !is_shared => {
                    needs.insert(builder.targets.shared_task(number));
                }
                Base::Stage(before) => drop(needs.insert(builder.targets.task(place, before))),
                Base::Scratch(_) => {}
                Base::Image(name, platform) => self.images.push((place, name, platform, stage.lines)),
            }
        }
        let mut read = |from: &str| {
            if let Some(before) = builder.stage_named(from).filter(|before| *before < number) {
                needs.insert(builder.targets.task(place, before));
            }
        };
        let instructions = triggers.iter().chain(&stage.instructions);
        let of_all = share.map_or(0, |share| share.instructions);
        let (first, end) = if is_shared { (0, of_all) } else { (of_all, usize::MAX) };
        for instruction in instructions.take(end).skip(first) {
            match &instruction.kind {
                InstructionKind::Copy(copy) => copy.from.iter().for_each(|from| read(from)),
                InstructionKind::Run(run) => {
                    let expand = |text: &str| builder.words.word(text, &builder.targets.at_place(place).args);
                    let mounts = run.mounts.iter().filter_map(|flag| flag.mount(expand).ok());
                    mounts.for_each(|mount| read(&mount.from));
                }
                _ => {}
            }
        }
        needs
    }

    /// Those that can be carried out now.
    pub(super) fn ready(&self, done: &BTreeSet<usize>, begun: &BTreeSet<usize>) -> Vec<usize> {
        let can = |(number, needs): &(&usize, &BTreeSet<usize>)| {
            !begun.contains(number) && !done.contains(number) && needs.is_subset(done)
        };
        self.needs.iter().filter(can).map(|(number, _)| *number).collect()
    }

    /// Whether any two of them do not wait for each other.
    pub(super) fn is_wide(&self) -> bool {
        let mut done = BTreeSet::new();
        loop {
            let ready = self.ready(&done, &BTreeSet::new());
            match ready.as_slice() {
                [] => return false,
                [one] => drop(done.insert(*one)),
                _ => return true,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(needs: &[(usize, &[usize])]) -> Plan {
        let needs = needs.iter().map(|(number, needs)| (*number, needs.iter().copied().collect())).collect();
        Plan { needs, images: Vec::new() }
    }

    #[test]
    fn what_waits_for_nothing_is_ready() {
        let diamond = plan(&[(0, &[]), (1, &[0]), (2, &[0]), (4, &[1, 2])]);
        let ready = |done: &[usize], begun: &[usize]| {
            diamond.ready(&done.iter().copied().collect(), &begun.iter().copied().collect())
        };
        assert_eq!(ready(&[], &[]), [0]);
        assert_eq!(ready(&[0], &[]), [1, 2]);
        assert_eq!(ready(&[0], &[1]), [2]);
        assert_eq!(ready(&[0, 1], &[2]), [] as [usize; 0]);
        assert_eq!(ready(&[0, 1, 2], &[]), [4]);
        assert!(diamond.is_wide());
        assert!(!plan(&[(0, &[]), (1, &[0]), (3, &[0, 1])]).is_wide());
    }
}

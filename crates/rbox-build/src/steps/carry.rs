//! Carrying out a step that makes a layer, unless the cache has it.

use std::path::Path;
use std::time::Instant;

use rbox_image::store::StoredLayer;

use crate::builder::Builder;
use crate::cache::{Key, KeyBuilder, STEP, StepResult, StepTrace};
use crate::dockerfile::Instruction;
use crate::error::BuildError;
use crate::progress::{BuildEvent, Number};
use crate::request::Reasons;
use crate::stage::Stage;

/// A step, ready to be carried out.
pub(crate) struct Prepared<'a> {
    pub(crate) instruction: &'a Instruction,
    /// The line of history.
    pub(crate) line: String,
    /// What it makes is found by this.
    pub(crate) key: KeyBuilder,
    /// It sees something of this host that its key has but the name of: another host may have something else of that name.
    pub(crate) is_of_host: bool,
    /// What it reads, one by one.
    pub(crate) files: std::collections::BTreeMap<std::path::PathBuf, rbox_spec::Digest>,
}

/// What a step does: it makes a layer in a directory of its own.
pub(crate) type Work<'a, 'b> =
    &'a mut dyn FnMut(&mut Builder<'b>, &Stage, Number, &Path) -> Result<StoredLayer, BuildError>;

impl<'b> Builder<'b> {
    /// Takes a step's layer from the cache, or carries the step out.
    pub(crate) fn carry_out(
        &mut self,
        stage: &mut Stage,
        prepared: Prepared<'_>,
        work: Work<'_, 'b>,
    ) -> Result<(), BuildError> {
        let Prepared { instruction, line, mut key, is_of_host, files } = prepared;
        if let Some(newest) = self.newest()? {
            key.other("the newest time there may be", &newest.to_string());
        }
        let shown = self.shown(stage, instruction);
        let label = stage.label(&shown);
        let number = self.begin(&label);
        let (key, parts) = key.finish();
        let step = format!("{}{}/{}", stage.trace.as_deref().unwrap_or_default(), stage.id, stage.step);
        self.last.note(&step, StepTrace { parts, files });
        if is_of_host {
            stage.of_host.push(key.clone());
        }
        if let Some(result) = self.cached(stage, &key) {
            self.event(BuildEvent::Cached { number });
            self.take(stage, key, &result, line);
            return Ok(());
        }
        let is_elsewhere = !stage.no_cache && !is_of_host && self.is_elsewhere(&key);
        if !stage.no_cache && !is_elsewhere {
            self.say_why(number, &step);
        }
        let begun = Instant::now();
        let cache = self.cache.clone();
        let mut turn = cache.turn(&key, None)?;
        if turn.is_none() {
            self.tell(number, "waiting for this step, which another build or stage carries out");
            turn = cache.turn(&key, Some(STEP))?;
        }
        // Another build may have done it meanwhile.
        let mut done = self.cached(stage, &key);
        if is_elsewhere && done.is_none() {
            done = self.fetch(number, &key, &label);
        }
        if let Some(result) = done {
            self.event(BuildEvent::Cached { number });
            self.take(stage, key, &result, line);
            return Ok(());
        }
        self.has_made_layers = true;
        let dir = self.work.fresh();
        let layer = work(self, stage, number, &dir);
        let _ = rbox_sys::removal::remove_tree(&dir);
        if let Err(error) = &layer {
            self.last.forget(&step);
            self.event(BuildEvent::Failed { number, why: &error.chain() });
            if let Some(request) = self.failed_step.take() {
                self.tell(number, "a shell in this step as it failed; the build ends with it");
                self.shell(request);
            }
        }
        let layer = layer?;
        let result = StepResult::of_layer(layer, label);
        self.cache.put(&key, &result, &self.work)?;
        drop(turn);
        self.done(number, begun);
        self.take(stage, key, &result, line);
        Ok(())
    }

    /// Says what is different from the last time.
    fn say_why(&mut self, number: Number, step: &str) {
        let Some(why) = self.last.why(step) else { return };
        self.event(BuildEvent::NotCached { number, why: &why });
        if self.request.reasons == Reasons::All {
            for reason in self.last.all_reasons(step).iter().filter(|reason| **reason != why) {
                self.event(BuildEvent::NotCached { number, why: reason });
            }
        }
    }

    fn cached(&self, stage: &Stage, key: &Key) -> Option<StepResult> {
        if stage.no_cache { None } else { self.cache.get(key) }
    }

    /// What follows stands on what was made, not on how: the same layers are the same tree.
    fn take(&self, stage: &mut Stage, key: Key, result: &StepResult, line: String) {
        let dir = self.transaction.store().layer_path(&result.diff_id).join("fs");
        let mut ids = crate::stage::diff_ids(&stage.layers);
        ids.push(result.diff_id);
        let tree = Key::of_layers(crate::image::chain_of(&ids).as_ref());
        stage.take((key, result), tree, line, dir);
    }
}

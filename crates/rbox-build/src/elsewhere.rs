//! Caches of other hosts: `--cache-from` and `--cache-to`.

use std::collections::HashSet;
use std::time::Instant;

use crate::builder::Builder;
use crate::cache::{Elsewhere, Key, StepResult, write_layout};
use crate::error::BuildError;
use crate::progress::{BuildEvent, Number};
use crate::request::CacheTarget;
use crate::stage::Stage;

impl Builder<'_> {
    /// Reads which steps there are elsewhere. None are there the first time: that is said, and the build goes on.
    pub(crate) fn read_elsewhere(&mut self) {
        for source in &self.request.cache_from {
            let number = self.begin(&format!("importing cache manifest from {}", source.dir.display()));
            let begun = Instant::now();
            match Elsewhere::read(&source.dir, &source.which) {
                Ok(found) => self.elsewhere.push(found),
                Err(error) => self.event(BuildEvent::Warning(&format!(
                    "no cache is read from {}: {}",
                    source.dir.display(),
                    error.chain()
                ))),
            }
            self.done(number, begun);
        }
    }

    pub(crate) fn is_elsewhere(&self, key: &Key) -> bool {
        self.elsewhere.iter().any(|cache| cache.has(key))
    }

    /// Takes what a step came to elsewhere. None if that cannot be had: then the step is carried out.
    pub(crate) fn fetch(&mut self, number: Number, key: &Key, label: &str) -> Option<StepResult> {
        for place in 0..self.elsewhere.len() {
            let Some(cache) = self.elsewhere.get(place).filter(|cache| cache.has(key)) else { continue };
            let fetched = cache.fetch(key, label, self.transaction);
            let dir = cache.dir().display().to_string();
            let kept = fetched.and_then(|result| {
                result.iter().try_for_each(|result| self.cache.put(key, result, &self.work))?;
                Ok(result)
            });
            match kept {
                Ok(None) => {}
                Ok(result) => {
                    self.has_made_layers = true;
                    self.tell(number, &format!("taken from the cache in {dir}"));
                    return result;
                }
                Err(error) => self.tell(number, &format!("not taken from the cache: {}", error.chain())),
            }
        }
        None
    }

    /// Writes what the steps came to.
    pub(crate) fn write_elsewhere(&mut self, stage: &Stage) -> Result<(), BuildError> {
        for target in &self.request.cache_to {
            let number = self.begin("exporting cache to client directory");
            let begun = Instant::now();
            match self.write_to(target, stage, number) {
                Err(error) if target.ignore_error => self.event(BuildEvent::Warning(&format!(
                    "the cache is not exported to {}: {}",
                    target.dir.display(),
                    error.chain()
                ))),
                written => written?,
            }
            self.done(number, begun);
        }
        Ok(())
    }

    fn write_to(&mut self, target: &CacheTarget, stage: &Stage, number: Number) -> Result<(), BuildError> {
        let mut steps = stage.made.clone();
        if target.all {
            steps.extend(self.stages.iter().flatten().flat_map(|stage| stage.made.clone()));
        }
        let mut known = HashSet::new();
        steps.retain(|(key, _)| known.insert(key.clone()));
        let images = self.transaction.store().clone();
        let CacheTarget { dir, tag, compression, .. } = target;
        write_layout(dir, tag, *compression, &steps, &images, &mut |line| self.tell(number, line))
    }
}

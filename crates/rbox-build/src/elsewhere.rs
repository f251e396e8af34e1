//! Caches of other hosts: `--cache-from` and `--cache-to`.

use std::collections::HashSet;
use std::rc::Rc;
use std::time::Instant;

use crate::builder::Builder;
use crate::cache::{Elsewhere, Key, StepResult, look_at_target, write_layout, write_registry};
use crate::error::BuildError;
use crate::progress::{BuildEvent, Number};
use crate::request::{CachePlace, CacheSource, CacheTarget};
use crate::stage::Stage;

impl Builder<'_> {
    /// Reads which steps there are elsewhere. None are there the first time: that is said, and the build goes on.
    pub(crate) fn read_elsewhere(&mut self) {
        for source in &self.request.cache_from {
            let from = match source {
                CacheSource::Directory { dir, .. } => dir.display().to_string(),
                CacheSource::Registry(name) => name.full(),
            };
            let number = self.begin(&format!("importing cache manifest from {from}"));
            let begun = Instant::now();
            match Elsewhere::read(source, self.engine) {
                Ok(found) => self.elsewhere.push(Rc::new(found)),
                Err(error) => self
                    .event(BuildEvent::Warning(&format!("no cache is read from {from}: {}", error.chain()))),
            }
            self.done(number, begun);
        }
    }

    pub(crate) fn is_elsewhere(&self, key: &Key) -> bool {
        self.elsewhere.iter().any(|cache| cache.has(key))
    }

    /// Takes what a step came to elsewhere. None if that is not possible: then the step is carried out.
    pub(crate) fn fetch(&mut self, number: Number, key: &Key, label: &str) -> Option<StepResult> {
        for cache in self.elsewhere.clone() {
            let fetched =
                cache.fetch(key, label, (self.engine, self.transaction), &|| self.cache.turn_for_room());
            let kept = fetched.and_then(|result| {
                result.iter().try_for_each(|result| self.cache.put(key, result, &self.work))?;
                Ok(result)
            });
            match kept {
                Ok(None) => {}
                Ok(result) => {
                    self.has_made_layers = true;
                    self.tell(number, &format!("taken from the cache in {cache}"));
                    return result;
                }
                Err(error) => self.tell(number, &format!("not taken from the cache: {}", error.chain())),
            }
        }
        None
    }

    /// Writes what the steps came to.
    pub(crate) fn write_elsewhere(&mut self, results: &[Rc<Stage>]) -> Result<(), BuildError> {
        for target in &self.request.cache_to {
            let (number, to) = match &target.place {
                CachePlace::Directory { dir, .. } => {
                    (self.begin("exporting cache to client directory"), dir.display().to_string())
                }
                CachePlace::Registry(name) => (self.begin("exporting cache to registry"), name.full()),
            };
            let begun = Instant::now();
            match self.write_to(target, results, number) {
                Err(error) if target.ignore_error => self.event(BuildEvent::Warning(&format!(
                    "the cache is not exported to {to}: {}",
                    error.chain()
                ))),
                written => written?,
            }
            self.done(number, begun);
        }
        Ok(())
    }

    fn write_to(
        &mut self,
        target: &CacheTarget,
        results: &[Rc<Stage>],
        number: Number,
    ) -> Result<(), BuildError> {
        let all = self.stages.iter().flatten().filter(|_| target.all);
        let stages: Vec<&Rc<Stage>> = results.iter().chain(all).collect();
        let of_host: HashSet<&Key> = stages.iter().flat_map(|stage| &stage.of_host).collect();
        let mut known = HashSet::new();
        let made = stages.iter().flat_map(|stage| &stage.made).filter(|(key, _)| known.insert(key));
        let steps: Vec<(Key, StepResult)> = made.filter(|(key, _)| !of_host.contains(key)).cloned().collect();
        let left = of_host.len();
        if left > 0 {
            self.tell(
                number,
                &format!(
                    "{left} steps are this host's alone, for what -v, --device or --network has given them: not written"
                ),
            );
        }
        let images = self.transaction.store().clone();
        let compression = target.compression;
        match &target.place {
            CachePlace::Directory { dir, tag } => {
                write_layout((dir, tag), compression, &steps, &images, &mut |line| self.tell(number, line))
            }
            CachePlace::Registry(name) => {
                if let Some(replaced) = look_at_target(&self.engine.remote()?, name)? {
                    self.event(BuildEvent::Warning(&replaced));
                }
                write_registry((name, compression), &steps, &images, &mut |line| self.tell(number, line))
            }
        }
    }
}

//! `--squash`: one layer in place of all that a build has made.

use rbox_image::media::Descriptor;
use rbox_image::{History, ImageConfig};
use rbox_spec::Digest;

use crate::builder::Builder;
use crate::cache::{Key, KeyBuilder, Part, StepResult};
use crate::error::BuildError;
use crate::image;
use crate::progress::Number;
use crate::stage::{Stage, diff_ids};

impl Builder<'_> {
    /// Makes one layer of those that stand on the base image, and says so in the configuration of the image, which has all else already.
    /// What the image's layers are then; none when nothing was to be done.
    ///
    /// Source: `SquashImage` of Docker's image service.
    pub(crate) fn squash(
        &mut self,
        number: Number,
        stage: &Stage,
        config: &mut ImageConfig,
    ) -> Result<Option<Vec<Descriptor>>, BuildError> {
        // Each step that made a layer is noted, also those of stages below.
        let base = stage.layers.len().saturating_sub(stage.made.len());
        if !self.request.squash || stage.made.is_empty() {
            return Ok(None);
        }
        let whole = image::document(config, None).map_err(|error| BuildError::Internal(error.to_string()))?;
        let whole = rbox_image::hash::sha256(&whole);
        let result = self.one_layer(number, stage, base)?;
        let mut layers: Vec<Descriptor> =
            stage.layers.iter().take(base).map(crate::stage::StageLayer::descriptor).collect();
        layers.push(Descriptor::new(&result.media_type, result.digest, result.blob_size));
        config.rootfs.diff_ids.truncate(base);
        config.rootfs.diff_ids.push(result.diff_id);
        merge_history(config, stage.base_image.as_ref(), &whole, result.created);
        if let Some(seconds) = self.epoch()? {
            image::no_younger_than(&mut config.history, seconds)?;
        }
        config.created = config.history.last().and_then(|line| line.created.clone());
        Ok(Some(layers))
    }

    /// The layer, from the cache if it was made before.
    fn one_layer(&mut self, number: Number, stage: &Stage, base: usize) -> Result<StepResult, BuildError> {
        let ids = diff_ids(&stage.layers);
        let below = ids.get(..base).and_then(image::chain_of);
        let mut key = KeyBuilder::new("squash");
        key.add(Part::Base, Key::of_layers(below.as_ref()).hex());
        key.other("the layers", Key::of_layers(image::chain_of(&ids).as_ref()).hex());
        let (key, _) = key.finish();
        let count = stage.made.len();
        if let Some(result) = self.cache.get(&key).filter(|_| !stage.no_cache) {
            self.tell(number, &format!("squashing {count} layers cached"));
            return Ok(result);
        }
        self.has_made_layers = true;
        let dir = self.work.fresh();
        let base = base.saturating_sub(stage.hidden);
        let layer = self.engine.squash_layers(self.transaction, &stage.dirs(), base, &dir);
        let _ = rbox_sys::removal::remove_tree(&dir);
        let layer = layer?;
        let result = StepResult::of_layer(layer, format!("squash {count} layers"));
        self.cache.put(&key, &result, &self.work)?;
        self.tell(number, &format!("squashing {count} layers done"));
        Ok(result)
    }
}

/// What was done stays told, but has no layer of its own any more: a last line has it. `base`: the image below, and its lines.
fn merge_history(config: &mut ImageConfig, base: Option<&(Digest, usize)>, whole: &Digest, created: String) {
    let of_base = base.map_or(0, |(_, lines)| *lines);
    for line in config.history.iter_mut().skip(of_base) {
        line.empty_layer = true;
    }
    let comment = match base {
        Some((base, _)) => format!("merge {whole} to {base}"),
        None => format!("create new from {whole}"),
    };
    config.history.push(History { created: Some(created), comment: Some(comment), ..History::default() });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_keeps_what_was_done() {
        let told = |base: Option<&(Digest, usize)>| {
            let line = |name: &str, empty| image::history(name.to_owned(), None, empty);
            let mut config = ImageConfig {
                history: vec![line("ADD", false), line("CMD", true), line("RUN", false), line("ENV", true)],
                ..ImageConfig::default()
            };
            merge_history(&mut config, base, &rbox_image::hash::sha256(b"whole"), "now".to_owned());
            let last = config.history.last().and_then(|line| line.comment.clone()).unwrap_or_default();
            let empty: Vec<bool> = config.history.iter().map(|line| line.empty_layer).collect();
            (empty, last)
        };
        let (base, whole) = (rbox_image::hash::sha256(b"base"), rbox_image::hash::sha256(b"whole"));
        assert_eq!(
            told(Some(&(base, 2))),
            (vec![false, true, true, true, false], format!("merge {whole} to {base}"))
        );
        assert_eq!(told(None), (vec![true, true, true, true, false], format!("create new from {whole}")));
    }
}

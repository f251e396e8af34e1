//! Looking for what belongs to nobody or is damaged.

use rbox_image::{Image, ImageStore, Layer, LayerDamage, PullOptions, StoreError};

use crate::check::{self, OfImages, Repair};
use crate::containers::down::keep_from_layer;
use crate::engine::{Engine, Finding, Outcome};
use crate::error::EngineError;

/// What is looked at, and what is done about it.
#[derive(Debug, Clone, Copy, Default)]
pub struct CheckRequest {
    /// All layers are read, and compared with their digests.
    pub contents: bool,
    /// What can be repaired is.
    pub repair: bool,
}

impl Engine {
    /// What of the store and the host belongs to nobody or is damaged, after what kills left behind was tidied up.
    ///
    /// # Errors
    /// Something cannot be read, such as the directory of records.
    pub fn check(&self, request: CheckRequest) -> Result<Vec<Finding>, EngineError> {
        self.containers_and_steps()?;
        let store = self.images()?;
        let mut found = check::look_at_host(&self.paths)?;
        // Right away: reading images takes long, and what was found would be long ago.
        self.repair_all(request, &store, &mut found);
        let mut files = check::look_at_files(&self.paths, &store, request.contents)?;
        self.repair_all(request, &store, &mut files);
        found.append(&mut files);
        if found.iter().any(|one| one.outcome == Outcome::Repaired) {
            let mut left = check::look_at_host(&self.paths)?;
            left.extend(check::look_at_files(&self.paths, &store, request.contents)?);
            for one in found.iter_mut().filter(|one| one.outcome == Outcome::Repaired) {
                if check::is_among(&left, one) {
                    one.outcome = Outcome::Failed("it is there again".to_owned());
                }
            }
        }
        Ok(found)
    }

    /// Repairs what can be, and drops what is in use by now.
    fn repair_all(&self, request: CheckRequest, store: &ImageStore, found: &mut Vec<Finding>) {
        if !request.repair {
            return;
        }
        found.retain_mut(|one| {
            if !one.is_repairable() {
                return true;
            }
            let repaired = self.repair(store, one);
            let in_use = repaired == Ok(false);
            one.outcome = repaired.map_or_else(Outcome::Failed, |_| Outcome::Repaired);
            !in_use
        });
    }

    /// False: it is in use by now.
    fn repair(&self, store: &ImageStore, one: &Finding) -> Result<bool, String> {
        match check::repair(&self.paths, one)? {
            Repair::Done => return Ok(true),
            Repair::InUse => return Ok(false),
            Repair::Images(OfImages::Unnamed(paths)) => {
                store.remove_unnamed(paths).map_err(|error| rbox_sys::plain(&error))?;
            }
            Repair::Images(OfImages::Image(name, platform)) => {
                let options = PullOptions { platform: platform.cloned(), ..PullOptions::default() };
                self.fetch(store, name, &options).map_err(|error| error.with_causes())?;
            }
            Repair::Images(OfImages::Layer(image, layer, damage)) => {
                self.mend(store, image, layer, damage)?;
            }
        }
        Ok(true)
    }

    /// Makes a layer whole: from its blob, and that from where the image came.
    fn mend(
        &self,
        store: &ImageStore,
        image: &Image,
        layer: &Layer,
        damage: LayerDamage,
    ) -> Result<(), String> {
        let failed = |error: rbox_image::StoreError| EngineError::from(error).with_causes();
        let keep = || keep_from_layer(&self.paths, &layer.dir).map_err(|error| error.with_causes());
        // Before anything is fetched or unpacked for nothing.
        if matches!(damage, LayerDamage::Files | LayerDamage::NotUnpacked) {
            keep().map(drop)?;
        }
        if matches!(damage, LayerDamage::Blob | LayerDamage::NoBlob) {
            store.drop_blob(layer).map_err(failed)?;
            let origin = image.repo_digests.first().ok_or("it was made or loaded here")?;
            let options = PullOptions { platform: Some(image.platform.clone()), ..PullOptions::default() };
            self.fetch(store, origin, &options).map_err(|error| error.with_causes())?;
        }
        match store.layer_damage(layer, true).map_err(failed)? {
            None => Ok(()),
            Some(LayerDamage::NotUnpacked | LayerDamage::Files)
                if store.unpack_again(layer, || keep().map_err(StoreError::Conflict)).map_err(failed)? =>
            {
                Ok(())
            }
            Some(_) => Err("what was fetched is not what the digest says either".to_owned()),
        }
    }
}

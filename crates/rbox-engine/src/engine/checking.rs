//! Looking for what belongs to nobody or is damaged.

use std::time::Duration;

use rbox_image::{Image, ImageStore, Layer, LayerDamage, PullOptions};

use crate::check::{self, OfImages};
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
        let mut found = check::look(&self.paths, &store, request.contents)?;
        if !request.repair || found.is_empty() {
            return Ok(found);
        }
        for one in &mut found {
            if one.is_repairable() {
                one.outcome = match self.repair(&store, one) {
                    Ok(()) => Outcome::Repaired,
                    Err(why) => Outcome::Failed(why),
                };
            }
        }
        let left = check::look(&self.paths, &store, request.contents)?;
        for one in found.iter_mut().filter(|one| one.outcome == Outcome::Repaired) {
            if check::is_among(&left, one) {
                one.outcome = Outcome::Failed("it is there again".to_owned());
            }
        }
        Ok(found)
    }

    fn repair(&self, store: &ImageStore, one: &Finding) -> Result<(), String> {
        match check::repair(&self.paths, one)? {
            None => Ok(()),
            Some(OfImages::Unnamed) => {
                store.sweep(Duration::ZERO).map(drop).map_err(|error| rbox_sys::plain(&error))
            }
            Some(OfImages::Image(name)) => {
                let reference = rbox_spec::Reference::parse(name)
                    .map_err(|_| "it has no name to fetch it by: remove it".to_owned())?
                    .with_default_tag();
                self.fetch(store, &reference, &PullOptions::default())
                    .map(drop)
                    .map_err(|error| error.with_causes())
            }
            Some(OfImages::Layer(image, layer, damage)) => self.mend(store, image, layer, damage),
        }
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
        let users = store.users().map_err(failed)?;
        if let Some(user) = users.known.iter().find(|user| user.running && user.layers.contains(&layer.dir)) {
            let name = crate::containers::find::find(&self.paths, &user.container);
            let name = name.map_or_else(|_| user.container.clone(), |found| found.record.name.to_string());
            return Err(format!("container {name} runs on it: stop it first"));
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
                if store.unpack_again(layer).map_err(failed)? =>
            {
                Ok(())
            }
            Some(_) => Err("what was fetched is not what the digest says either".to_owned()),
        }
    }
}

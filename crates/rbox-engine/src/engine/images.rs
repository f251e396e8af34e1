//! An image for those who need one.

use rbox_image::{
    Image, ImageStore, Listing, PullEvent, PullOptions, PullProgress, Pulled, Registries, StoreError, pull,
};
use rbox_spec::{Platform, Reference};

use crate::embedded;
use crate::engine::{Engine, Event, Observer};
use crate::error::EngineError;

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PullPolicy {
    /// Also when it is there: it may have changed.
    Always,
    /// When it is not in the store, or not whole.
    #[default]
    Missing,
    /// Never.
    Never,
}

/// Which image is wanted.
#[derive(Debug, Clone, Default)]
pub struct ImageRequest {
    /// Its name or id.
    pub name: String,
    /// When it is pulled.
    pub pull: PullPolicy,
    /// For which kind of machine; else this one's.
    pub platform: Option<Platform>,
}

/// An image that is in the store.
#[derive(Debug)]
pub struct ObtainedImage {
    /// The image.
    pub image: Image,
    /// It is the one inside rbox.
    pub is_embedded: bool,
}

impl Engine {
    /// The image that is asked for: the one in the store, or pulled.
    ///
    /// # Errors
    /// It is not there and cannot be pulled, or is for another kind of machine than asked for.
    pub fn obtain_image(&self, request: &ImageRequest) -> Result<ObtainedImage, EngineError> {
        let store = self.images()?;
        if embedded::is_name(&request.name) && request.pull != PullPolicy::Always {
            if request.platform.as_ref().is_some_and(|wanted| wanted.rank(&Platform::host()).is_none()) {
                let why = "the embedded image is for this machine's platform only";
                return Err(EngineError::Unsupported(why.into()));
            }
            return Ok(ObtainedImage { image: embedded::ensure(&store)?, is_embedded: true });
        }
        let image = if let Some(image) = in_store(&store, request)? {
            image
        } else {
            store.check_directories()?;
            self.pull_missing(&store, request)?
        };
        if request.platform.is_none() {
            self.tell_foreign(&image.platform);
        }
        Ok(ObtainedImage { image, is_embedded: false })
    }

    /// Pulls an image from its registry.
    ///
    /// # Errors
    /// The registry does not have it or cannot be reached, or what it gives is not what it says.
    pub fn pull(&self, reference: &Reference, options: &PullOptions) -> Result<Pulled, EngineError> {
        self.fetch(&self.images()?, reference, options)
    }

    /// The images that can be read, newest first. One that cannot is an [`Event`].
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn listed_images(&self) -> Result<Vec<Image>, EngineError> {
        let Listing { images, broken } = self.images()?.listing()?;
        for one in &broken {
            self.event(Event::ImageDamaged { name: &one.name, error: &one.error });
        }
        Ok(images)
    }

    fn pull_missing(&self, store: &ImageStore, request: &ImageRequest) -> Result<Image, EngineError> {
        let reference = Reference::parse(&request.name)
            .map_err(|error| EngineError::Invalid(error.to_string()))?
            .with_default_tag();
        if request.pull == PullPolicy::Missing {
            self.event(Event::ImageMissing(&reference));
        }
        let options = PullOptions { platform: request.platform.clone(), ..PullOptions::default() };
        Ok(self.fetch(store, &reference, &options)?.image)
    }

    fn fetch(
        &self,
        store: &ImageStore,
        reference: &Reference,
        options: &PullOptions,
    ) -> Result<Pulled, EngineError> {
        let registries = Registries::load()?;
        let pulled = pull(store, &registries, reference, options, &Passed(&*self.observer))?;
        self.event(Event::Pulled { reference, pulled: &pulled });
        Ok(pulled)
    }

    /// Its programs may run all the same, where the kernel's `binfmt_misc` has a handler for them.
    fn tell_foreign(&self, image: &Platform) {
        let host = Platform::host();
        // Which variants this machine has is for its processor to say.
        if host.rank(&Platform::new(&image.os, &image.architecture, None)).is_none() {
            self.event(Event::ForeignImage { image, host: &host });
        }
    }
}

/// Passes on the progress of a pull.
struct Passed<'a>(&'a dyn Observer);

impl PullProgress for Passed<'_> {
    fn event(&self, event: PullEvent<'_>) {
        self.0.event(Event::Pull(event));
    }
}

/// The image in the store, if that will do; none when it is to be pulled.
fn in_store(store: &ImageStore, request: &ImageRequest) -> Result<Option<Image>, EngineError> {
    let ImageRequest { name, pull, platform } = request;
    if *pull == PullPolicy::Always {
        return Ok(None);
    }
    let found = match store.find(name) {
        // Pulled again, it is whole.
        Err(StoreError::Broken { .. }) if *pull == PullPolicy::Missing => None,
        found => found?,
    };
    let fits = |image: &Image| platform.as_ref().is_none_or(|wanted| wanted.rank(&image.platform).is_some());
    match found {
        Some(image) if fits(&image) && store.is_complete(&image) => Ok(Some(image)),
        Some(image) if *pull == PullPolicy::Never && !fits(&image) => Err(EngineError::Conflict(format!(
            "image {name} is for {}, which is not the platform asked for",
            image.platform
        ))),
        _ if *pull == PullPolicy::Never => Ok(Some(store.get(name)?)),
        _ => Ok(None),
    }
}

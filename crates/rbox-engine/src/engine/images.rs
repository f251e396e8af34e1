//! An image for those who need one.

use std::collections::HashSet;
use std::io::{Read, Write};

use rbox_image::archive::{self, ArchiveError, ImportOptions, LoadEvent, Loaded, SaveFormat};
use rbox_image::store::RemoveOptions;
use rbox_image::{
    Image, ImageStore, Listing, PullEvent, PullOptions, PullProgress, Pulled, PushEvent, PushOptions,
    PushProgress, Pushed, Registries, Removed, StoreError, pull, push,
};
use rbox_spec::digest::Digest;
use rbox_spec::{Platform, Reference};

use crate::embedded;
use crate::engine::{Engine, Event, Observer};
use crate::error::EngineError;
use crate::journal::{Happening, ImageAction, ImageActor, note};

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

    /// Gives an image one more name.
    ///
    /// # Errors
    /// It is not there, or cannot have such a name.
    pub fn tag(&self, image: &Image, target: &Reference) -> Result<(), StoreError> {
        self.images()?.tag(image, target)?;
        self.tell_tag(image, target);
        Ok(())
    }

    /// Gives what a name means one more name: all its platforms. An id means one image.
    ///
    /// # Errors
    /// It is not there, or cannot have such a name.
    pub fn tag_named(&self, name: &str, target: &Reference) -> Result<(), StoreError> {
        let store = self.images()?;
        let image = store.get(name)?;
        store.tag_named(name, target)?;
        self.tell_tag(&image, target);
        Ok(())
    }

    /// Removes a name of an image, or an image, as [`ImageStore::remove`] does.
    ///
    /// # Errors
    /// It is not there, or a container uses it.
    pub fn remove_image(&self, name: &str, options: RemoveOptions<'_>) -> Result<Vec<Removed>, StoreError> {
        let store = self.images()?;
        // One that is damaged is removed as well.
        let before = store.variants(name).unwrap_or_default();
        let removed = store.remove(name, options)?;
        self.tell_removed(&before, &removed);
        Ok(removed)
    }

    /// Loads every image of an archive, of those for several platforms these or all.
    ///
    /// # Errors
    /// It is no archive, or an image of it is damaged.
    pub fn load_images(
        &self,
        source: impl Read + Send,
        platforms: &[Platform],
        progress: &mut dyn FnMut(LoadEvent<'_>),
    ) -> Result<Vec<Loaded>, ArchiveError> {
        let loaded = archive::load(&self.images()?, source, platforms, progress)?;
        for one in &loaded {
            self.note_image(&one.image, ImageAction::Load);
        }
        Ok(loaded)
    }

    /// Writes images to an archive, each for all platforms that are here.
    ///
    /// # Errors
    /// One is not there, or nothing can be written.
    pub fn save_images(
        &self,
        names: &[String],
        writer: impl Write,
        format: SaveFormat,
    ) -> Result<(), ArchiveError> {
        self.save_platforms(names, &[], writer, format)
    }

    /// The same for these platforms only, if there are any.
    ///
    /// # Errors
    /// One is not there, or not for such a platform; or nothing can be written.
    pub fn save_platforms(
        &self,
        names: &[String],
        platforms: &[Platform],
        writer: impl Write,
        format: SaveFormat,
    ) -> Result<(), ArchiveError> {
        let store = self.images()?;
        archive::save(&store, names, platforms, writer, format)?;
        let mut told = HashSet::new();
        for image in names.iter().filter_map(|name| store.find(name).ok().flatten()) {
            if told.insert(image.id) {
                self.note_image(&image, ImageAction::Save);
            }
        }
        Ok(())
    }

    /// Makes an image of a root file system.
    ///
    /// # Errors
    /// It is no tar archive, or the image cannot have what is asked for.
    pub fn import_image(
        &self,
        tar: impl Read + Send,
        options: &ImportOptions,
    ) -> Result<Image, ArchiveError> {
        let image = archive::import(&self.images()?, tar, options)?;
        if let Some(reference) = &options.reference {
            self.tell_tag(&image, reference);
        }
        self.note_image(&image, ImageAction::Import);
        Ok(image)
    }

    /// Something happened to an image that is about no name of it.
    pub(super) fn note_image(&self, image: &Image, action: ImageAction) {
        let id = image.id.to_string();
        let actor = ImageActor { id: &id, name: &id, labels: Some(&image.config.config.labels) };
        note(&self.paths, &[Happening::Image(actor, action)]);
    }

    /// Tells that an image has got one more name, by a build for instance.
    pub fn note_tag(&self, image: &Image, target: &Reference) {
        self.tell_tag(image, target);
    }

    pub(super) fn tell_tag(&self, image: &Image, target: &Reference) {
        let (id, name) = (image.id.to_string(), target.clone().with_default_tag().familiar());
        let actor = ImageActor { id: &id, name: &name, labels: Some(&image.config.config.labels) };
        note(&self.paths, &[Happening::Image(actor, ImageAction::Tag)]);
    }

    /// Tells what was removed, in its order: an image comes behind the names it had. `before`: the images as they were.
    pub(super) fn tell_removed(&self, before: &[Image], removed: &[Removed]) {
        let mut names = 0;
        for one in removed {
            match one {
                // By digest nobody named it: Docker tells of tags.
                Removed::Untagged(name) => names += usize::from(name.digest().is_none()),
                Removed::Deleted(id) => {
                    let known = before.iter().find(|image| image.id == *id);
                    // A layer, unless it is the image that could not be read.
                    if let Some(image) = known {
                        self.tell_untagged(image, std::mem::take(&mut names));
                    } else if !before.is_empty() {
                        continue;
                    }
                    let id = id.to_string();
                    let actor = ImageActor { id: &id, name: &id, labels: None };
                    note(&self.paths, &[Happening::Image(actor, ImageAction::Delete)]);
                    if known.is_none() {
                        return;
                    }
                }
            }
        }
        if let [image] = before {
            self.tell_untagged(image, names);
        }
    }

    fn tell_untagged(&self, image: &Image, names: usize) {
        (0..names).for_each(|_| self.note_image(image, ImageAction::Untag));
    }

    /// Pushes one tag of an image to its registry.
    ///
    /// # Errors
    /// There is no such tag, or the registry refuses it or cannot be reached.
    pub fn push(&self, reference: &Reference, options: &PushOptions) -> Result<Pushed, EngineError> {
        let registries = Registries::load()?;
        let store = self.images()?;
        let pushed = push(&store, &registries, reference, options, &Passed(&*self.observer))?;
        let found = store.find(&reference.familiar()).ok().flatten();
        let actor = ImageActor {
            id: &reference.familiar(),
            name: &reference.familiar_name(),
            labels: found.as_ref().map(|image| &image.config.config.labels),
        };
        note(&self.paths, &[Happening::Image(actor, ImageAction::Push)]);
        Ok(pushed)
    }

    /// The digest that a tag has in its registry now. Nothing is stored.
    ///
    /// # Errors
    /// There is no such tag, or the registry cannot be reached.
    pub fn digest_in_registry(&self, reference: &Reference) -> Result<Digest, EngineError> {
        Ok(rbox_image::digest(&Registries::load()?, reference, &PullOptions::default())?)
    }

    /// The tags of a repository that are in the store, sorted.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn tags_of(&self, repository: &Reference) -> Result<Vec<Reference>, EngineError> {
        let images = self.images()?.list()?;
        let all = images.into_iter().flat_map(|image| image.references);
        let mut tags: Vec<Reference> = all.filter(|name| name.same_repository(repository)).collect();
        tags.sort();
        Ok(tags)
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

    pub(super) fn fetch(
        &self,
        store: &ImageStore,
        reference: &Reference,
        options: &PullOptions,
    ) -> Result<Pulled, EngineError> {
        let registries = Registries::load()?;
        let pulled = pull(store, &registries, reference, options, &Passed(&*self.observer))?;
        let actor = ImageActor {
            id: &reference.familiar(),
            name: &reference.familiar_name(),
            labels: Some(&pulled.image.config.config.labels),
        };
        note(&self.paths, &[Happening::Image(actor, ImageAction::Pull)]);
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

impl PushProgress for Passed<'_> {
    fn event(&self, event: PushEvent<'_>) {
        self.0.event(Event::Push(event));
    }
}

/// Passes on the progress of a pull or a push.
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
    let found = match platform {
        // For another platform it may be here all the same.
        Some(wanted) => store.find_for(name, wanted).and_then(|fitting| match fitting {
            None => store.find(name),
            fitting => Ok(fitting),
        }),
        None => store.find(name),
    };
    let found = match found {
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

//! The images of a project's services: from the store, pulled, or built.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use rbox_compose::RunError;
use rbox_compose::model::{Project, Service};
use rbox_engine::engine::{ImageRequest, ObtainedImage, PullPolicy};
use rbox_engine::spec::{Platform, Reference};

use crate::args::platform::parse_platform;
use crate::command::error::message;
use crate::command::global::Global;
use crate::compose::build::{More, build, in_build_order};
use crate::compose::progress::Progress;
use crate::image::progress::{Out, Progress as PullProgress};

/// When images are built.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum When {
    /// When they are not there.
    #[default]
    Missing,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Where the images of a project come from.
pub(crate) struct Images<'a> {
    pub(crate) global: &'a Global,
    pub(crate) project: &'a Project,
    pub(crate) progress: &'a Progress,
    /// When those are built that can be.
    pub(crate) build: When,
    /// When images are pulled, whatever the services say.
    pub(crate) pull: Option<String>,
    pub(crate) quiet_pull: bool,
    pub(crate) quiet_build: bool,
}

impl Images<'_> {
    /// The images of the project's services, by the services' names.
    pub(crate) fn all(&self) -> Result<BTreeMap<String, ObtainedImage>, RunError> {
        let mut images = BTreeMap::new();
        for service in in_build_order(self.project) {
            if !is_scaled_to_none(service) {
                images.insert(service.name.clone(), self.image(service)?);
            }
        }
        let services = self.project.services.values().filter(|service| !is_scaled_to_none(service));
        let mounted: BTreeSet<String> =
            services.flat_map(|service| rbox_compose::mounted_images(self.project, service)).collect();
        for name in mounted {
            // What is built for a service is there by now.
            let pull = match self.pull.as_deref() {
                Some("never") => PullPolicy::Never,
                _ if !self.is_named(&name) => PullPolicy::Never,
                Some("always") => PullPolicy::Always,
                _ => PullPolicy::Missing,
            };
            self.obtain(name, pull, None)?;
        }
        self.of_steps()?;
        Ok(images)
    }

    /// The images of `pre_start` are pulled as those of their services are; what can only be pulled is not built.
    fn of_steps(&self) -> Result<(), RunError> {
        let mut done = BTreeSet::new();
        for service in self.project.services.values().filter(|service| !is_scaled_to_none(service)) {
            let pull = match self.pull.as_deref().unwrap_or(&service.pull_policy) {
                "always" => PullPolicy::Always,
                "never" => PullPolicy::Never,
                _ => PullPolicy::Missing,
            };
            let named = service.pre_start.iter().map(|step| &step.image).filter(|image| !image.is_empty());
            for image in named {
                let pull = if self.is_named(image) { pull } else { PullPolicy::Never };
                if done.insert(image) {
                    self.obtain(image.clone(), pull, None)?;
                }
            }
        }
        Ok(())
    }

    /// The image of one of them.
    pub(crate) fn image(&self, service: &Service) -> Result<ObtainedImage, RunError> {
        let name = rbox_compose::image_name(self.project, service);
        let failed = |why: String| RunError::Build(format!("service {:?}: {why}", service.name));
        let platform = Some(service.platform.as_str()).filter(|platform| !platform.is_empty());
        let platform = platform.map(parse_platform).transpose().map_err(|error| failed(message(&error)))?;
        let policy = self.pull.as_deref().unwrap_or(&service.pull_policy);
        if service.build.is_some() && self.is_to_be_built(&name, policy)? {
            let more = More { quiet: self.quiet_build, ..More::default() };
            build(self.global, self.project, service, &more, self.progress)
                .map_err(|error| RunError::Build(message(&error)))?;
        }
        let pull = match policy {
            "always" if service.build.is_none() => PullPolicy::Always,
            "never" | "build" => PullPolicy::Never,
            _ if service.build.is_some() => PullPolicy::Never,
            _ if self.pull.is_none() && is_due(self.global, service)? => PullPolicy::Always,
            _ => PullPolicy::Missing,
        };
        self.obtain(name, pull, platform)
    }

    /// Whether an image is named by the files, not built for one of their services.
    fn is_named(&self, name: &str) -> bool {
        let services = self.project.services.values().chain(self.project.disabled_services.values());
        let mut built = services.filter(|service| service.build.is_some());
        built.all(|service| rbox_compose::image_name(self.project, service) != name)
    }

    fn obtain(
        &self,
        name: String,
        pull: PullPolicy,
        platform: Option<Platform>,
    ) -> Result<ObtainedImage, RunError> {
        self.progress.leave();
        let progress = Arc::new(PullProgress::on(Out::Stderr, self.quiet_pull));
        let engine = self.global.engine.watched_by(progress);
        Ok(engine.obtain_image(&ImageRequest { name, pull, platform })?)
    }

    fn is_to_be_built(&self, name: &str, policy: &str) -> Result<bool, RunError> {
        Ok(match self.build {
            When::Never => false,
            When::Always => true,
            When::Missing => policy == "build" || self.global.engine.images()?.find(name)?.is_none(),
        })
    }
}

/// Whether `pull_policy` wants an image again that was pulled so long ago. One that nobody remembers to have pulled is old.
pub(crate) fn is_due(global: &Global, service: &Service) -> Result<bool, RunError> {
    let Some(span) = service.refresh_after() else { return Ok(false) };
    let name = Reference::parse(&service.image).map(|name| name.with_default_tag().familiar());
    let Ok(name) = name else { return Ok(false) };
    let last = global.engine.last_pull(&name)?;
    Ok(last.is_none_or(|last| Timestamp::now().duration_since(last).unsigned_abs() >= span))
}

/// A service of no container needs no image, and may name one that is nowhere.
fn is_scaled_to_none(service: &Service) -> bool {
    service.replicas() == 0 && service.build.is_none()
}

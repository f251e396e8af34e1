//! The outer flow: read the Dockerfile, carry out the stages that the target needs, register the image.

use std::rc::Rc;
use std::time::Instant;

use rbox_engine::engine::Engine;
use rbox_image::Image;
use rbox_image::archive::assemble;
use rbox_image::media::Descriptor;
use rbox_spec::{Digest, Platform, Reference};

use crate::builder::Builder;
use crate::cache::inline;
use crate::checks::{self, Given, Report};
use crate::error::BuildError;
use crate::image;
use crate::progress::{BuildEvent, BuildProgress, Number};
use crate::request::{BuildRequest, Destination, Output};
use crate::stage::{Stage, StageLayer, is_predefined};

/// What a build came to.
#[derive(Debug, Default)]
pub struct Built {
    /// The images, if any were wanted: one for each platform.
    pub images: Vec<Image>,
    /// The index that they are in, when several platforms were asked for.
    pub index: Option<Digest>,
}

/// Builds an image. Only a process of one thread can do this.
///
/// # Errors
/// The Dockerfile is none, a step failed, or the disk.
pub fn build(
    engine: &Engine,
    request: &BuildRequest,
    progress: &mut dyn BuildProgress,
) -> Result<Built, BuildError> {
    let images = engine.images()?;
    let transaction = images.transaction()?;
    let mut builder = Builder::new(engine, request, progress, &images, &transaction)?;
    let built = builder.build();
    // An index that another one took the place of is given up as well.
    let may_leave = builder.has_made_layers || builder.makes_index();
    builder.end(built.is_ok() && request.until.is_none());
    drop(transaction);
    if may_leave {
        // What builds left that were killed, too.
        images.tidy();
    }
    built
}

/// Checks the Dockerfile of a build, and nothing else. Images are not looked at: what a base brings is not known.
///
/// # Errors
/// The context cannot be read.
pub fn check(request: &BuildRequest) -> Result<Report, BuildError> {
    let ignore = request.context.ignore(request.file_in_context.as_deref())?;
    let host = Platform::host();
    let given = Given {
        build_args: &request.build_args,
        build_platform: &host,
        target_platform: request.platforms.first().unwrap_or(&host),
        target: request.target.as_deref(),
        stages: None,
        ignore: ignore.as_ref(),
        base_image: &|_| None,
        options: None,
    };
    let mut report = checks::check(request.file.text(), &given);
    report.error = report.error.map(|error| request.file.told(error));
    Ok(report)
}

impl Builder<'_> {
    fn build(&mut self) -> Result<Built, BuildError> {
        let target = self.target()?;
        self.read_elsewhere();
        let stages = self.stages(target)?;
        if self.request.until.is_some_and(|until| until.shell) {
            for stage in &stages {
                self.shell_at(stage)?;
            }
            return Ok(Built::default());
        }
        let mut built = Built::default();
        for output in &self.request.outputs {
            match output {
                Output::Store => built = self.register(&stages)?,
                Output::Files { to, prefix } => self.export_all(&stages, to, prefix)?,
            }
        }
        // What was carried out up to a line would replace what is there of the whole.
        if self.request.until.is_none() {
            self.write_elsewhere(&stages)?;
        }
        self.warn_unconsumed();
        Ok(built)
    }

    /// Writes the files of a stage; of several platforms each into a directory of its own, as BuildKit does.
    fn export_all(&mut self, stages: &[Rc<Stage>], to: &Destination, prefix: &str) -> Result<(), BuildError> {
        if !self.targets.are_several() {
            let mut all = stages.iter().enumerate();
            return all.try_for_each(|(place, stage)| self.export((place, stage), to, prefix));
        }
        let Destination::Directory(dir) = to else {
            return Err(BuildError::Invalid(
                "an archive of the files is that of one platform: give one with --platform, or --output type=local,dest=DIRECTORY".to_owned(),
            ));
        };
        for (place, stage) in stages.iter().enumerate() {
            let name = self.targets.at_place(place).platform.to_string().replace('/', "_");
            self.export((place, stage), &Destination::Directory(dir.join(name)), prefix)?;
        }
        Ok(())
    }

    /// The number of the stage that is wanted.
    fn target(&self) -> Result<usize, BuildError> {
        let last = self.file.stages.len().saturating_sub(1);
        if let Some((stage, _)) = self.request.until.and_then(|until| self.place_of(until.line)) {
            return Ok(stage);
        }
        let Some(wanted) = &self.request.target else { return Ok(last) };
        self.stage_named(wanted)
            .ok_or_else(|| BuildError::Invalid(format!("target stage {wanted:?} could not be found")))
    }

    /// Whether the image is one of an index, which has all that was made of it.
    fn makes_index(&self) -> bool {
        self.targets.are_several() || self.request.provenance.is_some()
    }

    /// Registers an image of each stage, and names them: of several platforms all as one.
    fn register(&mut self, stages: &[Rc<Stage>]) -> Result<Built, BuildError> {
        let number = self.begin("exporting to image");
        let begun = Instant::now();
        let names = &self.request.names;
        let mut built = Built::default();
        if self.makes_index() {
            for (place, stage) in stages.iter().enumerate() {
                built.images.push(self.assemble(number, (place, stage), &[])?);
            }
            let stated = self.attestations(&built.images, stages)?;
            for one in &stated {
                self.tell(number, &format!("exporting attestation manifest {} done", one.digest()));
            }
            let annotations = &self.request.index_annotations;
            let index = self.transaction.put_together(&built.images, names, annotations, &stated)?;
            self.tell(number, &format!("exporting manifest list {index} done"));
            built.index = Some(index);
        } else {
            for (place, stage) in stages.iter().enumerate() {
                built.images.push(self.assemble(number, (place, stage), names)?);
            }
        }
        for name in names {
            if let Some(image) = built.images.first() {
                self.engine.note_tag(image, name);
            }
            self.tell(number, &format!("naming to {} done", name.clone().with_default_tag().full()));
        }
        self.done(number, begun);
        Ok(built)
    }

    /// Registers the image of the stage at a place.
    fn assemble(
        &mut self,
        number: Number,
        (place, stage): (usize, &Stage),
        names: &[Reference],
    ) -> Result<Image, BuildError> {
        let mut config = stage.image.clone();
        if let Some(wanted) = &self.targets.at_place(place).wanted {
            image::set_platform(&mut config, wanted);
        }
        config.config.labels.extend(self.request.labels.clone());
        config.history.clone_from(&stage.history);
        image::fill_times(&mut config.history);
        config.created = Some(if let Some(seconds) = self.epoch()? {
            image::no_younger_than(&mut config.history, seconds)?
        } else {
            let last = config.history.iter().rev().find_map(|line| line.created.clone());
            last.unwrap_or_else(|| jiff::Timestamp::now().to_string())
        });
        config.rootfs.diff_ids = stage.layers.iter().map(|layer| layer.diff_id).collect();
        let squashed = self.squash(number, stage, &mut config)?;
        // The layers that it would name are in no image of one layer.
        let inline = || inline(stage.layers.len(), &stage.made, &stage.of_host);
        let more = (self.request.inline_cache && squashed.is_none()).then(inline).transpose()?;
        let bytes =
            image::document(&config, more).map_err(|error| BuildError::Internal(error.to_string()))?;
        let layers: Vec<Descriptor> =
            squashed.unwrap_or_else(|| stage.layers.iter().map(StageLayer::descriptor).collect());
        let image = assemble(self.transaction, &bytes, &layers, names, &self.request.annotations)?;
        if self.targets.are_several() {
            self.tell(number, &format!("exporting manifest {} done", image.manifest_digest));
            self.tell(number, &format!("exporting config {} done", image.id));
        } else {
            self.tell(number, &format!("writing image {} done", image.id));
        }
        Ok(image)
    }

    fn warn_unconsumed(&mut self) {
        let given = self.request.build_args.keys();
        let left: Vec<&str> = given
            .map(String::as_str)
            .filter(|name| !self.consumed.contains(*name) && !is_predefined(name))
            .collect();
        if !left.is_empty() {
            let text = format!("One or more build-args [{}] were not consumed", left.join(" "));
            self.event(BuildEvent::Warning(&text));
        }
    }
}

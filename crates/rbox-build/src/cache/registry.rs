//! Results of steps in a registry: `--cache-to` and `--cache-from type=registry`, and those that an image brings (`type=inline`).
//!
//! What a registry gets is what a directory gets: a manifest whose configuration says which step made which layer, and the layers. An
//! image brings the same of its own layers, in a field of its configuration. What is read may be anybody's; see [`steps`](super::steps).

use std::collections::HashMap;
use std::sync::mpsc::{Sender, channel};

use rbox_image::media::{Compression, Document, Index, MAX_LAYERS, Manifest};
use rbox_image::registry::RegistryError;
use rbox_image::remote::{Remote, RemoteError, RemoteImage};
use rbox_image::store::Layer;
use rbox_image::{
    Artifact, ImageConfig, ImageStore, PushEvent, PushOptions, PushProgress, PushState, Registries,
    push_artifact,
};
use rbox_spec::{Kind, Reference};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::key::Key;
use super::steps::{Carried, Known, MOST_STEPS, STEPS_TYPE, Steps, known, layer_of};
use super::store::StepResult;
use crate::error::BuildError;

/// What BuildKit calls its own.
const BUILDKIT_TYPE: &str = "application/vnd.buildkit.cacheconfig.v0";
/// Where an image's configuration has the steps that made its layers, and where that of BuildKit's has its own.
const FIELD: &str = "io.rbox.buildcache.v1";
const BUILDKIT_FIELD: &str = "moby.buildkit.cache.v0";
/// Images of an index that are looked at.
const MOST_IMAGES: usize = 32;

/// What an image's configuration says.
#[derive(Debug, Serialize, Deserialize)]
struct Inline {
    steps: Vec<InlineStep>,
}

#[derive(Debug, Serialize, Deserialize)]
struct InlineStep {
    key: Key,
    /// Which of the image's layers it made.
    layer: usize,
    /// The length of its uncompressed tar.
    size: u64,
}

/// Reads which steps there are under a name, or in the images of that name.
pub(super) fn read(remote: &Remote, name: &Reference) -> Result<Known, BuildError> {
    let found = remote.fetch(name)?;
    remote.check_signature(&found)?;
    match found.document.clone() {
        Document::Manifest(manifest) if manifest.config.media_type == STEPS_TYPE => {
            let bytes = remote.blob(&found.name, &manifest.config, "the list of steps", MOST_STEPS)?;
            Ok(known(manifest, read_json(&found, &bytes)?))
        }
        Document::Manifest(manifest) if manifest.config.media_type == BUILDKIT_TYPE => {
            Err(of_buildkit(name, "is a cache"))
        }
        Document::Manifest(manifest) => of_image(remote, &found, &manifest),
        Document::Index(index) if is_of_buildkit(&index) => Err(of_buildkit(name, "is a cache")),
        Document::Index(index) => of_images(remote, &found, &index),
    }
}

fn is_of_buildkit(index: &Index) -> bool {
    index.manifests.iter().any(|one| one.media_type == BUILDKIT_TYPE)
}

fn of_buildkit(name: &Reference, what: &str) -> BuildError {
    BuildError::Invalid(format!(
        "{} {what} of BuildKit's, whose keys of steps are others: name one that rbox has written",
        name.full()
    ))
}

fn read_json<T: serde::de::DeserializeOwned>(found: &RemoteImage, bytes: &[u8]) -> Result<T, BuildError> {
    let damaged = |error| BuildError::Invalid(format!("{} is damaged: {error}", found.name.full()));
    rbox_spec::json::from_slice(bytes).map_err(damaged)
}

/// The steps of all images of an index: a step is found by what decides it, and that is also the platform.
fn of_images(remote: &Remote, found: &RemoteImage, index: &Index) -> Result<Known, BuildError> {
    let is_image = |platform: &str| platform != "unknown";
    let images = index.manifests.iter().filter(|one| one.platform.as_ref().is_none_or(|p| is_image(&p.os)));
    let (mut all, mut why) = (HashMap::new(), None);
    for one in images.take(MOST_IMAGES) {
        let image = remote.fetch(&found.name.with_digest(one.digest))?;
        let Document::Manifest(manifest) = &image.document else { continue };
        match of_image(remote, &image, manifest) {
            Ok(known) => all.extend(known),
            Err(error @ BuildError::Invalid(_)) => why = Some(error),
            Err(error) => return Err(error),
        }
    }
    match why {
        Some(why) if all.is_empty() => Err(why),
        _ => Ok(all),
    }
}

/// The steps that an image says have made its layers.
fn of_image(remote: &Remote, found: &RemoteImage, manifest: &Manifest) -> Result<Known, BuildError> {
    let bytes = remote.config(&found.name, manifest)?;
    let fields: HashMap<String, Value> = read_json(found, &bytes)?;
    let Some(field) = fields.get(FIELD) else {
        return Err(if fields.contains_key(BUILDKIT_FIELD) {
            of_buildkit(&found.name, "brings a cache")
        } else {
            let name = found.name.full();
            BuildError::Invalid(format!("{name} brings no cache: build it with --cache-to type=inline"))
        });
    };
    let damaged = |why: String| BuildError::Invalid(format!("{} is damaged: {why}", found.name.full()));
    let inline: Inline =
        rbox_spec::json::from_value(field.clone()).map_err(|error| damaged(error.to_string()))?;
    let config: ImageConfig = read_json(found, &bytes)?;
    let diff_ids = &config.rootfs.diff_ids;
    if manifest.layers.len() != diff_ids.len() || diff_ids.len() > MAX_LAYERS {
        return Err(damaged("its layers are not those of its configuration".to_owned()));
    }
    let times: Vec<_> = config.history.iter().filter(|line| !line.empty_layer).collect();
    let step = |one: InlineStep| -> Option<Carried> {
        Some(Carried {
            key: one.key,
            blob: manifest.layers.get(one.layer)?.digest,
            diff_id: *diff_ids.get(one.layer)?,
            size: one.size,
            created: times.get(one.layer)?.created.clone()?,
            what: String::new(),
        })
    };
    let steps = inline.steps.into_iter().filter_map(step).collect();
    Ok(known(manifest.clone(), Steps { steps }))
}

/// What the configuration of an image says of its steps: the field's name and its value. `layers`: how many the image has; those that
/// steps `made` are the last of them, in this order.
pub(crate) fn inline(
    layers: usize,
    made: &[(Key, StepResult)],
    of_host: &[Key],
) -> Result<(String, Value), BuildError> {
    let below = layers.saturating_sub(made.len());
    let step = |(place, (key, result)): (usize, &(Key, StepResult))| {
        let step = InlineStep { key: key.clone(), layer: below + place, size: result.blob_size };
        (!of_host.contains(key)).then_some(step)
    };
    let inline = Inline { steps: made.iter().enumerate().filter_map(step).collect() };
    let value = serde_json::to_value(inline).map_err(|error| BuildError::Internal(error.to_string()))?;
    Ok((FIELD.to_owned(), value))
}

/// Refuses to write over what is no cache. What is said of one of BuildKit's, which goes.
pub(crate) fn look_at_target(remote: &Remote, name: &Reference) -> Result<Option<String>, BuildError> {
    let found = match remote.fetch(name) {
        Ok(found) => found,
        Err(error) if error.kind() == Kind::NotFound => return Ok(None),
        // A registry that lets one write may not let one read, and says at the push what it does not like; what is no document is no image.
        Err(RemoteError::Registry(RegistryError::Denied { .. }) | RemoteError::Document { .. }) => {
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    let kind = match &found.document {
        Document::Manifest(manifest) => manifest.config.media_type.as_str(),
        Document::Index(index) if is_of_buildkit(index) => BUILDKIT_TYPE,
        Document::Index(_) => found.descriptor.media_type.as_str(),
    };
    match kind {
        STEPS_TYPE => Ok(None),
        BUILDKIT_TYPE => Ok(Some(format!("{} was a cache of BuildKit's, which is replaced", name.full()))),
        kind => Err(BuildError::Invalid(format!(
            "{} is no cache but {kind:?}, which would be gone: name another tag",
            name.full()
        ))),
    }
}

/// Writes steps and their layers under a name. Its tag leads to what was there before until all of it is there.
pub(crate) fn write(
    (name, compression): (&Reference, Compression),
    steps: &[(Key, StepResult)],
    images: &ImageStore,
    tell: &mut dyn FnMut(&str),
) -> Result<(), BuildError> {
    let registries = Registries::load().map_err(RemoteError::from)?;
    let layers: Vec<Layer> =
        steps.iter().map(|(_, result)| layer_of(images, result.diff_id, result.blob_size)).collect();
    let artifact = Artifact {
        layers: &layers,
        config_type: STEPS_TYPE,
        config: &|blobs| {
            let of = |step: &(Key, StepResult)| Some(Carried::of(step, blobs.get(&step.1.diff_id)?.digest));
            serde_json::to_vec(&Steps { steps: steps.iter().filter_map(of).collect() })
        },
    };
    let options = PushOptions { compression, ..PushOptions::default() };
    let (lines, told) = channel::<String>();
    let pushed = std::thread::scope(|scope| {
        let push = || {
            let progress = Lines(lines);
            push_artifact(images, &registries, name, &artifact, &options, &progress)
        };
        let pushing = std::thread::Builder::new().name("cache".to_owned()).spawn_scoped(scope, push);
        let pushing = pushing.map_err(|error| BuildError::Internal(format!("start a thread: {error}")))?;
        for line in told {
            tell(&line);
        }
        let failed = |_| BuildError::Internal("the thread that pushes the cache failed".to_owned());
        Ok::<_, BuildError>(pushing.join().map_err(failed)??)
    })?;
    tell(&format!("writing cache manifest {} done", pushed.digest));
    Ok(())
}

/// Hands on what happens: only one thread tells of it.
struct Lines(Sender<String>);

impl PushProgress for Lines {
    fn event(&self, event: PushEvent<'_>) {
        let line = match event {
            PushEvent::Message(line) => line.to_owned(),
            PushEvent::Layer { diff_id, state: PushState::Pushed } => format!("writing layer {diff_id} done"),
            PushEvent::Layer { diff_id, state: PushState::Mounted(from) } => {
                format!("mounting layer {diff_id} from {from} done")
            }
            PushEvent::Layer { .. } => return,
        };
        // Nobody hears it any more when the build has failed.
        let _ = self.0.send(line);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// What it writes without `image-manifest=true`.
    #[test]
    fn an_index_of_layers_is_one_of_buildkits() {
        let of = |kind: &str| {
            let digest = rbox_image::hash::sha256(b"x");
            let text = format!(
                r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{digest}","size":1}},{{"mediaType":"{kind}","digest":"{digest}","size":1}}]}}"#
            );
            is_of_buildkit(&serde_json::from_str(&text).unwrap())
        };
        assert!(of("application/vnd.buildkit.cacheconfig.v0"));
        assert!(!of("application/vnd.oci.image.manifest.v1+json"));
    }

    #[test]
    fn an_image_says_which_of_its_layers_a_step_made() {
        let key = |name: &str| Key::of_layers(Some(&rbox_image::hash::sha256(name.as_bytes())));
        let result = |size| StepResult {
            diff_id: rbox_image::hash::sha256(b"layer"),
            digest: rbox_image::hash::sha256(b"layer"),
            blob_size: size,
            media_type: String::new(),
            size: 1,
            created: "2026-11-30T12:00:00Z".to_owned(),
            what: "RUN".to_owned(),
        };
        let made = [(key("a"), result(512)), (key("b"), result(1024)), (key("c"), result(2048))];
        // Two are the base's; what saw something of this host is nobody else's.
        let (field, value) = inline(5, &made, &[key("b")]).unwrap();
        assert_eq!(field, FIELD);
        let wanted = serde_json::json!({ "steps": [
            { "key": key("a").hex(), "layer": 2, "size": 512 },
            { "key": key("c").hex(), "layer": 4, "size": 2048 },
        ]});
        assert_eq!(value, wanted);
    }
}

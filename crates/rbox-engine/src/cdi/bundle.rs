//! Devices put into a container's config, and what their hooks are told: a bundle with that config, as from any OCI runtime.

use oci_spec::runtime::{Spec, State};
use rbox_spec::id::ContainerId;
use rbox_sys::own;

use crate::cdi::CdiError;
use crate::cdi::edits::Edits;
use crate::error::EngineError;
use crate::record::container::ContainerRecord;
use crate::record::file::RecordError;
use crate::record::paths::{BUNDLE, CONFIG, Paths, STAGE};

/// A config has what an image and the files of devices say.
const MOST_BYTES: u64 = 16 << 20;

/// Puts what devices bring into the config. What hooks get comes back, if there are some.
pub(crate) fn apply(
    paths: &Paths,
    record: &ContainerRecord,
    devices: &Edits,
    config: &mut Spec,
) -> Result<Option<State>, EngineError> {
    devices.apply(config).map_err(CdiError::Inject)?;
    check_groups(record, config)?;
    if !devices.has_hooks() {
        return Ok(None);
    }
    // The config with the place at which hooks find the container's files, in its own mount namespace.
    let mut seen = config.clone();
    if let Some(root) = seen.root_mut() {
        root.set_path(paths.live_of(&record.id).join(STAGE));
    }
    let bundle = paths.live_of(&record.id).join(BUNDLE);
    let file = bundle.join(CONFIG);
    let text = serde_json::to_vec(&seen).map_err(|error| RecordError::format(&file, error))?;
    own::make_private(&bundle).map_err(EngineError::file("make directory", &bundle))?;
    own::write(&file, text).map_err(EngineError::file("write", &file))?;
    Ok(Some(state(paths, &record.id, config)))
}

fn state(paths: &Paths, id: &ContainerId, config: &Spec) -> State {
    let mut state = State::default();
    state.set_version(config.version().clone()).set_id(id.to_string());
    state.set_bundle(paths.live_of(id).join(BUNDLE)).set_annotations(config.annotations().clone());
    state
}

/// Groups of a container with a user namespace have to be among its own.
fn check_groups(record: &ContainerRecord, config: &Spec) -> Result<(), EngineError> {
    let Some((maps, process)) = record.host.id_maps.as_ref().zip(config.process().as_ref()) else {
        return Ok(());
    };
    let mut groups = process.user().additional_gids().iter().flatten();
    groups
        .try_for_each(|gid| maps.find((0, *gid)).map(drop))
        .map_err(|error| CdiError::Inject(format!("additionalGids: {error}")).into())
}

/// How long each of them may take, in seconds.
const LONGEST: i64 = 10;

/// Runs the `poststop` hooks of a container that has been freed, if its devices brought some: once.
pub(crate) fn run_poststop(paths: &Paths, id: &ContainerId, failures: &mut Vec<String>) {
    let bundle = paths.live_of(id).join(BUNDLE);
    let file = bundle.join(CONFIG);
    let Ok(text) = own::read(&file, MOST_BYTES) else { return };
    let Ok(config) = rbox_spec::json::from_slice::<Spec>(&text) else { return };
    let hooks = config.hooks().as_ref().and_then(|hooks| hooks.poststop().as_deref()).unwrap_or_default();
    // Any command may be the one that frees it: none waits for long.
    let hooks: Vec<_> = hooks
        .iter()
        .cloned()
        .map(|mut hook| {
            hook.set_timeout(Some(
                hook.timeout().filter(|seconds| (1..LONGEST).contains(seconds)).unwrap_or(LONGEST),
            ));
            hook
        })
        .collect();
    failures.extend(rbox_runtime::run_poststop(&hooks, &state(paths, id, &config)));
    // Whoever frees it again finds none; the rest goes with the live directory.
    let _ = std::fs::remove_file(&file);
}

//! Containers that do not run, and are not started as long as somebody needs that.

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use rbox_spec::id::ContainerId;

use crate::containers::trash::remove_live;
use crate::containers::{find, image_mounts};
use crate::error::EngineError;
use crate::record::container::{Container, LiveState};
use crate::record::file::{RecordError, read_json};
use crate::record::lock::Lock;
use crate::record::paths::{LOCK, Paths};

/// How long a start or an end that is under way is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// A container that does not run, and is not started before this is dropped: a start waits for it.
#[derive(Debug)]
pub(crate) struct Down {
    paths: Paths,
    id: ContainerId,
    _lock: Lock,
}

impl Down {
    /// None when the container runs, or somebody is at it. It need not have a record.
    pub(crate) fn take(paths: &Paths, id: &ContainerId) -> Result<Option<Self>, RecordError> {
        let Some(lock) = Lock::take_within(&paths.live_of(id), PATIENCE)? else { return Ok(None) };
        let down = Self { paths: paths.clone(), id: id.clone(), _lock: lock };
        // Its monitor may have been killed while it goes on. What cannot be read may do so.
        let runs =
            read_json::<LiveState>(&paths.live_state(id)).map(|live| live.is_some_and(|l| l.has_process()));
        Ok((!runs.unwrap_or(true)).then_some(down))
    }
}

impl Drop for Down {
    fn drop(&mut self) {
        // The lock made the directory. One with something in it was there before, and is looked after by whoever tidies.
        let entries = std::fs::read_dir(self.paths.live_of(&self.id)).into_iter().flatten().flatten();
        if entries.into_iter().all(|entry| entry.file_name() == OsStr::new(LOCK)) {
            remove_live(&self.paths, &self.id);
        }
    }
}

/// Keeps all that stand on a layer from using it; `layer` is its directory. That nobody makes a container of it, or mounts an image
/// that has it, is the caller's to see to. An error: who uses it.
pub(crate) fn keep_from_layer(paths: &Paths, layer: &Path) -> Result<Vec<Down>, EngineError> {
    // The rest of the path may be written in another way.
    let name = layer.parent().and_then(Path::file_name);
    let stands_on = |layers: &[std::path::PathBuf]| {
        layers.iter().any(|other| other.parent().and_then(Path::file_name) == name)
    };
    // What is gone can be put back under whoever had it: they go on without it all the same.
    if !layer.is_dir() {
        return Ok(Vec::new());
    }
    if let Some(mount) = image_mounts::all(paths)?.iter().find(|mount| stands_on(&mount.layers)) {
        let (name, path) = (&mount.name, mount.path.display());
        return Err(EngineError::Conflict(format!(
            "image {name} is mounted at {path}: 'rbox image unmount {name}' it first"
        )));
    }
    let mut kept = Vec::new();
    for id in find::ids(paths)? {
        let container = match Container::read_whole(paths, &id) {
            Ok(container) => container,
            // It cannot be started as long as it is so.
            Err(_) if !paths.live_of(&id).exists() => continue,
            Err(error) => {
                let id = id.short();
                return Err(EngineError::Conflict(format!(
                    "container {id} may run on it, and cannot be read: {error}"
                )));
            }
        };
        let Some(container) =
            container.filter(|container| container.record.images().any(|(_, layers)| stands_on(layers)))
        else {
            continue;
        };
        let Some(down) = Down::take(paths, &id)? else {
            let name = &container.record.name;
            return Err(EngineError::Conflict(format!("container {name} runs on it: stop it first")));
        };
        kept.push(down);
    }
    Ok(kept)
}

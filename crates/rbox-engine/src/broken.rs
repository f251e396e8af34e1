//! Containers whose record is damaged: found, told of, and taken away by their id.
//!
//! rbox replaces records as a whole, so this takes another program, a failing disk or a power cut. Such a record
//! must not be in the way of any other container.

use std::time::Duration;

use rbox_spec::id::ContainerId;

use crate::containers;
use crate::error::EngineError;
use crate::lock::Lock;
use crate::paths::Paths;
use crate::record::{ContainerRecord, RecordError, read_json};
use crate::teardown::{finish_dead, remove_tree};

/// How long a monitor that ends may keep its container.
const PATIENCE: Duration = Duration::from_secs(5);

/// The ids of the containers whose record cannot be read, each with the reason.
pub fn list(paths: &Paths) -> Result<Vec<(ContainerId, RecordError)>, EngineError> {
    let mut broken = Vec::new();
    for id in containers::ids(paths)? {
        let read = read_json::<ContainerRecord>(&paths.container(&id).join("config.json"));
        if let Err(error @ RecordError::Format { .. }) = read {
            broken.push((id, error));
        }
    }
    Ok(broken)
}

/// Takes away what is left of such a container: its processes and groups, its name, its files. What it mounted
/// is not known any more, so volumes stay.
pub fn remove(paths: &Paths, text: &str) -> Result<ContainerId, EngineError> {
    let id = containers::find_id(paths, text)?;
    let live = paths.live_of(&id);
    let Some(lock) = Lock::take_within(&live, PATIENCE)? else {
        return Err(EngineError::Conflict(format!(
            "container {id} is busy: its monitor did not let go of it"
        )));
    };
    finish_dead(paths, &id)?;
    for entry in std::fs::read_dir(paths.names()).into_iter().flatten().flatten() {
        let path = entry.path();
        if std::fs::read_link(&path).is_ok_and(|target| target.to_str() == Some(id.as_str())) {
            std::fs::remove_file(&path).map_err(EngineError::file("remove", &path))?;
        }
    }
    remove_tree(&paths.container(&id))?;
    let _ = std::fs::remove_dir_all(&live);
    drop(lock);
    Ok(id)
}

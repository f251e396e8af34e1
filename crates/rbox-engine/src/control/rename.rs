//! `rename`.

use rbox_spec::ContainerName;
use rbox_sys::channel;

use crate::containers::name::{release_name, settle_names, take_name};
use crate::containers::running;
use crate::error::EngineError;
use crate::journal::{ContainerAction, note_container};
use crate::monitor::protocol::{self, ToMonitor};
use crate::record::container::{Container, ContainerRecord, keep, lasting};
use crate::record::lock::Editing;
use crate::record::paths::Paths;

/// `rename`: the new name is taken before the old one is given up.
pub(crate) fn rename(paths: &Paths, container: &Container, name: &ContainerName) -> Result<(), EngineError> {
    let id = &container.record.id;
    let missing = || running::missing(container);
    let _editing = Editing::begin(paths, id)?.ok_or_else(missing)?;
    let Container { record: current, live, .. } = Container::read_whole(paths, id)?.ok_or_else(missing)?;
    let former = current.name.clone();
    if former == *name {
        // Also when another command has given it this name since the caller looked: it would lose it below.
        return Err(EngineError::Conflict(
            "Renaming a container with the same name as its current name".into(),
        ));
    }
    let _mark = crate::networks::change::begin_change(paths, id)?;
    take_name(paths, name, id)?;
    let record = ContainerRecord { name: name.clone(), ..current };
    let kept = keep(paths, &paths.config(id), &record, lasting(&record.host));
    if kept.is_err() {
        release_name(paths, name, id);
    }
    kept?;
    release_name(paths, &former, id);
    settle_names(paths, &record)?;
    note_container(paths, &record, ContainerAction::Rename(&former));
    if let Some(live) = live {
        crate::networks::change::follow_name(paths, &record, live)?;
        // What its monitor writes into the journal from here on has the new name. Without a monitor nobody writes that.
        if let Ok(socket) = protocol::connect(&paths.live_of(id)) {
            let _ = channel::send(&socket, &ToMonitor::Follow.encode(), None);
        }
    }
    Ok(())
}

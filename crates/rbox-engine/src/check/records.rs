//! Records and directories of containers, volumes and networks.

use std::fs;
use std::path::Path;

use rbox_spec::id::ContainerId;

use crate::check::finding::{Finding, Trouble};
use crate::containers::find;
use crate::error::EngineError;
use crate::networks::store::networks;
use crate::record::container::Status;
use crate::record::paths::Paths;
use crate::volume::store::VolumeStore;

pub(super) fn look(paths: &Paths) -> Result<Vec<Finding>, EngineError> {
    let mut found = Vec::new();
    for dir in [paths.containers(), paths.live()] {
        found.extend(strangers(&dir));
    }
    for container in find::list(paths)?.iter().filter(|container| container.status == Status::Dead) {
        let id = &container.record.id;
        let why = container.exit.as_ref().map_or("its record cannot be read", |exit| exit.error.as_str());
        let todo =
            format!("what it has written is in {}; 'rbox rm -f {}'", paths.upper(id).display(), id.short());
        found.push(Finding::by_hand(Trouble::Damaged, format!("container {id}"), why, todo));
    }
    for volume in VolumeStore::of(paths).list()? {
        if let Some(why) = &volume.damage {
            let todo = format!(
                "its files are untouched; 'rbox volume create {}' writes the record anew",
                volume.name
            );
            found.push(Finding::by_hand(Trouble::Damaged, format!("volume {}", volume.name), why, todo));
        }
    }
    for error in networks(paths).damaged()? {
        let todo = "remove the file, and make the network again";
        found.push(Finding::by_hand(Trouble::Damaged, "network", error.to_string(), todo));
    }
    Ok(found)
}

/// What has a name there that rbox gives to nothing. With a dot begin those of what is being made or removed.
fn strangers(dir: &Path) -> Vec<Finding> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let is_strange = |name: &str| !name.starts_with('.') && name.parse::<ContainerId>().is_err();
    entries
        .filter(|entry| is_strange(&entry.file_name().to_string_lossy()))
        .map(|entry| {
            let what = entry.path().display().to_string();
            Finding::by_hand(
                Trouble::Stray,
                what,
                "rbox gives nothing such a name",
                "look at it, and remove it",
            )
        })
        .collect()
}

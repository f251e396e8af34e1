//! Records and directories of containers, volumes and networks.

use std::fs;
use std::path::Path;

use rbox_spec::id::ContainerId;

use crate::check::finding::{Finding, Fix, Trouble};
use crate::containers::find;
use crate::error::EngineError;
use crate::networks::store::networks;
use crate::record::container::{Container, Status};
use crate::record::lock::Lock;
use crate::record::paths::Paths;
use crate::volume::store::VolumeStore;

pub(super) fn look(paths: &Paths) -> Result<Vec<Finding>, EngineError> {
    let mut found = Vec::new();
    for dir in [paths.containers(), paths.live()] {
        found.extend(strangers(&dir));
    }
    let containers = find::list(paths)?;
    found.extend(containers.iter().filter_map(|container| without_layer(paths, container)));
    found.extend(containers.iter().filter_map(|container| without_monitor(paths, container)));
    for container in containers.iter().filter(|container| container.status == Status::Dead) {
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
        } else if !volume.mountpoint.is_dir() {
            let why = format!("its files are gone: there is no {}", volume.mountpoint.display());
            let what = format!("volume {}", volume.name);
            found.push(Finding::repairable(Trouble::Damaged, what, why, Fix::Data(volume.name.clone())));
        }
    }
    for error in networks(paths).damaged()? {
        let todo = "remove the file, and make the network again";
        found.push(Finding::by_hand(Trouble::Damaged, "network", error.to_string(), todo));
    }
    Ok(found)
}

/// A container whose own layer is gone.
fn without_layer(paths: &Paths, container: &Container) -> Option<Finding> {
    let record = &container.record;
    if container.status == Status::Dead || record.build_step.is_some() {
        return None;
    }
    let gone = [record.upper(paths), record.work(paths)].into_iter().find(|dir| !dir.is_dir())?;
    let what = format!("container {}", record.name);
    let why = format!("what it has written is gone: there is no {}", gone.display());
    Some(if container.is_active() {
        let todo = format!("it runs without that; 'rbox rm -f {}' ends it", record.name);
        Finding::by_hand(Trouble::Damaged, what, why, todo)
    } else {
        Finding::repairable(Trouble::Damaged, what, why, Fix::OwnLayer(record.id.clone()))
    })
}

/// A container that runs and that nobody looks after. One that ends just now is tidied by the next command.
fn without_monitor(paths: &Paths, container: &Container) -> Option<Finding> {
    let id = &container.record.id;
    let runs = || Container::read(paths, id).ok().flatten().is_some_and(|now| now.is_running());
    if !container.is_running() || Lock::is_held(&paths.live_of(id)) || !runs() {
        return None;
    }
    let name = &container.record.name;
    let todo = format!("'rbox restart {name}' gives it another one");
    let why = "its monitor is gone: what it writes is kept nowhere, and nothing starts it again";
    Some(Finding::by_hand(Trouble::Damaged, format!("container {name}"), why, todo))
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

//! Containers as the host comes and goes, and the end of everything.

use std::path::PathBuf;

use crate::cdi::find::{self, FoundDevices};
use crate::cdi::specs::Specs;
use crate::containers::{image_mounts, trash};
use crate::control::boot;
use crate::engine::{Engine, RemoveRequest};
use crate::error::EngineError;
use crate::oci::cgroup;
use crate::record::container::ContainerRecord;
use crate::record::paths::own_directories;
use crate::settings::Settings;

/// Devices that can be asked for by their names in CDI.
#[derive(Debug)]
pub struct NamedDevices {
    /// Where the files are that have them; those in a later directory win.
    pub directories: Vec<PathBuf>,
    /// Their names, sorted.
    pub names: Vec<String>,
    /// What is wrong with files there, each in a line.
    pub wrong: Vec<String>,
}

impl Engine {
    /// Starts the containers that their restart policy starts with the host; `tell` hears of each how that went. This process must have
    /// one thread.
    ///
    /// # Errors
    /// The directory of records cannot be read.
    pub fn boot(
        &self,
        tell: &mut dyn FnMut(&ContainerRecord, Result<(), EngineError>),
    ) -> Result<(), EngineError> {
        // Those that ran when the host went down are given an exit.
        self.containers()?;
        boot::boot(&self.paths, tell)
    }

    /// Stops all containers at once, with `timeout` seconds for each, its own when none; the next [`boot`](Self::boot) starts them
    /// again. `tell` hears of each how that went.
    ///
    /// # Errors
    /// The directory of records cannot be read.
    pub fn shutdown(
        &self,
        timeout: Option<i64>,
        tell: &mut dyn FnMut(&ContainerRecord, Result<(), EngineError>),
    ) -> Result<(), EngineError> {
        self.running()?;
        boot::shutdown(&self.paths, timeout, tell)
    }

    /// The devices that the files of this host have.
    pub fn named_devices(&self, settings: &Settings) -> NamedDevices {
        let directories = settings.cdi_directories();
        let (names, wrong) = Specs::load(&directories).all();
        NamedDevices { directories, names, wrong }
    }

    /// The devices that a step of a build means by a name.
    ///
    /// # Errors
    /// The name is none of a device, or the configuration file cannot be read.
    pub fn find_devices(&self, wanted: &str) -> Result<FoundDevices, EngineError> {
        Ok(find::find(wanted, &Specs::load(&Settings::load()?.cdi_directories()))?)
    }

    /// Removes all that rbox keeps in its directories: containers, images, volumes, networks.
    ///
    /// # Errors
    /// What could not be removed, each in a line. Once a container could not be ended, what containers stand on stays.
    pub fn reset(&self) -> Result<(), Vec<String>> {
        let all = self.containers_and_steps().map_err(|error| vec![error.with_causes()])?;
        let remove = RemoveRequest { force: true, volumes: true };
        let removed = all.iter().filter_map(|container| self.remove(container, remove).err());
        let mut failures: Vec<String> = removed.map(|error| error.to_string()).collect();
        if !failures.is_empty() {
            return Err(failures);
        }
        if let Err(errors) = self.networks().destroy() {
            failures.extend(errors.iter().map(ToString::to_string));
        }
        failures.extend(image_mounts::unmount_all(&self.paths).iter().map(ToString::to_string));
        // What a kill left mounted is not rbox's to remove.
        failures.extend(self.volumes().unmount_all().iter().map(ToString::to_string));
        cgroup::remove_group_parents(&self.paths);
        let _ = std::fs::remove_file(self.paths.boot_mark());
        for dir in [&self.paths.root, &self.paths.state] {
            for name in own_directories() {
                failures.extend(trash::remove_tree(&dir.join(name)).err().map(|error| error.with_causes()));
            }
            // Theirs only if nothing else lies in it.
            let _ = std::fs::remove_dir(dir);
        }
        if failures.is_empty() { Ok(()) } else { Err(failures) }
    }
}

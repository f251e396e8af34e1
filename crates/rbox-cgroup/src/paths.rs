//! Where a container's groups are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{CgroupError, Result};
use crate::hierarchy::{Controller, Hierarchy};

/// Where a container's groups are: what its record keeps, enough to find and delete all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupPaths {
    /// Its v2 directory.
    pub unified: Option<PathBuf>,
    /// Its own v1 directories, by the controllers of the tree (`cpu,cpuacct`).
    pub v1: BTreeMap<String, PathBuf>,
    /// v1 directories it is in together with others: the parent with the default device filter.
    pub shared: Vec<PathBuf>,
}

impl CgroupPaths {
    /// Its own v1 directory for `controller`.
    pub fn v1(&self, controller: Controller) -> Option<&Path> {
        let has = |names: &str| names.split(',').any(|name| name == controller.name());
        self.v1.iter().find(|(names, _)| has(names)).map(|(_, path)| path.as_path())
    }

    /// These, and the v1 directories that [`crate::Cgroup::update`] made later for limits it had not before.
    #[must_use]
    pub fn with_later(mut self, hierarchy: &Hierarchy) -> Self {
        let Some(relative) = self.relative(hierarchy) else { return self };
        for mount in hierarchy.v1_mounts() {
            let group = mount.mountpoint.join(&relative);
            if !self.v1.contains_key(&mount.names()) && group.is_dir() {
                self.v1.insert(mount.names(), group);
            }
        }
        self
    }

    /// Its place below the root of each v1 tree.
    pub(crate) fn relative(&self, hierarchy: &Hierarchy) -> Option<PathBuf> {
        // The device filter's group may stand in another place.
        let devices = |names: &str| names.split(',').any(|name| name == Controller::Devices.name());
        let (names, path) = self.v1.iter().find(|(names, _)| !devices(names))?;
        path.strip_prefix(tree_root(hierarchy, names).ok()?).ok().map(Path::to_owned)
    }

    /// Every directory that is only its own.
    pub fn own(&self) -> impl Iterator<Item = &Path> {
        self.v1.values().chain(&self.unified).map(PathBuf::as_path)
    }

    /// A directory to read the processes from. All trees hold the same ones.
    pub(crate) fn any(&self) -> Option<&Path> {
        self.unified.as_deref().or_else(|| self.own().next())
    }

    /// A record is a file: what it says is used only if it can be a group's path.
    pub(crate) fn check(&self) -> Result<()> {
        for path in self.own().chain(self.shared.iter().map(PathBuf::as_path)) {
            let text = path.to_string_lossy();
            if !path.is_absolute() || path.components().any(|part| part.as_os_str() == "..") {
                return Err(CgroupError::Path {
                    path: text.into_owned(),
                    why: "it is no absolute path without `..`",
                });
            }
        }
        Ok(())
    }
}

/// The root of the v1 tree with these controllers (`cpu,cpuacct`).
pub(crate) fn tree_root<'a>(hierarchy: &'a Hierarchy, names: &str) -> Result<&'a Path> {
    hierarchy
        .v1_mounts()
        .iter()
        .find(|mount| mount.names() == names)
        .map(|mount| mount.mountpoint.as_path())
        .ok_or_else(|| CgroupError::Path {
            path: names.to_owned(),
            why: "these controllers are not mounted together on this host",
        })
}

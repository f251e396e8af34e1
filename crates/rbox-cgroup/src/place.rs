//! The place that a container's groups have in every tree: a checked name, and what it stands for.

use std::os::fd::{AsFd, OwnedFd};

use rbox_spec::Resources;

use crate::error::{CgroupError, Result};
use crate::hierarchy::{Controller, Hierarchy};
use crate::paths::CgroupPaths;
use crate::tree::{has_v2_controller, make_parents};
use crate::{device, limits};

/// A checked relative path: `parent/leaf`.
pub(crate) struct Place<'a> {
    pub(crate) path: &'a str,
    pub(crate) parent: &'a str,
    pub(crate) leaf: &'a str,
}

impl<'a> Place<'a> {
    pub(crate) fn new(path: &'a str) -> Result<Self> {
        let refuse = |why| Err(CgroupError::Path { path: path.escape_debug().to_string(), why });
        if path.len() > 1024 {
            return refuse("it is longer than 1024 bytes");
        }
        let path = path.trim_start_matches('/');
        for part in path.split('/') {
            if part.is_empty() || part == "." || part == ".." {
                return refuse("it has an empty, `.` or `..` part");
            }
            if part.len() > 255 || part.chars().any(char::is_control) {
                return refuse("a part of it cannot be a directory's name");
            }
            // `cgroup.x`, `memory.x`: the kernel's own files are named so.
            if ["cgroup.", "tasks", "notify_on_release", "release_agent"]
                .iter()
                .any(|own| part.starts_with(own))
            {
                return refuse("a part of it is a name the kernel uses");
            }
        }
        let Some((parent, leaf)) = path.rsplit_once('/') else {
            return refuse("it has no parent: it is parent/name");
        };
        Ok(Self { path, parent, leaf })
    }

    /// Whether the parent is a group that only rbox's containers are in, which may have the default filter.
    pub(crate) fn parent_is_ours(&self) -> bool {
        let name = self.parent.rsplit('/').next().unwrap_or_default();
        let hash = |text: &str| text.len() == 6 && text.bytes().all(|b| b.is_ascii_hexdigit());
        name == "rbox" || name.strip_prefix("rbox-").is_some_and(hash)
    }

    /// The parent of devices groups with rules of their own, beside the one with the default filter.
    pub(crate) fn beside(&self) -> String {
        format!("{}.devices", self.parent)
    }

    /// Which directories the container gets.
    pub(crate) fn plan(&self, hierarchy: &Hierarchy, resources: &Resources) -> Result<CgroupPaths> {
        let mut paths = CgroupPaths {
            unified: hierarchy.unified().map(|root| root.join(self.path)),
            ..Default::default()
        };
        let mut wanted = vec![Controller::Pids, Controller::Memory];
        if hierarchy.unified().is_none() {
            wanted.extend([Controller::Cpuacct, Controller::Freezer]);
        }
        for (controller, limit) in limits::controllers_needed(resources) {
            if hierarchy.v1(controller).is_none() && !has_v2_controller(hierarchy, controller) {
                return Err(limits::no_controller(limit, controller));
            }
            wanted.push(controller);
        }
        for mount in wanted.into_iter().filter_map(|controller| hierarchy.v1(controller)) {
            paths.v1.insert(mount.names(), mount.mountpoint.join(self.path));
        }
        if let Some(mount) = hierarchy.v1(Controller::Devices) {
            if resources.default_devices() && self.parent_is_ours() {
                paths.shared.push(mount.mountpoint.join(self.parent));
            } else if self.parent_is_ours() {
                // Below the default filter nothing more could be allowed.
                paths.v1.insert(mount.names(), mount.mountpoint.join(self.beside()).join(self.leaf));
            } else {
                paths.v1.insert(mount.names(), mount.mountpoint.join(self.path));
            }
        }
        Ok(paths)
    }

    pub(crate) fn filter_devices(
        &self,
        hierarchy: &Hierarchy,
        paths: &CgroupPaths,
        directory: Option<&OwnedFd>,
        resources: &Resources,
    ) -> Result<()> {
        let default = resources.default_devices() && self.parent_is_ours();
        if let Some(mount) = hierarchy.v1(Controller::Devices) {
            if default {
                let parent = mount.mountpoint.join(self.parent);
                make_parents(&mount.mountpoint, &parent, false)?;
                return device::ensure_default_v1(&parent);
            }
            return match paths.v1(Controller::Devices) {
                Some(group) => device::write_v1(group, &device::rules(resources)),
                None => Ok(()),
            };
        }
        let (Some(root), Some(group), Some(directory)) = (hierarchy.unified(), &paths.unified, directory)
        else {
            return Err(limits::no_controller("device filter", Controller::Devices));
        };
        if default {
            return device::ensure_default_v2(&root.join(self.parent));
        }
        device::attach_v2(group, directory.as_fd(), &device::rules(resources))
    }
}

/// Whether `path` can be a group's: relative, of parts that are names, with a parent.
pub fn check_path(path: &str) -> Result<()> {
    Place::new(path).map(drop)
}

impl CgroupPaths {
    /// Everywhere that [`crate::Cgroup::create`] could have made the group `path`: to clean up after a process that was
    /// killed before it wrote its record.
    pub fn everywhere(hierarchy: &Hierarchy, path: &str) -> Result<Self> {
        let place = Place::new(path)?;
        let mut paths =
            Self { unified: hierarchy.unified().map(|root| root.join(place.path)), ..Self::default() };
        for mount in hierarchy.v1_mounts() {
            paths.v1.insert(mount.names(), mount.mountpoint.join(place.path));
        }
        if let Some(mount) = hierarchy.v1(Controller::Devices) {
            let beside = mount.mountpoint.join(format!("{}.devices", place.parent)).join(place.leaf);
            // The tree's other directory stands under its own name; this one only has to be found.
            paths.v1.insert(format!("{}.beside", mount.names()), beside);
        }
        Ok(paths)
    }
}

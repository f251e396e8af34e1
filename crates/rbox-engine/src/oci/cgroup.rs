//! The control group of a container: its path, and the groups above it.

use rbox_network::Names;
use std::collections::BTreeSet;

use rbox_runtime::cgroup::{Cgroup, CgroupPaths, Hierarchy};
use rbox_spec::id::ContainerId;

use crate::record::container::ContainerRecord;
use crate::record::paths::Paths;

/// A container's control group: below the parent it asked for, or that of this pair of directories.
pub(crate) fn group_path(paths: &Paths, record: &ContainerRecord) -> String {
    let id = &record.id;
    match record.host.cgroup_parent.as_deref().map(|parent| parent.trim_matches('/')) {
        None | Some("") => format!("{}/{id}", group_parent(paths)),
        Some(parent) => format!("{}/{id}", slice_path(parent)),
    }
}

/// The group that this pair of directories' containers have theirs in: below the unit that systemd delegated to rbox,
/// where there is one, else at the root.
pub(crate) fn group_parent(paths: &Paths) -> String {
    let name = Names::for_state(&paths.state).table;
    match Hierarchy::detect().ok().and_then(Hierarchy::delegated) {
        Some(unit) => format!("{unit}/{name}"),
        None => name,
    }
}

/// A systemd slice by its name: `a-b.slice` lies in `a.slice` (systemd.slice(5)). Any other parent is a path.
pub(crate) fn slice_path(parent: &str) -> String {
    let Some(name) = parent.strip_suffix(".slice").filter(|name| !name.contains('/')) else {
        return parent.to_owned();
    };
    let ends = name.match_indices('-').map(|(at, _)| at).chain([name.len()]);
    ends.map(|end| format!("{}.slice", &name[..end])).collect::<Vec<_>>().join("/")
}

/// The containers whose control groups are below [`group_parent`], in any tree.
pub(crate) fn group_ids(paths: &Paths) -> BTreeSet<ContainerId> {
    let Ok(hierarchy) = Hierarchy::detect() else { return BTreeSet::new() };
    let parent = group_parent(paths);
    let trees = hierarchy.v1_mounts().iter().map(|mount| mount.mountpoint.as_path());
    let groups =
        trees.chain(hierarchy.unified()).filter_map(|tree| std::fs::read_dir(tree.join(&parent)).ok());
    groups.flatten().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Removes the parents of the control groups, when nothing is left in them.
pub(crate) fn remove_group_parents(paths: &Paths) {
    if let Ok(hierarchy) = Hierarchy::detect() {
        for parent in [group_parent(paths), Names::for_state(&paths.state).table] {
            rbox_runtime::cgroup::remove_parents(hierarchy, &parent);
        }
    }
}

/// A container's groups with those that an update added.
pub(crate) fn now(cgroup: &CgroupPaths) -> CgroupPaths {
    match Hierarchy::detect() {
        Ok(hierarchy) => cgroup.clone().with_later(hierarchy),
        Err(_) => cgroup.clone(),
    }
}

pub(crate) fn free_group(cgroup: &CgroupPaths, failures: &mut Vec<String>) {
    match Cgroup::open(cgroup) {
        Ok(cgroup) => {
            // PID 1's death took all with it but processes that exec is just putting in.
            if let Err(error) = cgroup.kill().and_then(|()| cgroup.delete()) {
                failures.push(error.to_string());
            }
        }
        Err(error) => failures.push(error.to_string()),
    }
}

//! What a container holds on the host, given back: control groups, cables, addresses, ports.

use rbox_runtime::cgroup::{Cgroup, CgroupPaths, Hierarchy};
use rbox_spec::id::ContainerId;

use crate::cdi::bundle;
use crate::networks::attach;
use crate::networks::store::networks;
use crate::oci::cgroup::{free_group, group_parent, group_path, now};
use crate::record::container::{ContainerRecord, LiveState};
use crate::record::file::read_json;
use crate::record::paths::{CONFIG, Paths};
use crate::volume::holders;

/// Frees what a running container holds: processes, groups, network, mounted volumes. The caller holds its lock.
pub(crate) fn free(paths: &Paths, id: &ContainerId, live: &LiveState) -> Vec<String> {
    let mut failures = Vec::new();
    free_group(&now(&live.cgroup), &mut failures);
    failures.extend(attach::detach(paths, live));
    failures.extend(holders::let_go(paths, id));
    bundle::run_poststop(paths, id, &mut failures);
    failures
}

/// Frees what a monitor that was killed before it wrote its record may have made: all of it has names that follow
/// from the container's id.
pub(crate) fn free_unrecorded(paths: &Paths, id: &ContainerId) {
    if !paths.live_of(id).exists() {
        return;
    }
    if let Some(group) = group_by_id(paths, id) {
        free_group(&group, &mut Vec::new());
    }
    release_addresses(paths, id);
    // What cannot be unmounted now is tried again by the next command that tidies.
    let _ = holders::let_go(paths, id);
}

/// Ends what is in the control groups of a container, which may have no record any more, and removes them.
pub(crate) fn free_group_of(paths: &Paths, id: &ContainerId, failures: &mut Vec<String>) {
    if let Some(group) = group_by_id(paths, id) {
        free_group(&group, failures);
    }
}

/// Whether something runs in the group of a container.
pub(crate) fn has_processes(paths: &Paths, id: &ContainerId) -> bool {
    let group = group_by_id(paths, id).and_then(|group| Cgroup::open(&group).ok());
    group.is_some_and(|group| group.is_populated())
}

/// Kills what runs in the group of a container whose live record cannot be read.
pub(crate) fn kill_unrecorded(paths: &Paths, id: &ContainerId) {
    if let Some(group) = group_by_id(paths, id).and_then(|group| Cgroup::open(&group).ok()) {
        // Nobody is in it, or who waits for its end says that it did not come.
        let _ = group.kill();
    }
}

/// The groups of a container by what its record asks for, or without one by its id.
fn group_by_id(paths: &Paths, id: &ContainerId) -> Option<CgroupPaths> {
    let record = [paths.container(id), paths.trash().join(id.as_str())]
        .into_iter()
        .find_map(|dir| read_json::<ContainerRecord>(&dir.join(CONFIG)).ok().flatten());
    let path =
        record.map_or_else(|| format!("{}/{id}", group_parent(paths)), |record| group_path(paths, &record));
    Hierarchy::detect().and_then(|hierarchy| CgroupPaths::everywhere(hierarchy, &path)).ok()
}

pub(crate) fn release_addresses(paths: &Paths, id: &ContainerId) {
    let store = networks(paths);
    // What cannot be freed now is taken back by the next container that looks for an address.
    for network in store.list().unwrap_or_default() {
        let _ = store.release_all(&network, id.as_str());
    }
}

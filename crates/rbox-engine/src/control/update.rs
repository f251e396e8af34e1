//! `update`: other limits and another restart policy for a container that exists, also while it runs.

use rbox_runtime::cgroup::{Cgroup, Hierarchy, host_limits};
use rbox_spec::Resources;
use rbox_spec::restart::RestartPolicy;

use crate::containers::running;
use crate::error::EngineError;
use crate::journal::{ContainerAction, note_container};
use crate::record::container::{Container, ContainerRecord, LiveState, keep, lasting, process_is};
use crate::record::lock::Editing;
use crate::record::paths::Paths;

/// What is to change; what is absent stays.
#[derive(Clone, Debug, Default)]
pub struct UpdateRequest {
    /// Limits. 0 and the empty text stand for no change, as Docker has it.
    pub limits: Resources,
    /// The restart policy.
    pub restart: Option<RestartPolicy>,
}

/// Changes the record of a container and, while it runs, its control group. A value that is refused, by the rules of
/// [`Resources::validate`] or by the kernel, changes nothing.
pub(crate) fn update(
    paths: &Paths,
    container: &Container,
    change: &UpdateRequest,
) -> Result<(), EngineError> {
    let id = &container.record.id;
    let missing = || running::missing(container);
    let _editing = Editing::begin(paths, id)?.ok_or_else(missing)?;
    let now = Container::read_whole(paths, id)?.ok_or_else(missing)?;
    let mut record = now.record.clone();
    let invalid = |error: rbox_spec::resources::ResourcesError| EngineError::Invalid(error.to_string());
    record.host.resources = record.host.resources.updated(&change.limits).map_err(invalid)?;
    record.host.resources.validate(&host_limits()).map_err(invalid)?;
    if let Some(policy) = change.restart {
        if record.host.auto_remove && policy != RestartPolicy::No {
            return Err(EngineError::Invalid(
                "Restart policy cannot be updated because AutoRemove is enabled for the container".into(),
            ));
        }
        record.host.restart = policy;
    }
    let limits = to_write(&change.limits, &record.host.resources);
    match now.live {
        Some(live) if limits != Resources::default() => write_limits(&record, &live, &limits)?,
        _ => {}
    }
    keep(paths, &paths.config(id), &record, lasting(&record.host))?;
    note_container(paths, &record, ContainerAction::Update);
    Ok(())
}

/// Of the limits that hold now, those that `change` touches: a pair that goes into one file goes whole.
fn to_write(change: &Resources, new: &Resources) -> Resources {
    let set = |value: Option<u64>| value.is_some_and(|value| value != 0);
    let text = |value: &Option<String>| value.as_ref().is_some_and(|text| !text.is_empty());
    let mut out = Resources::default();
    if set(change.memory) || change.memory_swap.is_some_and(|swap| swap != 0) {
        (out.memory, out.memory_swap) = (new.memory, new.memory_swap);
    }
    if set(change.memory_reservation) {
        out.memory_reservation = new.memory_reservation;
    }
    if set(change.nano_cpus) || set(change.cpu_period) || change.cpu_quota.is_some_and(|quota| quota != 0) {
        (out.nano_cpus, out.cpu_period, out.cpu_quota) = (new.nano_cpus, new.cpu_period, new.cpu_quota);
    }
    if set(change.cpu_shares) {
        out.cpu_shares = new.cpu_shares;
    }
    if text(&change.cpuset_cpus) {
        out.cpuset_cpus.clone_from(&new.cpuset_cpus);
    }
    if text(&change.cpuset_mems) {
        out.cpuset_mems.clone_from(&new.cpuset_mems);
    }
    out.hugetlb_limits.clone_from(&change.hugetlb_limits);
    if change.pids_limit.is_some() {
        out.pids_limit = new.pids_limit;
    }
    if change.blkio_weight.is_some_and(|weight| weight != 0) {
        out.blkio_weight = new.blkio_weight;
    }
    out
}

fn write_limits(record: &ContainerRecord, live: &LiveState, limits: &Resources) -> Result<(), EngineError> {
    let hierarchy = Hierarchy::detect()?;
    let before = live.cgroup.clone().with_later(hierarchy);
    let mut group = Cgroup::open(&before)?;
    let done = group.update(hierarchy, limits);
    if !process_is(live.pid, live.start_ticks) {
        // Its monitor may have cleaned up before a v1 group was made here; what it found there it removes itself.
        group.forget_new(&before);
        return Ok(());
    }
    done.map_err(|source| EngineError::Update { name: record.name.clone(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_written_whole() {
        let new =
            Resources { memory: Some(9), memory_swap: Some(18), cpu_shares: Some(5), ..Resources::default() };
        let change = Resources { memory: Some(9), cpu_shares: Some(0), ..Resources::default() };
        let out = to_write(&change, &new);
        assert_eq!((out.memory, out.memory_swap, out.cpu_shares), (Some(9), Some(18), None));
        assert_eq!(to_write(&Resources::default(), &new), Resources::default());
    }
}

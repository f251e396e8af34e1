//! Which processes a container has, and what they use.

use rbox_runtime::cgroup::Cgroup;
pub use rbox_runtime::cgroup::{CpuStats, MemoryStats, Stats};

use crate::error::EngineError;
use crate::record::container::{Container, LiveState};

fn live(container: &Container) -> Result<&LiveState, EngineError> {
    container.live.as_ref().ok_or_else(|| crate::containers::running::not_running(container))
}

/// The processes of a container that runs, as the host counts them.
pub(crate) fn processes(container: &Container) -> Result<Vec<i32>, EngineError> {
    Ok(Cgroup::open(&live(container)?.cgroup)?.pids()?)
}

/// What a container that runs has used so far.
pub(crate) fn stats(container: &Container) -> Result<Stats, EngineError> {
    Ok(Cgroup::open(&live(container)?.cgroup)?.stats())
}

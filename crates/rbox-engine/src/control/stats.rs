//! Which processes a container has, and what they use.

use rbox_runtime::cgroup::Cgroup;
pub use rbox_runtime::cgroup::Stats;

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

/// What the kernel shows of a process below /proc: as long as the process makes it, so only so much of it is read. None
/// when the process is gone.
pub fn read(path: &str) -> Option<Vec<u8>> {
    const MOST: u64 = 16 << 20;
    rbox_sys::reading::read_start(std::path::Path::new(path), MOST).ok()
}

/// The same as text; empty when the process is gone.
pub fn said(path: &str) -> String {
    read(path).map_or_else(String::new, |bytes| String::from_utf8_lossy(&bytes).into_owned())
}

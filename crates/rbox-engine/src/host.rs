//! What the host offers: for `info` and for errors that say what is missing.

use rbox_runtime::cgroup::Hierarchy;

pub use rbox_sys::waiting::{Patience, run as run_program};

/// The control groups of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupSupport {
    /// 1 where limits live in v1 controllers (hybrid hosts too), 2 where all is unified.
    pub version: u8,
    /// The controllers that can limit, each with where it is mounted.
    pub controllers: Vec<(String, String)>,
}

/// The control groups of this host; none where they are not mounted.
pub fn cgroups() -> Option<CgroupSupport> {
    let hierarchy = Hierarchy::detect().ok()?;
    let controllers = hierarchy.controllers();
    Some(CgroupSupport {
        version: if hierarchy.is_v2() { 2 } else { 1 },
        controllers: controllers.into_iter().map(|(name, path)| (name, path.display().to_string())).collect(),
    })
}

/// What the kernel shows of a process below /proc: as long as the process makes it, so only so much of it is read. None
/// when the process is gone.
pub fn read_proc(path: &str) -> Option<Vec<u8>> {
    const MOST: u64 = 16 << 20;
    rbox_sys::reading::read_start(std::path::Path::new(path), MOST).ok()
}

/// The same as text; empty when the process is gone.
pub fn proc_text(path: &str) -> String {
    read_proc(path).map_or_else(String::new, |bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether containers are confined by AppArmor here unless they ask otherwise: the kernel has it, and the profile or what loads it is there.
pub fn confines_by_apparmor() -> bool {
    use rbox_runtime::security::apparmor;
    apparmor::is_on()
        && (apparmor::parser().is_some() || apparmor::is_loaded(apparmor::DEFAULT).unwrap_or(false))
}

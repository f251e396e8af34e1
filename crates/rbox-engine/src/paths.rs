//! Where everything lies on disk. Two roots: what survives a reboot, and live state on tmpfs (law 7).
//!
//! ```text
//! <root>, /var/lib/rbox              <state>, /run/rbox
//!   image/            the store        containers/<id>/
//!   containers/<id>/                     lock         held by the monitor for its life
//!     config.json     the record         state.json   pid, cgroup, address while it lives
//!     exit.json       the last exit      monitor.sock attach and resize
//!     upper/ work/    overlay            hosts hostname resolv.conf
//!     <id>-json.log   output           network/       addresses in use
//!   names/<name>      link to the id
//!   volumes/  network/
//!   trash/            records being removed
//! ```

use std::path::PathBuf;

use rbox_spec::id::ContainerId;

/// The two roots, and the names made from them.
#[derive(Clone, Debug)]
pub struct Paths {
    /// What survives a reboot.
    pub root: PathBuf,
    /// Live state, on tmpfs.
    pub state: PathBuf,
}

/// Root of what survives a reboot, when neither `--root` nor `RBOX_ROOT` says otherwise.
pub const DEFAULT_ROOT: &str = "/var/lib/rbox";
/// Root of live state, when neither `--state` nor `RBOX_STATE` says otherwise.
pub const DEFAULT_STATE: &str = "/run/rbox";

impl Paths {
    /// The image store.
    pub fn image(&self) -> PathBuf {
        self.root.join("image")
    }
    /// All containers' records.
    pub fn containers(&self) -> PathBuf {
        self.root.join("containers")
    }
    /// One container's record directory.
    pub fn container(&self, id: &ContainerId) -> PathBuf {
        self.containers().join(id.as_str())
    }
    /// One container's log file.
    pub fn log(&self, id: &ContainerId) -> PathBuf {
        self.container(id).join(format!("{id}-json.log"))
    }
    /// All names in use, each a link to an id.
    pub fn names(&self) -> PathBuf {
        self.root.join("names")
    }
    /// Volumes.
    pub fn volumes(&self) -> PathBuf {
        self.root.join("volumes")
    }
    /// Records on their way out.
    pub fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }
    /// Live state of all containers.
    pub fn live(&self) -> PathBuf {
        self.state.join("containers")
    }
    /// Live state of one container.
    pub fn live_of(&self, id: &ContainerId) -> PathBuf {
        self.live().join(id.as_str())
    }
}

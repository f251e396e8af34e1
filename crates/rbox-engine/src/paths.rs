//! Where everything lies on disk. Two roots: what survives a reboot, and live state on tmpfs (law 7).
//!
//! ```text
//! <root>, /var/lib/rbox              <state>, /run/rbox
//!   image/            the store        containers/<id>/
//!   containers/<id>/                     lock         held by the monitor for its life
//!     config.json     the record         state.json   pid, cgroup, address while it lives
//!     exit.json       the last exit      monitor.sock attach and resize
//!     started         when it started
//!     upper/ work/    overlay            hosts hostname resolv.conf
//!     <id>-json.log   output           network/       addresses in use
//!   names/<name>      link to the id
//!   volumes/  network/
//!   trash/            records being removed
//! ```

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

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

/// Makes a directory of ours and those above it, for root only: below the roots are records with environments, and
/// file systems of images with set-user-ID programs.
pub(crate) fn make_private(dir: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

impl Paths {
    /// Makes the two roots when they are missing, open to nobody but root: what lies below may be set-user-ID
    /// (layers, the trash) or secret (environments). Directories that are there keep their mode.
    pub fn prepare(&self) -> std::io::Result<()> {
        for dir in [&self.root, &self.state] {
            if dir.is_dir() {
                continue;
            }
            if let Some(parent) = dir.parent() {
                std::fs::create_dir_all(parent)?;
            }
            match std::fs::DirBuilder::new().mode(0o700).create(dir) {
                Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

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
    /// When one container was last started, on disk: live state on tmpfs does not survive a reboot.
    pub fn started_mark(&self, id: &ContainerId) -> PathBuf {
        self.container(id).join("started")
    }
    /// Made once a boot, when the records were compared with what a reboot took away.
    pub fn boot_mark(&self) -> PathBuf {
        self.state.join("swept")
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

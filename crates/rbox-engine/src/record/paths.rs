//! Where everything lies on disk. Two roots: what survives a reboot, and live state on tmpfs (law 7).
//!
//! ```text
//! <root>, /var/lib/rbox              <state>, /run/rbox
//!   image/            the store        containers/<id>/
//!   containers/<id>/                     lock         held by the monitor for its life
//!     config.json     the record         state.json   pid, cgroup, address while it runs
//!     ids.json        of a user namespace
//!     exit.json       the last exit      monitor.sock attach and resize
//!     started         when it started
//!     upper/ work/    overlay
//!     hosts hostname resolv.conf       network/       addresses in use
//!     <id>-json.log   output
//!     files/          what is in the files it is given
//!   names/<name>      link to the id
//!   volumes/  network/
//!   build/            what builds keep: steps/ files/ mounts/ last/ work/
//!   trash/            records being removed
//!   base/             the layer below all images
//!   tmp/              records being written
//!   events/journal    what happened; journal.N is the file before it
//! ```

use std::fs::{File, Permissions};
use std::io::{Error, ErrorKind};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rbox_spec::id::ContainerId;
use rbox_spec::{ContainerName, Digest};

use crate::record::file::{RecordError, is_full};

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

/// What a container is, in its directory below `containers/`: [`ContainerRecord`](crate::record::container::ContainerRecord).
pub(crate) const CONFIG: &str = "config.json";
/// The ids of one with a user namespace, there too: they are kept from others, whatever becomes of the record.
pub(crate) const IDS: &str = "ids.json";
/// How it ended last, there too; beside [`STATE`] as long as the disk is full.
pub(crate) const EXIT: &str = "exit.json";
/// What its health checks came to: beside its live state while it runs, then beside its exit.
pub(crate) const HEALTH: &str = "health.json";
/// Its state while it runs, in its directory below the state directory.
pub(crate) const STATE: &str = "state.json";
/// Held by who looks after it, in the same directory.
pub(crate) const LOCK: &str = "lock";
/// Its end was asked for: there.
pub(crate) const STOP: &str = "stop";
/// It is paused for as long as somebody reads what it has written: there.
pub(crate) const LEASE: &str = "lease";
/// What is known of an image that is mounted, in its directory below `images/`.
pub(crate) const MOUNT: &str = "mount.json";
/// Its files, there.
pub(crate) const MERGED: &str = "merged";
/// Two directories without anything, there: overlayfs wants two layers at least.
pub(crate) const NOTHING: [&str; 2] = ["none", "empty"];
/// What the names of directories of comparisons begin with, before the process.
pub(crate) const COMPARISON: &str = "compare-";
/// Its config, for hooks of its devices: there.
pub(crate) const BUNDLE: &str = "bundle";
/// Where its root is put together, there.
pub(crate) const STAGE: &str = "stage";
/// What it has written: the upper directory of its overlay.
pub(crate) const UPPER: &str = "upper";
/// The overlay's own directory, on the same file system.
pub(crate) const WORK: &str = "work";
/// What is in the files that it is given, each named by its number.
pub(crate) const CONTENTS: &str = "files";
/// The empty lower directory of an image without layers.
pub(crate) const LOWER: &str = "lower";
/// What a volume is, in its directory below `volumes/`.
pub(crate) const VOLUME: &str = "volume.json";
/// A directory and a link in the layer below all images.
pub(crate) const ETC: &str = "etc";
pub(crate) const MTAB: &str = "mtab";
/// What is in a volume, beside that.
pub(crate) const DATA: &str = "_data";
/// Beside a volume's data: locked while it is filled from an image.
pub(crate) const TURN_TO_FILL: &str = "filling.lock";
/// Beside them too: locked by who starts a container that has the volume, and by who has all of those stand still.
pub(crate) const TURN_TO_START: &str = "starting.lock";
/// A container's /etc/hosts, below its directory.
pub(crate) const HOSTS: &str = "hosts";
/// Its /etc/hostname.
pub(crate) const HOSTNAME: &str = "hostname";
/// Its /etc/resolv.conf.
pub(crate) const RESOLV_CONF: &str = "resolv.conf";

/// What rbox makes below its root. All of it stands there before the first command does anything, so that removing needs no
/// room on a full disk.
const IN_ROOT: [&str; 11] = [
    "base",
    "build",
    "containers",
    "events",
    "image",
    "names",
    "network",
    "projects",
    "tmp",
    "trash",
    "volumes",
];
/// What it makes below the state directory.
const IN_STATE: [&str; 8] =
    ["build", "changing", "containers", "images", "links", "locks", "network", "volumes"];
/// Directories of older versions, which may still be there.
const FORMER: [&str; 2] = ["names", "networks"];

/// The names of all directories that are rbox's below its two roots.
pub(crate) fn own_directories() -> impl Iterator<Item = &'static str> {
    IN_ROOT.into_iter().chain(IN_STATE).chain(FORMER)
}

impl Paths {
    /// What containers have where their images have nothing.
    pub(crate) fn base(&self) -> PathBuf {
        self.root.join("base")
    }

    /// The files of Compose projects that came from elsewhere.
    pub(crate) fn projects(&self) -> PathBuf {
        self.root.join("projects")
    }

    /// What builds keep.
    pub(crate) fn build(&self) -> PathBuf {
        self.root.join("build")
    }

    /// What a build needs as long as it goes on, and no disk is to have.
    pub(crate) fn live_build(&self) -> PathBuf {
        self.state.join("build")
    }

    /// Makes the two roots and the directories in them, as far as they are missing, and closes them to everybody but root: what
    /// lies below may be set-user-ID (layers, volumes, the trash) or secret (environments). Each command does this, whoever made
    /// the directories and with whatever mode.
    pub fn prepare(&self) -> Result<(), RecordError> {
        for (dir, below) in [(&self.root, &IN_ROOT[..]), (&self.state, &IN_STATE[..])] {
            prepare_root(dir)?;
            let mut made = false;
            for name in below {
                made |= close(&dir.join(name))?;
            }
            if made {
                // Best effort: the first record that must last syncs more than this.
                let _ = rbox_sys::durable::sync_dir(dir);
            }
        }
        Ok(())
    }

    /// Where records are written before they are renamed to their place.
    pub fn temporaries(&self) -> PathBuf {
        self.root.join("tmp")
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
    /// What a container is.
    pub(crate) fn config(&self, id: &ContainerId) -> PathBuf {
        self.container(id).join(CONFIG)
    }
    /// How it ended last.
    pub(crate) fn exit(&self, id: &ContainerId) -> PathBuf {
        self.container(id).join(EXIT)
    }
    /// What it has written.
    pub(crate) fn upper(&self, id: &ContainerId) -> PathBuf {
        self.container(id).join(UPPER)
    }
    /// One container's log file.
    pub fn log(&self, id: &ContainerId) -> PathBuf {
        self.container(id).join(format!("{id}-json.log"))
    }
    /// A file that is mounted into one container, which may write it: on disk, beside its other changes.
    pub(crate) fn given_file(&self, id: &ContainerId, name: &str) -> PathBuf {
        self.container(id).join(name)
    }
    /// What is in one of the files that a container is given.
    pub(crate) fn content(&self, id: &ContainerId, number: usize) -> PathBuf {
        self.container(id).join(CONTENTS).join(number.to_string())
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
    /// The link of one name.
    pub fn name(&self, name: &ContainerName) -> PathBuf {
        self.names().join(name)
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
    /// The state of one running container.
    pub(crate) fn live_state(&self, id: &ContainerId) -> PathBuf {
        self.live_of(id).join(STATE)
    }
    /// What the health checks of one that runs came to.
    pub(crate) fn live_health(&self, id: &ContainerId) -> PathBuf {
        self.live_of(id).join(HEALTH)
    }
    /// What the health checks of one that ran came to.
    pub(crate) fn last_health(&self, id: &ContainerId) -> PathBuf {
        self.container(id).join(HEALTH)
    }
    /// How it ended, as long as there is no room for that on disk.
    pub(crate) fn waiting_exit(&self, id: &ContainerId) -> PathBuf {
        self.live_of(id).join(EXIT)
    }
    /// Images that are mounted to be looked into, each in a directory named by its id.
    pub(crate) fn image_mounts(&self) -> PathBuf {
        self.state.join("images")
    }
    /// One of them.
    pub(crate) fn image_mount(&self, id: &Digest) -> PathBuf {
        self.image_mounts().join(id.hex())
    }
    /// Where this process puts images together to compare them.
    pub(crate) fn comparison(&self) -> PathBuf {
        self.image_mounts().join(format!("{COMPARISON}{}", std::process::id()))
    }
    /// Marks of the containers whose networks are being changed, each named by an id.
    pub(crate) fn changing(&self) -> PathBuf {
        self.state.join("changing")
    }
    /// Links between containers: a directory for each container that is linked to.
    pub(crate) fn links(&self) -> PathBuf {
        self.state.join("links")
    }
    /// What happened, for `events`.
    pub(crate) fn journal(&self) -> PathBuf {
        self.root.join("events").join("journal")
    }
    /// Locked while the containers of a Compose project are being changed.
    pub(crate) fn project_lock(&self, project: &str) -> PathBuf {
        self.state.join("locks").join(format!("compose-{project}"))
    }
    /// Who holds which volume's file system mounted.
    pub(crate) fn live_volumes(&self) -> PathBuf {
        self.state.join("volumes")
    }
    /// What the networks keep.
    pub(crate) fn network(&self) -> PathBuf {
        self.root.join("network")
    }
    /// What the networks keep until the host goes down.
    pub(crate) fn live_network(&self) -> PathBuf {
        self.state.join("network")
    }
}

/// Makes a root, or closes it. One that holds other things than rbox's keeps its mode, as others may have to reach those; then
/// nobody else may be able to move what is in it.
fn prepare_root(dir: &Path) -> Result<(), RecordError> {
    let meta = match std::fs::metadata(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            if let Some(parent) = dir.parent() {
                std::fs::create_dir_all(parent).map_err(RecordError::io("make directory", parent))?;
            }
            return close(dir).map(drop);
        }
        other => other.map_err(RecordError::io("look at", dir))?,
    };
    let mode = meta.mode();
    let for_others = mode & 0o077;
    if for_others == 0 || !meta.is_dir() {
        return close(dir).map(drop);
    }
    let is_own = |entry: std::fs::DirEntry| {
        let name = entry.file_name();
        name == "swept" || name == "lost+found" || own_directories().any(|own| name == own)
    };
    let mut entries = std::fs::read_dir(dir).map_err(RecordError::io("list", dir))?.flatten();
    if entries.all(is_own) {
        return close(dir).map(drop);
    }
    let sticky = mode & 0o1000 != 0;
    if mode & 0o022 != 0 && !sticky {
        return Err(RecordError::Refused(format!(
            "{}: others can write to it (mode {:04o}) and it holds more than rbox's data: use a directory of its own, or chmod go-w",
            dir.display(),
            mode & 0o7777
        )));
    }
    Ok(())
}

/// Makes a directory that only root can enter, or makes one such that is there. Whether it was made. A full disk is no error:
/// what is missing then is reported by whoever needs it.
fn close(dir: &Path) -> Result<bool, RecordError> {
    let meta = match std::fs::metadata(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return match rbox_sys::own::make_private(dir) {
                Ok(()) => Ok(true),
                Err(error) if is_full(&error) && dir.parent().is_some_and(Path::is_dir) => Ok(false),
                Err(error) => Err(RecordError::io("make directory", dir)(error)),
            };
        }
        other => other.map_err(RecordError::io("look at", dir))?,
    };
    let refuse = |why: &str| Err(RecordError::io("use", dir)(Error::other(why)));
    if !meta.is_dir() {
        return refuse("it is not a directory");
    }
    if meta.mode() & 0o7777 == 0o700 && meta.uid() == rustix::process::geteuid().as_raw() {
        return Ok(false);
    }
    // Looked at again by descriptor: what is closed is what was found to be ours.
    let file = File::open(dir).map_err(RecordError::io("open", dir))?;
    let meta = file.metadata().map_err(RecordError::io("look at", dir))?;
    if meta.uid() != rustix::process::geteuid().as_raw() {
        return refuse("it belongs to another user");
    }
    file.set_permissions(Permissions::from_mode(0o700)).map_err(RecordError::io("close to others", dir))?;
    Ok(false)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_closed_whatever_they_were() {
        let dir = tempfile::tempdir().unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o7777;
        let open = |path: &Path, mode| {
            std::fs::create_dir_all(path).unwrap();
            std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        };
        for wrong in [0o755, 0o777, 0o1777, 0o701, 0] {
            let paths =
                Paths { root: dir.path().join(format!("root{wrong:o}")), state: dir.path().join("state") };
            open(&paths.root, wrong);
            for below in ["containers", "image", "volumes", "trash"] {
                open(&paths.root.join(below), wrong);
            }
            paths.prepare().unwrap();
            for path in IN_ROOT.map(|name| paths.root.join(name)).iter().chain([&paths.root, &paths.state]) {
                assert_eq!(mode(path), 0o700, "{wrong:o}: {}", path.display());
            }
        }
        // A directory that others use stays as it is, and what is in it is closed.
        let shared = Paths { root: dir.path().join("shared"), state: dir.path().join("state") };
        open(&shared.root, 0o755);
        std::fs::write(shared.root.join("theirs"), "").unwrap();
        shared.prepare().unwrap();
        assert_eq!((mode(&shared.root), mode(&shared.containers())), (0o755, 0o700));
        // But not when they can put another directory in place of ours.
        open(&shared.root, 0o777);
        assert!(shared.prepare().unwrap_err().to_string().contains("others can write to it (mode 0777)"));
        open(&shared.root, 0o1777);
        shared.prepare().unwrap();
        // Nor is a directory taken that is another user's.
        std::os::unix::fs::chown(shared.containers(), Some(1000), None).unwrap();
        let refused = shared.prepare().unwrap_err().to_string();
        assert!(refused.ends_with("containers: it belongs to another user"), "{refused}");
    }
}

//! A user namespace of the container's own: its root is an ordinary user of the host.
//!
//! Ids are mapped where the files are. The image's layers and the directory for changes are mounted with ids mapped, and the overlay is made
//! of those: on disk everything is owned as without a user namespace, so a layer is shared by containers with any ids, and what
//! reads the directories (`commit`, `diff`, `cp` of a stopped container) finds what it always finds.

use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use rbox_namespace::idmap::user_namespace;
use rbox_rootfs::overlay::{Overlay, OverlayError};
use rbox_security::capabilities::act_as;
use rbox_spec::userns::IdMaps;
use rbox_sys::mount::{attach, clone_tree, make_all_slave, set_id_map};
use rbox_sys::process::CloneFlags;
use rbox_sys::{SysError, trace};
use rustix::fs::{Mode, OFlags};

use crate::child::mount_by_child;
use crate::credentials::StepError;
use crate::error::RuntimeError;
use crate::plan::no_user_namespace;

/// A user namespace that was made for a container, and its ids.
#[derive(Debug)]
pub struct UserNamespace {
    fd: OwnedFd,
    maps: IdMaps,
}

impl UserNamespace {
    /// Makes it. The caller must be single-threaded.
    pub fn new(maps: &IdMaps) -> Result<Self, RuntimeError> {
        let fd = trace::step(
            "make a user namespace",
            "Its maps say which users of the host those of the container are; nobody is in it before they are written.",
            || user_namespace(&maps.uids, &maps.gids),
        )
        .map_err(|error| RuntimeError::Config(format!("user namespace: {}", no_user_namespace(&error))))?;
        Ok(Self { fd, maps: maps.clone() })
    }

    /// It, for another who keeps it.
    pub(crate) fn try_clone(&self) -> Result<OwnedFd, SysError> {
        self.fd.try_clone().map_err(|_| SysError::new("fcntl", trace::fd(&self.fd), Errno::EMFILE))
    }

    /// The ids.
    pub fn maps(&self) -> &IdMaps {
        &self.maps
    }

    /// The layers as a detached mount, with owners that are users of this namespace. It is put together in a mount namespace of a process of
    /// its own, so a kill leaves nothing mounted on the host.
    pub fn mount_layers(&self, layers: &Overlay<'_>) -> Result<OwnedFd, RuntimeError> {
        let stack = || self.stack(layers);
        mount_by_child(CloneFlags::CLONE_NEWNS, "layers", "stack the layers with ids mapped", stack)
    }

    fn stack(&self, layers: &Overlay<'_>) -> Result<OwnedFd, StepError> {
        make_all_slave()?;
        let changes = layers.upper.parent().unwrap_or(layers.upper);
        let mut paths: Vec<&Path> = vec![changes];
        for lower in layers.lowers {
            if !paths.contains(&lower.as_path()) {
                paths.push(lower);
            }
        }
        // All before any is attached: a copy of what is mapped already could not be mapped.
        let mut trees = Vec::with_capacity(paths.len());
        for path in paths {
            let tree = clone_tree(rustix::fs::CWD, path, false)?;
            set_id_map(&tree, &self.fd, false).map_err(|error| cannot_map(path, error))?;
            trees.push((tree, path));
        }
        for (tree, path) in &trees {
            attach(tree, open_directory(path)?)?;
        }
        // overlayfs makes things of its own as whoever mounts it, who must have an id there.
        let (uid, gid) = self.maps.root();
        act_as(uid, gid)?;
        layers.mount().map_err(|error| match error {
            OverlayError::Mount { source, .. } if source.errno == Errno::EINVAL => StepError::new(
                "overlayfs of this kernel does not take layers with mapped ids, which a user namespace needs (Linux 5.19)",
            ),
            error => StepError::new(error.to_string()),
        })
    }
}

/// The one line for what this kernel, or the file system, cannot do.
fn cannot_map(path: &Path, error: SysError) -> StepError {
    match error.errno {
        Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP => StepError::new(format!(
            "{}: its file system, or this kernel, cannot map ids, which a user namespace needs (mount_setattr, MOUNT_ATTR_IDMAP)",
            path.display()
        )),
        _ => error.into(),
    }
}

fn open_directory(path: &Path) -> Result<OwnedFd, SysError> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| SysError::new("open", trace::quoted(path), errno))
}

/// The stage, for a process whose working directory it is.
pub(crate) const HERE: &str = ".";

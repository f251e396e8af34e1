//! Layers stacked into one tree (overlayfs, Documentation/filesystems/overlayfs.rst).
//!
//! The mount is made detached, by the process that will outlive the container's first process. It keeps the
//! descriptor, so the kernel has nothing to take down when PID 1 ends and the exit is seen at once.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rbox_sys::SysError;
use rbox_sys::mount::{Attr, Param, mount_by_path, new_mount, takes_one_string};

/// The layers of a root file system.
#[derive(Debug, Clone, Copy)]
pub struct Overlay<'a> {
    /// Read-only layers, base first.
    pub lowers: &'a [PathBuf],
    /// Where changes go.
    pub upper: &'a Path,
    /// Overlay's own scratch directory, on the file system of `upper`.
    pub work: &'a Path,
    /// Never sync the upper layer: for containers that are removed with their exit. Unmounting a synced one
    /// writes back the whole file system below it.
    pub volatile: bool,
    /// A directory of the host to mount on for a moment, where the kernel has no `lowerdir+` parameter (before 6.7).
    pub stage: &'a Path,
}

/// Why layers could not be stacked.
#[derive(Debug, thiserror::Error)]
pub enum OverlayError {
    /// The kernel refused.
    #[error("mount overlay of {layers} layers with upper {upper}: {source}")]
    Mount {
        /// How many layers.
        layers: usize,
        /// The upper directory.
        upper: PathBuf,
        /// Why.
        source: SysError,
    },
    /// A path with a byte that overlay's options cannot carry.
    #[error("mount overlay: the path {0} cannot stand in overlay's options")]
    Path(PathBuf),
}

impl Overlay<'_> {
    /// The merged tree as a detached mount.
    pub fn mount(&self) -> Result<OwnedFd, OverlayError> {
        if takes_one_string("overlay").map_err(|source| self.refused(source))? {
            return self.mount_old_way();
        }
        let upper = text(self.upper)?;
        let work = text(self.work)?;
        let mut params = Vec::with_capacity(self.lowers.len() + 3);
        // The topmost layer comes first.
        for lower in self.lowers.iter().rev() {
            params.push(Param::Text("lowerdir+", text(lower)?));
        }
        params.push(Param::Text("upperdir", upper));
        params.push(Param::Text("workdir", work));
        if self.volatile {
            params.push(Param::Flag("volatile"));
        }
        match new_mount("overlay", &params, Attr::empty()) {
            // 6.5 and 6.6 have the new interface without this parameter.
            Err(error) if error.call == "fsconfig" && error.args.contains("lowerdir+") => {
                self.mount_old_way()
            }
            other => other.map_err(|source| self.refused(source)),
        }
    }

    /// One option string of at most a page, as kernels before 6.7 take it.
    fn mount_old_way(&self) -> Result<OwnedFd, OverlayError> {
        let mut data = String::from("lowerdir=");
        for (place, lower) in self.lowers.iter().rev().enumerate() {
            let lower = text(lower)?;
            if lower.contains([':', ',', '\\']) {
                return Err(OverlayError::Path(PathBuf::from(lower)));
            }
            if place > 0 {
                data.push(':');
            }
            data.push_str(lower);
        }
        data = format!("{data},upperdir={},workdir={}", text(self.upper)?, text(self.work)?);
        if self.volatile {
            data.push_str(",volatile");
        }
        let data = CString::new(data).map_err(|_| OverlayError::Path(self.upper.to_owned()))?;
        mount_by_path("overlay", self.stage, &data).map_err(|source| self.refused(source))
    }

    fn refused(&self, source: SysError) -> OverlayError {
        OverlayError::Mount { layers: self.lowers.len(), upper: self.upper.to_owned(), source }
    }
}

fn text(path: &Path) -> Result<&str, OverlayError> {
    path.to_str().ok_or_else(|| OverlayError::Path(path.to_owned()))
}

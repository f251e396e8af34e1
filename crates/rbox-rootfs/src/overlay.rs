//! Layers stacked into one tree (overlayfs, Documentation/filesystems/overlayfs.rst).
//!
//! The mount is made detached, by the process that will outlive the container's first process. It keeps the
//! descriptor, so the kernel has nothing to take down when PID 1 ends and the exit is seen at once.

use std::collections::HashSet;
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rbox_spec::Kind;
use rbox_sys::SysError;
use rbox_sys::error::told;
use rbox_sys::mount::{Attr, Param, mount_by_path, new_mount, set_attributes, takes_one_string};
use rbox_sys::trace::quoted;
use rustix::fs::{Mode, OFlags};
use rustix::mount::MountPropagationFlags;

/// What mount(2) takes of options: a page, with the zero at the end.
const OPTIONS_LIMIT: usize = 4096;

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

impl OverlayError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Mount { source, .. } => Kind::of_errno(source.errno as i32),
            Self::Path(_) => Kind::Unsupported,
        }
    }
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
        for lower in self.distinct() {
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

    /// Each layer once, the topmost first. overlayfs refuses a directory that stands twice, and an image may have one layer
    /// twice. The upper of the two decides alone: every name that the lower one makes, hides or gives attributes to, it makes,
    /// hides or gives them to again, above whatever came between.
    fn distinct(&self) -> Vec<&PathBuf> {
        let mut seen = HashSet::new();
        self.lowers.iter().rev().filter(|lower| seen.insert(*lower)).collect()
    }

    /// One option string of at most a page, as kernels before 6.7 take it.
    fn mount_old_way(&self) -> Result<OwnedFd, OverlayError> {
        let plain =
            |path: &Path| path.to_str().filter(|text| !text.contains([':', ',', '\\'])).map(str::to_owned);
        let mut data = self.options(plain).unwrap_or_default();
        // Many layers, or a path that its grammar cannot carry: the same directories by short names.
        let mut open = Vec::with_capacity(self.lowers.len() + 2);
        if data.is_empty() || data.len() >= OPTIONS_LIMIT {
            for path in self.distinct().into_iter().map(PathBuf::as_path).chain([self.upper, self.work]) {
                open.push((path, open_directory(path).map_err(|source| self.refused(source))?));
            }
            let by_descriptor = |path: &Path| {
                let (_, found) = open.iter().find(|(opened, _)| *opened == path)?;
                Some(format!("/proc/self/fd/{}", found.as_raw_fd()))
            };
            data = self.options(by_descriptor).unwrap_or_default();
        }
        let data = CString::new(data).map_err(|_| OverlayError::Path(self.upper.to_owned()))?;
        mount_by_path("overlay", self.stage, &data).map_err(|source| self.refused(source))
    }

    /// The option string, with each directory by the name that `name` gives it; none when it cannot.
    fn options(&self, name: impl Fn(&Path) -> Option<String>) -> Option<String> {
        let lowers: Option<Vec<String>> = self.distinct().into_iter().map(|lower| name(lower)).collect();
        let mut data = format!(
            "lowerdir={},upperdir={},workdir={}",
            lowers?.join(":"),
            name(self.upper)?,
            name(self.work)?
        );
        if self.volatile {
            data.push_str(",volatile");
        }
        Some(data)
    }

    fn refused(&self, source: SysError) -> OverlayError {
        OverlayError::Mount { layers: self.lowers.len(), upper: self.upper.to_owned(), source }
    }
}

/// Layers stacked into one tree that nobody writes to, as a detached mount: base first, at least two. No program of it gains anything by its
/// owner, and no device of it is one.
///
/// # Errors
/// The kernel refuses.
pub fn mount_read_only(lowers: &[PathBuf], stage: &Path) -> Result<OwnedFd, OverlayError> {
    let nowhere = Path::new("");
    let layers = Overlay { lowers, upper: nowhere, work: nowhere, volatile: false, stage };
    let attributes = Attr::MOUNT_ATTR_RDONLY | Attr::MOUNT_ATTR_NOSUID | Attr::MOUNT_ATTR_NODEV;
    let refused = |source| layers.refused(source);
    if !takes_one_string("overlay").map_err(refused)? {
        let mut params = Vec::with_capacity(lowers.len());
        for lower in layers.distinct() {
            params.push(Param::Text("lowerdir+", text(lower)?));
        }
        match new_mount("overlay", &params, attributes) {
            // 6.5 and 6.6 have the new interface without this parameter.
            Err(error) if error.call == "fsconfig" && error.args.contains("lowerdir+") => {}
            other => return other.map_err(refused),
        }
    }
    let tree = layers.mount_lowers_old_way()?;
    let unchanged = MountPropagationFlags::empty();
    set_attributes(&tree, attributes, Attr::empty(), unchanged, false).map_err(refused)?;
    Ok(tree)
}

impl Overlay<'_> {
    /// The lower directories alone, by short names: their paths may be longer together than an option can be.
    fn mount_lowers_old_way(&self) -> Result<OwnedFd, OverlayError> {
        let mut open = Vec::with_capacity(self.lowers.len());
        for path in self.distinct() {
            open.push(open_directory(path).map_err(|source| self.refused(source))?);
        }
        let names: Vec<String> =
            open.iter().map(|dir| format!("/proc/self/fd/{}", dir.as_raw_fd())).collect();
        let data = CString::new(format!("lowerdir={}", names.join(":")))
            .map_err(|_| OverlayError::Path(self.stage.to_owned()))?;
        mount_by_path("overlay", self.stage, &data).map_err(|source| self.refused(source))
    }
}

fn open_directory(path: &Path) -> Result<OwnedFd, SysError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    told(
        "open",
        || format!("{}, O_PATH|O_DIRECTORY|O_CLOEXEC", quoted(path)),
        || rustix::fs::open(path, flags, Mode::empty()),
    )
}

fn text(path: &Path) -> Result<&str, OverlayError> {
    path.to_str().ok_or_else(|| OverlayError::Path(path.to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;

    use super::*;

    /// A tree of `count` layers, the lowest with this name; needs root.
    fn old_way(count: usize, first: &str) {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let lowers: Vec<PathBuf> = (0..count)
            .map(|number| {
                let name = if number == 0 { first.into() } else { format!("{number:0>64}") };
                let path = dir.path().join(name);
                std::fs::create_dir(&path).unwrap();
                std::fs::write(path.join("top"), number.to_string()).unwrap();
                std::fs::write(path.join(format!("file{number}")), "").unwrap();
                path
            })
            .collect();
        let paths = ["upper", "work", "stage"].map(|name| dir.path().join(name));
        for path in &paths {
            std::fs::create_dir(path).unwrap();
        }
        let [upper, work, stage] = &paths;
        let overlay = Overlay { lowers: &lowers, upper, work, volatile: true, stage };
        let tree = overlay.mount_old_way().unwrap();
        let names: Vec<String> = rustix::fs::Dir::new(
            rustix::fs::openat(&tree, ".", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap(),
        )
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("file"))
        .collect();
        assert_eq!(names.len(), count);
        let top = rustix::fs::openat(&tree, "top", OFlags::RDONLY, Mode::empty()).unwrap();
        assert_eq!(std::io::read_to_string(std::fs::File::from(top)).unwrap(), (count - 1).to_string());
        assert_eq!(std::fs::read_dir(stage).unwrap().count(), 0, "it is not mounted on the stage any more");
    }

    #[test]
    fn an_old_kernel_stacks_layers_by_their_paths_or_else_by_descriptors() {
        old_way(3, "plain");
        old_way(3, "a:b,c");
        old_way(100, "plain");
    }
    /// One layer twice, with another between that hides, replaces and adds: as if each had been unpacked over the last one.
    #[test]
    fn a_layer_may_stand_twice() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str, files: &[(&str, &str)]| {
            let root = dir.path().join(name);
            for (file, text) in files {
                let path = root.join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            root
        };
        let whiteout = |path: PathBuf| {
            let kind = rustix::fs::FileType::CharacterDevice;
            rustix::fs::mknodat(rustix::fs::CWD, path, kind, Mode::empty(), 0).unwrap();
        };
        let base = make("base", &[("d/base", "0"), ("hidden", "0"), ("file", "0"), ("kept", "0")]);
        let twice = make("twice", &[("file", "twice"), ("d/twice", "twice"), ("n/x", "twice")]);
        whiteout(twice.join("hidden"));
        let between =
            make("between", &[("hidden", "between"), ("n", "a file"), ("d/between", "1"), ("d/twice", "1")]);
        whiteout(between.join("file"));
        for name in ["upper", "work", "stage"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let lowers = [twice.clone(), base, twice.clone(), between, twice];
        let (upper, work, stage) =
            (dir.path().join("upper"), dir.path().join("work"), dir.path().join("stage"));
        let overlay = Overlay { lowers: &lowers, upper: &upper, work: &work, volatile: false, stage: &stage };
        for old in [false, true] {
            let tree = if old { overlay.mount_old_way().unwrap() } else { overlay.mount().unwrap() };
            let root = PathBuf::from(format!("/proc/self/fd/{}", tree.as_raw_fd()));
            let list = |path: &str| {
                let names = fs::read_dir(root.join(path))
                    .unwrap()
                    .map(|e| e.unwrap().file_name().into_string().unwrap());
                let mut names: Vec<_> = names.collect();
                names.sort();
                names.join(" ")
            };
            assert_eq!(
                (list(""), list("d"), list("n")),
                ("d file kept n".into(), "base between twice".into(), "x".into())
            );
            for (file, text) in [("file", "twice"), ("d/twice", "twice"), ("n/x", "twice"), ("kept", "0")] {
                assert_eq!(fs::read_to_string(root.join(file)).unwrap(), text, "{file}");
            }
        }
    }
}

//! Where the files of a container come from: its layers, and what each has.

use std::path::{Path, PathBuf};

use rbox_runtime::rootfs::changes::{Place, places, resolve};
use rbox_spec::Digest;

use crate::containers::base;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::record::container::Container;

/// What a layer of a container is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayerKind {
    /// What the container itself writes: overlay's upper directory.
    Upper,
    /// A layer of its image. The size is that of its files, and the line that of the history that made it, where the image is still here.
    Image {
        /// Its digest.
        diff_id: Option<Digest>,
        /// Bytes.
        size: u64,
        /// What made it.
        created_by: String,
    },
    /// rbox's own, below all images: what it mounts a container's own files over.
    Base,
}

/// A layer of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileLayer {
    /// Where its files are on the host.
    pub dir: PathBuf,
    /// What it is.
    pub kind: LayerKind,
}

/// A mount that hides the layers at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Covering {
    /// Where it is mounted.
    pub at: PathBuf,
    /// The kind of its file system.
    pub kind: String,
}

impl Engine {
    /// The layers of a container, base first and its own last.
    ///
    /// # Errors
    /// The image store cannot be read.
    pub fn file_layers(&self, container: &Container) -> Result<Vec<FileLayer>, EngineError> {
        let record = &container.record;
        let store = self.images()?;
        let image = record.image_id.parse().ok().map(|id| store.find_id(&id)).transpose()?.flatten();
        let base = self.paths.base();
        let of_image = |dir: &Path| {
            let number = image.as_ref()?.layers.iter().position(|layer| layer.dir == dir)?;
            let (image, layer) = (image.as_ref()?, image.as_ref()?.layers.get(number)?);
            let mut made = image.history().iter().filter(|step| !step.empty_layer);
            Some(LayerKind::Image {
                diff_id: Some(layer.diff_id),
                size: store.layer_size(layer),
                created_by: made.nth(number)?.created_by.clone().unwrap_or_default(),
            })
        };
        let unknown = || LayerKind::Image { diff_id: None, size: 0, created_by: String::new() };
        let below = base::layers(&self.paths, record).into_iter().map(|dir| {
            let kind = if dir == base { LayerKind::Base } else { of_image(&dir).unwrap_or_else(unknown) };
            FileLayer { dir, kind }
        });
        let mut all: Vec<FileLayer> = below.collect();
        all.push(FileLayer { dir: record.upper(&self.paths), kind: LayerKind::Upper });
        Ok(all)
    }

    /// Where a path leads in these layers, and what each of them has there, the topmost first. None when a directory on the way is not there.
    ///
    /// # Errors
    /// A layer cannot be read.
    pub fn find_in_layers(
        &self,
        layers: &[FileLayer],
        path: &Path,
    ) -> Result<Option<(PathBuf, Vec<Place>)>, EngineError> {
        let dirs: Vec<PathBuf> = layers.iter().map(|layer| layer.dir.clone()).collect();
        let Some(resolved) = resolve(&dirs, path)? else { return Ok(None) };
        let found = places(&dirs, &resolved)?;
        Ok(Some((resolved, found)))
    }

    /// What is mounted over the layers at a path, in a container that runs.
    pub fn mount_over(&self, container: &Container, path: &Path) -> Option<Covering> {
        let pid = container.live.as_ref()?.pid;
        let table = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).ok()?;
        covering(&table, path)
    }
}

/// The innermost mount that a path is on, if that is not the root file system's. The last line of a place is what is seen.
fn covering(mountinfo: &str, path: &Path) -> Option<Covering> {
    let mounts = mountinfo.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let at = PathBuf::from(unescaped(before.split(' ').nth(4)?));
        path.starts_with(&at).then(|| (at, after.split(' ').next().unwrap_or_default()))
    });
    let (at, kind) = mounts.max_by_key(|(at, _)| at.as_os_str().len())?;
    (at != Path::new("/")).then(|| Covering { at, kind: kind.to_owned() })
}

/// `\040` and the like are how a blank and others are written there (`proc_pid_mountinfo(5)`).
fn unescaped(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (written, meant)| text.replace(written, meant))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_mount_is_found() {
        let table = "1 0 0:1 / / rw - overlay overlay rw\n2 1 0:2 / /proc rw - proc proc rw\n\
                     3 1 0:3 / /a\\040b rw - ext4 /dev/x rw\n4 3 0:4 / /a\\040b/c rw - tmpfs tmpfs rw\n";
        let at = |path: &str| covering(table, Path::new(path)).map(|found| (found.at, found.kind));
        assert_eq!(at("/etc/passwd"), None);
        assert_eq!(at("/procession"), None);
        assert_eq!(at("/proc/1"), Some(("/proc".into(), "proc".into())));
        assert_eq!(at("/a b/x"), Some(("/a b".into(), "ext4".into())));
        assert_eq!(at("/a b/c/d"), Some(("/a b/c".into(), "tmpfs".into())));
    }
}

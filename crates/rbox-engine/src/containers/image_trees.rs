//! `--mount type=image`: what an image has, seen in a container, read-only.
//!
//! The image is looked up when the container is made, and the container keeps its layers from then on. Each start stacks them anew, as a
//! mount that is attached nowhere on the host.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use rbox_image::{ImageStore, Pin};
use rbox_runtime::rootfs::overlay;
use rbox_runtime::{RuntimeError, part_of};
use rbox_spec::container::HostConfig;
use rbox_spec::mount::{MountKind, MountSpec};

use crate::containers::images::image_store;
use crate::error::EngineError;
use crate::record::container::ContainerRecord;
use crate::record::paths::{NOTHING, Paths};

/// Looks up the images that are to be mounted, and writes into the mounts what they are now. None of them can be removed as long as the
/// answer is kept.
pub(crate) fn resolve(paths: &Paths, host: &mut HostConfig) -> Result<Vec<Pin>, EngineError> {
    let mut pins = Vec::new();
    let mut opened: Option<ImageStore> = None;
    for mount in &mut host.mounts {
        let target = &mount.target;
        let MountKind::Image { name, id, layers, .. } = &mut mount.kind else { continue };
        let store = match &opened {
            Some(store) => store,
            None => opened.insert(image_store(paths)?),
        };
        if !id.is_empty() {
            // Of --volumes-from: it is what it is there, whatever the name leads to by now, and also if the image has no record any more.
            // Then its layers are there as long as the other container is, which may be removed just now.
            let pin = match store.get(id).and_then(|image| store.pin(&image)) {
                Ok(pin) => Some(pin),
                Err(_) => store.pin_layers(layers)?,
            };
            pins.push(pin.ok_or_else(|| {
                EngineError::Conflict(format!(
                    "image {name}, which is to be mounted on {target} as in another container, is gone with that container"
                ))
            })?);
            continue;
        }
        let image = store.get(name)?;
        pins.push(store.pin(&image)?);
        *id = image.id.to_string();
        *layers = image.overlay_layers().iter().map(|layer| layer.dir.clone()).collect();
    }
    Ok(pins)
}

/// What the mounts of images of a container show, each with its place. `stage`: a directory to mount on for a moment, where others may be
/// made beside it.
pub(crate) fn all(record: &ContainerRecord, stage: &Path) -> Result<Vec<(PathBuf, OwnedFd)>, EngineError> {
    let one = |mount: &MountSpec| {
        let tree = tree(mount, stage).transpose()?;
        Some(tree.map(|tree| (PathBuf::from(&mount.target), tree)))
    };
    record.host.mounts.iter().filter_map(one).collect()
}

/// What a mount shows, as a mount that is attached nowhere; none of one of another kind.
pub(crate) fn tree(mount: &MountSpec, stage: &Path) -> Result<Option<OwnedFd>, EngineError> {
    let MountKind::Image { name, layers, subpath, .. } = &mount.kind else { return Ok(None) };
    let stage = stage.to_owned();
    // overlayfs wants two layers, and takes 500.
    let missing = NOTHING.get(layers.len()..).unwrap_or_default();
    let nothing: Vec<PathBuf> = missing.iter().map(|name| stage.with_file_name(name)).collect();
    for empty in &nothing {
        match rbox_sys::own::make_directory(empty, 0o700) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(EngineError::file("make directory", empty)(error));
            }
            _ => {}
        }
    }
    let whole = overlay::mount_read_only(&[&nothing[..], layers].concat(), &stage)?;
    if matches!(subpath.as_str(), "" | ".") {
        return Ok(Some(whole));
    }
    match part_of(whole.as_fd(), Path::new(subpath), &stage) {
        Err(RuntimeError::Init(failure)) if failure.errno != 0 => {
            let why = rbox_sys::error::reason(Errno::from_raw(failure.errno));
            Err(EngineError::Invalid(format!("cannot access path {subpath} of image {name}: {why}")))
        }
        part => Ok(Some(part?)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The other container may be removed between the look at its mounts and the new record.
    #[test]
    fn layers_without_an_image_stay_until_the_new_record_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths { root: dir.path().join("root"), state: dir.path().join("state") };
        for dir in [&paths.root, &paths.containers()] {
            std::fs::create_dir_all(dir).unwrap();
        }
        let store = image_store(&paths).unwrap();
        let layer = paths.image().join("layers").join("ab".repeat(32)).join("fs");
        std::fs::create_dir_all(&layer).unwrap();
        let id = format!("sha256:{}", "cd".repeat(32));
        let layers = vec![layer.clone()];
        let kind =
            MountKind::Image { name: "app".into(), id, layers: layers.clone(), subpath: String::new() };
        let mut spec = MountSpec::parse_volume("data:/app", None).unwrap();
        spec.kind = kind;
        let mut host = HostConfig { mounts: vec![spec], ..HostConfig::default() };
        let pins = resolve(&paths, &mut host).unwrap();
        // What `rm` of the other one does.
        store.release(None, &layers).unwrap();
        assert!(layer.is_dir(), "gone while it is pinned");
        drop(pins);
        store.release(None, &layers).unwrap();
        assert!(!layer.exists());
        let error = resolve(&paths, &mut host).unwrap_err().to_string();
        assert!(error.contains("image app, which is to be mounted on /app"), "{error}");
    }
}

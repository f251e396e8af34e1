//! Looking into images, and at what registries have beside them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rbox_image::registry::{Client, Credentials, Found, Timeouts};
use rbox_image::remote::{ManifestLists, Remote};
use rbox_image::signature::{PrivateKey, Signed, sign};
use rbox_image::{Image, Registries, docker_config_dir};
use rbox_runtime::rootfs::compare::{Difference, Differs, compare};
use rbox_runtime::rootfs::overlay::mount_read_only;
use rbox_spec::{Digest, Reference};
use rbox_sys::file::open_in_root;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};

use crate::containers::image_mounts::{self, ImageMount};
use crate::engine::{Engine, Event};
use crate::error::EngineError;
use crate::record::file::RecordError;
use crate::record::paths::{COMPARISON, NOTHING, Paths, STAGE};

/// Where two images differ.
#[derive(Debug)]
pub struct ImageDifferences {
    /// The first one.
    pub first: Image,
    /// The second one.
    pub second: Image,
    /// How many of the lowest layers they have in common.
    pub shared: usize,
    /// What differs, in the order of the names.
    pub files: Vec<FileDifference>,
}

/// A file that differs.
#[derive(Debug)]
pub struct FileDifference {
    /// What, and how.
    pub difference: Difference,
    /// The layer that has it: of the second image, or of the first for what the second does not have. Its number, from the lowest on.
    pub layer: Option<usize>,
}

impl Engine {
    /// Mounts an image, read-only, and says where. Each mount wants an unmount.
    ///
    /// # Errors
    /// It is not there, or the kernel refuses.
    pub fn mount_image(&self, name: &str) -> Result<ImageMount, EngineError> {
        let store = self.images()?;
        let image = store.get(name)?;
        // As the user calls it, where that is a name: so it is unmounted, wherever the name leads then.
        let own = Reference::parse(name).ok().map(Reference::with_default_tag);
        let own =
            own.filter(|own| image.references.contains(own)).or_else(|| image.references.first().cloned());
        let called = own.map_or_else(|| image.id.short(), |own| own.familiar());
        image_mounts::mount(&self.paths, &store, &image, &called)?;
        let id = image.id;
        let mounted = self.mounted_images()?.into_iter().find(|mount| mount.image == id);
        mounted.ok_or_else(|| EngineError::Conflict(format!("image {name} was unmounted by another command")))
    }

    /// The images that are mounted.
    ///
    /// # Errors
    /// A record cannot be read.
    pub fn mounted_images(&self) -> Result<Vec<ImageMount>, EngineError> {
        image_mounts::all(&self.paths)
    }

    /// Which mounted image is meant: by what it was called when it was mounted, by its id, or by what the store calls so now. It need not be
    /// there any more, nor be readable. None: no such image is mounted.
    ///
    /// # Errors
    /// There is no image of that name at all.
    pub fn mounted_as(&self, name: &str) -> Result<Option<Digest>, EngineError> {
        let mounts = self.mounted_images()?;
        let store = self.images()?;
        let now = store.id_named(name)?;
        let parsed = |text: &str| Reference::parse(text).ok().map(Reference::with_default_tag);
        let wanted = parsed(name);
        let called: Vec<&ImageMount> = mounts
            .iter()
            .filter(|mount| wanted.is_some() && parsed(&mount.name) == wanted || mount.name == name)
            .collect();
        // The name may have gone on to another image, which is mounted as well.
        let meant = called.iter().find(|mount| Some(mount.image) == now).or(called.first()).copied();
        let bare = name.strip_prefix("sha256:").unwrap_or(name);
        let is_id = |mount: &&ImageMount| !bare.is_empty() && mount.image.hex().starts_with(bare);
        let mut by_id = mounts.iter().filter(is_id);
        let by_id = by_id.next().filter(|_| by_id.next().is_none());
        let meant = meant.or_else(|| mounts.iter().find(|mount| Some(mount.image) == now)).or(by_id);
        if meant.is_none() && now.is_none() {
            store.get(name)?;
        }
        Ok(meant.map(|mount| mount.image))
    }

    /// Takes one mount of an image back, or all of them. False: it was not mounted.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn unmount_image(&self, id: &Digest, wholly: bool) -> Result<bool, EngineError> {
        image_mounts::take_back(&self.paths, id, wholly)
    }

    /// Compares the files of two images, as containers of them would see them.
    ///
    /// # Errors
    /// One is not there, or cannot be read.
    pub fn compare_images(&self, first: &str, second: &str) -> Result<ImageDifferences, EngineError> {
        let store = self.images()?;
        let (first, second) = (store.get(first)?, store.get(second)?);
        let _pins = (store.pin(&first)?, store.pin(&second)?);
        let scratch = Scratch::make(&self.paths)?;
        let tree = |image: &Image| {
            let layers: Vec<PathBuf> = image.overlay_layers().iter().map(|layer| layer.dir.clone()).collect();
            mount_read_only(&[&scratch.nothing[..], &layers[..]].concat(), &scratch.stage)
        };
        let (one, two) = (tree(&first)?, tree(&second)?);
        let mut found = Vec::new();
        compare(&one, &two, &mut |difference| found.push(difference))?;
        let alike = |(a, b): &(&rbox_image::Layer, &rbox_image::Layer)| a.diff_id == b.diff_id;
        let shared = first.layers.iter().zip(&second.layers).take_while(alike).count();
        let files = found
            .into_iter()
            .map(|difference| {
                let of = if difference.how == Differs::Deleted { &first } else { &second };
                let layer = layer_of(of, &difference.path);
                FileDifference { difference, layer }
            })
            .collect();
        Ok(ImageDifferences { first, second, shared, files })
    }

    /// The repositories that a registry finds for a term: `REGISTRY/TERM`, or Docker Hub's.
    ///
    /// # Errors
    /// The registry cannot be reached, or has no search.
    pub fn search(&self, term: &str, limit: usize) -> Result<Vec<Found>, EngineError> {
        if term.contains("://") {
            return Err(EngineError::Conflict(format!(
                "invalid repository name: repository name ({term}) should not have a scheme"
            )));
        }
        let (registry, rest) = match term.split_once('/') {
            Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => (host, rest),
            _ => ("docker.io", term),
        };
        let is_hub = matches!(registry, "docker.io" | "index.docker.io");
        let rest = if is_hub { rest.strip_prefix("library/").unwrap_or(rest) } else { rest };
        let endpoint = Registries::load()?.search_endpoint(if is_hub { "docker.io" } else { registry })?;
        let client = Client::new(Timeouts::default(), Credentials::docker());
        Ok(client.search(&endpoint, rest, limit)?)
    }

    /// Signs what a registry has under this name with the key in this file: where the name is here, the same image only.
    ///
    /// # Errors
    /// The key cannot be used, or the registry does not have the image, or has another one than is here, or refuses.
    pub fn sign_image(&self, name: &Reference, key: &Path) -> Result<Signed, EngineError> {
        let key = PrivateKey::read(key)?;
        // A store that is not there, or that the caller may not read, knows nothing.
        let store = self.paths.image().exists().then(|| self.images().ok()).flatten();
        let here = store.and_then(|store| store.sources_of(name).ok().flatten()).unwrap_or_default();
        Ok(sign(&Registries::load()?, name, &here, &key)?)
    }

    /// Registries, to be asked without the store.
    ///
    /// # Errors
    /// Their configuration cannot be read.
    pub fn remote(&self) -> Result<Remote, EngineError> {
        let observer = Arc::clone(&self.observer);
        let say = Arc::new(move |line: &str| observer.event(Event::Waiting(line)));
        Ok(Remote::new(Registries::load()?, say))
    }

    /// The manifest lists of this user, and registries to push them to.
    ///
    /// # Errors
    /// The configuration of registries cannot be read, or there is no place to keep lists.
    pub fn manifest_lists(&self) -> Result<(ManifestLists, Remote), EngineError> {
        let dir = docker_config_dir().ok_or_else(|| {
            EngineError::Conflict("manifest lists have no place: set HOME or DOCKER_CONFIG".to_owned())
        })?;
        Ok((ManifestLists::in_config(&dir), self.remote()?))
    }
}

/// Directories that mounts are made with, and that nothing is in: two layers at least, and a place for old kernels. They go with the value; what
/// a killed command left goes with the next one.
struct Scratch {
    dir: PathBuf,
    nothing: [PathBuf; 2],
    stage: PathBuf,
}

impl Scratch {
    fn make(paths: &Paths) -> Result<Self, RecordError> {
        for entry in std::fs::read_dir(paths.image_mounts()).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let process = name.strip_prefix(COMPARISON).map(|id| Path::new("/proc").join(id));
            if process.is_some_and(|process| !process.exists()) {
                let _ = rbox_sys::removal::remove_tree(&entry.path());
            }
        }
        let dir = paths.comparison();
        let nothing = NOTHING.map(|name| dir.join(name));
        let stage = dir.join(STAGE);
        for below in [&dir, &stage].into_iter().chain(&nothing) {
            rbox_sys::own::make_private(below).map_err(RecordError::io("make directory", below))?;
        }
        Ok(Self { dir, nothing, stage })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = rbox_sys::removal::remove_tree(&self.dir);
    }
}

/// The uppermost layer that has this path, and not only takes it away.
fn layer_of(image: &Image, path: &Path) -> Option<usize> {
    let has = |dir: &Path| {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, dir, flags, Mode::empty()).ok()?;
        let found = open_in_root(&root, path, OFlags::PATH | OFlags::NOFOLLOW, 0).ok()?;
        let stat = rustix::fs::statat(&found, c"", AtFlags::EMPTY_PATH).ok()?;
        let is_whiteout =
            FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0;
        (!is_whiteout).then_some(())
    };
    image.layers.iter().rposition(|layer| has(&layer.dir).is_some())
}

//! index.json again, from what else there is, when it cannot be read.
//!
//! A kill or a power cut does not damage it. A bad disk does, or a hand. Then it is set aside, if it is there, and made again from the manifests among
//! the blobs whose images are whole. Their names stood nowhere else, but for those that containers were made by: the others have none
//! until they are pulled or tagged again. Nothing is lost by that, and no command is stopped.
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rbox_rootfs::own;
use rbox_rootfs::removal::remove_tree;
use rbox_spec::{Digest, Reference};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::index::{IndexFile, put};
use super::{ImageStore, IndexLock, StoreError, io_error, sync_parent, write_synced};
use crate::media::{DOCKER_LIST, DOCKER_MANIFEST, Document, MAX_DOCUMENT, OCI_INDEX, OCI_MANIFEST};

/// Hears what the store does that nobody asked for.
pub trait Notices: Debug + Send + Sync {
    /// index.json could not be read and was made again.
    fn index_made_again(&self, notice: &IndexMadeAgain);
}

/// What was done about a damaged index.json.
#[derive(Debug)]
pub struct IndexMadeAgain {
    /// Why it could not be read.
    pub damage: StoreError,
    /// Where it is now; none when it was gone.
    pub aside: Option<PathBuf>,
    /// How many images were found.
    pub images: usize,
    /// How many of them have no name.
    pub unnamed: usize,
}

impl ImageStore {
    /// The index, made again. Another process may have done that by now.
    pub(super) fn mend_index(&self, lock: &IndexLock) -> Result<IndexFile, StoreError> {
        let damage = match self.parse_index() {
            Err(error) if error.is_damage_of_a_file() => error,
            other => return other,
        };
        let index = self.found_again()?;
        let aside = self.exchange_index(lock, &index)?;
        if let Some(notices) = &self.notices {
            let unnamed =
                index.entries.iter().filter(|entry| super::index::full_name(entry).is_none()).count();
            let images = index.entries.len();
            notices.index_made_again(&IndexMadeAgain { damage, aside, images, unnamed });
        }
        Ok(index)
    }

    /// Puts a new index in the place of the damaged one, which may be anything, in one step: without an index there would be no images,
    /// and the next removal would take their files. Only then the damaged one goes aside, if it is there, in the place of
    /// one that went there before: where to.
    fn exchange_index(&self, _lock: &IndexLock, index: &IndexFile) -> Result<Option<PathBuf>, StoreError> {
        let path = self.index_path();
        let temporary = self.fresh("new-index");
        write_synced(&temporary, &index.to_bytes(&path)?).map_err(|source| {
            let _ = fs::remove_file(&temporary);
            StoreError::Io { action: "write", path: path.clone(), source }
        })?;
        let (exchanged, was_there) = match renameat_with(CWD, &temporary, CWD, &path, RenameFlags::EXCHANGE) {
            Err(Errno::NOENT) => (fs::rename(&temporary, &path), false),
            other => (other.map_err(io::Error::from), true),
        };
        exchanged.map_err(|source| {
            let _ = fs::remove_file(&temporary);
            StoreError::Io { action: "rename to", path: path.clone(), source }
        })?;
        sync_parent(&path)?;
        if !was_there {
            return Ok(None);
        }
        let aside = self.dir().join("index.json.damaged");
        remove_tree(&aside).map_err(io_error("remove", &aside))?;
        fs::rename(&temporary, &aside).map_err(io_error("rename to", &aside))?;
        Ok(Some(aside))
    }

    /// An index of all images that are whole.
    fn found_again(&self) -> Result<IndexFile, StoreError> {
        let users = self.users()?.known;
        let mut index = IndexFile::default();
        let documents = self.documents()?;
        let indexes = indexes_of(&documents);
        for (digest, bytes) in documents {
            let types = [OCI_MANIFEST, DOCKER_MANIFEST];
            let Some(whole) = types.into_iter().find_map(|kind| self.whole(digest, &bytes, kind).ok()) else {
                continue;
            };
            let of = indexes.get(&digest).copied();
            let of_it = users.iter().filter(|user| user.image == whole.id());
            // Somebody may have made a container by the image's id.
            let names = of_it.filter(|user| {
                let name = user.name.strip_prefix("sha256:").unwrap_or(&user.name);
                !whole.id().hex().starts_with(name)
            });
            let mut names: Vec<Reference> = names
                .filter_map(|user| Reference::parse(&user.name).ok())
                .map(Reference::with_default_tag)
                .collect();
            names.sort();
            names.dedup();
            for name in &names {
                put(&mut index, whole.entry((None, of), Some(name)).into_descriptor());
            }
            if names.is_empty() {
                put(&mut index, whole.entry((None, of), None).into_descriptor());
            }
        }
        Ok(index)
    }

    /// The blobs that may be manifests, with their digests.
    fn documents(&self) -> Result<Vec<(Digest, Vec<u8>)>, StoreError> {
        let mut found = Vec::new();
        for algorithm in ["sha256", "sha512"] {
            let dir = self.dir().join("blobs").join(algorithm);
            let list = match fs::read_dir(&dir) {
                Ok(list) => list,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(source) => return Err(StoreError::Io { action: "read", path: dir, source }),
            };
            for entry in list.flatten() {
                let Some(digest) = digest_of(algorithm, &entry.path()) else { continue };
                // Too large for a manifest, or no JSON object: a layer.
                let Ok(bytes) = own::read(&entry.path(), MAX_DOCUMENT) else { continue };
                if bytes.first() == Some(&b'{') {
                    found.push((digest, bytes));
                }
            }
        }
        found.sort_by_key(|(digest, _)| digest.to_string());
        Ok(found)
    }
}

/// Which index names a manifest.
fn indexes_of(documents: &[(Digest, Vec<u8>)]) -> BTreeMap<Digest, Digest> {
    let mut known = BTreeMap::new();
    for (digest, bytes) in documents {
        let parsed = [OCI_INDEX, DOCKER_LIST].into_iter().find_map(|kind| Document::parse(bytes, kind).ok());
        if let Some(Document::Index(index)) = parsed {
            known.extend(index.manifests.iter().map(|one| (one.digest, *digest)));
        }
    }
    known
}

fn digest_of(algorithm: &str, path: &Path) -> Option<Digest> {
    format!("{algorithm}:{}", path.file_name()?.to_str()?).parse().ok()
}

//! Who uses what the store has. The store does not know containers, so it asks each time something would be deleted: a
//! list made before the locks were taken may lack a container that was created since.
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::{Path, PathBuf};

use rbox_spec::Digest;

use super::{ImageStore, StoreError};

/// A container that uses an image.
#[derive(Debug, Clone)]
pub struct ImageUser {
    /// The image's id.
    pub image: Digest,
    /// What the user called it.
    pub name: String,
    /// The container's id.
    pub container: String,
    /// Whether it is running (or paused).
    pub running: bool,
    /// It is no container but a mount of the image on the host, at this place.
    pub mounted_at: Option<PathBuf>,
    /// The layers it stands on. They stay as long as it does, also without their image.
    pub layers: Vec<PathBuf>,
}

/// All of them.
#[derive(Debug, Clone, Default)]
pub struct Users {
    /// The containers whose records could be read.
    pub known: Vec<ImageUser>,
    /// A record could not be read, so any layer may be in use.
    pub incomplete: bool,
}

/// Lists the containers there are.
pub trait ListUsers: Debug + Send + Sync {
    /// All of them, as of now.
    fn list(&self) -> Result<Users, Box<dyn std::error::Error + Send + Sync>>;
}

impl Users {
    /// Those of one image.
    pub(super) fn of(&self, image: Digest) -> impl Iterator<Item = &ImageUser> {
        self.known.iter().filter(move |user| user.image == image)
    }

    /// The names of the layers' directories that containers stand on.
    pub(super) fn layers(&self) -> BTreeSet<String> {
        self.known.iter().flat_map(|user| &user.layers).filter_map(|path| layer_name(path)).collect()
    }
}

/// `<hex>` of `…/layers/<hex>/fs`. The rest of the path may be written in another way than this store's.
pub(super) fn layer_name(fs: &Path) -> Option<String> {
    fs.parent()?.file_name()?.to_str().map(str::to_owned)
}

impl ImageStore {
    /// The containers, as of now; none if nobody said how to list them.
    pub fn users(&self) -> Result<Users, StoreError> {
        self.users
            .as_ref()
            .map_or_else(|| Ok(Users::default()), |users| users.list().map_err(StoreError::Users))
    }
}

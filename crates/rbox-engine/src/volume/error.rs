//! What could not be done with a volume.

use std::io;
use std::path::{Path, PathBuf};

use rbox_spec::volume_options::InvalidVolumeOption;
use rbox_spec::{Kind, VolumeName};
use rbox_sys::{SysError, plain};

use crate::listing::filter::FilterError;
use crate::record::file::RecordError;
use crate::volume::file_system::MountError;

/// What could not be done with a volume.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// Who uses it could not be read.
    #[error(transparent)]
    Users(#[from] RecordError),
    /// An option that the driver does not take.
    #[error("create {name}: {source}")]
    Option {
        /// The volume.
        name: String,
        /// Why not.
        source: InvalidVolumeOption,
    },
    /// Its file system could not be mounted.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// Its file system could not be unmounted.
    #[error(transparent)]
    Unmount(#[from] SysError),
    /// A driver other than `local`.
    #[error(
        "create {name}: error looking up volume plugin {driver}: plugin \"{driver}\" not found (rbox has the driver local)"
    )]
    Driver {
        /// The volume.
        name: String,
        /// The driver asked for.
        driver: String,
    },
    /// No such volume.
    #[error("get {0}: no such volume")]
    Missing(String),
    /// Containers mount it.
    #[error("remove {name}: volume is in use - [{}]", containers.join(", "))]
    InUse {
        /// The volume.
        name: VolumeName,
        /// Their ids.
        containers: Vec<String>,
    },
    /// The same, of one that is to be renamed: they know it by its name.
    #[error("rename {name}: volume is in use - [{}]", containers.join(", "))]
    RenameInUse {
        /// The volume.
        name: VolumeName,
        /// Their ids.
        containers: Vec<String>,
    },
    /// A new volume's name is another's.
    #[error("create {0}: there is a volume of this name: remove it, or use another name")]
    Taken(VolumeName),
    /// Nothing is in it, and nothing would stay in it.
    #[error("volume {0} is memory, which is there only while a container uses it")]
    Memory(VolumeName),
    /// The file system refused.
    #[error("{action} {path}: {}", plain(source))]
    Io {
        /// `create`, `read`, `rename`, …
        action: &'static str,
        /// What on.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something of the volume's name that rbox did not make.
    #[error("create {name}: {path} is in the way and is not a volume; move it away or use another name")]
    Foreign {
        /// The volume.
        name: VolumeName,
        /// What is there.
        path: PathBuf,
    },
    /// A filter that was refused.
    #[error(transparent)]
    Filter(#[from] FilterError),
}

impl VolumeError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Users(error) => error.kind(),
            Self::Filter(error) => error.kind(),
            Self::Option { source, .. } => source.kind(),
            Self::Mount(error) => error.kind(),
            Self::Unmount(error) => Kind::of_errno(error.errno as i32),
            Self::Driver { .. } | Self::Missing(_) => Kind::NotFound,
            Self::InUse { .. }
            | Self::RenameInUse { .. }
            | Self::Taken(_)
            | Self::Memory(_)
            | Self::Foreign { .. } => Kind::Conflict,
            Self::Io { source, .. } => Kind::of_io(source),
        }
    }
}

/// For `map_err` on file operations.
pub(crate) fn io_error(action: &'static str, path: &Path) -> impl Fn(io::Error) -> VolumeError {
    let path = path.to_owned();
    move |source| VolumeError::Io { action, path: path.clone(), source }
}

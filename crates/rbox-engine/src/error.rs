//! Why the engine could not do what was asked, in a form the command line maps to an exit code.

use std::io;
use std::path::PathBuf;

use rbox_runtime::RuntimeError;
use rbox_spec::id::ContainerId;
use rbox_spec::user::UserError;
use rbox_spec::{ContainerName, Kind};
use rbox_sys::plain;

use crate::record::file::RecordError;

/// An error of the engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No container has this name or id.
    #[error("No such container: {0}")]
    NoContainer(String),
    /// More than one container's id begins so.
    #[error("multiple containers found with provided prefix: {0}")]
    Ambiguous(String),
    /// The name belongs to another container.
    #[error(
        "Conflict. The container name \"/{name}\" is already in use by container \"{id}\". You have to remove (or rename) that container to be able to reuse that name."
    )]
    NameTaken {
        /// The name.
        name: ContainerName,
        /// Who has it.
        id: ContainerId,
    },
    /// A file to be copied is not there.
    #[error("{0}")]
    NoFile(String),
    /// It is in a state in which this cannot be done.
    #[error("{0}")]
    Conflict(String),
    /// The user asked for what cannot be.
    #[error("{0}")]
    Invalid(String),
    /// What was read is not what it must be.
    #[error("{0}")]
    Damaged(String),
    /// It was understood, and cannot be done here.
    #[error("{0}")]
    Unsupported(String),
    /// The limits of a container that runs could not be changed.
    #[error("cannot update container {name}: {source}")]
    Update {
        /// The container.
        name: ContainerName,
        /// Why not.
        source: rbox_runtime::cgroup::CgroupError,
    },
    /// A container that was to be linked.
    #[error("could not get container for {container}: {source}")]
    Link {
        /// As it was named.
        container: String,
        /// Why it cannot be linked.
        source: Box<EngineError>,
    },
    /// The user that the process is to have.
    #[error(transparent)]
    User(#[from] UserError),
    /// The program could not be executed: the exit code says how.
    #[error("{message}")]
    NotExecuted {
        /// Why.
        message: String,
        /// 126 or 127; 1 when `exec` did not get that far.
        exit_code: i32,
    },
    /// A record could not be read or written.
    #[error(transparent)]
    Record(RecordError),
    /// A file could not be had.
    #[error("{action} {path}: {}", plain(source))]
    File {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A system call failed.
    #[error(transparent)]
    Call(#[from] rbox_sys::SysError),
    /// The process could not be made.
    #[error(transparent)]
    Runtime(RuntimeError),
    /// The root file system could not be stacked.
    #[error(transparent)]
    Overlay(#[from] rbox_runtime::rootfs::overlay::OverlayError),
    /// Something inside the container's tree is not as it must be.
    #[error(transparent)]
    Tree(#[from] rbox_runtime::rootfs::tree::TreeError),
    /// What a container has changed could not be told.
    #[error(transparent)]
    Changes(#[from] rbox_runtime::rootfs::changes::ChangesError),
    /// An image could not be made of a container.
    #[error(transparent)]
    Archive(#[from] rbox_image::archive::ArchiveError),
    /// A limit or a group could not be set.
    #[error(transparent)]
    Cgroup(#[from] rbox_runtime::cgroup::CgroupError),
    /// The network could not be made.
    #[error(transparent)]
    Network(#[from] rbox_network::Error),
    /// The seccomp filter or a capability is wrong.
    #[error(transparent)]
    Seccomp(#[from] rbox_runtime::security::seccomp::SeccompError),
    /// An AppArmor profile is not in force.
    #[error(transparent)]
    AppArmor(#[from] rbox_runtime::security::apparmor::AppArmorError),
    /// A volume could not be had.
    #[error(transparent)]
    Volume(#[from] crate::volume::store::VolumeError),
    /// A volume could not be filled from the image.
    #[error(transparent)]
    Populate(#[from] crate::volume::populate::PopulateError),
    /// An archive could not be put into a tree.
    #[error(transparent)]
    Put(#[from] rbox_runtime::rootfs::put::PutError),
    /// A tree could not be written as an archive.
    #[error(transparent)]
    Pack(#[from] rbox_runtime::rootfs::layer::PackError),
    /// A layer could not be unpacked.
    #[error(transparent)]
    Unpack(#[from] rbox_runtime::rootfs::layer::UnpackError),
    /// The image is not available.
    #[error(transparent)]
    Image(#[from] rbox_image::StoreError),
    /// The image could not be pulled.
    #[error(transparent)]
    Pull(#[from] rbox_image::PullError),
    /// The image could not be pushed.
    #[error(transparent)]
    Push(#[from] rbox_image::PushError),
    /// What a registry was asked without the store.
    #[error(transparent)]
    Remote(#[from] rbox_image::remote::RemoteError),
    /// A registry could not be searched.
    #[error(transparent)]
    Registry(#[from] rbox_image::registry::RegistryError),
    /// An image could not be signed.
    #[error(transparent)]
    Sign(#[from] rbox_image::signature::SignError),
    /// A key cannot be used.
    #[error(transparent)]
    Key(#[from] rbox_image::signature::KeyError),
    /// Two images could not be compared.
    #[error(transparent)]
    Compare(#[from] rbox_runtime::rootfs::compare::CompareError),
    /// The file that says which registries there are is no good.
    #[error(transparent)]
    Registries(#[from] rbox_image::RegistriesError),
    /// The configuration file is no good.
    #[error(transparent)]
    Settings(#[from] crate::settings::SettingsError),
    /// Devices that the container asks for.
    #[error(transparent)]
    Cdi(#[from] crate::cdi::CdiError),
    /// A filter is none.
    #[error(transparent)]
    Filter(#[from] crate::listing::filter::FilterError),
    /// The monitor said so; the text is its error.
    #[error("{message}")]
    Monitor {
        /// Its error.
        message: String,
        /// What that means.
        kind: Kind,
        /// The exit code it stands for.
        exit_code: i32,
    },
}

impl EngineError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::NoContainer(_) | Self::NoFile(_) => Kind::NotFound,
            Self::Ambiguous(_) | Self::NameTaken { .. } | Self::Conflict(_) => Kind::Conflict,
            Self::Invalid(_) => Kind::Invalid,
            Self::Damaged(_) => Kind::Damaged,
            Self::Unsupported(_) => Kind::Unsupported,
            Self::Update { source, .. } => source.kind(),
            Self::NotExecuted { .. } => Kind::NotExecuted,
            Self::Monitor { kind, .. } => *kind,
            Self::Link { source, .. } => source.kind(),
            Self::User(error) => error.kind(),
            Self::Record(error) => error.kind(),
            Self::File { source, .. } => Kind::of_io(source),
            Self::Call(error) => Kind::of_errno(error.errno as i32),
            Self::Runtime(error) => error.kind(),
            Self::Overlay(error) => error.kind(),
            Self::Tree(error) => error.kind(),
            Self::Changes(error) => error.kind(),
            Self::Archive(error) => error.kind(),
            Self::Cgroup(error) => error.kind(),
            Self::Network(error) => error.kind(),
            Self::Seccomp(error) => error.kind(),
            Self::AppArmor(error) => error.kind(),
            Self::Volume(error) => error.kind(),
            Self::Populate(error) => error.kind(),
            Self::Pack(error) => error.kind(),
            Self::Unpack(error) => error.kind(),
            Self::Put(error) => error.kind(),
            Self::Image(error) => error.kind(),
            Self::Pull(error) => error.kind(),
            Self::Push(error) => error.kind(),
            Self::Remote(error) => error.kind(),
            Self::Registry(error) => error.kind(),
            Self::Sign(error) => error.kind(),
            Self::Key(error) => error.kind(),
            Self::Compare(error) => error.kind(),
            Self::Registries(error) => error.kind(),
            Self::Settings(error) => error.kind(),
            Self::Cdi(error) => error.kind(),
            Self::Filter(error) => error.kind(),
        }
    }

    /// What `run` and `exec` end with: 127 when the program is not there, 126 when it cannot be invoked, else 125.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::NotExecuted { exit_code, .. } | Self::Monitor { exit_code, .. } => *exit_code,
            _ => 125,
        }
    }

    /// The exit code that a container has when it could not be started for this: Docker's rule, which goes by the words of whoever
    /// makes the process. Before it is made all failures are alike.
    pub fn state_code(&self) -> i32 {
        const UNKNOWN: i32 = 128;
        let said = |words: &str| self.with_causes().to_lowercase().contains(words);
        match self {
            Self::NotExecuted { .. } | Self::Runtime(_) | Self::Tree(_) | Self::Call(_) => {}
            Self::Monitor { exit_code, .. } => return *exit_code,
            _ => return UNKNOWN,
        }
        if said("permission denied") || said("is a directory") {
            126
        } else if said("not a directory") || said("no such file or directory") {
            127
        } else if let Self::NotExecuted { exit_code, .. } = self {
            *exit_code
        } else {
            UNKNOWN
        }
    }

    /// The error and what caused it as one line, for where only text gets through: the record and the monitor's socket.
    pub fn with_causes(&self) -> String {
        chain(self)
    }

    /// For `map_err` on file operations.
    pub fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }
}

impl From<RecordError> for EngineError {
    fn from(error: RecordError) -> Self {
        match error {
            RecordError::Refused(why) => Self::Invalid(why),
            other => Self::Record(other),
        }
    }
}

impl From<RuntimeError> for EngineError {
    fn from(error: RuntimeError) -> Self {
        match error {
            RuntimeError::Init(failure) if failure.is_exec => {
                let is_absent = [nix::libc::ENOENT, nix::libc::ENOTDIR].contains(&failure.errno);
                let exit_code = if is_absent { 127 } else { 126 };
                Self::NotExecuted { message: failure.message, exit_code }
            }
            other => Self::Runtime(other),
        }
    }
}

/// An error and what caused it as one line, each said once.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = plain(cause);
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        next = cause.source();
    }
    plain(line)
}

//! The typed model: what a project is once all is resolved.

mod build;
mod deploy;
mod duration;
mod extensions;
mod parts;
mod resources;
mod service;

pub use build::Build;
pub use deploy::{
    Deploy, DeviceRequest, DiscreteResource, GenericResource, Placement, Preference, Resource, Resources,
    RestartPolicy, Update,
};
pub use extensions::Extensions;
pub use parts::{MountedFile, Ulimit};
pub use resources::{ExternalFile, Ipam, IpamPool, Model, Network, Volume};
pub use service::{
    Blkio, BlkioRate, BlkioWeight, Condition, CredentialSpec, Dependency, Develop, Device, EnvFile,
    Healthcheck, Hook, Logging, Mount, MountBind, MountImage, MountTmpfs, MountVolume, Port, Provider,
    Service, ServiceModel, ServiceNetwork, Watch,
};

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

/// A project: its services and what they share.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Project {
    /// Its name: `[a-z0-9][a-z0-9_-]*`.
    pub name: String,
    /// The project's directory, absolute.
    #[serde(skip)]
    pub directory: PathBuf,
    /// The compose files, absolute; `-` for the standard input. For the label `com.docker.compose.project.config_files`.
    #[serde(skip)]
    pub files: Vec<String>,
    /// The files of `--env-file`, as they were named. For the label `com.docker.compose.project.environment_file`.
    #[serde(skip)]
    pub env_files: Vec<String>,
    /// The variables that are not the caller's, such as those of `.env`.
    #[serde(skip)]
    pub environment: BTreeMap<String, String>,
    /// The profiles that are on.
    #[serde(skip)]
    pub profiles: Vec<String>,
    /// The services that are meant, by their names.
    pub services: BTreeMap<String, Service>,
    /// Those whose profiles are off or that were not meant.
    #[serde(skip)]
    pub disabled_services: BTreeMap<String, Service>,
    /// Networks, by the names that the files give them.
    pub networks: BTreeMap<String, Network>,
    /// Volumes.
    pub volumes: BTreeMap<String, Volume>,
    /// Secrets.
    pub secrets: BTreeMap<String, ExternalFile>,
    /// Configs.
    pub configs: BTreeMap<String, ExternalFile>,
    /// Models.
    pub models: BTreeMap<String, Model>,
    /// `x-…` of the top level.
    #[serde(flatten)]
    pub extensions: Extensions,
}

impl Project {
    /// A service that is enabled.
    pub fn service(&self, name: &str) -> Option<&Service> {
        self.services.get(name)
    }
}

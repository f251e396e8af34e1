//! A service.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::build::Build;
use super::deploy::{Deploy, DeviceRequest};
use super::duration::{bytes, maybe, signed};
use super::extensions::Extensions;
use super::parts::{MountedFile, Ulimit};

/// A service: what its containers are. Texts that are empty and numbers that are 0 were not given.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the keys of the Compose specification, by their names")]
#[allow(clippy::struct_excessive_bools, reason = "they are the specification's")]
pub struct Service {
    #[serde(skip)]
    pub name: String,
    pub profiles: Vec<String>,
    pub annotations: BTreeMap<String, String>,
    pub attach: Option<bool>,
    pub build: Option<Build>,
    pub develop: Option<Develop>,
    pub blkio_config: Option<Blkio>,
    pub cap_add: Vec<String>,
    pub cap_drop: Vec<String>,
    pub cgroup_parent: String,
    pub cgroup: String,
    pub cpu_count: i64,
    pub cpu_percent: f64,
    pub cpu_period: i64,
    pub cpu_quota: i64,
    pub cpu_rt_period: i64,
    pub cpu_rt_runtime: i64,
    pub cpus: f64,
    pub cpuset: String,
    pub cpu_shares: i64,
    /// None: the image's. Empty: no command.
    pub command: Option<Vec<String>>,
    pub configs: Vec<MountedFile>,
    pub container_name: String,
    pub credential_spec: Option<CredentialSpec>,
    /// Also what is implied by links, shared namespaces and `volumes_from`.
    pub depends_on: BTreeMap<String, Dependency>,
    pub deploy: Option<Deploy>,
    pub device_cgroup_rules: Vec<String>,
    pub devices: Vec<Device>,
    pub dns: Vec<String>,
    pub dns_opt: Vec<String>,
    pub dns_search: Vec<String>,
    pub domainname: String,
    /// None: the image's. Empty: none.
    pub entrypoint: Option<Vec<String>>,
    pub provider: Option<Provider>,
    /// With what `env_file` says. None: the variable is not set, whatever the image says.
    pub environment: BTreeMap<String, Option<String>>,
    /// Empty once they are read.
    pub env_file: Vec<EnvFile>,
    pub expose: Vec<String>,
    pub external_links: Vec<String>,
    /// `HOST=ADDRESS`.
    pub extra_hosts: Vec<String>,
    pub group_add: Vec<String>,
    pub gpus: Vec<DeviceRequest>,
    pub hostname: String,
    pub healthcheck: Option<Healthcheck>,
    pub image: String,
    pub init: Option<bool>,
    pub ipc: String,
    pub isolation: String,
    /// With what `label_file` says.
    pub labels: BTreeMap<String, String>,
    pub label_file: Vec<String>,
    pub links: Vec<String>,
    pub logging: Option<Logging>,
    #[serde(deserialize_with = "bytes")]
    pub mem_limit: u64,
    #[serde(deserialize_with = "bytes")]
    pub mem_reservation: u64,
    /// -1: no limit.
    #[serde(deserialize_with = "signed")]
    pub memswap_limit: i64,
    #[serde(deserialize_with = "signed")]
    pub mem_swappiness: i64,
    pub mac_address: String,
    pub models: BTreeMap<String, Option<ServiceModel>>,
    /// `bridge`, `host`, `none`, `service:NAME`, `container:NAME`; empty with `networks`.
    pub network_mode: String,
    /// By the names that the files give them; `default` where nothing was said.
    pub networks: BTreeMap<String, Option<ServiceNetwork>>,
    pub oom_kill_disable: bool,
    pub oom_score_adj: i64,
    pub pid: String,
    pub pids_limit: i64,
    pub platform: String,
    pub ports: Vec<Port>,
    pub privileged: bool,
    /// `always`, `never`, `missing`, `build`, `refresh`, `daily`, `weekly`, `every_…`; empty for `missing`.
    pub pull_policy: String,
    pub pull_refresh_after: String,
    pub read_only: bool,
    /// `no`, `always`, `on-failure[:N]`, `unless-stopped`.
    pub restart: String,
    pub runtime: String,
    pub scale: Option<i64>,
    pub secrets: Vec<MountedFile>,
    pub security_opt: Vec<String>,
    #[serde(deserialize_with = "bytes")]
    pub shm_size: u64,
    pub stdin_open: bool,
    #[serde(deserialize_with = "maybe")]
    pub stop_grace_period: Option<Duration>,
    pub stop_signal: String,
    pub storage_opt: BTreeMap<String, String>,
    pub sysctls: BTreeMap<String, String>,
    pub tmpfs: Vec<String>,
    pub tty: bool,
    pub ulimits: BTreeMap<String, Ulimit>,
    pub use_api_socket: bool,
    pub user: String,
    pub userns_mode: String,
    pub uts: String,
    pub volumes: Vec<Mount>,
    pub volumes_from: Vec<String>,
    pub working_dir: String,
    pub pre_start: Vec<Hook>,
    pub post_start: Vec<Hook>,
    pub pre_stop: Vec<Hook>,
    #[serde(flatten)]
    pub extensions: Extensions,
    /// The service as Compose writes it in JSON.
    #[serde(skip)]
    pub(crate) canonical: serde_json::Value,
    #[serde(skip)]
    pub(crate) hash: String,
}

impl Service {
    /// How many containers: `scale`, `deploy.replicas`, or 1; none where somebody else provides it.
    pub fn replicas(&self) -> i64 {
        if self.provider.is_some() {
            return 0;
        }
        self.scale.or_else(|| self.deploy.as_ref()?.replicas).unwrap_or(1)
    }

    /// How long after it was pulled an image is pulled again, by `pull_policy`; none where that does not go by time.
    pub fn refresh_after(&self) -> Option<std::time::Duration> {
        let span = match self.pull_policy.as_str() {
            "daily" => "1d",
            "weekly" => "1w",
            "refresh" => self.pull_refresh_after.as_str(),
            policy => policy.strip_prefix("every_")?,
        };
        let nanos = crate::output::parse_duration(span).ok()?;
        u64::try_from(nanos).ok().map(std::time::Duration::from_nanos)
    }

    /// The hash by which Compose tells whether a container is of this configuration: SHA-256 in hexadecimal of the service's JSON
    /// without `build`, `pull_policy`, `scale`, `deploy.replicas`, `depends_on` and `profiles`. Of the service as it was loaded.
    pub fn config_hash(&self) -> &str {
        &self.hash
    }

    /// The service as it was loaded, as `config --format json` shows it: to compare two field by field.
    pub fn canonical(&self) -> &serde_json::Value {
        &self.canonical
    }
}

/// When a service that another one depends on is far enough.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Condition {
    /// It runs.
    #[default]
    #[serde(rename = "service_started")]
    Started,
    /// Its health check passes.
    #[serde(rename = "service_healthy")]
    Healthy,
    /// It ended with 0.
    #[serde(rename = "service_completed_successfully")]
    CompletedSuccessfully,
}

/// What a service depends on another one for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Dependency {
    /// When it is far enough.
    pub condition: Condition,
    /// Restart with it.
    pub restart: bool,
    /// Refuse to start without it.
    pub required: bool,
}

/// A published port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Port {
    /// A name for people.
    pub name: String,
    /// `ingress` or `host`.
    pub mode: String,
    /// The host's address; empty for all.
    pub host_ip: String,
    /// The port in the container.
    pub target: u16,
    /// The host's: a number, a range to choose from, or empty for any.
    pub published: String,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// What is spoken, for people.
    pub app_protocol: String,
}

/// A mount.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Mount {
    /// `bind`, `volume`, `tmpfs`, `image`, `npipe` or `cluster`.
    #[serde(rename = "type")]
    pub kind: String,
    /// A path of the host, the name that the files give a volume, an image; empty for an anonymous volume.
    pub source: String,
    /// Where in the container.
    pub target: String,
    /// Without writing.
    pub read_only: bool,
    /// Of Docker Desktop.
    pub consistency: String,
    /// For `bind`.
    pub bind: Option<MountBind>,
    /// For `volume`.
    pub volume: Option<MountVolume>,
    /// For `tmpfs`.
    pub tmpfs: Option<MountTmpfs>,
    /// For `image`.
    pub image: Option<MountImage>,
}

/// Options of a bind mount.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct MountBind {
    /// `z` or `Z`.
    pub selinux: String,
    /// Such as `rslave`.
    pub propagation: String,
    /// Make the directory where there is none.
    pub create_host_path: bool,
    /// `enabled`, `disabled`, `writable` or `readonly`.
    pub recursive: String,
}

/// Options of a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct MountVolume {
    /// Labels of an anonymous volume.
    pub labels: BTreeMap<String, String>,
    /// Do not copy what the image has there.
    pub nocopy: bool,
    /// A path in the volume.
    pub subpath: String,
}

/// Options of a tmpfs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct MountTmpfs {
    /// Bytes.
    #[serde(deserialize_with = "bytes")]
    pub size: u64,
    /// The mode of its root; 0 for the default.
    pub mode: u32,
}

/// Options of a mounted image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct MountImage {
    /// A path in the image.
    pub subpath: String,
}

/// A device of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Device {
    /// A path of the host, or the name of a CDI device.
    pub source: String,
    /// Where in the container; empty as the source.
    pub target: String,
    /// Of `rwm`.
    pub permissions: String,
}

/// A program outside that provides a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Provider {
    /// The program.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its options.
    pub options: BTreeMap<String, Vec<String>>,
}

/// A file of variables.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct EnvFile {
    /// Where.
    pub path: String,
    /// Refuse to go on without it.
    pub required: bool,
    /// `raw`, or empty.
    pub format: String,
}

/// A health check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Healthcheck {
    /// `CMD …`, `CMD-SHELL …` or `NONE`; empty for the image's.
    pub test: Vec<String>,
    /// How long it may take.
    #[serde(deserialize_with = "maybe")]
    pub timeout: Option<Duration>,
    /// The time between two.
    #[serde(deserialize_with = "maybe")]
    pub interval: Option<Duration>,
    /// How many may fail in a row.
    pub retries: Option<i64>,
    /// The time in which failures do not count.
    #[serde(deserialize_with = "maybe")]
    pub start_period: Option<Duration>,
    /// The time between two of these.
    #[serde(deserialize_with = "maybe")]
    pub start_interval: Option<Duration>,
    /// None, also if the image has one.
    pub disable: bool,
}

/// Where output is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Logging {
    /// The driver.
    pub driver: String,
    /// Its options.
    pub options: BTreeMap<String, String>,
}

/// The variables that tell a service of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ServiceModel {
    /// Where it answers.
    pub endpoint_var: String,
    /// Which it is.
    pub model_var: String,
}

/// A service in a network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ServiceNetwork {
    /// More names in it.
    pub aliases: Vec<String>,
    /// For the driver.
    pub driver_opts: BTreeMap<String, String>,
    /// The highest decides on the default route.
    pub gw_priority: i64,
    /// The name of the link in the container.
    pub interface_name: String,
    /// An address.
    pub ipv4_address: String,
    /// An address.
    pub ipv6_address: String,
    /// Addresses.
    pub link_local_ips: Vec<String>,
    /// The hardware address.
    pub mac_address: String,
    /// The highest is joined first.
    pub priority: i64,
}

/// A command at a point of a container's life.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Hook {
    /// The words.
    pub command: Option<Vec<String>>,
    /// The image to run it in, for `pre_start`; empty for the service's.
    pub image: String,
    /// As whom.
    pub user: String,
    /// With all privileges.
    pub privileged: bool,
    /// Where.
    pub working_dir: String,
    /// Its variables.
    pub environment: BTreeMap<String, Option<String>>,
    /// Once for each container, for `pre_start`.
    pub per_replica: Option<bool>,
}

/// What `watch` does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Develop {
    /// What is watched.
    pub watch: Vec<Watch>,
}

/// Files that are watched, and what is done when they change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Watch {
    /// A path of the host, absolute.
    pub path: String,
    /// `rebuild`, `sync`, `restart`, `sync+restart` or `sync+exec`.
    pub action: String,
    /// Where in the container.
    pub target: String,
    /// The command of `sync+exec`.
    pub exec: Hook,
    /// Only these.
    pub include: Vec<String>,
    /// Not these.
    pub ignore: Vec<String>,
    /// Sync at the start.
    pub initial_sync: bool,
}

/// Limits of block devices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Blkio {
    /// From 10 to 1000; 0 for the default.
    pub weight: u16,
    /// Of single devices.
    pub weight_device: Vec<BlkioWeight>,
    /// Bytes a second.
    pub device_read_bps: Vec<BlkioRate>,
    /// Operations a second.
    pub device_read_iops: Vec<BlkioRate>,
    /// Bytes a second.
    pub device_write_bps: Vec<BlkioRate>,
    /// Operations a second.
    pub device_write_iops: Vec<BlkioRate>,
}

/// The weight of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct BlkioWeight {
    /// The device.
    pub path: String,
    /// Its weight.
    pub weight: u16,
}

/// The rate of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct BlkioRate {
    /// The device.
    pub path: String,
    /// A second.
    #[serde(deserialize_with = "bytes")]
    pub rate: u64,
}

/// Of Windows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct CredentialSpec {
    /// A config.
    pub config: String,
    /// A file.
    pub file: String,
    /// A value.
    pub registry: String,
}

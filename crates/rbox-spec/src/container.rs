//! A container as the user asked for it: what `create` writes down and `start` carries out.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::device_request::DeviceRequest;
use crate::docker::{fields, list, set};
use crate::given::GivenFile;
use crate::health::{Healthcheck, OnUnhealthy};
use crate::kind::Kind;
use crate::mac::Mac;
use crate::mount::{GivenBy, MountSpec};
use crate::port::{PortMapping, port_bindings};
use crate::resources::Resources;
use crate::restart::RestartPolicy;
use crate::ulimit::Ulimit;
use crate::userns::{self, IdFlags, IdMaps};

/// What the process is: the image's configuration with the user's laid over it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerConfig {
    /// Name inside the UTS namespace; the short id when the user gives none.
    pub hostname: String,
    /// `--domainname`.
    pub domainname: String,
    /// `USER`: empty for root.
    pub user: String,
    /// A terminal (`-t`).
    pub tty: bool,
    /// Standard input stays open (`-i`).
    pub open_stdin: bool,
    /// What the command that made it attached to.
    pub attached: Attached,
    /// `KEY=value`, in order; the image's first.
    pub env: Vec<String>,
    /// The entrypoint in force.
    pub entrypoint: Vec<String>,
    /// The command in force; appended to the entrypoint.
    pub cmd: Vec<String>,
    /// Working directory; empty for `/`.
    pub working_dir: String,
    /// Labels of the image and of the user.
    pub labels: BTreeMap<String, String>,
    /// `EXPOSE` of the image and `--expose`: `80/tcp`.
    pub exposed_ports: Vec<String>,
    /// `VOLUME` of the image.
    pub volumes: Vec<String>,
    /// What `stop` sends; SIGTERM when none.
    pub stop_signal: Option<String>,
    /// Seconds `stop` waits before SIGKILL; 10 when none, without end when negative.
    pub stop_timeout: Option<i64>,
    /// `--umask`; 022 when none.
    pub umask: Option<u32>,
    /// `HEALTHCHECK` and `--health-*`.
    pub healthcheck: Option<Healthcheck>,
    /// `--health-on-failure`.
    pub on_unhealthy: OnUnhealthy,
    /// `SHELL` of the image: what runs a check that is a line. Empty for `/bin/sh -c`.
    pub shell: Vec<String>,
}

impl ContainerConfig {
    /// Its host name with its domain, if it has one.
    pub fn full_hostname(&self) -> String {
        match self.domainname.as_str() {
            "" => self.hostname.clone(),
            domain => format!("{}.{domain}", self.hostname),
        }
    }

    /// What its health checks run, if it has any.
    pub fn health_command(&self) -> Option<Vec<String>> {
        self.healthcheck.as_ref()?.command(&self.shell)
    }

    /// `Config` in Docker's `inspect`; `image` as the user named it.
    pub fn as_docker(&self, image: &str) -> Value {
        let mut fields = fields(json!({
            "Hostname": self.hostname,
            "Domainname": self.domainname,
            "User": self.user,
            "AttachStdin": self.attached.stdin,
            "AttachStdout": self.attached.stdout,
            "AttachStderr": self.attached.stderr,
        }));
        let mut add = |key: &str, value: Value| fields.insert(key.to_owned(), value);
        if !self.exposed_ports.is_empty() {
            add("ExposedPorts", set(&self.exposed_ports));
        }
        add("Tty", self.tty.into());
        add("OpenStdin", self.open_stdin.into());
        add("StdinOnce", (self.open_stdin && self.attached.stdin).into());
        add("Env", self.env.clone().into());
        add("Cmd", list(&self.cmd));
        if let Some(check) = &self.healthcheck {
            add("Healthcheck", json!(check));
        }
        add("Image", image.into());
        add("Volumes", set(&self.volumes));
        add("WorkingDir", self.working_dir.clone().into());
        add("Entrypoint", list(&self.entrypoint));
        add("OnBuild", Value::Null);
        add("Labels", json!(self.labels));
        if let Some(signal) = &self.stop_signal {
            add("StopSignal", signal.clone().into());
        }
        if let Some(timeout) = self.stop_timeout {
            add("StopTimeout", timeout.into());
        }
        if !self.shell.is_empty() {
            add("Shell", self.shell.clone().into());
        }
        fields.into()
    }
}

/// Which of a container's streams the command that made it attached to. Nothing depends on it: programs read it in `inspect`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attached {
    /// Its input.
    pub stdin: bool,
    /// Its output.
    pub stdout: bool,
    /// Its errors.
    pub stderr: bool,
}

impl Attached {
    /// `-d`.
    pub const NONE: Self = Self { stdin: false, stdout: false, stderr: false };

    /// Without `--attach`: the output, and the input with `-i`.
    pub const fn output_and(stdin: bool) -> Self {
        Self { stdin, stdout: true, stderr: true }
    }
}

impl Default for Attached {
    fn default() -> Self {
        Self::output_and(false)
    }
}

/// What it gets from the host, and what it may not have.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line, independent of the others"
)]
pub struct HostConfig {
    /// Mounts of `-v`, `--mount`, `--tmpfs`, `--volumes-from` and the image's volumes.
    pub mounts: Vec<MountSpec>,
    /// `--volumes-from`, as given; what it brought is among the mounts.
    pub volumes_from: Vec<String>,
    /// `--network`.
    pub network: NetworkMode,
    /// The networks it is on, with [`NetworkMode::Bridge`]; the first is what `--network` named first.
    #[serde(default = "Attachment::default_bridge")]
    pub attachments: Vec<Attachment>,
    /// `--link`.
    pub links: Vec<Link>,
    /// `-p`.
    pub ports: Vec<PortMapping>,
    /// `-P`: publish all exposed ports on random ones.
    pub publish_all: bool,
    /// Limits.
    pub resources: Resources,
    /// `--cap-add`, as given.
    pub cap_add: Vec<String>,
    /// `--cap-drop`, as given.
    pub cap_drop: Vec<String>,
    /// `--group-add`, as given.
    pub group_add: Vec<String>,
    /// All capabilities and devices, no masks, no seccomp filter.
    pub privileged: bool,
    /// Root file system mounted read-only.
    pub read_only: bool,
    /// The seccomp filter.
    pub seccomp: SeccompMode,
    /// `--security-opt apparmor=`: a profile's name, or `unconfined`; empty for the default one.
    pub apparmor: String,
    /// `--security-opt no-new-privileges`.
    pub no_new_privileges: bool,
    /// `--device`.
    pub devices: Vec<DeviceSpec>,
    /// `--gpus`, and `--device` with names of devices in CDI: looked up at each start.
    pub device_requests: Vec<DeviceRequest>,
    /// `--ulimit`.
    pub ulimits: Vec<Ulimit>,
    /// Bytes of /dev/shm; 64 MiB when none.
    pub shm_size: Option<u64>,
    /// `--storage-opt`, as given.
    pub storage_opt: BTreeMap<String, String>,
    /// `--sysctl`.
    pub sysctls: BTreeMap<String, String>,
    /// `--oom-score-adj`, -1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// `--rm`.
    pub auto_remove: bool,
    /// `--restart`.
    pub restart: RestartPolicy,
    /// `--cgroup-parent`: the group that the container's is made in; rbox's own when none.
    pub cgroup_parent: Option<String>,
    /// `--cgroupns=host`: it sees the host's tree of control groups.
    pub cgroupns_host: bool,
    /// `--pid`.
    pub pid: PidMode,
    /// `--uts=host`: it has the host's name.
    pub uts_host: bool,
    /// `--ipc`.
    pub ipc: IpcMode,
    /// `--annotation`: handed to the runtime, and shown.
    pub annotations: BTreeMap<String, String>,
    /// `--init`: a small init as PID 1 that reaps and passes signals on.
    pub init: bool,
    /// `--userns`, as it was given.
    pub userns: String,
    /// `--uidmap` and those like it.
    pub id_flags: IdFlags,
    /// The ids of its user namespace, when it has one of its own: they stay the same from its beginning to its removal.
    pub id_maps: Option<IdMaps>,
    /// `--add-host name:ip`.
    pub extra_hosts: Vec<String>,
    /// `--dns`.
    pub dns: Vec<String>,
    /// `--dns-search`.
    pub dns_search: Vec<String>,
    /// `--dns-option`.
    pub dns_options: Vec<String>,
    /// `--log-driver`.
    pub log_driver: LogDriver,
    /// `--log-opt`: `max-size`, `max-file`.
    pub log_opts: BTreeMap<String, String>,
    /// Written by `--cidfile`.
    pub cid_file: Option<String>,
    /// `--pidfile`: gets the host's number of its first process at each start.
    pub pid_file: Option<String>,
    /// `--security-opt systempaths=unconfined`: no masks over /proc and /sys.
    pub system_paths_unconfined: bool,
    /// `--timeout`: seconds after which it is killed.
    pub timeout: Option<u64>,
    /// `--secret`, and what else it is given as files; their contents are beside the record.
    pub files: Vec<GivenFile>,
}

/// `--pid`: whose processes it sees.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PidMode {
    /// Its own.
    #[default]
    Private,
    /// The host's.
    Host,
    /// Those of another container, by its id.
    Container(String),
}

/// As `inspect` spells it: nothing for its own.
impl std::fmt::Display for PidMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Private => Ok(()),
            Self::Host => f.write_str("host"),
            Self::Container(id) => write!(f, "container:{id}"),
        }
    }
}

/// `--ipc`: whose System V objects, message queues and /dev/shm it has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IpcMode {
    /// Its own.
    #[default]
    Private,
    /// Its own, and others may share it.
    Shareable,
    /// Its own, without /dev/shm.
    None,
    /// The host's.
    Host,
    /// Those of another container, by its id.
    Container(String),
}

impl IpcMode {
    /// Whether its IPC namespace is its own.
    pub fn is_own(&self) -> bool {
        matches!(self, Self::Private | Self::Shareable | Self::None)
    }
}

/// As `inspect` spells it.
impl std::fmt::Display for IpcMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Private => f.write_str("private"),
            Self::Shareable => f.write_str("shareable"),
            Self::None => f.write_str("none"),
            Self::Host => f.write_str("host"),
            Self::Container(id) => write!(f, "container:{id}"),
        }
    }
}

/// `--log-driver`: where its output is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogDriver {
    /// In its file, as JSON.
    #[default]
    #[serde(rename = "json-file")]
    JsonFile,
    /// In the same file, which other programs are not to read.
    #[serde(rename = "local")]
    Local,
    /// To syslog, and in the same file.
    #[serde(rename = "syslog")]
    Syslog,
    /// To the systemd journal, and in the same file.
    #[serde(rename = "journald")]
    Journald,
    /// Nowhere: those attached see it.
    #[serde(rename = "none")]
    None,
}

impl LogDriver {
    /// As the command line and `inspect` spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::JsonFile => "json-file",
            Self::Local => "local",
            Self::Syslog => "syslog",
            Self::Journald => "journald",
            Self::None => "none",
        }
    }
}

/// A log driver that is not there.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidLogDriver {
    /// One of Docker's.
    #[error(
        "docker's log driver '{0}' is not supported: rbox has json-file, local, syslog, journald and none"
    )]
    OfDocker(String),
    /// Nobody's.
    #[error(
        "logger: no log driver named '{0}' is registered: rbox has json-file, local, syslog, journald and none"
    )]
    Unknown(String),
}

impl InvalidLogDriver {
    /// What it means to the caller.
    pub const fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

/// Nothing is the default.
impl std::str::FromStr for LogDriver {
    type Err = InvalidLogDriver;
    fn from_str(text: &str) -> Result<Self, InvalidLogDriver> {
        const OF_DOCKER: [&str; 6] = ["awslogs", "etwlogs", "fluentd", "gcplogs", "gelf", "splunk"];
        match text {
            "" | "json-file" => Ok(Self::JsonFile),
            "local" => Ok(Self::Local),
            "syslog" => Ok(Self::Syslog),
            "journald" => Ok(Self::Journald),
            "none" => Ok(Self::None),
            other if OF_DOCKER.contains(&other) => Err(InvalidLogDriver::OfDocker(other.to_owned())),
            other => Err(InvalidLogDriver::Unknown(other.to_owned())),
        }
    }
}

/// `--network`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    /// An own network namespace, with a veth into the bridge of each attached network.
    #[default]
    Bridge,
    /// The host's network namespace.
    Host,
    /// An own network namespace with a loopback only.
    None,
    /// The network namespace of another container, by its id.
    Container(String),
}

impl NetworkMode {
    /// Whether its network namespace is its own.
    pub fn is_own(&self) -> bool {
        matches!(self, Self::Bridge | Self::None)
    }
}

impl HostConfig {
    /// The network mode as `inspect` spells it: `host`, `none`, `container:ID`, or the first network's name.
    pub fn network_mode(&self) -> String {
        match &self.network {
            NetworkMode::Host => "host".into(),
            NetworkMode::None => "none".into(),
            NetworkMode::Container(id) => format!("container:{id}"),
            NetworkMode::Bridge => {
                self.attachments.first().map_or_else(|| "bridge".into(), |first| first.network.clone())
            }
        }
    }

    /// `HostConfig` in Docker's `inspect`, but for the paths that are masked and sealed. Keys at the end are left out when they are
    /// not used.
    pub fn as_docker(&self) -> Map<String, Value> {
        let mut fields = fields(json!({
            "Binds": list(&self.mounts.iter().filter_map(MountSpec::as_bind).collect::<Vec<_>>()),
            "ContainerIDFile": self.cid_file.clone().unwrap_or_default(),
            "LogConfig": { "Type": self.log_driver.as_str(), "Config": self.log_opts },
            "NetworkMode": self.network_mode(),
            "PortBindings": port_bindings(&self.ports),
            "RestartPolicy": {
                "Name": self.restart.name(),
                "MaximumRetryCount": self.restart.max_retries(),
            },
            "AutoRemove": self.auto_remove,
            "VolumeDriver": "",
            "VolumesFrom": list(&self.volumes_from),
            "ConsoleSize": [0, 0],
            "CapAdd": list(&capabilities(&self.cap_add)),
            "CapDrop": list(&capabilities(&self.cap_drop)),
            "CgroupnsMode": if self.cgroupns_host { "host" } else { "private" },
            "Dns": self.dns,
            "DnsOptions": self.dns_options,
            "DnsSearch": self.dns_search,
            "ExtraHosts": list(&self.extra_hosts.iter().map(|line| extra_host(line)).collect::<Vec<_>>()),
            "GroupAdd": list(&self.group_add),
            "IpcMode": self.ipc.to_string(),
            "Cgroup": "",
            "Links": list(&self.links.iter().map(Link::as_docker).collect::<Vec<_>>()),
            "OomScoreAdj": self.oom_score_adj.unwrap_or(0),
            "PidMode": self.pid.to_string(),
            "Privileged": self.privileged,
            "PublishAllPorts": self.publish_all,
            "ReadonlyRootfs": self.read_only,
            "SecurityOpt": list(&self.security_options()),
            "UTSMode": if self.uts_host { "host" } else { "" },
            "UsernsMode": if self.userns.is_empty() && self.id_maps.is_some() { "private" } else { &self.userns },
            "ShmSize": self.shm_size.unwrap_or(64 << 20),
            "Runtime": "rbox",
            "Isolation": "",
        }));
        fields.extend(self.resources.as_docker());
        fields.insert("CgroupParent".into(), self.cgroup_parent.clone().unwrap_or_default().into());
        fields.insert("Devices".into(), self.devices.iter().map(DeviceSpec::as_docker).collect());
        fields.insert("DeviceRequests".into(), DeviceRequest::all_as_docker(&self.device_requests));
        fields.insert("Ulimits".into(), json!(self.ulimits));
        let tmpfs: Map<String, Value> = self
            .mounts
            .iter()
            .filter_map(|mount| Some((mount.target.clone(), mount.as_tmpfs_options()?.into())))
            .collect();
        if !tmpfs.is_empty() {
            fields.insert("Tmpfs".into(), tmpfs.into());
        }
        let given: Vec<Value> = self
            .mounts
            .iter()
            .filter(|mount| mount.given_by == GivenBy::Mount)
            .map(MountSpec::as_docker)
            .collect();
        if !given.is_empty() {
            fields.insert("Mounts".into(), given.into());
        }
        if let Some(maps) = &self.id_maps {
            // podman's name and form.
            let maps = json!({ "UidMap": userns::lines(&maps.uids), "GidMap": userns::lines(&maps.gids) });
            fields.insert("IDMappings".into(), maps);
        }
        if !self.storage_opt.is_empty() {
            fields.insert("StorageOpt".into(), json!(self.storage_opt));
        }
        if !self.sysctls.is_empty() {
            fields.insert("Sysctls".into(), json!(self.sysctls));
        }
        if !self.annotations.is_empty() {
            fields.insert("Annotations".into(), json!(self.annotations));
        }
        if !self.files.is_empty() {
            fields.insert("Files".into(), self.files.iter().map(GivenFile::as_docker).collect());
        }
        if self.init {
            fields.insert("Init".into(), true.into());
        }
        fields
    }

    /// `--security-opt`, as given.
    fn security_options(&self) -> Vec<String> {
        let apparmor = Some(&self.apparmor).filter(|profile| !profile.is_empty());
        let apparmor = apparmor.map(|profile| format!("apparmor={profile}"));
        let seccomp = match &self.seccomp {
            SeccompMode::Default => None,
            SeccompMode::Unconfined => Some("seccomp=unconfined".to_owned()),
            SeccompMode::Profile(text) => Some(format!("seccomp={text}")),
        };
        let privileges = self.no_new_privileges.then(|| "no-new-privileges".to_owned());
        apparmor.into_iter().chain(seccomp).chain(privileges).collect()
    }
}

/// Capabilities as Docker writes them: `net_raw` is `CAP_NET_RAW`.
fn capabilities(given: &[String]) -> Vec<String> {
    let name = |text: &String| {
        let upper = text.to_ascii_uppercase();
        if upper == "ALL" || upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") }
    };
    given.iter().map(name).collect()
}

/// A line of `--add-host` as Docker writes it: `db=[::1]` is `db:::1`.
fn extra_host(line: &str) -> String {
    let Some((name, address)) = line.split_once('=').or_else(|| line.split_once(':')) else {
        return line.to_owned();
    };
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    format!("{name}:{bare}")
}

/// A network that a container is on, and what it wants there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attachment {
    /// The network's name, or before `create` what the user called it.
    pub network: String,
    /// The network's id; empty before `create`.
    pub network_id: String,
    /// Further names on this network.
    pub aliases: Vec<String>,
    /// The address it wants.
    pub ip: Option<Ipv4Addr>,
    /// The IPv6 address it wants.
    pub ip6: Option<Ipv6Addr>,
    /// The Ethernet address it wants.
    pub mac: Option<Mac>,
    /// Further addresses of its link, which nobody allots: those of `link-local-ip`.
    pub link_local: Vec<IpAddr>,
    /// What Docker calls options of the driver: see [`LINK_NAME`] and [`LINK_SYSCTLS`].
    pub driver_opts: BTreeMap<String, String>,
    /// The default route leads through the network with the highest.
    pub priority: i32,
    /// Which of the container's links it has: the 2 of `eth2`. None before the first start.
    pub number: Option<usize>,
}

/// The option of an [`Attachment`] with the name of the link in the container.
pub const LINK_NAME: &str = "com.docker.network.endpoint.ifname";
/// The one with settings of that link: `net.ipv4.conf.IFNAME.forwarding=1,…`.
pub const LINK_SYSCTLS: &str = "com.docker.network.endpoint.sysctls";

/// What stands for the link's name there.
pub const ANY_LINK: &str = "IFNAME";

impl Attachment {
    /// What the link in the container is to be called, if that was said.
    pub fn link_name(&self) -> Option<&str> {
        self.driver_opts.get(LINK_NAME).map(String::as_str)
    }

    /// The settings of its link: the keys, with [`ANY_LINK`] in them, and the values.
    pub fn link_sysctls(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.driver_opts.get(LINK_SYSCTLS).map_or("", String::as_str);
        all.split(',').filter_map(|one| one.trim().split_once('='))
    }

    /// The default network, with nothing asked of it.
    pub fn to(network: &str) -> Self {
        Self { network: network.to_owned(), ..Self::default() }
    }

    fn default_bridge() -> Vec<Self> {
        vec![Self::to("bridge")]
    }
}

/// `--link CONTAINER[:ALIAS]`: another container by a name of this one's choice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The other container's id, or before `create` what the user called it.
    pub container: String,
    /// Its name when the link was made.
    pub name: String,
    /// What it is called here, in lower case.
    pub alias: String,
}

impl Link {
    /// As Docker has it: `/db:/db`.
    fn as_docker(&self) -> String {
        format!("/{}:/{}", self.name, self.alias)
    }
}

/// `--security-opt seccomp=…`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SeccompMode {
    /// The built-in profile.
    #[default]
    Default,
    /// No filter.
    Unconfined,
    /// The text of a profile, read when the container was created.
    Profile(String),
}

/// `--device HOST[:CONTAINER[:rwm]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceSpec {
    /// Path on the host.
    pub host: String,
    /// Path inside.
    pub container: String,
    /// Some of `r`, `w`, `m`.
    pub permissions: String,
}

impl DeviceSpec {
    fn as_docker(&self) -> Value {
        json!({
            "PathOnHost": self.host,
            "PathInContainer": self.container,
            "CgroupPermissions": self.permissions,
        })
    }
}

/// `--device` of another form.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("invalid device specification: {0}: expected /dev/host[:/dev/container[:rwm]]")]
pub struct InvalidDevice(String);

impl InvalidDevice {
    /// What it means to the caller.
    pub const fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

impl std::str::FromStr for DeviceSpec {
    type Err = InvalidDevice;
    fn from_str(text: &str) -> Result<Self, InvalidDevice> {
        let bad = || InvalidDevice(text.to_owned());
        let is_mode = |m: &str| !m.is_empty() && m.chars().all(|c| "rwm".contains(c));
        let parts: Vec<&str> = text.split(':').collect();
        let (host, container, permissions) = match parts[..] {
            [host] => (host, host, "rwm"),
            [host, mode] if is_mode(mode) => (host, host, mode),
            [host, container] => (host, container, "rwm"),
            [host, container, mode] if is_mode(mode) => (host, container, mode),
            _ => return Err(bad()),
        };
        let absolute = |p: &str| p.starts_with('/') && !p.split('/').any(|c| c == "..");
        if !absolute(host) || !absolute(container) {
            return Err(bad());
        }
        Ok(Self {
            host: host.to_owned(),
            container: container.to_owned(),
            permissions: permissions.to_owned(),
        })
    }
}

/// The namespaced sysctls a container may set, each with the namespace that holds it.
/// A key of a namespace that is the host's is refused: it would change the host.
pub fn sysctl_allowed(key: &str, own_network: bool, own_ipc: bool) -> bool {
    const IPC: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    let plain = key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/'))
        && !key.contains("..")
        && !key.contains("//");
    let ipc = IPC.contains(&key) || key.starts_with("fs.mqueue.");
    plain && ((own_ipc && ipc) || (own_network && key.starts_with("net.") && key.len() > 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices() {
        assert_eq!("/dev/fuse".parse::<DeviceSpec>().map(|d| d.permissions), Ok("rwm".into()));
        assert_eq!("/dev/sda:/dev/x:r".parse::<DeviceSpec>().map(|d| d.container), Ok("/dev/x".into()));
        for bad in ["", "sda", "/dev/a:/dev/b:q", "/dev/a:/../b", "/a:/b:r:w"] {
            assert!(bad.parse::<DeviceSpec>().is_err(), "{bad}");
        }
    }

    #[test]
    fn sysctls_of_the_host_are_refused() {
        assert!(sysctl_allowed("net.ipv4.ip_forward", true, true));
        assert!(!sysctl_allowed("net.ipv4.ip_forward", false, true));
        assert!(sysctl_allowed("kernel.shmmax", true, true));
        for bad in [
            "kernel.core_pattern",
            "vm.swappiness",
            "net.",
            "net.../../kernel/core_pattern",
            "net.ipv4=x",
            "kernel.shmmax\n",
        ] {
            assert!(!sysctl_allowed(bad, true, true), "{bad}");
        }
    }
}

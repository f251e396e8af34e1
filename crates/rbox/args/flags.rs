//! The options of `run` and `create`, and what they mean to the engine.

use crate::args::platform::default_platform;
use rbox_engine::engine::{CreateRequest, ImageRequest, PullPolicy, SecurityOptions};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rbox_engine::spec::container::{
    Attached, ContainerConfig, DeviceSpec, HostConfig, IpcMode, LogDriver, PidMode,
};
use rbox_engine::spec::device_request::{DeviceRequest, is_qualified};
use rbox_engine::spec::mount::MountSpec;
use rbox_engine::spec::resources::{DeviceRate, DeviceRule, DeviceWeight, Resources, ResourcesError};
use rbox_engine::spec::storage;
use rbox_engine::spec::ulimit::Ulimit;
use rbox_engine::spec::userns::{IdFlags, UsernsMode};
use rbox_engine::spec::volumes_from::VolumesFrom;

use crate::args::accepted::AcceptedFlags;
use crate::args::health_flags::HealthFlags;
use crate::args::limits::{LimitFlags, size};
use crate::args::network_flags::NetworkFlags;
use crate::args::secret;
use crate::args::walls::{Wall, WallFlags};
use crate::command::error::bad_input;

/// Options of `run` and `create`.
#[derive(Debug, clap::Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is an option of the command line")]
#[command(next_display_order = None)] // By name, with those of `limits` among them.
pub(crate) struct ContainerFlags {
    #[command(flatten)]
    limits: LimitFlags,
    #[command(flatten)]
    health: HealthFlags,
    #[command(flatten)]
    networks: NetworkFlags,
    #[command(flatten)]
    accepted: AcceptedFlags,
    #[command(flatten)]
    walls: WallFlags,
    /// Add an annotation to the OCI configuration (KEY=VALUE)
    #[arg(long, value_name = "KEY=VALUE")]
    annotation: Vec<String>,
    /// Add a capability
    #[arg(long, value_name = "CAP")]
    cap_add: Vec<String>,
    /// Drop a capability
    #[arg(long, value_name = "CAP")]
    cap_drop: Vec<String>,
    /// Parent control group: a path, or the name of a systemd slice
    #[arg(long, value_name = "GROUP")]
    cgroup_parent: Option<String>,
    /// Control groups it sees: private (only its own) or host
    #[arg(long, value_name = "MODE", value_parser = ["host", "private"])]
    cgroupns: Option<String>,
    /// Write the container's id to this file, which must not exist
    #[arg(long, value_name = "FILE")]
    pub(crate) cidfile: Option<String>,
    /// Give a device: of the host (HOST[:CONTAINER[:rwm]], or all in a directory), or by its name in CDI (vendor.com/class=name)
    #[arg(long, value_name = "DEVICE")]
    device: Vec<String>,
    /// Add a rule to the device filter, such as 'c 42:* rmw'
    #[arg(long, value_name = "RULE")]
    device_cgroup_rule: Vec<String>,
    /// Weight against others at one block device (DEVICE:10 to DEVICE:1000)
    #[arg(long, value_name = "WEIGHT")]
    blkio_weight_device: Vec<String>,
    /// Limit how fast a device is read (DEVICE:SIZE a second)
    #[arg(long, value_name = "LIMIT")]
    device_read_bps: Vec<String>,
    /// Limit how often a device is read (DEVICE:N a second)
    #[arg(long, value_name = "LIMIT")]
    device_read_iops: Vec<String>,
    /// Limit how fast a device is written (DEVICE:SIZE a second)
    #[arg(long, value_name = "LIMIT")]
    device_write_bps: Vec<String>,
    /// Limit how often a device is written (DEVICE:N a second)
    #[arg(long, value_name = "LIMIT")]
    device_write_iops: Vec<String>,
    /// Domain name inside the container
    #[arg(long, value_name = "NAME")]
    domainname: Option<String>,
    /// Replace the image's entrypoint
    #[arg(long, value_name = "COMMAND")]
    entrypoint: Option<String>,
    /// Set an environment variable (NAME=value, or NAME to pass on this shell's)
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Read environment variables from a file
    #[arg(long, value_name = "FILE")]
    env_file: Vec<String>,
    /// Expose a port or a range of ports
    #[arg(long, value_name = "PORT")]
    expose: Vec<String>,
    /// Give GPUs, by their CDI specs: all, a number, or device=ID[,ID…] in quotes
    #[arg(long, value_name = "GPUS")]
    gpus: Vec<String>,
    /// Add the user to a further group
    #[arg(long, value_name = "GROUP")]
    group_add: Vec<String>,
    /// Host name inside the container
    #[arg(short = 'h', long, value_name = "NAME")]
    hostname: Option<String>,
    /// Print this help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// Run a small init as PID 1 that reaps processes and passes signals on
    #[arg(long)]
    init: bool,
    /// Whose shared memory and queues it has: private, shareable, none (without /dev/shm), host or container:NAME
    #[arg(long, value_name = "MODE")]
    ipc: Option<String>,
    /// Keep standard input open
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Set a label
    #[arg(short, long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// Read labels from a file
    #[arg(long, value_name = "FILE")]
    label_file: Vec<String>,
    /// Where its output goes: json-file, local, syslog, journald, or none for nowhere
    #[arg(long, value_name = "DRIVER")]
    log_driver: Option<String>,
    /// Option of the log: max-size=SIZE, max-file=N, tag=TEMPLATE, syslog-address=tcp://HOST, …
    #[arg(long, value_name = "KEY=VALUE")]
    log_opt: Vec<String>,
    /// How eagerly its memory is swapped out, 0 to 100; -1 for the host's (cgroup v1 only)
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    memory_swappiness: Option<i64>,
    /// Attach a file system (type=bind|volume|tmpfs,source=…,target=…,readonly; of a bind idmap too)
    #[arg(long, value_name = "SPEC")]
    mount: Vec<String>,
    /// Name of the container
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Disable the out-of-memory killer
    #[arg(long)]
    oom_kill_disable: bool,
    /// Preference of the host to kill it when memory is short (-1000 to 1000)
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    oom_score_adj: Option<i32>,
    /// Processes it sees: its own, or host for all of the host's, or container:NAME
    #[arg(long, value_name = "MODE")]
    pid: Option<String>,
    /// Write the host's PID of its first process to this file at each start
    #[arg(long, value_name = "FILE")]
    pidfile: Option<PathBuf>,
    /// Platform of the image, such as linux/arm64
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    /// All capabilities and devices, no seccomp filter, no masks
    #[arg(long)]
    privileged: bool,
    /// When to pull the image: always, missing or never
    #[arg(long, value_name = "WHEN", default_value = "missing", hide_default_value = true, value_parser = ["always", "missing", "never"])]
    pull: String,
    /// Print nothing about pulling
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Make the root file system read-only
    #[arg(long)]
    read_only: bool,
    /// Remove a container of this --name first, also one that runs
    #[arg(long)]
    pub(crate) replace: bool,
    /// Remove the container when it ends
    #[arg(long)]
    pub(crate) rm: bool,
    /// The image is a directory instead, whose files it begins with; the directory stays as it is
    #[arg(long)]
    pub(crate) rootfs: bool,
    /// Give a file in memory, at /run/secrets/NAME (id=NAME[,src=FILE|,env=VARIABLE][,target=PATH][,uid=N][,gid=N][,mode=OCTAL])
    #[arg(long, value_name = "SECRET")]
    secret: Vec<String>,
    /// seccomp=FILE|unconfined, apparmor=PROFILE|unconfined, systempaths=unconfined or no-new-privileges
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<String>,
    /// Size of /dev/shm, such as 64m
    #[arg(long, value_name = "SIZE")]
    shm_size: Option<String>,
    /// Signal that stops the container
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
    /// Seconds to wait for it to stop before it is killed; -1 for ever
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    stop_timeout: Option<i64>,
    /// Limit what it writes into its own layer (size=10g), on ext4 and xfs with project quotas
    #[arg(long, value_name = "OPTION")]
    storage_opt: Vec<String>,
    /// Set a kernel parameter of its namespaces
    #[arg(long, value_name = "KEY=VALUE")]
    sysctl: Vec<String>,
    /// Kill the container after this many seconds
    #[arg(long, value_name = "SECONDS", value_parser = whole_seconds, allow_negative_numbers = true)]
    timeout: Option<u64>,
    /// Mount a tmpfs (PATH[:size=64m,mode=755,…])
    #[arg(long, value_name = "PATH")]
    tmpfs: Vec<String>,
    /// Give it a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Set a limit of its processes (nofile=1024:2048)
    #[arg(long, value_name = "LIMIT")]
    ulimit: Vec<String>,
    /// Mode bits that files are made without, in octal (0022 is usual)
    #[arg(long, value_name = "MASK")]
    umask: Option<String>,
    /// There is no socket to give away
    #[arg(long, hide = true)]
    use_api_socket: bool,
    /// User and group (NAME|UID[:GROUP|GID])
    #[arg(short, long, value_name = "USER")]
    user: Option<String>,
    /// User namespace: host, auto[:size=N], keep-id, or remap:USER[:GROUP]
    #[arg(long, value_name = "MODE")]
    userns: Option<String>,
    /// Users of its user namespace, and which of the host they are (INSIDE:HOST[:COUNT])
    #[arg(long, value_name = "MAP")]
    uidmap: Vec<String>,
    /// Groups of its user namespace; as its users when not given
    #[arg(long, value_name = "MAP")]
    gidmap: Vec<String>,
    /// Whose ids in /etc/subuid its user namespace has
    #[arg(long, value_name = "NAME")]
    subuidname: Option<String>,
    /// Whose ids in /etc/subgid its user namespace has
    #[arg(long, value_name = "NAME")]
    subgidname: Option<String>,
    /// Whose host name it has: its own, or host
    #[arg(long, value_name = "MODE")]
    uts: Option<String>,
    /// Bind a directory of the host or a volume ([SOURCE:]TARGET[:ro,U,idmap])
    #[arg(short, long, value_name = "SPEC")]
    volume: Vec<String>,
    /// Mount what another container has mounted (CONTAINER[:ro|rw])
    #[arg(long, value_name = "CONTAINER")]
    volumes_from: Vec<String>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
}

impl ContainerFlags {
    /// The image, and when it is pulled.
    pub(crate) fn image_request(&self, image: &str) -> anyhow::Result<ImageRequest> {
        let pull = match self.pull.as_str() {
            "always" => PullPolicy::Always,
            "never" => PullPolicy::Never,
            _ => PullPolicy::Missing,
        };
        let platform = default_platform(self.platform.as_deref())?;
        Ok(ImageRequest { name: image.to_owned(), pull, platform })
    }

    /// What the engine is asked to create. All that can be refused by its form is refused here.
    pub(crate) fn request(&self, image: &str, command: &[String]) -> anyhow::Result<CreateRequest> {
        if matches!(&self.name, Some(name) if name.is_empty()) {
            return Err(bad_input("--name needs a name"));
        }
        if self.use_api_socket {
            return Err(bad_input(
                "--use-api-socket: rbox has no daemon, so there is no API socket to give to a container",
            ));
        }
        self.accepted.check()?;
        if self.replace && self.name.is_none() {
            return Err(bad_input("--replace needs --name: it removes the container of that name"));
        }
        let name = self.name.as_deref().map(str::parse).transpose().map_err(bad_input)?;
        let (files, contents) = secret::read_all(&self.secret)?;
        Ok(CreateRequest {
            image: image.to_owned(),
            command: command.to_vec(),
            entrypoint: self.entrypoint.clone().map(|word| vec![word]),
            name,
            embedded: false,
            config: self.config()?,
            host: HostConfig { files, ..self.host()? },
            contents,
        })
    }

    /// What the process is, as far as the user says.
    fn config(&self) -> anyhow::Result<ContainerConfig> {
        let text = |given: &Option<String>| given.clone().unwrap_or_default();
        let mut config = ContainerConfig {
            hostname: text(&self.hostname),
            domainname: text(&self.domainname),
            umask: self.umask.as_deref().map(umask).transpose()?,
            user: text(&self.user),
            working_dir: text(&self.workdir),
            env: environment(&self.env_file, &self.env)?,
            labels: self.labels()?,
            exposed_ports: self.expose.clone(),
            tty: self.tty,
            open_stdin: self.interactive,
            attached: Attached::output_and(self.interactive),
            stop_signal: self.stop_signal.clone(),
            stop_timeout: self.stop_timeout,
            ..ContainerConfig::default()
        };
        self.health.apply(&mut config)?;
        Ok(config)
    }

    fn labels(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let mut labels = BTreeMap::new();
        let from_files = lines_of(&self.label_file)?;
        // As with Docker, a line of a file without a value is none.
        for label in from_files.iter().filter(|line| line.contains('=')).chain(&self.label) {
            let (key, value) = label.split_once('=').unwrap_or((label, ""));
            if key.is_empty() {
                return Err(bad_input(format!("invalid label format: \"{label}\": expected KEY=VALUE")));
            }
            labels.insert(key.to_owned(), value.to_owned());
        }
        Ok(labels)
    }

    fn host(&self) -> anyhow::Result<HostConfig> {
        let security = SecurityOptions::parse(&self.security_opt).map_err(bad_input)?;
        let id_flags = self.id_flags()?;
        let (names, devices): (Vec<String>, Vec<String>) =
            self.device.iter().cloned().partition(|device| is_qualified(device));
        let devices = parse_all::<DeviceSpec>(&devices)?;
        let mut host = HostConfig {
            mounts: self.mounts()?,
            volumes_from: self.volumes_from()?,
            resources: self.resources()?,
            cap_add: self.cap_add.clone(),
            cap_drop: self.cap_drop.clone(),
            privileged: self.privileged,
            group_add: self.group_add.clone(),
            read_only: self.read_only,
            devices,
            device_requests: self.device_requests(names)?,
            ulimits: parse_all::<Ulimit>(&self.ulimit)?,
            shm_size: self.shm_size.as_deref().map(size).transpose()?.filter(|bytes| *bytes > 0),
            storage_opt: storage::parse(&self.storage_opt).map_err(bad_input)?,
            sysctls: pairs("--sysctl", &self.sysctl)?,
            oom_score_adj: self.oom_score_adj,
            auto_remove: self.rm,
            restart: self.limits.restart()?.unwrap_or_default(),
            cgroup_parent: self.cgroup_parent.clone().filter(|parent| !parent.is_empty()),
            cgroupns_host: self.cgroupns.as_deref() == Some("host"),
            pid: pid_mode(self.pid.as_deref())?,
            uts_host: uts_host(self.uts.as_deref())?,
            ipc: ipc_mode(self.ipc.as_deref())?,
            annotations: pairs("--annotation", &self.annotation)?,
            log_driver: log_driver(self.log_driver.as_deref(), &self.log_opt)?,
            init: self.init,
            userns: self.userns.clone().unwrap_or_default(),
            id_flags,
            log_opts: pairs("--log-opt", &self.log_opt)?,
            cid_file: self.cidfile.clone(),
            pid_file: self.pidfile.as_deref().map(absolute).transpose()?,
            timeout: self.timeout.filter(|seconds| *seconds > 0),
            ..HostConfig::default()
        };
        security.apply(&mut host);
        self.networks.apply(&mut host)?;
        self.walls.apply(&mut host, |wall| self.given_beside(wall))?;
        Ok(host)
    }

    /// A flag that was given and says what `--without` this wall says, or something else.
    fn given_beside(&self, wall: Wall) -> Option<&'static str> {
        let is_user =
            [&self.uidmap, &self.gidmap].iter().any(|maps| !maps.is_empty()) || self.subuidname.is_some();
        let (flag, given) = match wall {
            Wall::Pid => ("--pid", self.pid.is_some()),
            Wall::Net => ("--network", self.networks.is_named()),
            Wall::Uts => ("--uts", self.uts.is_some()),
            Wall::Ipc => ("--ipc", self.ipc.is_some()),
            Wall::Cgroup => ("--cgroupns", self.cgroupns.is_some()),
            Wall::User if is_user => ("--uidmap", true),
            Wall::User => ("--userns", self.userns.is_some()),
            Wall::Seccomp => {
                ("--security-opt", self.security_opt.iter().any(|option| option.starts_with("seccomp")))
            }
            Wall::Caps if !self.cap_drop.is_empty() => ("--cap-drop", true),
            Wall::Caps => ("--cap-add", !self.cap_add.is_empty()),
            Wall::Mnt | Wall::Pivot => ("", false),
        };
        given.then_some(flag)
    }

    /// Says what `--without` leaves out, and asks where that could harm the host.
    pub(crate) fn settle_walls(&self, host: &HostConfig) -> anyhow::Result<()> {
        self.walls.settle(host)
    }

    /// The flags of a user namespace, which are of their form and go together.
    fn id_flags(&self) -> anyhow::Result<IdFlags> {
        let flags = IdFlags {
            uid_map: self.uidmap.clone(),
            gid_map: self.gidmap.clone(),
            subuid_name: self.subuidname.clone().unwrap_or_default(),
            subgid_name: self.subgidname.clone().unwrap_or_default(),
        };
        UsernsMode::parse(self.userns.as_deref().unwrap_or_default(), &flags).map_err(bad_input)?;
        flags.maps().map_err(bad_input)?;
        Ok(flags)
    }

    /// `--gpus`, and then the names of devices in CDI, as Docker's client has them.
    fn device_requests(&self, names: Vec<String>) -> anyhow::Result<Vec<DeviceRequest>> {
        let gpus = self.gpus.iter().map(|text| DeviceRequest::parse_gpus(text).map_err(bad_input));
        let mut requests = gpus.collect::<anyhow::Result<Vec<_>>>()?;
        if !names.is_empty() {
            requests.push(DeviceRequest::of_names(names));
        }
        Ok(requests)
    }

    fn mounts(&self) -> anyhow::Result<Vec<MountSpec>> {
        let cwd = std::env::current_dir().ok().map(|dir| dir.to_string_lossy().into_owned());
        let mut mounts = Vec::new();
        for spec in &self.volume {
            mounts.push(MountSpec::parse_volume(spec, cwd.as_deref()).map_err(bad_input)?);
        }
        for spec in &self.mount {
            mounts.push(MountSpec::parse_mount(spec, cwd.as_deref()).map_err(bad_input)?);
        }
        for spec in &self.tmpfs {
            mounts.push(MountSpec::parse_tmpfs(spec).map_err(bad_input)?);
        }
        Ok(mounts)
    }

    /// `--volumes-from`, whose containers the engine finds.
    fn volumes_from(&self) -> anyhow::Result<Vec<String>> {
        parse_all::<VolumesFrom>(&self.volumes_from)?;
        Ok(self.volumes_from.clone())
    }

    fn resources(&self) -> anyhow::Result<Resources> {
        let given = self.limits.resources()?;
        Ok(Resources {
            memory: given.memory.filter(|bytes| *bytes > 0),
            memory_swappiness: self.memory_swappiness.map(swappiness).transpose()?.flatten(),
            cpu_shares: given.cpu_shares.filter(|shares| *shares > 0),
            pids_limit: given.pids_limit.or(Resources::defaults().pids_limit),
            oom_kill_disable: self.oom_kill_disable,
            blkio_weight: given.blkio_weight.filter(|weight| *weight > 0),
            device_weights: parse_all::<DeviceWeight>(&self.blkio_weight_device)?,
            device_read_bps: rates(&self.device_read_bps, DeviceRate::parse_bps)?,
            device_read_iops: rates(&self.device_read_iops, DeviceRate::parse_iops)?,
            device_write_bps: rates(&self.device_write_bps, DeviceRate::parse_bps)?,
            device_write_iops: rates(&self.device_write_iops, DeviceRate::parse_iops)?,
            device_cgroup_rules: parse_all::<DeviceRule>(&self.device_cgroup_rule)?,
            ..given
        })
    }
}

/// `--uts`: whether the host's name is wanted.
fn uts_host(mode: Option<&str>) -> anyhow::Result<bool> {
    match mode {
        None | Some("" | "private") => Ok(false),
        Some("host") => Ok(true),
        Some(other) => Err(bad_input(format!("--uts: invalid UTS mode: \"{other}\": it takes host"))),
    }
}

/// What `container:NAME` names.
fn of_container(mode: &str) -> Option<String> {
    mode.strip_prefix("container:").filter(|name| !name.is_empty()).map(str::to_owned)
}

fn pid_mode(mode: Option<&str>) -> anyhow::Result<PidMode> {
    let mode = match mode {
        None | Some("" | "private") => return Ok(PidMode::Private),
        Some("host") => return Ok(PidMode::Host),
        Some(other) => other,
    };
    of_container(mode).map(PidMode::Container).ok_or_else(|| {
        bad_input(format!("--pid: invalid PID mode: \"{mode}\": it takes host or container:NAME"))
    })
}

fn ipc_mode(mode: Option<&str>) -> anyhow::Result<IpcMode> {
    let mode = match mode {
        None | Some("" | "private") => return Ok(IpcMode::Private),
        Some("shareable") => return Ok(IpcMode::Shareable),
        Some("none") => return Ok(IpcMode::None),
        Some("host") => return Ok(IpcMode::Host),
        Some(other) => other,
    };
    of_container(mode).map(IpcMode::Container).ok_or_else(|| {
        bad_input(format!(
            "--ipc: invalid IPC mode: {mode}: it takes private, shareable, none, host or container:NAME"
        ))
    })
}

/// `--log-driver`, whose options `--log-opt` has.
fn log_driver(driver: Option<&str>, options: &[String]) -> anyhow::Result<LogDriver> {
    match driver.unwrap_or_default().parse().map_err(bad_input)? {
        LogDriver::None if !options.is_empty() => Err(bad_input("invalid logging opts for driver none")),
        driver => Ok(driver),
    }
}

/// `--umask`, in octal.
fn umask(text: &str) -> anyhow::Result<u32> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mask| *mask <= 0o777)
        .ok_or_else(|| bad_input(format!("invalid umask \"{text}\": expected octal digits, at most 777")))
}

/// `--timeout`.
fn whole_seconds(text: &str) -> Result<u64, &'static str> {
    text.parse().map_err(|_| "expected whole seconds, or 0 for no limit")
}

fn rates(
    texts: &[String],
    parse: fn(&str) -> Result<DeviceRate, ResourcesError>,
) -> anyhow::Result<Vec<DeviceRate>> {
    texts.iter().map(|text| parse(text).map_err(bad_input)).collect()
}

/// `--memory-swappiness`: none for the host's.
fn swappiness(number: i64) -> anyhow::Result<Option<u64>> {
    match number {
        -1 => Ok(None),
        _ => u64::try_from(number).map(Some).map_err(|_| bad_input(ResourcesError::Swappiness(number))),
    }
}

fn parse_all<T: std::str::FromStr>(texts: &[String]) -> anyhow::Result<Vec<T>>
where
    T::Err: std::fmt::Display,
{
    texts.iter().map(|text| text.parse::<T>().map_err(bad_input)).collect()
}

fn pairs(flag: &str, texts: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    texts
        .iter()
        .map(|text| match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
            // As Docker's client: one of sysctls is refused there too.
            None if !text.is_empty() && flag != "--sysctl" => Ok((text.clone(), String::new())),
            _ => {
                Err(bad_input(format!("invalid argument \"{text}\" for \"{flag}\" flag: expected KEY=VALUE")))
            }
        })
        .collect()
}

/// `--pidfile` from everywhere: a monitor works from `/`.
fn absolute(file: &Path) -> anyhow::Result<String> {
    let whole =
        std::path::absolute(file).map_err(|e| bad_input(format!("--pidfile {}: {e}", file.display())))?;
    Ok(whole.to_string_lossy().into_owned())
}

/// Variables of files, then of options. A name alone passes this process's value on, if it has one.
pub(crate) fn environment(files: &[String], texts: &[String]) -> anyhow::Result<Vec<String>> {
    let mut env = Vec::new();
    let from_files = lines_of(files)?;
    for text in from_files.iter().chain(texts) {
        if text.split('=').next().is_none_or(str::is_empty) {
            return Err(bad_input(format!("invalid environment variable: {text}")));
        }
        if text.contains('=') {
            env.push(text.clone());
        } else if let Some(value) = std::env::var_os(text) {
            env.push(format!("{text}={}", value.to_string_lossy()));
        }
    }
    Ok(env)
}

/// The lines of files that are neither empty nor comments.
fn lines_of(files: &[String]) -> anyhow::Result<Vec<String>> {
    let mut lines = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(path).map_err(|e| bad_input(format!("open {path}: {e}")))?;
        for line in text.trim_start_matches('\u{feff}').lines() {
            let line = line.trim_start();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let key = line.split('=').next().unwrap_or(line);
            if key.contains(char::is_whitespace) {
                return Err(bad_input(format!(
                    "invalid line in {path}: variable '{key}' contains whitespaces"
                )));
            }
            lines.push(line.to_owned());
        }
    }
    Ok(lines)
}

//! From an image and the user's words to a container's record.

use std::collections::{BTreeMap, HashSet};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use jiff::Timestamp;
use rbox_image::{Image, ImageStore};
use rbox_runtime::cgroup::host_limits;
use rbox_spec::ContainerName;
use rbox_spec::container::{
    Attached, ContainerConfig, DeviceSpec, HostConfig, IpcMode, NetworkMode, SeccompMode, sysctl_allowed,
};
use rbox_spec::id::ContainerId;
use rbox_spec::mount::{MountKind, MountSpec};
use rbox_spec::signal::Signal;
use rbox_sys::durable::{self, Lasting};
use rbox_sys::removal::remove_tree;

use crate::config::{device_rules, host_devices, merge_env};
use crate::containers;
use crate::error::EngineError;
use crate::launch::{capabilities, filter};
use crate::names;
use crate::paths::Paths;
use crate::record::{ContainerRecord, RecordError, lasting};
use crate::teardown::{self, unfinished_record};
use crate::volume;

/// What the user said about a container; what is none is the image's to say.
#[derive(Debug, Clone, Default)]
pub struct CreateRequest {
    /// The image as the user named it.
    pub image: String,
    /// The command and its arguments; empty for the image's.
    pub command: Vec<String>,
    /// `--entrypoint`; an empty text takes the image's away.
    pub entrypoint: Option<String>,
    /// `--name`.
    pub name: Option<ContainerName>,
    /// `--hostname`.
    pub hostname: Option<String>,
    /// `--domainname`.
    pub domainname: Option<String>,
    /// `--umask`.
    pub umask: Option<u32>,
    /// `-u`.
    pub user: Option<String>,
    /// `-w`.
    pub working_dir: Option<String>,
    /// `-e` and `--env-file`, in order.
    pub env: Vec<String>,
    /// `-l`.
    pub labels: BTreeMap<String, String>,
    /// `--expose`.
    pub expose: Vec<String>,
    /// `-t`.
    pub tty: bool,
    /// `-i`.
    pub open_stdin: bool,
    /// What the command attaches to.
    pub attached: Attached,
    /// `--stop-signal`.
    pub stop_signal: Option<String>,
    /// `--stop-timeout`, seconds.
    pub stop_timeout: Option<i64>,
    /// It is the image embedded in rbox.
    pub embedded: bool,
    /// Everything about the host.
    pub host: HostConfig,
}

/// Writes down a new container of `image`. Nothing of it runs.
pub fn create(
    paths: &Paths,
    store: &ImageStore,
    image: &Image,
    request: CreateRequest,
) -> Result<ContainerRecord, EngineError> {
    crate::attachments::check(&request)?;
    let id = new_id()?;
    let named = request.name.is_some();
    let mut record = assemble(id, image, request)?;
    crate::attachments::resolve(paths, &mut record)?;
    check(&record)?;
    // The image cannot be removed between here and the record that shows its use.
    let _pin = store.pin(image).map_err(image_error)?;
    // The record names the volumes before they are made, so that a kill leaves none that nothing names.
    volume::name_anonymous(&mut record)?;
    let written = write_record(paths, &mut record, named)
        .and_then(|()| volume::ensure_all(paths, &record).map_err(EngineError::from));
    if written.is_err() {
        // The place first: a name may be given up only when nothing is there that has it.
        let _ = teardown::discard(paths, &record, true);
        let _ = remove_tree(&unfinished_record(paths, &record.id));
        containers::release_name(paths, &record.name, &record.id);
    }
    written.map(|()| record)
}

fn invalid(error: impl std::fmt::Display) -> EngineError {
    EngineError::Invalid(error.to_string())
}

/// A store's error as the engine's.
pub fn image_error(error: rbox_image::StoreError) -> EngineError {
    EngineError::Image(error)
}

fn new_id() -> Result<ContainerId, EngineError> {
    loop {
        let mut bytes = [0_u8; 32];
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
            .map_err(|e| rbox_sys::SysError::new("getrandom", "32 bytes".into(), e))?;
        let id = ContainerId::from_bytes(&bytes);
        // The short id is the host name, and resolvers take one of digits alone for an address (one id in 300).
        if id.short().bytes().any(|b| b.is_ascii_alphabetic()) {
            return Ok(id);
        }
    }
}

/// Lays the user's words over the image's configuration.
fn assemble(id: ContainerId, image: &Image, request: CreateRequest) -> Result<ContainerRecord, EngineError> {
    let of_image = &image.config.config;
    let (entrypoint, cmd) = command_of(of_image, &request);
    let mut env = of_image.env.clone();
    merge_env(&mut env, &request.env);
    let mut labels = of_image.labels.clone();
    labels.extend(request.labels);
    let mut exposed: Vec<String> = of_image.exposed_ports.keys().cloned().collect();
    exposed.extend(request.expose);
    // What is published is exposed, too, as Docker's client has it.
    exposed.extend(request.host.ports.iter().map(|mapping| mapping.container().to_string()));
    exposed.sort();
    exposed.dedup();
    let mut host = request.host;
    add_image_volumes(&mut host, of_image.volumes.keys())?;
    host.resources.all_devices = host.privileged;
    host.resources.device_cgroup_rules.extend(device_rules(&host.devices));
    let short = id.short().to_owned();
    let hostname = match request.hostname.filter(|name| !name.is_empty()) {
        Some(name) => name,
        None if host.network == NetworkMode::Host || host.uts_host => host_name(),
        None => short,
    };
    Ok(ContainerRecord {
        name: request.name.unwrap_or_else(|| names::generate(0)),
        created: Timestamp::now(),
        image: request.image,
        image_id: image.id.to_string(),
        image_manifest: image.manifest_digest.to_string(),
        platform: image.platform.to_string(),
        layers: image.overlay_layers().iter().map(|layer| layer.dir.clone()).collect(),
        embedded: request.embedded,
        config: ContainerConfig {
            hostname,
            domainname: request.domainname.unwrap_or_default(),
            umask: request.umask,
            user: request.user.unwrap_or_else(|| of_image.user.clone()),
            tty: request.tty,
            open_stdin: request.open_stdin,
            attached: request.attached,
            env,
            entrypoint,
            cmd,
            working_dir: clean_path(request.working_dir.as_ref().unwrap_or(&of_image.working_dir)),
            labels,
            exposed_ports: exposed,
            volumes: of_image.volumes.keys().cloned().collect(),
            stop_signal: request.stop_signal.or_else(|| of_image.stop_signal.clone()),
            stop_timeout: request.stop_timeout.or(of_image.stop_timeout),
        },
        host,
        id,
    })
}

/// `/a/./b/../c` as `/a/c`, which is how Docker reads a working directory. What is not absolute is left for `check`.
fn clean_path(path: &str) -> String {
    if !path.starts_with('/') {
        return path.to_owned();
    }
    let mut clean = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(clean.pop()),
            part => clean.push(part),
        }
    }
    format!("/{}", clean.join("/"))
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Docker's rule: an entrypoint of the user's takes the image's command away too.
fn command_of(image: &rbox_image::RunConfig, request: &CreateRequest) -> (Vec<String>, Vec<String>) {
    match &request.entrypoint {
        Some(entrypoint) if entrypoint.is_empty() => (Vec::new(), request.command.clone()),
        Some(entrypoint) => (vec![entrypoint.clone()], request.command.clone()),
        None => {
            let cmd = if request.command.is_empty() {
                image.cmd.clone().unwrap_or_default()
            } else {
                request.command.clone()
            };
            (image.entrypoint.clone().unwrap_or_default(), cmd)
        }
    }
}

/// An anonymous volume for each `VOLUME` of the image that the user mounts nothing on.
fn add_image_volumes<'a>(
    host: &mut HostConfig,
    targets: impl Iterator<Item = &'a String>,
) -> Result<(), EngineError> {
    let mut taken: HashSet<String> = host.mounts.iter().map(|mount| mount.target.clone()).collect();
    for target in targets {
        let spec = MountSpec::parse_volume(target, "/")
            .map_err(|e| EngineError::Invalid(format!("the image's VOLUME {target:?}: {e}")))?;
        if !matches!(spec.kind, MountKind::Volume { anonymous: true, .. }) || spec.read_only {
            return Err(EngineError::Invalid(format!("the image's VOLUME {target:?} is not a path")));
        }
        if taken.insert(spec.target.clone()) {
            host.mounts.push(spec);
        }
    }
    Ok(())
}

/// Everything that can be refused before anything is made.
fn check(record: &ContainerRecord) -> Result<(), EngineError> {
    let (config, host) = (&record.config, &record.host);
    let refuse = |message: String| Err(EngineError::Invalid(message));
    if config.entrypoint.is_empty() && config.cmd.is_empty() {
        return refuse(
            "no command specified: the image names none, so give one after the image's name".into(),
        );
    }
    if let Some(signal) = &config.stop_signal {
        signal.parse::<Signal>().map_err(invalid)?;
    }
    if !config.working_dir.is_empty() && !config.working_dir.starts_with('/') {
        return refuse(format!(
            "the working directory '{}' is invalid, it needs to be an absolute path",
            config.working_dir
        ));
    }
    check_hostname(&config.hostname)?;
    if !config.domainname.is_empty() {
        check_hostname(&config.domainname)?;
    }
    check_texts(record)?;
    for port in &config.exposed_ports {
        rbox_spec::port::parse_expose(port).map_err(invalid)?;
    }
    config.user.parse::<rbox_spec::user::UserSpec>().map_err(invalid)?;
    host.resources.validate(&host_limits()).map_err(invalid)?;
    let own_network = host.network.is_own();
    for key in host.sysctls.keys() {
        if !sysctl_allowed(key, own_network, host.ipc != IpcMode::Host) {
            return refuse(format!(
                "sysctl \"{key}\" is not allowed: it is not held by a namespace of the container (allowed are net.* without --network host, fs.mqueue.*, kernel.msg*, kernel.sem, kernel.shm*)"
            ));
        }
    }
    if host.oom_score_adj.is_some_and(|score| !(-1000..=1000).contains(&score)) {
        return refuse("Invalid value, range for oom score adj is [-1000, 1000]".into());
    }
    crate::restart::check(host.restart, host.auto_remove)?;
    check_cgroup_parent(host.cgroup_parent.as_deref())?;
    capabilities(record)?;
    if host.seccomp != SeccompMode::Default {
        filter(record, capabilities(record)?)?;
    }
    crate::logs::LogOptions::from_options(&host.log_opts).map_err(invalid)?;
    check_mounts(&host.mounts)?;
    host.devices.iter().try_for_each(check_device)
}

/// A device of the host, or a directory that stands for those in it.
fn check_device(device: &DeviceSpec) -> Result<(), EngineError> {
    use std::os::unix::fs::FileTypeExt;
    let why = match std::fs::metadata(&device.host).map(|meta| meta.file_type()) {
        Ok(kind) if kind.is_char_device() || kind.is_block_device() => return Ok(()),
        Ok(kind) if kind.is_dir() && !host_devices(Path::new(&device.host), 0).is_empty() => return Ok(()),
        Ok(_) => "not a device node".to_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        Err(error) => rbox_sys::plain(error),
    };
    Err(EngineError::Invalid(format!(
        "error gathering device information while adding custom device \"{}\": {why}",
        device.host
    )))
}

/// Whether a text is a seccomp profile that can become a filter.
pub fn check_seccomp(text: &str) -> Result<(), String> {
    use std::error::Error as _;
    rbox_runtime::security::seccomp::Profile::parse(text.as_bytes()).map(drop).map_err(|error| {
        let cause = error.source().map_or(String::new(), |cause| format!(": {cause}"));
        format!("{error}{cause}")
    })
}

fn check_hostname(name: &str) -> Result<(), EngineError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let why = if name.len() > 64 {
        "a host name has 64 characters at most"
    } else if name.split('.').any(|label| label.len() > 63) {
        "a part of it, between dots, has 63 characters at most"
    } else if name.split('.').any(|label| label.is_empty() || label.starts_with('-')) {
        "a part of it, between dots, is empty or begins with '-'"
    } else if !name.bytes().all(plain) {
        "it has letters, digits, '-', '_' and '.'"
    } else {
        return Ok(());
    };
    let shown: String = name.chars().take(80).collect();
    Err(EngineError::Invalid(format!("invalid hostname format: {shown}: {why}")))
}

/// A parent that could not be the beginning of a group's path is refused before anything is made.
fn check_cgroup_parent(parent: Option<&str>) -> Result<(), EngineError> {
    let Some(parent) = parent else { return Ok(()) };
    rbox_runtime::cgroup::check_path(&format!("{}/x", parent.trim_matches('/')))
        .map_err(|error| EngineError::Invalid(format!("invalid --cgroup-parent: {error}")))
}

/// What goes to the kernel as C strings must have no NUL.
fn check_texts(record: &ContainerRecord) -> Result<(), EngineError> {
    let config = &record.config;
    for text in config.env.iter().chain(&config.cmd).chain(&config.entrypoint).chain([&config.working_dir]) {
        if text.contains('\0') {
            return Err(EngineError::Invalid(format!(
                "{:?}: a NUL byte cannot be passed to a program",
                text.chars().take(60).collect::<String>()
            )));
        }
    }
    match config.env.iter().find(|v| v.starts_with('=') || v.is_empty()) {
        Some(bad) => Err(EngineError::Invalid(format!("invalid environment variable: {bad}"))),
        None => Ok(()),
    }
}

fn check_mounts(mounts: &[MountSpec]) -> Result<(), EngineError> {
    let mut taken = HashSet::new();
    for mount in mounts {
        if !taken.insert(&mount.target) {
            return Err(EngineError::Invalid(format!("Duplicate mount point: {}", mount.target)));
        }
        // What is mounted over /proc would be taken for procfs by the steps of init, and by the program.
        let on_proc = mount.target == "/proc" || mount.target.starts_with("/proc/");
        if on_proc && !rbox_runtime::PROC_FILES.contains(&mount.target.as_str()) {
            return Err(EngineError::Invalid(format!(
                "{}: nothing can be mounted on /proc or below it, except on {}",
                mount.target,
                rbox_runtime::PROC_FILES.join(", ")
            )));
        }
        if let MountKind::Bind { source, create: false, .. } = &mount.kind
            && !Path::new(source).exists()
        {
            return Err(EngineError::Invalid(format!(
                "invalid mount config for type \"bind\": bind source path does not exist: {source}"
            )));
        }
    }
    Ok(())
}

/// Takes a name for the record, then puts the record in its place: whoever sees it sees it whole, and by a name that is its own.
/// A name that the user did not give (`named`) is another when it is taken.
fn write_record(paths: &Paths, record: &mut ContainerRecord, named: bool) -> Result<(), EngineError> {
    // Made under another name, which tells who makes it: a name that leads to it is held as long as that process lives.
    let dir = unfinished_record(paths, &record.id);
    let make = |path: &Path, mode| {
        std::fs::DirBuilder::new()
            .mode(mode)
            .recursive(true)
            .create(path)
            .map_err(EngineError::file("make directory", path))
    };
    if !paths.containers().is_dir() {
        make(&paths.root, 0o700)?;
        make(&paths.containers(), 0o700)?;
        make(&paths.names(), 0o700)?;
    }
    make(&dir, 0o700)?;
    make(&dir.join("work"), 0o700)?;
    // The upper directory's mode is that of the container's `/`.
    make(&dir.join("upper"), 0o755)?;
    take_some_name(paths, record, named, &dir.join("config.json"))?;
    let place = paths.container(&record.id);
    std::fs::rename(&dir, &place).map_err(EngineError::file("rename to", &place))?;
    settle(paths, record)
}

/// Writes the record, then takes the name that it has: should this be killed, the record tells which name to give up.
fn take_some_name(
    paths: &Paths,
    record: &mut ContainerRecord,
    named: bool,
    config: &Path,
) -> Result<(), EngineError> {
    let mut attempt = 0;
    loop {
        write_first(config, record)?;
        match containers::take_name(paths, &record.name, &record.id) {
            Err(EngineError::NameTaken { .. }) if !named && attempt < 1000 => {
                attempt += 1;
                record.name = names::generate(attempt);
                std::fs::remove_file(config).map_err(EngineError::file("remove", config))?;
            }
            other => return other,
        }
    }
}

/// Writes `config.json` into a directory that nobody else knows.
fn write_first(path: &Path, record: &ContainerRecord) -> Result<(), EngineError> {
    let format = |source| RecordError::Format { path: path.to_owned(), source };
    let text = serde_json::to_vec(record).map_err(format)?;
    rbox_sys::trace::call(
        "write",
        || format!("{}, {} bytes", rbox_sys::trace::quoted(path), text.len()),
        || durable::write_new(path, &text, lasting(&record.host)),
    )
    .map_err(EngineError::file("write", path))
}

/// From here on a power cut does not take the container away.
fn settle(paths: &Paths, record: &ContainerRecord) -> Result<(), EngineError> {
    if lasting(&record.host) == Lasting::Later {
        return Ok(());
    }
    for dir in [paths.container(&record.id), paths.containers()] {
        durable::sync_dir(&dir).map_err(EngineError::file("fsync", dir))?;
    }
    containers::settle_names(paths, record)
}

//! What is refused before a record is written.

use std::collections::HashSet;
use std::path::Path;

use rbox_runtime::cgroup::host_limits;
use rbox_spec::container::{DeviceSpec, HostConfig, SeccompMode, sysctl_allowed};
use rbox_spec::device_request::is_qualified;
use rbox_spec::mount::{MountKind, MountSpec};
use rbox_spec::restart::RestartPolicy;
use rbox_spec::signal::Signal;

use crate::error::EngineError;
use crate::oci::config::host_devices;
use crate::oci::security::{capabilities, filter};
use crate::record::container::ContainerRecord;
use crate::volume::store::VolumeStore;

pub(crate) fn invalid(error: impl std::fmt::Display) -> EngineError {
    EngineError::Invalid(error.to_string())
}

/// Everything that can be refused before anything is made.
pub(crate) fn check(record: &ContainerRecord) -> Result<(), EngineError> {
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
        if !sysctl_allowed(key, own_network, host.ipc.is_own()) {
            return refuse(format!(
                "sysctl \"{key}\" is not allowed: it is not held by a namespace of the container (allowed are net.* without --network host, fs.mqueue.*, kernel.msg*, kernel.sem, kernel.shm*)"
            ));
        }
    }
    if host.oom_score_adj.is_some_and(|score| !(-1000..=1000).contains(&score)) {
        return refuse("Invalid value, range for oom score adj is [-1000, 1000]".into());
    }
    rbox_spec::storage::limit(&host.storage_opt).map_err(invalid)?;
    crate::create::check::check_restart(host.restart, host.auto_remove)?;
    check_cgroup_parent(host.cgroup_parent.as_deref())?;
    capabilities(record)?;
    if host.seccomp != SeccompMode::Default {
        filter(record, capabilities(record)?)?;
    }
    crate::logs::LogOptions::of(record).map_err(invalid)?;
    crate::logs::Forward::of(record).map_err(invalid)?;
    check_mounts(&host.mounts)?;
    check_files(host)?;
    if let Some(bad) = names_of_devices(host).find(|name| !is_qualified(name)) {
        return refuse(format!("invalid CDI device name {bad:?}: expected vendor.com/class=name"));
    }
    host.devices.iter().try_for_each(check_device)
}

/// The names of its devices in CDI.
fn names_of_devices(host: &HostConfig) -> impl Iterator<Item = &String> {
    host.device_requests.iter().filter(|request| request.is_cdi()).flat_map(|request| &request.ids)
}

/// A device of the host, or a directory that stands for those in it.
pub(crate) fn check_device(device: &DeviceSpec) -> Result<(), EngineError> {
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
pub(crate) fn check_seccomp(text: &str) -> Result<(), String> {
    use std::error::Error as _;
    rbox_runtime::security::seccomp::Profile::parse(text.as_bytes()).map(drop).map_err(|error| {
        let cause = error.source().map_or(String::new(), |cause| format!(": {cause}"));
        format!("{error}{cause}")
    })
}

pub(crate) fn check_hostname(name: &str) -> Result<(), EngineError> {
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
pub(crate) fn check_cgroup_parent(parent: Option<&str>) -> Result<(), EngineError> {
    let Some(parent) = parent else { return Ok(()) };
    rbox_runtime::cgroup::check_path(&format!("{}/x", parent.trim_matches('/')))
        .map_err(|error| EngineError::Invalid(format!("invalid --cgroup-parent: {error}")))
}

/// What goes to the kernel as C strings must have no NUL.
pub(crate) fn check_texts(record: &ContainerRecord) -> Result<(), EngineError> {
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

/// The files that it is given: each has a place of its own.
pub(crate) fn check_files(host: &HostConfig) -> Result<(), EngineError> {
    let mut taken: HashSet<&String> = host.mounts.iter().map(|mount| &mount.target).collect();
    for file in &host.files {
        file.check().map_err(invalid)?;
        if !taken.insert(&file.target) {
            return Err(EngineError::Invalid(format!("Duplicate mount point: {}", file.target)));
        }
        if Path::new(&file.target).starts_with("/proc") {
            return Err(EngineError::Invalid(format!("{}: no file can be given below /proc", file.target)));
        }
    }
    Ok(())
}

pub(crate) fn check_mounts(mounts: &[MountSpec]) -> Result<(), EngineError> {
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
        if let MountKind::Volume { name, options, .. } = &mount.kind {
            let name = name.as_ref().map_or("volume", |name| name.as_str());
            VolumeStore::check_driver(name, "local", options)?;
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

/// Docker's refusal of `--rm` with a policy.
pub(crate) fn check_restart(
    policy: RestartPolicy,
    auto_remove: bool,
) -> Result<(), crate::error::EngineError> {
    if auto_remove && policy != RestartPolicy::No {
        let message = "conflicting options: cannot specify both --restart and --rm";
        return Err(crate::error::EngineError::Invalid(message.into()));
    }
    Ok(())
}

//! `inspect` of a container.

use rbox_runtime::cgroup::Cgroup;
use rbox_spec::container::{DeviceSpec, HostConfig, LogDriver, SeccompMode};
use rbox_spec::mount::{GivenBy, MountKind, MountSpec};
use rbox_spec::port::{ContainerPort, PublishedPort};
use rbox_spec::resources::DeviceRate;
use serde_json::{Map, Value, json};

use crate::inspect::{list, time};
use crate::oci::config::{READ_ONLY, masked};
use crate::record::container::{Container, ContainerRecord, Status};
use crate::record::paths::{HOSTNAME, HOSTS, Paths, RESOLV_CONF};
use crate::volume::store::{VolumeStore, disk_usage};

/// The JSON of one container; with `size`, what its writable layer takes. `image_size` is then that of its
/// image, in bytes.
pub fn container(paths: &Paths, container: &Container, size: Option<u64>) -> Value {
    let record = &container.record;
    let dir = paths.container(&record.id);
    let file = |name: &str| paths.given_file(&record.id, name).display().to_string();
    let mut out = json!({
        "Id": record.id.as_str(),
        "Created": record.created.to_string(),
        "Path": command(record).first().cloned().unwrap_or_default(),
        "Args": command(record).get(1..).unwrap_or_default(),
        "State": state(container),
        "Image": record.image_id,
        "ResolvConfPath": file(RESOLV_CONF),
        "HostnamePath": file(HOSTNAME),
        "HostsPath": file(HOSTS),
        "LogPath": match record.host.log_driver {
            LogDriver::JsonFile => paths.log(&record.id).display().to_string(),
            LogDriver::None => String::new(),
        },
        "Name": format!("/{}", record.name),
        "RestartCount": container.restart_count(),
        "Driver": "overlay2",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": null,
        "HostConfig": host_config(record),
        "GraphDriver": graph_driver(record, &dir),
        "Mounts": mounts(paths, record),
        "Config": config(record),
        "NetworkSettings": crate::inspect::endpoint::network_settings(container, &ports(container)),
    });
    if let (Some(image_size), Some(fields)) = (size, out.as_object_mut()) {
        let own = disk_usage(&dir.join("upper"));
        fields.insert("SizeRw".into(), own.into());
        fields.insert("SizeRootFs".into(), (own + image_size).into());
    }
    out
}

fn command(record: &ContainerRecord) -> Vec<String> {
    [&record.config.entrypoint[..], &record.config.cmd[..]].concat()
}

fn state(container: &Container) -> Value {
    let status = container.status;
    let exit = container.exit.as_ref();
    let started = container.live.as_ref().map(|live| live.started).or(exit.and_then(|exit| exit.started));
    // While it runs, what is told of the last exit is when it was; its code is told again at the next.
    let ended = if container.is_running() { None } else { exit };
    json!({
        "Status": status.as_str(),
        "Running": container.is_active(),
        "Paused": status == Status::Paused,
        "Restarting": status == Status::Restarting,
        "OOMKilled": ended.is_some_and(|exit| exit.oom_killed) || has_oom_kills(container),
        "Dead": false,
        "Pid": container.live.as_ref().map_or(0, |live| live.pid),
        "ExitCode": ended.map_or(0, |exit| exit.exit_code),
        "Error": ended.map_or("", |exit| exit.error.as_str()),
        "StartedAt": time(started),
        "FinishedAt": time(exit.map(|exit| exit.finished)),
    })
}

/// Whether the kernel killed a process of this life for want of memory: perhaps one of exec, and the container goes on.
fn has_oom_kills(container: &Container) -> bool {
    let live = container.live.as_ref();
    live.is_some_and(|live| Cgroup::open(&live.cgroup).is_ok_and(|group| group.oom_kills() > 0))
}

fn config(record: &ContainerRecord) -> Value {
    let config = &record.config;
    let set = |keys: &[String]| -> Value {
        if keys.is_empty() {
            return Value::Null;
        }
        keys.iter().map(|key| (key.clone(), json!({}))).collect::<Map<_, _>>().into()
    };
    let mut out = json!({
        "Hostname": config.hostname,
        "Domainname": config.domainname,
        "User": config.user,
        "AttachStdin": config.attached.stdin,
        "AttachStdout": config.attached.stdout,
        "AttachStderr": config.attached.stderr,
    });
    let Some(fields) = out.as_object_mut() else { return out };
    let mut add = |key: &str, value: Value| fields.insert(key.to_owned(), value);
    if !config.exposed_ports.is_empty() {
        add("ExposedPorts", set(&config.exposed_ports));
    }
    add("Tty", config.tty.into());
    add("OpenStdin", config.open_stdin.into());
    add("StdinOnce", (config.open_stdin && config.attached.stdin).into());
    add("Env", config.env.clone().into());
    add("Cmd", list(&config.cmd));
    add("Image", record.image.clone().into());
    add("Volumes", set(&config.volumes));
    add("WorkingDir", config.working_dir.clone().into());
    add("Entrypoint", list(&config.entrypoint));
    add("OnBuild", Value::Null);
    add("Labels", json!(config.labels));
    if let Some(signal) = &config.stop_signal {
        add("StopSignal", signal.clone().into());
    }
    if let Some(timeout) = config.stop_timeout {
        add("StopTimeout", timeout.into());
    }
    out
}

fn host_config(record: &ContainerRecord) -> Value {
    let host = &record.host;
    let mut out = host_head(host);
    let limits = host_limits(host);
    if let (Some(fields), Value::Object(limits)) = (out.as_object_mut(), limits) {
        fields.extend(limits);
        optional(host, fields);
    }
    out
}

/// The part of `HostConfig` that is not about limits.
fn host_head(host: &HostConfig) -> Value {
    json!({
        "Binds": list(&binds(host)),
        "ContainerIDFile": host.cid_file.clone().unwrap_or_default(),
        "LogConfig": { "Type": host.log_driver.as_str(), "Config": host.log_opts },
        "NetworkMode": host.network_mode(),
        "PortBindings": port_bindings(host),
        "RestartPolicy": {
            "Name": host.restart.name(),
            "MaximumRetryCount": host.restart.max_retries(),
        },
        "AutoRemove": host.auto_remove,
        "VolumeDriver": "",
        "VolumesFrom": null,
        "ConsoleSize": [0, 0],
        "CapAdd": list(&host.cap_add),
        "CapDrop": list(&host.cap_drop),
        "CgroupnsMode": if host.cgroupns_host { "host" } else { "private" },
        "Dns": host.dns,
        "DnsOptions": host.dns_options,
        "DnsSearch": host.dns_search,
        "ExtraHosts": list(&host.extra_hosts),
        "GroupAdd": list(&host.group_add),
        "IpcMode": host.ipc.as_str(),
        "Cgroup": "",
        "Links": list(&links(host)),
        "OomScoreAdj": host.oom_score_adj.unwrap_or(0),
        "PidMode": if host.pid_host { "host" } else { "" },
        "Privileged": host.privileged,
        "PublishAllPorts": host.publish_all,
        "ReadonlyRootfs": host.read_only,
        "SecurityOpt": list(&security_options(host)),
        "UTSMode": if host.uts_host { "host" } else { "" },
        "UsernsMode": host.userns,
        "ShmSize": host.shm_size.unwrap_or(64 << 20),
        "Runtime": "rbox",
        "Isolation": "",
    })
}

fn host_limits(host: &HostConfig) -> Value {
    let limits = &host.resources;
    let rates = |rates: &[DeviceRate]| -> Value {
        rates.iter().map(|rate| json!({ "Path": rate.path, "Rate": rate.rate })).collect()
    };
    let swap = limits.memory_swap.unwrap_or_else(|| limits.memory.map_or(0, |memory| (memory * 2) as i64));
    let rules: Vec<String> = limits.device_cgroup_rules.iter().map(ToString::to_string).collect();
    json!({
        "CpuShares": limits.cpu_shares.unwrap_or(0),
        "Memory": limits.memory.unwrap_or(0),
        "NanoCpus": limits.nano_cpus.unwrap_or(0),
        "CgroupParent": host.cgroup_parent.clone().unwrap_or_default(),
        "BlkioWeight": limits.blkio_weight.unwrap_or(0),
        "BlkioWeightDevice": [],
        "BlkioDeviceReadBps": rates(&limits.device_read_bps),
        "BlkioDeviceWriteBps": rates(&limits.device_write_bps),
        "BlkioDeviceReadIOps": rates(&limits.device_read_iops),
        "BlkioDeviceWriteIOps": rates(&limits.device_write_iops),
        "CpuPeriod": limits.cpu_period.unwrap_or(0),
        "CpuQuota": limits.cpu_quota.unwrap_or(0),
        "CpuRealtimePeriod": 0,
        "CpuRealtimeRuntime": 0,
        "CpusetCpus": limits.cpuset_cpus.clone().unwrap_or_default(),
        "CpusetMems": limits.cpuset_mems.clone().unwrap_or_default(),
        "Devices": host.devices.iter().map(device).collect::<Value>(),
        "DeviceCgroupRules": list(&rules),
        "DeviceRequests": null,
        "MemoryReservation": limits.memory_reservation.unwrap_or(0),
        "MemorySwap": swap,
        "MemorySwappiness": limits.memory_swappiness,
        "OomKillDisable": limits.oom_kill_disable,
        "PidsLimit": limits.pids_limit.filter(|limit| *limit > 0),
        "Ulimits": json!(host.ulimits),
        "CpuCount": 0,
        "CpuPercent": 0,
        "IOMaximumIOps": 0,
        "IOMaximumBandwidth": 0,
    })
}

/// Keys that Docker leaves out when they are not used.
fn optional(host: &HostConfig, fields: &mut Map<String, Value>) {
    // Docker has none at all; the names are the OCI runtime's.
    if !host.resources.hugetlb_limits.is_empty() {
        fields.insert("HugetlbLimits".into(), json!(host.resources.hugetlb_limits));
    }
    let tmpfs: Map<String, Value> = host
        .mounts
        .iter()
        .filter_map(|mount| match &mount.kind {
            MountKind::Tmpfs { size, mode, options } if mount.given_by == GivenBy::Tmpfs => {
                let text = tmpfs_options(*size, *mode, options, mount.read_only);
                Some((mount.target.clone(), text.into()))
            }
            _ => None,
        })
        .collect();
    if !tmpfs.is_empty() {
        fields.insert("Tmpfs".into(), tmpfs.into());
    }
    let given: Vec<Value> =
        host.mounts.iter().filter(|mount| mount.given_by == GivenBy::Mount).map(given_mount).collect();
    if !given.is_empty() {
        fields.insert("Mounts".into(), given.into());
    }
    if !host.sysctls.is_empty() {
        fields.insert("Sysctls".into(), json!(host.sysctls));
    }
    if !host.annotations.is_empty() {
        fields.insert("Annotations".into(), json!(host.annotations));
    }
    if host.init {
        fields.insert("Init".into(), true.into());
    }
    let (masked, read_only) = if host.privileged {
        (Value::Null, Value::Null)
    } else {
        (masked().into(), READ_ONLY.to_vec().into())
    };
    fields.insert("MaskedPaths".into(), masked);
    fields.insert("ReadonlyPaths".into(), read_only);
}

/// The options of `--tmpfs`, as it takes them.
fn tmpfs_options(size: Option<u64>, mode: Option<u32>, options: &[String], read_only: bool) -> String {
    let mut all: Vec<String> = if read_only { vec!["ro".to_owned()] } else { Vec::new() };
    all.extend(options.iter().cloned());
    all.extend(size.map(|size| format!("size={size}")));
    all.extend(mode.map(|mode| format!("mode={mode:o}")));
    all.join(",")
}

/// A mount of `--mount` as the API has it: what is not said is left out.
fn given_mount(mount: &MountSpec) -> Value {
    let mut out = Map::new();
    let (kind, source) = match &mount.kind {
        MountKind::Bind { source, .. } => ("bind", source.as_str()),
        MountKind::Volume { anonymous, .. } => {
            ("volume", if *anonymous { "" } else { mount.kind.source().unwrap_or_default() })
        }
        MountKind::Tmpfs { .. } => ("tmpfs", ""),
    };
    out.insert("Type".into(), kind.into());
    if !source.is_empty() {
        out.insert("Source".into(), source.into());
    }
    out.insert("Target".into(), mount.target.clone().into());
    if mount.read_only {
        out.insert("ReadOnly".into(), true.into());
    }
    match &mount.kind {
        MountKind::Bind { propagation, .. } if !propagation.is_empty() => {
            out.insert("BindOptions".into(), json!({ "Propagation": propagation }));
        }
        MountKind::Volume { no_copy: true, .. } => {
            out.insert("VolumeOptions".into(), json!({ "NoCopy": true }));
        }
        MountKind::Tmpfs { size, mode, .. } if size.is_some() || mode.is_some() => {
            let mut options = Map::new();
            options.extend(size.map(|size| ("SizeBytes".to_owned(), size.into())));
            options.extend(mode.map(|mode| ("Mode".to_owned(), mode.into())));
            out.insert("TmpfsOptions".into(), options.into());
        }
        _ => {}
    }
    out.into()
}

fn device(device: &DeviceSpec) -> Value {
    json!({
        "PathOnHost": device.host,
        "PathInContainer": device.container,
        "CgroupPermissions": device.permissions,
    })
}

/// `--link` as Docker has it: `/db:/db`.
fn links(host: &HostConfig) -> Vec<String> {
    host.links.iter().map(|link| format!("/{}:/{}", link.name, link.alias)).collect()
}

/// The binds and named volumes in the form `-v` takes.
fn binds(host: &HostConfig) -> Vec<String> {
    let one = |mount: &MountSpec| {
        if mount.given_by != GivenBy::Volume {
            return None;
        }
        if matches!(mount.kind, MountKind::Volume { anonymous: true, .. }) {
            return None;
        }
        let source = mount.kind.source()?;
        let mode = if mount.read_only { ":ro" } else { "" };
        Some(format!("{source}:{}{mode}", mount.target))
    };
    host.mounts.iter().filter_map(one).collect()
}

fn security_options(host: &HostConfig) -> Vec<String> {
    let seccomp = match &host.seccomp {
        SeccompMode::Default => None,
        SeccompMode::Unconfined => Some("seccomp=unconfined".to_owned()),
        SeccompMode::Profile(text) => Some(format!("seccomp={text}")),
    };
    let privileges = host.no_new_privileges.then(|| "no-new-privileges".to_owned());
    seccomp.into_iter().chain(privileges).collect()
}

/// What was asked for, by container port.
fn port_bindings(host: &HostConfig) -> Value {
    let mut out = Map::new();
    for mapping in &host.ports {
        let port = match mapping.host_ports {
            Some((first, last)) if first == last => first.to_string(),
            Some((first, last)) => format!("{first}-{last}"),
            None if mapping.zero => "0".to_owned(),
            None => String::new(),
        };
        let ip = mapping.host_ip.map(|ip| ip.to_string()).unwrap_or_default();
        push(&mut out, &mapping.container().to_string(), json!({ "HostIp": ip, "HostPort": port }));
    }
    out.sort_keys();
    out.into()
}

fn push(map: &mut Map<String, Value>, key: &str, item: Value) {
    if let Some(items) = map.entry(key).or_insert_with(|| json!([])).as_array_mut() {
        items.push(item);
    } else {
        map.insert(key.to_owned(), json!([item]));
    }
}

fn graph_driver(record: &ContainerRecord, dir: &std::path::Path) -> Value {
    // Overlay's order: the uppermost first.
    let lower: Vec<String> = record.layers.iter().rev().map(|layer| layer.display().to_string()).collect();
    let path = |name: &str| dir.join(name).display().to_string();
    json!({
        "Data": {
            "ID": record.id.as_str(),
            "LowerDir": lower.join(":"),
            "MergedDir": path("merged"),
            "UpperDir": path("upper"),
            "WorkDir": path("work"),
        },
        "Name": "overlay2",
    })
}

fn mounts(paths: &Paths, record: &ContainerRecord) -> Value {
    let one = |mount: &MountSpec| {
        let writable = !mount.read_only;
        let mode = if mount.read_only { "ro" } else { "" };
        match &mount.kind {
            MountKind::Bind { source, propagation, .. } => json!({
                "Type": "bind",
                "Source": source,
                "Destination": mount.target,
                "Mode": mode,
                "RW": writable,
                "Propagation": if propagation.is_empty() { "rprivate" } else { propagation },
            }),
            MountKind::Volume { name, .. } => json!({
                "Type": "volume",
                "Name": name,
                "Source": name.as_ref().map(|name| {
                    VolumeStore::new(&paths.volumes()).mountpoint(name).display().to_string()
                }),
                "Destination": mount.target,
                "Driver": "local",
                "Mode": mode,
                "RW": writable,
                "Propagation": "",
            }),
            MountKind::Tmpfs { .. } => json!({
                "Type": "tmpfs",
                "Source": "",
                "Destination": mount.target,
                "Mode": mode,
                "RW": writable,
                "Propagation": "",
            }),
        }
    };
    // Docker keeps what --tmpfs asked for in HostConfig.Tmpfs only.
    record.host.mounts.iter().filter(|mount| mount.given_by != GivenBy::Tmpfs).map(one).collect()
}

/// The published ports of a container that runs; none of another.
pub(crate) fn published(container: &Container) -> &[PublishedPort] {
    container.live.as_ref().map_or(&[], |live| live.published.as_slice())
}

fn ports(container: &Container) -> Value {
    let mut out = Map::new();
    if !container.is_running() {
        return out.into();
    }
    for port in &container.record.config.exposed_ports {
        // `80` and `80/tcp` are one port.
        let port = port.parse::<ContainerPort>().map_or_else(|_| port.clone(), |port| port.to_string());
        out.insert(port, Value::Null);
    }
    for port in published(container) {
        let host = json!({ "HostIp": port.host_ip.to_string(), "HostPort": port.host_port.to_string() });
        push(&mut out, &port.container().to_string(), host);
    }
    out.sort_keys();
    out.into()
}

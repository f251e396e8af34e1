//! `inspect` of a container.

use std::collections::BTreeMap;

use rbox_runtime::cgroup::Cgroup;
use rbox_spec::container::{HostConfig, LogDriver, NetworkMode};
use rbox_spec::mount::{GivenBy, MountKind, MountSpec};
use rbox_spec::port::{ContainerPort, PublishedPort, push_binding};
use serde_json::{Map, Value, json};

use crate::inspect::time;
use crate::oci::config::{READ_ONLY, masked};
use crate::oci::security::shown_profile;
use crate::record::container::{Container, ContainerRecord, Status};
use crate::record::paths::{HOSTNAME, HOSTS, Paths, RESOLV_CONF, UPPER};
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
            _ => String::new(),
        },
        "Name": format!("/{}", record.name),
        "RestartCount": container.restart_count(),
        "Driver": "overlay2",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": shown_profile(&record.host),
        "ExecIDs": null,
        "HostConfig": host_config(&record.host),
        "GraphDriver": graph_driver(record, &dir),
        "Mounts": mounts(paths, record),
        "Config": record.as_docker_config(),
        "NetworkSettings": crate::inspect::endpoint::network_settings(container, &ports(container)),
    });
    let given = record.host.mounts.iter().filter(|mount| mount.given_by == GivenBy::Volume);
    let anonymous = given.filter(|mount| matches!(mount.kind, MountKind::Volume { anonymous: true, .. }));
    let targets = anonymous.map(|mount| &mount.target).chain(&record.config.volumes);
    let targets: BTreeMap<_, _> = targets.map(|target| (target.clone(), json!({}))).collect();
    if let (false, Some(config)) = (targets.is_empty(), out["Config"].as_object_mut()) {
        config.insert("Volumes".into(), json!(targets));
    }
    // As podman has it: Docker knows no limit of time.
    if let (Some(timeout), Some(config)) = (record.host.timeout, out["Config"].as_object_mut()) {
        config.insert("Timeout".into(), timeout.into());
    }
    if let (Some(image_size), Some(fields)) = (size, out.as_object_mut()) {
        let own = disk_usage(&dir.join(UPPER));
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
    // While it runs, only the time of the last exit is shown; its code is shown again at the next.
    let ended = if container.is_running() { None } else { exit };
    let mut out = json!({
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
    });
    if let (Some(health), Some(fields)) = (&container.health, out.as_object_mut()) {
        fields.insert("Health".into(), health.as_docker());
    }
    out
}

/// Whether the kernel killed a process of this run because memory ran out: perhaps one of exec, and the container goes on.
fn has_oom_kills(container: &Container) -> bool {
    let live = container.live.as_ref();
    live.is_some_and(|live| Cgroup::open(&live.cgroup).is_ok_and(|group| group.oom_kills() > 0))
}

/// Everything it gets from the host, and the paths that are then hidden or sealed.
fn host_config(host: &HostConfig) -> Value {
    let (masked, read_only) = if host.privileged {
        (Value::Null, Value::Null)
    } else if host.system_paths_unconfined {
        (Vec::<Value>::new().into(), Vec::<Value>::new().into())
    } else {
        (masked().into(), READ_ONLY.to_vec().into())
    };
    let mut fields = host.as_docker();
    fields.insert("MaskedPaths".into(), masked);
    fields.insert("ReadonlyPaths".into(), read_only);
    fields.into()
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
        // As it was given with `-v`; records of older versions have only what it came to.
        let mode = match mount.mode.as_str() {
            "" if mount.read_only && mount.given_by == GivenBy::Volume => "ro",
            mode => mode,
        };
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
            MountKind::Image { name, id, .. } => json!({
                "Type": "image",
                "Name": name,
                "Source": id,
                "Destination": mount.target,
                "Mode": mode,
                "RW": false,
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
    // On the host's network nothing stands between its ports and the host's.
    if !container.is_running() || container.record.host.network == NetworkMode::Host {
        return out.into();
    }
    for port in &container.record.config.exposed_ports {
        // Older records have `80` for `80/tcp`.
        let port = port.parse::<ContainerPort>().map_or_else(|_| port.clone(), |port| port.to_string());
        out.insert(port, Value::Null);
    }
    for port in published(container) {
        let host = json!({ "HostIp": port.host_ip.to_string(), "HostPort": port.host_port.to_string() });
        push_binding(&mut out, port.container(), host);
    }
    out.sort_keys();
    out.into()
}

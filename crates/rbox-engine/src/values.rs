//! The values of `rbox-spec` that a command line hands to the engine, so that it needs no crate but this one.

pub use rbox_spec::container::{ContainerConfig, DeviceSpec, HostConfig, NetworkMode, SeccompMode};
pub use rbox_spec::id::ContainerId;
pub use rbox_spec::mount::{MountKind, MountSpec};
pub use rbox_spec::port::{ContainerPort, PortMapping, PublishedPort, ports_column};
pub use rbox_spec::resources::{DeviceAccess, DeviceKind, DeviceRule, Resources, parse_cpus};
pub use rbox_spec::signal::Signal;
pub use rbox_spec::size::Size;
pub use rbox_spec::ulimit::Ulimit;
pub use rbox_spec::{Platform, Reference};

/// The device filter's rules for `--device`: a directory stands for every device below it.
pub fn device_rules(devices: &[DeviceSpec]) -> Vec<DeviceRule> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let mut rules = Vec::new();
    for device in devices {
        let host = std::path::Path::new(&device.host);
        let all = if host.is_dir() { crate::spec::host_devices(host, 0) } else { vec![host.to_owned()] };
        for path in all {
            let Ok(meta) = std::fs::metadata(&path) else { continue };
            let kind = if meta.file_type().is_block_device() { DeviceKind::Block } else { DeviceKind::Char };
            let Some(access) = DeviceAccess::parse(&device.permissions) else { continue };
            rules.push(DeviceRule {
                kind,
                major: Some(rustix::fs::major(meta.rdev())),
                minor: Some(rustix::fs::minor(meta.rdev())),
                access,
            });
        }
    }
    rules
}

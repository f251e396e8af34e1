//! Limits: of the service's own keys, and of `deploy.resources`, which win.

use rbox_spec::container::DeviceSpec;
use rbox_spec::device_request::{DeviceRequest, GPU, is_qualified};
use rbox_spec::resources::{DeviceRate, DeviceRule, Resources};
use rbox_spec::ulimit::Ulimit;

use super::Making;
use crate::error::RunError;
use crate::model::{BlkioRate, Device, DeviceRequest as Wanted};

impl Making<'_> {
    pub(super) fn resources(&self) -> Result<Resources, RunError> {
        let service = self.service;
        let positive = |number: i64| u64::try_from(number).ok().filter(|number| *number > 0);
        let given = |bytes: u64| Some(bytes).filter(|bytes| *bytes > 0);
        let mut resources = Resources {
            memory: given(service.mem_limit),
            memory_reservation: given(service.mem_reservation),
            memory_swap: Some(service.memswap_limit).filter(|bytes| *bytes != 0),
            memory_swappiness: positive(service.mem_swappiness),
            nano_cpus: nano_cpus(service.cpus),
            cpu_shares: positive(service.cpu_shares),
            cpu_period: positive(service.cpu_period),
            cpu_quota: Some(service.cpu_quota).filter(|quota| *quota != 0),
            cpuset_cpus: Some(service.cpuset.clone()).filter(|list| !list.is_empty()),
            pids_limit: Some(service.pids_limit).filter(|most| *most != 0),
            oom_kill_disable: service.oom_kill_disable,
            device_cgroup_rules: self.device_rules()?,
            ..Resources::default()
        };
        if let Some(blkio) = &service.blkio_config {
            let rates = |all: &[BlkioRate]| {
                all.iter().map(|one| DeviceRate { path: one.path.clone(), rate: one.rate }).collect()
            };
            let weights = blkio.weight_device.iter();
            resources.device_weights = weights
                .map(|one| format!("{}:{}", one.path, one.weight).parse())
                .collect::<Result<_, _>>()
                .map_err(|error| self.refused("blkio_config.weight_device", error))?;
            resources.blkio_weight = Some(blkio.weight).filter(|weight| *weight > 0);
            resources.device_read_bps = rates(&blkio.device_read_bps);
            resources.device_write_bps = rates(&blkio.device_write_bps);
            resources.device_read_iops = rates(&blkio.device_read_iops);
            resources.device_write_iops = rates(&blkio.device_write_iops);
        }
        if let Some(deploy) = &service.deploy {
            if let Some(limits) = &deploy.resources.limits {
                resources.memory = given(limits.memory).or(resources.memory);
                resources.nano_cpus = nano_cpus(limits.cpus).or(resources.nano_cpus);
                resources.pids_limit = Some(limits.pids).filter(|most| *most != 0).or(resources.pids_limit);
            }
            if let Some(kept) = &deploy.resources.reservations {
                resources.memory_reservation = given(kept.memory).or(resources.memory_reservation);
            }
        }
        resources.pids_limit = resources.pids_limit.or(Resources::defaults().pids_limit);
        Ok(resources)
    }

    /// Those of `deploy`, then `gpus`, then the names among `devices`: Compose's order.
    pub(super) fn device_requests(&self) -> Vec<DeviceRequest> {
        let request = |wanted: &Wanted, is_gpu: bool| {
            let mut capabilities = wanted.capabilities.clone();
            if is_gpu && !capabilities.iter().any(|capability| capability == GPU) {
                capabilities.push(GPU.to_owned());
            }
            DeviceRequest {
                driver: wanted.driver.clone(),
                count: wanted.count,
                ids: wanted.device_ids.clone(),
                capabilities: vec![capabilities],
                options: Some(wanted.options.clone()),
            }
        };
        let deploy = self.service.deploy.as_ref();
        let reserved = deploy.and_then(|deploy| deploy.resources.reservations.as_ref());
        let reserved = reserved.into_iter().flat_map(|reserved| &reserved.devices);
        let gpus = self.service.gpus.iter().map(|wanted| request(wanted, true));
        let mut requests: Vec<_> = reserved.map(|wanted| request(wanted, false)).chain(gpus).collect();
        let names = self.service.devices.iter().filter(|device| is_named(device));
        let names: Vec<String> = names.map(|device| device.source.clone()).collect();
        if !names.is_empty() {
            requests.push(DeviceRequest::of_names(names));
        }
        requests
    }

    fn device_rules(&self) -> Result<Vec<DeviceRule>, RunError> {
        let rules = self.service.device_cgroup_rules.iter();
        rules.map(|rule| rule.parse().map_err(|error| self.refused("device_cgroup_rules", error))).collect()
    }

    pub(super) fn devices(&self) -> Result<Vec<DeviceSpec>, RunError> {
        let device = |device: &Device| {
            let inside = if device.target.is_empty() { &device.source } else { &device.target };
            let permissions = if device.permissions.is_empty() { "rwm" } else { &device.permissions };
            format!("{}:{inside}:{permissions}", device.source)
                .parse()
                .map_err(|error| self.refused("devices", error))
        };
        self.service.devices.iter().filter(|device| !is_named(device)).map(device).collect()
    }

    pub(super) fn ulimits(&self) -> Result<Vec<Ulimit>, RunError> {
        let limits = self.service.ulimits.iter();
        limits
            .map(|(name, limit)| {
                let text = format!("{name}={}:{}", limit.soft, limit.hard);
                text.parse().map_err(|error| self.refused("ulimits", error))
            })
            .collect()
    }
}

/// Whether it is the name of a device in CDI.
fn is_named(device: &Device) -> bool {
    device.source == device.target && is_qualified(&device.source)
}

/// Processors as the engine counts them: a billion is one.
fn nano_cpus(cpus: f64) -> Option<u64> {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small positive number")]
    let nano = (cpus * 1e9).round() as u64;
    Some(nano).filter(|nano| *nano > 0)
}

//! Limits as each kind of control group wants them written. See cgroups(7), Documentation/admin-guide/cgroup-v2.rst
//! and cgroup-v1/.

use crate::dir;
use crate::error::{CgroupError, Result};
use crate::hierarchy::Controller;
use crate::paths::CgroupPaths;
use rbox_spec::Resources;
use rbox_spec::hugetlb::{HugetlbLimit, PageSize};
use rbox_spec::resources::{DeviceRate, HostLimits};
use rbox_sys::SysError;
use rustix::io::Errno;
use std::path::{Path, PathBuf};

/// What of this host [`Resources::validate`] checks against: the processors this process may run on, the
/// lists of those online, and the sizes of huge pages.
pub fn host_limits() -> HostLimits {
    let count = rustix::thread::sched_getaffinity(None).map_or(1, |set| set.count());
    let list = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    HostLimits {
        count,
        cpus: list("/sys/devices/system/cpu/online"),
        mems: list("/sys/devices/system/node/online"),
        huge_pages: huge_pages(),
    }
}

/// `hugepages-2048kB` and the like, the smallest first.
fn huge_pages() -> Vec<PageSize> {
    let size = |name: &str| name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse::<u64>().ok();
    let mut sizes: Vec<_> = std::fs::read_dir("/sys/kernel/mm/hugepages")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| PageSize::new(size(entry.file_name().to_str()?)?.checked_mul(1024)?))
        .collect();
    sizes.sort_unstable();
    sizes
}

/// The controllers a limit in `resources` needs, each with that limit's name on the command line.
pub(crate) fn controllers_needed(resources: &Resources) -> Vec<(Controller, &'static str)> {
    let r = resources;
    let memory = [
        (r.memory.is_some(), "memory"),
        (r.memory_swap.is_some(), "memory-swap"),
        (r.memory_reservation.is_some(), "memory-reservation"),
        (r.memory_swappiness.is_some(), "memory-swappiness"),
        (r.oom_kill_disable, "oom-kill-disable"),
    ];
    let cpu = [
        (r.nano_cpus.is_some_and(|nano| nano != 0), "cpus"),
        (r.cpu_quota.is_some_and(|quota| quota != 0), "cpu-quota"),
        (r.cpu_period.is_some_and(|period| period != 0), "cpu-period"),
        (r.cpu_shares.is_some_and(|shares| shares != 0), "cpu-shares"),
    ];
    let text = |value: &Option<String>| value.as_ref().is_some_and(|text| !text.is_empty());
    let cpuset = [(text(&r.cpuset_cpus), "cpuset-cpus"), (text(&r.cpuset_mems), "cpuset-mems")];
    let blkio = [
        (r.blkio_weight.is_some_and(|weight| weight != 0), "blkio-weight"),
        (!r.device_weights.is_empty(), "blkio-weight-device"),
        (!r.device_read_bps.is_empty(), "device-read-bps"),
        (!r.device_write_bps.is_empty(), "device-write-bps"),
        (!r.device_read_iops.is_empty(), "device-read-iops"),
        (!r.device_write_iops.is_empty(), "device-write-iops"),
    ];
    let hugetlb = [(!r.hugetlb_limits.is_empty(), "hugetlb-limit")];
    let pids = [(r.pids_limit.is_some_and(|limit| limit > 0), "pids-limit")];
    let mut needed = Vec::new();
    let mut first = |controller, limits: &[(bool, &'static str)]| {
        needed.extend(limits.iter().find(|(set, _)| *set).map(|(_, limit)| (controller, *limit)));
    };
    first(Controller::Memory, &memory);
    first(Controller::Cpu, &cpu);
    first(Controller::Cpuset, &cpuset);
    first(Controller::Blkio, &blkio);
    first(Controller::Hugetlb, &hugetlb);
    first(Controller::Pids, &pids);
    needed
}

/// Writes what `resources` asks for, and nothing else.
pub(crate) fn apply(paths: &CgroupPaths, resources: &Resources) -> Result<()> {
    for (controller, limit) in controllers_needed(resources) {
        let (group, v2) = match (paths.v1(controller), paths.unified.as_deref()) {
            (Some(group), _) => (group, false),
            (None, Some(group)) => (group, true),
            (None, None) => return Err(no_controller(limit, controller)),
        };
        match (controller, v2) {
            (Controller::Memory, false) => memory_v1(group, resources)?,
            (Controller::Memory, true) => memory_v2(group, resources)?,
            (Controller::Cpu, false) => cpu_v1(group, resources)?,
            (Controller::Cpu, true) => cpu_v2(group, resources)?,
            (Controller::Cpuset, _) => cpuset(group, resources)?,
            (Controller::Blkio, false) => blkio_v1(group, resources)?,
            (Controller::Blkio, true) => io_v2(group, resources)?,
            (Controller::Hugetlb, v2) => hugetlb(group, resources, v2)?,
            _ => {}
        }
    }
    pids(paths, resources)
}

/// The files of [`apply`] that `update` may write, on v2 and v1, without those named by a size of huge pages.
const UPDATED: [&str; 19] = [
    "memory.max",
    "memory.swap.max",
    "memory.low",
    "memory.limit_in_bytes",
    "memory.memsw.limit_in_bytes",
    "memory.soft_limit_in_bytes",
    "cpu.max",
    "cpu.weight",
    "cpu.shares",
    "cpu.cfs_period_us",
    "cpu.cfs_quota_us",
    "cpuset.cpus",
    "cpuset.mems",
    "pids.max",
    "io.weight",
    "io.bfq.weight",
    "blkio.weight",
    "blkio.bfq.weight",
    "memory.swappiness",
];

/// What the files of a group's limits held: an update that was refused half way is undone with it.
pub(crate) struct Before(Vec<(PathBuf, String, String)>);

impl Before {
    /// Reads what is there now of what `change` may write.
    pub(crate) fn of(paths: &CgroupPaths, change: &Resources) -> Self {
        let sizes = change
            .hugetlb_limits
            .iter()
            .flat_map(|limit| [false, true].into_iter().flat_map(|v2| hugetlb_files(limit, v2)));
        let files: Vec<_> = UPDATED.iter().map(|file| (*file).to_owned()).chain(sizes).collect();
        let read = |group: &Path, file: &String| {
            Some((group.to_owned(), file.clone(), dir::read(group, file).ok()?))
        };
        Self(paths.own().flat_map(|group| files.iter().filter_map(move |file| read(group, file))).collect())
    }

    /// Puts back what differs. Twice, because some files must be written in an order that depends on the values.
    pub(crate) fn put_back(&self) {
        for _ in 0..2 {
            for (group, file, text) in &self.0 {
                if dir::read(group, file).is_ok_and(|now| now != *text) {
                    // The error that led here is the one to tell.
                    let _ = dir::write(group, file, text);
                }
            }
        }
    }
}

/// The error for a limit whose controller the host does not have.
pub(crate) fn no_controller(limit: &'static str, controller: Controller) -> CgroupError {
    CgroupError::Unsupported {
        limit,
        why: format!(
            "this host has no {} controller (see /proc/cgroups and cgroup.controllers)",
            controller.name()
        ),
    }
}

fn set(limit: &'static str, group: &Path, file: &str, text: &str) -> Result<()> {
    dir::write(group, file, text).map_err(|source| refused(limit, group, file, source))
}

fn refused(limit: &'static str, group: &Path, file: &str, source: SysError) -> CgroupError {
    if dir::is(&source, Errno::NOENT) {
        let why = format!("this host cannot set it ({file} is missing in {})", group.display());
        return CgroupError::Unsupported { limit, why };
    }
    CgroupError::Limit { limit, group: group.to_owned(), source }
}

fn no_swap_accounting(file: &str) -> CgroupError {
    CgroupError::Unsupported {
        limit: "memory-swap",
        why: format!(
            "this host has no swap accounting ({file} is missing; boot with swapaccount=1 or CONFIG_SWAP)"
        ),
    }
}

fn memory_v1(group: &Path, r: &Resources) -> Result<()> {
    const SWAP: &str = "memory.memsw.limit_in_bytes";
    let memory = r.memory.filter(|memory| *memory != 0);
    let swap = r.memory_and_swap().map(|swap| swap.map_or_else(|| "-1".to_owned(), |swap| swap.to_string()));
    let swap_accounting = swap.is_none() || group.join(SWAP).exists();
    if !swap_accounting && r.memory_swap.is_some_and(|swap| swap != 0) {
        return Err(no_swap_accounting(SWAP));
    }
    // Docker's default of twice the memory is no wish of the user: without swap accounting it is left out.
    let swap = swap.filter(|_| swap_accounting);
    let mut swap_done = false;
    if let Some(memory) = memory {
        let write = || dir::write(group, "memory.limit_in_bytes", &memory.to_string());
        match (write(), &swap) {
            // The kernel holds memory <= memsw at every moment, so raising both starts with the other one.
            (Err(error), Some(swap)) if dir::is(&error, Errno::INVAL) => {
                set("memory-swap", group, SWAP, swap)?;
                swap_done = true;
                write().map_err(|source| refused("memory", group, "memory.limit_in_bytes", source))?;
            }
            (result, _) => {
                result.map_err(|source| refused("memory", group, "memory.limit_in_bytes", source))?;
            }
        }
    }
    if let Some(swap) = swap.filter(|_| !swap_done) {
        set("memory-swap", group, SWAP, &swap)?;
    }
    if let Some(soft) = r.memory_reservation.filter(|soft| *soft != 0) {
        set("memory-reservation", group, "memory.soft_limit_in_bytes", &soft.to_string())?;
    }
    if let Some(swappiness) = r.memory_swappiness {
        set("memory-swappiness", group, "memory.swappiness", &swappiness.to_string())?;
    }
    if r.oom_kill_disable {
        set("oom-kill-disable", group, "memory.oom_control", "1")?;
    }
    Ok(())
}

fn memory_v2(group: &Path, r: &Resources) -> Result<()> {
    const SWAP: &str = "memory.swap.max";
    if r.oom_kill_disable {
        return Err(CgroupError::Unsupported {
            limit: "oom-kill-disable",
            why: "this host has cgroup v2, which cannot turn the OOM killer off".into(),
        });
    }
    if r.memory_swappiness.is_some() {
        return Err(CgroupError::Unsupported {
            limit: "memory-swappiness",
            why: "this host has cgroup v2, which has no swappiness of a group".into(),
        });
    }
    let swap_accounting = group.join(SWAP).exists();
    if let Some(swap) = r.memory_and_swap() {
        if swap_accounting {
            // v2 counts swap alone, Docker's flag memory and swap together.
            let text = match (swap, r.memory) {
                (Some(both), Some(memory)) => both.saturating_sub(memory).to_string(),
                (Some(both), None) => {
                    let memory = dir::read(group, "memory.max").ok().and_then(|max| max.trim().parse().ok());
                    both.saturating_sub(memory.unwrap_or(0)).to_string()
                }
                (None, _) => "max".to_owned(),
            };
            set("memory-swap", group, SWAP, &text)?;
        } else if r.memory_swap.is_some_and(|swap| swap != 0) {
            return Err(no_swap_accounting(SWAP));
        }
    }
    if let Some(memory) = r.memory.filter(|memory| *memory != 0) {
        set("memory", group, "memory.max", &memory.to_string())?;
    }
    if let Some(low) = r.memory_reservation.filter(|low| *low != 0) {
        set("memory-reservation", group, "memory.low", &low.to_string())?;
    }
    Ok(())
}

fn cpu_v1(group: &Path, r: &Resources) -> Result<()> {
    if let Some(shares) = r.cpu_shares.filter(|shares| *shares != 0) {
        set("cpu-shares", group, "cpu.shares", &shares.clamp(2, 262_144).to_string())?;
    }
    let Some((quota, period)) = r.cpu_quota_and_period() else { return Ok(()) };
    let quota = quota.map_or_else(|| "-1".to_owned(), |quota| quota.to_string());
    let write_period = || dir::write(group, "cpu.cfs_period_us", &period.to_string());
    match write_period() {
        Ok(()) => set("cpus", group, "cpu.cfs_quota_us", &quota),
        // With a quota already there the new period can be out of proportion to it: then the quota goes first.
        Err(error) if dir::is(&error, Errno::INVAL) => {
            set("cpus", group, "cpu.cfs_quota_us", &quota)?;
            write_period().map_err(|source| refused("cpu-period", group, "cpu.cfs_period_us", source))
        }
        Err(source) => Err(refused("cpu-period", group, "cpu.cfs_period_us", source)),
    }
}

fn cpu_v2(group: &Path, r: &Resources) -> Result<()> {
    if let Some(shares) = r.cpu_shares.filter(|shares| *shares != 0) {
        set("cpu-shares", group, "cpu.weight", &cpu_weight(shares).to_string())?;
    }
    match r.cpu_quota_and_period() {
        Some((Some(quota), period)) => set("cpus", group, "cpu.max", &format!("{quota} {period}")),
        Some((None, period)) => set("cpus", group, "cpu.max", &format!("max {period}")),
        None => Ok(()),
    }
}

/// v1's shares (2 to 262144, 1024 by default) as v2's weight (1 to 10000, 100 by default): the quadratic in
/// log2(shares) through those three points that runc and crun agreed on.
pub(crate) fn cpu_weight(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            // Rounded up, but not for the last bit of a float: 1024 is 100.
            (10f64.powf(exponent) - 1e-9).ceil() as u64
        }
    }
}

fn cpuset(group: &Path, r: &Resources) -> Result<()> {
    let wanted =
        [("cpuset-cpus", "cpuset.cpus", &r.cpuset_cpus), ("cpuset-mems", "cpuset.mems", &r.cpuset_mems)];
    for (limit, file, value) in wanted {
        if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
            set(limit, group, file, value)?;
        }
    }
    Ok(())
}

fn pids(paths: &CgroupPaths, r: &Resources) -> Result<()> {
    let Some(limit) = r.pids_limit else { return Ok(()) };
    let Some(group) = paths.v1(Controller::Pids).or(paths.unified.as_deref()) else {
        return if limit > 0 { Err(no_controller("pids-limit", Controller::Pids)) } else { Ok(()) };
    };
    if limit > 0 {
        return set("pids-limit", group, "pids.max", &limit.to_string());
    }
    // Unlimited is what a new group is; where there is no controller that is all there is.
    if group.join("pids.max").exists() { set("pids-limit", group, "pids.max", "max") } else { Ok(()) }
}

/// The four kinds of rate with their names here, on v1 and in v2's `io.max`.
fn rates(r: &Resources) -> [(&'static str, &'static str, &'static str, &[DeviceRate]); 4] {
    [
        ("device-read-bps", "blkio.throttle.read_bps_device", "rbps", &r.device_read_bps),
        ("device-write-bps", "blkio.throttle.write_bps_device", "wbps", &r.device_write_bps),
        ("device-read-iops", "blkio.throttle.read_iops_device", "riops", &r.device_read_iops),
        ("device-write-iops", "blkio.throttle.write_iops_device", "wiops", &r.device_write_iops),
    ]
}

/// `major:minor` of a block device's node on the host.
fn device_number(limit: &'static str, path: &str) -> Result<String> {
    let why = |why: String| CgroupError::Unsupported { limit, why };
    let stat =
        rustix::fs::stat(path).map_err(|errno| why(format!("look at {path}: {}", rbox_sys::plain(errno))))?;
    if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::BlockDevice {
        return Err(why(format!("{path} is not a block device")));
    }
    Ok(format!("{}:{}", rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)))
}

fn blkio_v1(group: &Path, r: &Resources) -> Result<()> {
    if let Some(weight) = r.blkio_weight.filter(|weight| *weight != 0) {
        // The CFQ scheduler's file, or its successor's.
        let file = if group.join("blkio.weight").exists() { "blkio.weight" } else { "blkio.bfq.weight" };
        set("blkio-weight", group, file, &weight.to_string())?;
    }
    for one in &r.device_weights {
        let limit = "blkio-weight-device";
        let old = group.join("blkio.weight_device").exists();
        let file = if old { "blkio.weight_device" } else { "blkio.bfq.weight_device" };
        set(limit, group, file, &format!("{} {}", device_number(limit, &one.path)?, one.weight))?;
    }
    for (limit, file, _, list) in rates(r) {
        for rate in list {
            set(limit, group, file, &format!("{} {}", device_number(limit, &rate.path)?, rate.rate))?;
        }
    }
    Ok(())
}

fn io_v2(group: &Path, r: &Resources) -> Result<()> {
    if let Some(weight) = r.blkio_weight.filter(|weight| *weight != 0) {
        if group.join("io.bfq.weight").exists() {
            set("blkio-weight", group, "io.bfq.weight", &weight.to_string())?;
        } else {
            set("blkio-weight", group, "io.weight", &io_weight(weight).to_string())?;
        }
    }
    for one in &r.device_weights {
        let limit = "blkio-weight-device";
        let device = device_number(limit, &one.path)?;
        if group.join("io.bfq.weight").exists() {
            set(limit, group, "io.bfq.weight", &format!("{device} {}", one.weight))?;
        } else {
            let weight =
                if one.weight == 0 { "default".to_owned() } else { io_weight(one.weight).to_string() };
            set(limit, group, "io.weight", &format!("{device} {weight}"))?;
        }
    }
    for (limit, _, key, list) in rates(r) {
        for rate in list {
            // 0 takes the limit away, which v2 calls max.
            let value = if rate.rate == 0 { "max".to_owned() } else { rate.rate.to_string() };
            set(limit, group, "io.max", &format!("{} {key}={value}", device_number(limit, &rate.path)?))?;
        }
    }
    Ok(())
}

/// The files of one size: of the pages that are used, and, since Linux 5.7, of those that a mapping reserves. With the
/// second one mmap(2) fails where otherwise a touched page would end the process with SIGBUS.
fn hugetlb_files(limit: &HugetlbLimit, v2: bool) -> [String; 2] {
    let (size, file) = (limit.page_size, if v2 { "max" } else { "limit_in_bytes" });
    [format!("hugetlb.{size}.{file}"), format!("hugetlb.{size}.rsvd.{file}")]
}

fn hugetlb(group: &Path, r: &Resources, v2: bool) -> Result<()> {
    for limit in &r.hugetlb_limits {
        let text = if v2 && limit.limit < 0 { "max".to_owned() } else { limit.limit.to_string() };
        let [used, reserved] = hugetlb_files(limit, v2);
        set("hugetlb-limit", group, &used, &text)?;
        match dir::write(group, &reserved, &text) {
            Err(error) if !dir::is(&error, Errno::NOENT) => {
                return Err(refused("hugetlb-limit", group, &reserved, error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// v1's weight (10 to 1000) on v2's scale (1 to 10000), linearly, as runc and crun do.
fn io_weight(weight: u16) -> u64 {
    1 + u64::from(weight.clamp(10, 1000) - 10) * 9999 / 990
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_meet_their_fixed_points() {
        assert_eq!([0, 2, 1024, 262_144, u64::MAX].map(cpu_weight), [1, 1, 100, 10_000, 10_000]);
        assert!(cpu_weight(512) < 100 && cpu_weight(2048) > 100);
        assert_eq!([10, 1000].map(io_weight), [1, 10_000]);
    }

    #[test]
    fn needs_only_what_is_limited() {
        let needed = |r: &Resources| controllers_needed(r).into_iter().map(|(c, _)| c).collect::<Vec<_>>();
        assert_eq!(needed(&Resources::default()), []);
        assert_eq!(needed(&Resources::defaults()), [Controller::Pids]);
        let both = Resources { cpu_shares: Some(2), memory_swap: Some(-1), ..Resources::default() };
        assert_eq!(needed(&both), [Controller::Memory, Controller::Cpu]);
        let zero =
            Resources { cpu_shares: Some(0), cpuset_cpus: Some(String::new()), ..Resources::default() };
        assert_eq!(needed(&zero), []);
    }
}

//! What a container has used, in one form for v1 and v2.

use crate::dir;
use crate::group::Cgroup;
use crate::hierarchy::Controller;
use cgroups_rs::MaxValue;
use cgroups_rs::cpu::CpuController;
use cgroups_rs::pid::PidController;
use std::path::Path;

/// Processor time, microseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuStats {
    /// In all.
    pub usage_usec: u64,
    /// In user mode.
    pub user_usec: u64,
    /// In the kernel.
    pub system_usec: u64,
    /// Periods of its quota that passed.
    pub periods: u64,
    /// Periods in which it was held back.
    pub throttled_periods: u64,
    /// How long it was held back.
    pub throttled_usec: u64,
    /// What it may use in each period, when there is a limit: microseconds of all processors together, and of the clock.
    pub quota: Option<(u64, u64)>,
}

/// Memory, bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// In use, file cache included.
    pub usage: u64,
    /// The cache the kernel would take back first; `docker stats` shows `usage` without it.
    pub inactive_file: u64,
    /// The most there was; v2 has it since 5.19.
    pub max_usage: Option<u64>,
    /// The limit, when there is one.
    pub limit: Option<u64>,
    /// Swap in use, when it is counted.
    pub swap: Option<u64>,
    /// Processes that the kernel killed because it ran out.
    pub oom_kills: u64,
}

impl MemoryStats {
    /// What `docker stats` shows.
    pub const fn without_cache(&self) -> u64 {
        self.usage.saturating_sub(self.inactive_file)
    }
}

/// Processes and threads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PidsStats {
    /// Now.
    pub current: u64,
    /// At most, when there is a limit.
    pub limit: Option<u64>,
}

/// Block I/O, summed over devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IoStats {
    /// Bytes.
    pub read_bytes: u64,
    /// Bytes.
    pub write_bytes: u64,
    /// Requests.
    pub reads: u64,
    /// Requests.
    pub writes: u64,
}

/// What a container has used. A part is absent where no controller counts it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Processor time.
    pub cpu: Option<CpuStats>,
    /// Memory.
    pub memory: Option<MemoryStats>,
    /// Processes and threads.
    pub pids: Option<PidsStats>,
    /// Block I/O.
    pub io: Option<IoStats>,
}

impl Cgroup {
    /// Reads all counters once. A group that is gone has none.
    pub fn stats(&self) -> Stats {
        let unified = self.paths.unified.as_deref();
        let v1 = |controller| self.paths.v1(controller);
        Stats {
            // The kernel counts CPU time in every v2 group, with or without the controller.
            cpu: unified.and_then(cpu_v2).or_else(|| v1(Controller::Cpuacct).and_then(cpuacct_v1)).map(
                |cpu| match v1(Controller::Cpu) {
                    Some(group) => throttling_v1(group, &cpu),
                    None => cpu,
                },
            ),
            memory: v1(Controller::Memory)
                .and_then(memory_v1)
                .or_else(|| unified.and_then(memory_v2))
                .map(|memory| MemoryStats { oom_kills: self.oom_kills(), ..memory }),
            pids: v1(Controller::Pids).or(unified).and_then(pids),
            io: v1(Controller::Blkio).and_then(blkio_v1).or_else(|| unified.and_then(io_v2)),
        }
    }
}

fn number(group: &Path, file: &str) -> Option<u64> {
    dir::read(group, file).ok()?.trim().parse().ok()
}

fn cpu_v2(group: &Path) -> Option<CpuStats> {
    let text = dir::read(group, "cpu.stat").ok()?;
    let value = |key| dir::keyed(&text, key);
    Some(CpuStats {
        usage_usec: value("usage_usec")?,
        user_usec: value("user_usec").unwrap_or(0),
        system_usec: value("system_usec").unwrap_or(0),
        periods: value("nr_periods").unwrap_or(0),
        throttled_periods: value("nr_throttled").unwrap_or(0),
        throttled_usec: value("throttled_usec").unwrap_or(0),
        quota: dir::read(group, "cpu.max").ok().and_then(|text| quota_v2(&text)),
    })
}

/// `150000 100000`, or `max 100000` without a limit.
fn quota_v2(text: &str) -> Option<(u64, u64)> {
    let (quota, period) = text.trim().split_once(' ')?;
    Some((quota.parse().ok()?, period.parse().ok().filter(|period| *period > 0)?))
}

fn cpuacct_v1(group: &Path) -> Option<CpuStats> {
    // Not through cgroups-rs: it would read seven more files for these three numbers.
    let micros = |file: &str| number(group, file).map(|nanos| nanos / 1000);
    Some(CpuStats {
        usage_usec: micros("cpuacct.usage")?,
        user_usec: micros("cpuacct.usage_user").unwrap_or(0),
        system_usec: micros("cpuacct.usage_sys").unwrap_or(0),
        ..CpuStats::default()
    })
}

fn throttling_v1(group: &Path, cpu: &CpuStats) -> CpuStats {
    let text = CpuController::new(group.to_owned(), false).cpu().stat;
    let value = |key| dir::keyed(&text, key).unwrap_or(0);
    CpuStats {
        periods: value("nr_periods"),
        throttled_periods: value("nr_throttled"),
        throttled_usec: value("throttled_time") / 1000,
        // Without a limit the first is -1.
        quota: number(group, "cpu.cfs_quota_us")
            .zip(number(group, "cpu.cfs_period_us").filter(|period| *period > 0)),
        ..cpu.clone()
    }
}

/// v1's word for no limit is the largest multiple of a page in 63 bits.
fn limited(bytes: u64) -> Option<u64> {
    (bytes < 1 << 62).then_some(bytes)
}

fn memory_v1(group: &Path) -> Option<MemoryStats> {
    // Not through cgroups-rs: it panics on a NUMA statistic it does not know the shape of.
    let stat = dir::read(group, "memory.stat").unwrap_or_default();
    Some(MemoryStats {
        usage: number(group, "memory.usage_in_bytes")?,
        inactive_file: dir::keyed(&stat, "total_inactive_file").unwrap_or(0),
        max_usage: number(group, "memory.max_usage_in_bytes"),
        limit: number(group, "memory.limit_in_bytes").and_then(limited),
        swap: dir::keyed(&stat, "total_swap"),
        oom_kills: 0,
    })
}

fn memory_v2(group: &Path) -> Option<MemoryStats> {
    let stat = dir::read(group, "memory.stat").unwrap_or_default();
    Some(MemoryStats {
        usage: number(group, "memory.current")?,
        inactive_file: dir::keyed(&stat, "inactive_file").unwrap_or(0),
        max_usage: number(group, "memory.peak"),
        limit: number(group, "memory.max"),
        swap: number(group, "memory.swap.current"),
        oom_kills: 0,
    })
}

fn pids(group: &Path) -> Option<PidsStats> {
    // The two files are the same on v1 and v2.
    let controller = PidController::new(group.to_owned(), false);
    let limit = match controller.get_pid_max() {
        Ok(MaxValue::Value(limit)) => u64::try_from(limit).ok(),
        _ => None,
    };
    Some(PidsStats { current: controller.get_pid_current().ok()?, limit })
}

fn blkio_v1(group: &Path) -> Option<IoStats> {
    // Not through cgroups-rs: it panics on device numbers beyond 16 bits.
    let sum = |file: &str, operation: &str| -> Option<u64> {
        let text = dir::read(group, file).ok()?;
        let values = text.lines().filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            (fields.next()? == operation).then(|| fields.next()?.parse::<u64>().ok()).flatten()
        });
        Some(values.sum())
    };
    let (bytes, requests) =
        ("blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_serviced_recursive");
    Some(IoStats {
        read_bytes: sum(bytes, "Read")?,
        write_bytes: sum(bytes, "Write")?,
        reads: sum(requests, "Read")?,
        writes: sum(requests, "Write")?,
    })
}

fn io_v2(group: &Path) -> Option<IoStats> {
    let text = dir::read(group, "io.stat").ok()?;
    let sum = |key: &str| {
        let fields =
            text.split_ascii_whitespace().filter_map(|field| field.strip_prefix(key)?.strip_prefix('='));
        fields.filter_map(|value| value.parse::<u64>().ok()).sum()
    };
    Some(IoStats {
        read_bytes: sum("rbytes"),
        write_bytes: sum("wbytes"),
        reads: sum("rios"),
        writes: sum("wios"),
    })
}

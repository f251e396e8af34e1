//! What a container may use: memory, processors, processes, block I/O and devices.
//!
//! Field names in JSON are those of Docker's `HostConfig`. Checks and wording are Docker's.

use crate::docker::{fields, list};
use crate::hugetlb::{HugetlbError, HugetlbLimit, PageSize};
use crate::kind::Kind;
use crate::size::Size;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// The least memory a container can be given, bytes.
pub const MIN_MEMORY: u64 = 6 << 20;
/// The period that a CPU quota is for unless said otherwise, microseconds.
pub const DEFAULT_CPU_PERIOD: u64 = 100_000;
/// The processes and threads a container may have unless said otherwise.
pub const DEFAULT_PIDS_LIMIT: i64 = 2048;
/// The highest processor or memory node number a list may name; the kernel's own bound is 8192 processors.
const MAX_CPU: u32 = 8191;

/// Why a set of limits was refused. Wording is Docker's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // Each message says what its fields are.
pub enum ResourcesError {
    #[error("Minimum memory limit allowed is 6MB")]
    MemoryTooSmall,
    #[error("Minimum memory reservation allowed is 6MB")]
    ReservationTooSmall,
    #[error("Minimum memory limit can not be less than memory reservation limit, see usage")]
    MemoryBelowReservation,
    #[error("Minimum memoryswap limit should be larger than memory limit, see usage")]
    SwapBelowMemory,
    #[error("You should always set the Memory limit when using Memoryswap limit, see usage")]
    SwapWithoutMemory,
    #[error("invalid memory-swap {0}: it is a size, or -1 for unlimited swap")]
    SwapNegative(i64),
    #[error("range of CPUs is from 0.01 to {0}.00, as there are only {0} CPUs available")]
    CpusOutOfRange(u32),
    #[error("Conflicting options: Nano CPUs and CPU Period cannot both be set")]
    CpusAndPeriod,
    #[error("Conflicting options: Nano CPUs and CPU Quota cannot both be set")]
    CpusAndQuota,
    #[error("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")]
    PeriodOutOfRange,
    #[error("CPU cfs quota can not be less than 1ms (i.e. 1000)")]
    QuotaTooSmall,
    #[error("Invalid value {value} for cpuset {what}")]
    CpusetSyntax { what: &'static str, value: String },
    #[error("Requested {what} are not available - requested {requested}, available: {available}")]
    CpusetUnavailable { what: &'static str, requested: String, available: String },
    #[error("Invalid value: {0}, valid memory swappiness range is 0-100")]
    Swappiness(i64),
    #[error(
        "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"
    )]
    MemoryAboveSwapSet,
    #[error("Conflicting options: {new} cannot be updated as {old} has already been set")]
    CpusAlreadySet { new: &'static str, old: &'static str },
    #[error("range of blkio weight is from 10 to 1000")]
    BlkioWeight,
    #[error("invalid pids limit {0}: it is a positive number, or -1 for unlimited")]
    Pids(i64),
    #[error("failed to parse {0} as a rational number")]
    CpusSyntax(String),
    #[error("value is too precise")]
    CpusTooPrecise,
    #[error("bad format: {0}")]
    DeviceRateSyntax(String),
    #[error("bad format for device path: {0}")]
    DeviceRatePath(String),
    #[error(
        "invalid rate for device: {0}. The correct format is <device-path>:<number>[<unit>]. Number must be a \
         positive integer. Unit is optional and can be kb, mb, or gb"
    )]
    DeviceRate(String),
    #[error("invalid weight for device: {0}")]
    DeviceWeight(String),
    #[error("invalid device cgroup format '{0}'")]
    DeviceRule(String),
    #[error("invalid hugetlb-limit: {0}")]
    Hugetlb(#[from] HugetlbError),
}

impl ResourcesError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Hugetlb(error) => error.kind(),
            _ => Kind::Invalid,
        }
    }
}

/// Limits of one container; what is absent is not limited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Resources {
    /// Bytes of memory (`-m`).
    pub memory: Option<u64>,
    /// Bytes of memory and swap together; -1 is unlimited swap (`--memory-swap`). Absent: twice `memory`.
    pub memory_swap: Option<i64>,
    /// Bytes the kernel tries to leave under memory pressure (`--memory-reservation`).
    pub memory_reservation: Option<u64>,
    /// Billionths of a processor (`--cpus`).
    pub nano_cpus: Option<u64>,
    /// Weight against others in v1's scale, 1024 is one share (`--cpu-shares`).
    pub cpu_shares: Option<u64>,
    /// Microseconds (`--cpu-period`).
    pub cpu_period: Option<u64>,
    /// Microseconds of each period; negative is unlimited (`--cpu-quota`).
    pub cpu_quota: Option<i64>,
    /// Processors as a list, `0-2,4` (`--cpuset-cpus`).
    pub cpuset_cpus: Option<String>,
    /// NUMA nodes as a list (`--cpuset-mems`).
    pub cpuset_mems: Option<String>,
    /// Processes and threads; 0 and -1 are unlimited (`--pids-limit`).
    pub pids_limit: Option<i64>,
    /// Block I/O weight, 10 to 1000 (`--blkio-weight`).
    pub blkio_weight: Option<u16>,
    /// The same for single devices (`--blkio-weight-device`).
    #[serde(rename = "BlkioWeightDevice")]
    pub device_weights: Vec<DeviceWeight>,
    /// Bytes read a second.
    #[serde(rename = "BlkioDeviceReadBps")]
    pub device_read_bps: Vec<DeviceRate>,
    /// Bytes written a second.
    #[serde(rename = "BlkioDeviceWriteBps")]
    pub device_write_bps: Vec<DeviceRate>,
    /// Reads a second.
    #[serde(rename = "BlkioDeviceReadIOps")]
    pub device_read_iops: Vec<DeviceRate>,
    /// Writes a second.
    #[serde(rename = "BlkioDeviceWriteIOps")]
    pub device_write_iops: Vec<DeviceRate>,
    /// Bytes in huge pages, by their size (`--hugetlb-limit`). Docker has no such limit; the names are the OCI runtime's.
    pub hugetlb_limits: Vec<HugetlbLimit>,
    /// What is allowed beyond the default devices (`--device`, `--device-cgroup-rule`).
    pub device_cgroup_rules: Vec<DeviceRule>,
    /// Every device is allowed (`--privileged`).
    pub all_devices: bool,
    /// How eagerly its memory is swapped out, 0 to 100 (`--memory-swappiness`, v1 only).
    pub memory_swappiness: Option<u64>,
    /// Out of memory stops the container instead of killing in it (`--oom-kill-disable`, v1 only).
    pub oom_kill_disable: bool,
}

/// What of the host the limits are checked against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostLimits {
    /// How many processors are online.
    pub count: u32,
    /// Their numbers as a list; empty when not known.
    pub cpus: String,
    /// The NUMA nodes as a list; empty when not known.
    pub mems: String,
    /// The sizes of its huge pages.
    pub huge_pages: Vec<PageSize>,
}

impl Resources {
    /// What a container gets that asks for nothing.
    pub fn defaults() -> Self {
        Self { pids_limit: Some(DEFAULT_PIDS_LIMIT), ..Self::default() }
    }

    /// The part of `HostConfig` in `inspect` that shows limits, with Docker's keys in their order. `CgroupParent`, `Devices` and
    /// `Ulimits`, which stand among them, are the caller's to fill in.
    pub fn as_docker(&self) -> Map<String, Value> {
        let rates = |rates: &[DeviceRate]| -> Value {
            rates.iter().map(|rate| json!({ "Path": rate.path, "Rate": rate.rate })).collect()
        };
        let swap = self.memory_swap.unwrap_or_else(|| self.memory.map_or(0, |memory| (memory * 2) as i64));
        let rules: Vec<String> = self.device_cgroup_rules.iter().map(ToString::to_string).collect();
        let mut fields = fields(json!({
            "CpuShares": self.cpu_shares.unwrap_or(0),
            "Memory": self.memory.unwrap_or(0),
            "NanoCpus": self.nano_cpus.unwrap_or(0),
            "CgroupParent": "",
            "BlkioWeight": self.blkio_weight.unwrap_or(0),
            "BlkioWeightDevice": self.device_weights,
            "BlkioDeviceReadBps": rates(&self.device_read_bps),
            "BlkioDeviceWriteBps": rates(&self.device_write_bps),
            "BlkioDeviceReadIOps": rates(&self.device_read_iops),
            "BlkioDeviceWriteIOps": rates(&self.device_write_iops),
            "CpuPeriod": self.cpu_period.unwrap_or(0),
            "CpuQuota": self.cpu_quota.unwrap_or(0),
            "CpuRealtimePeriod": 0,
            "CpuRealtimeRuntime": 0,
            "CpusetCpus": self.cpuset_cpus.clone().unwrap_or_default(),
            "CpusetMems": self.cpuset_mems.clone().unwrap_or_default(),
            "Devices": null,
            "DeviceCgroupRules": list(&rules),
            "DeviceRequests": null,
            "MemoryReservation": self.memory_reservation.unwrap_or(0),
            "MemorySwap": swap,
            "MemorySwappiness": self.memory_swappiness,
            "OomKillDisable": self.oom_kill_disable,
            "PidsLimit": self.pids_limit.filter(|limit| *limit > 0),
            "Ulimits": null,
            "CpuCount": 0,
            "CpuPercent": 0,
            "IOMaximumIOps": 0,
            "IOMaximumBandwidth": 0,
        }));
        if !self.hugetlb_limits.is_empty() {
            fields.insert("HugetlbLimits".into(), json!(self.hugetlb_limits));
        }
        fields
    }

    /// Whether the device filter is the default one.
    pub fn default_devices(&self) -> bool {
        !self.all_devices && self.device_cgroup_rules.is_empty()
    }

    /// Memory and swap together for v1's `memsw`: `None` leaves it alone, `Some(None)` is unlimited.
    /// Docker's default is twice the memory.
    pub fn memory_and_swap(&self) -> Option<Option<u64>> {
        match (self.memory_swap, self.memory) {
            (Some(-1), _) => Some(None),
            (Some(swap), _) if swap > 0 => Some(u64::try_from(swap).ok()),
            (_, Some(memory)) => Some(Some(memory.saturating_mul(2))),
            (_, None) => None,
        }
    }

    /// Quota and period in microseconds, from whichever flags were used; no quota is unlimited.
    pub fn cpu_quota_and_period(&self) -> Option<(Option<u64>, u64)> {
        let period = self.cpu_period.filter(|period| *period != 0).unwrap_or(DEFAULT_CPU_PERIOD);
        if let Some(nano) = self.nano_cpus.filter(|nano| *nano != 0) {
            return Some((Some(nano.saturating_mul(period) / 1_000_000_000), period));
        }
        match (self.cpu_quota.filter(|quota| *quota != 0), self.cpu_period) {
            (None, None | Some(0)) => None,
            (quota, _) => Some((quota.and_then(|quota| u64::try_from(quota).ok()), period)),
        }
    }

    /// Refuses what cannot hold on `host`, in Docker's order and words.
    pub fn validate(&self, host: &HostLimits) -> Result<(), ResourcesError> {
        self.validate_memory()?;
        self.validate_cpu(host)?;
        check_list(self.cpuset_cpus.as_deref(), "cpus", "CPUs", &host.cpus)?;
        check_list(self.cpuset_mems.as_deref(), "mems", "memory nodes", &host.mems)?;
        if self.pids_limit.is_some_and(|limit| limit < -1) {
            return Err(ResourcesError::Pids(self.pids_limit.unwrap_or_default()));
        }
        if self.blkio_weight.is_some_and(|weight| weight != 0 && !BLKIO_WEIGHTS.contains(&weight)) {
            return Err(ResourcesError::BlkioWeight);
        }
        Ok(self.hugetlb_limits.iter().try_for_each(|limit| limit.validate(&host.huge_pages))?)
    }

    /// These limits with those of `change` laid over them, as `update` does: 0 and absent change nothing. What
    /// Docker refuses is refused in its words; the result is not validated yet.
    pub fn updated(&self, change: &Self) -> Result<Self, ResourcesError> {
        let set = |value: Option<u64>| value.filter(|value| *value != 0);
        let mut new = self.clone();
        let period = set(change.cpu_period);
        let quota = change.cpu_quota.filter(|quota| *quota != 0);
        let nano = set(change.nano_cpus);
        let refuse = |new, old| Err(ResourcesError::CpusAlreadySet { new, old });
        if set(self.nano_cpus).is_some() && period.is_some() {
            return refuse("CPU Period", "NanoCPUs");
        }
        if set(self.nano_cpus).is_some() && quota.is_some() {
            return refuse("CPU Quota", "NanoCPUs");
        }
        if nano.is_some() && set(self.cpu_period).is_some() {
            return refuse("NanoCPUs", "CPU Period");
        }
        if nano.is_some() && self.cpu_quota.is_some_and(|quota| quota != 0) {
            return refuse("NanoCPUs", "CPU Quota");
        }
        new.nano_cpus = nano.or(self.nano_cpus);
        new.cpu_period = period.or(self.cpu_period);
        new.cpu_quota = quota.or(self.cpu_quota);
        new.cpu_shares = set(change.cpu_shares).or(self.cpu_shares);
        let text = |new: &Option<String>, old: &Option<String>| {
            new.clone().filter(|text| !text.is_empty()).or_else(|| old.clone())
        };
        new.cpuset_cpus = text(&change.cpuset_cpus, &self.cpuset_cpus);
        new.cpuset_mems = text(&change.cpuset_mems, &self.cpuset_mems);
        new.pids_limit = change.pids_limit.or(self.pids_limit);
        new.blkio_weight = change.blkio_weight.filter(|weight| *weight != 0).or(self.blkio_weight);
        new.memory_reservation = set(change.memory_reservation).or(self.memory_reservation);
        new.hugetlb_limits = HugetlbLimit::updated(&self.hugetlb_limits, &change.hugetlb_limits);
        let swap = change.memory_swap.filter(|swap| *swap != 0);
        if let Some(memory) = set(change.memory) {
            // A limit that was there keeps its swap, also the one it got by default.
            let kept = self
                .memory_swap
                .filter(|swap| *swap != 0)
                .or_else(|| set(self.memory).and_then(|memory| i64::try_from(memory.saturating_mul(2)).ok()));
            if swap.is_none() && kept.is_some_and(|kept| kept >= 0 && kept.unsigned_abs() < memory) {
                return Err(ResourcesError::MemoryAboveSwapSet);
            }
            new.memory = Some(memory);
            new.memory_swap = kept;
        }
        new.memory_swap = swap.or(new.memory_swap);
        Ok(new)
    }

    fn validate_memory(&self) -> Result<(), ResourcesError> {
        let memory = self.memory.filter(|memory| *memory != 0);
        let reservation = self.memory_reservation.filter(|memory| *memory != 0);
        let swap = self.memory_swap.unwrap_or_default();
        if let Some(swappiness) = self.memory_swappiness.filter(|swappiness| *swappiness > 100) {
            return Err(ResourcesError::Swappiness(swappiness.try_into().unwrap_or(i64::MAX)));
        }
        if memory.is_some_and(|memory| memory < MIN_MEMORY) {
            return Err(ResourcesError::MemoryTooSmall);
        }
        if swap < -1 {
            return Err(ResourcesError::SwapNegative(swap));
        }
        if swap > 0 {
            match memory {
                None => return Err(ResourcesError::SwapWithoutMemory),
                Some(memory) if (swap as u64) < memory => return Err(ResourcesError::SwapBelowMemory),
                Some(_) => {}
            }
        }
        match (reservation, memory) {
            (Some(reservation), _) if reservation < MIN_MEMORY => Err(ResourcesError::ReservationTooSmall),
            (Some(reservation), Some(memory)) if memory < reservation => {
                Err(ResourcesError::MemoryBelowReservation)
            }
            _ => Ok(()),
        }
    }

    fn validate_cpu(&self, host: &HostLimits) -> Result<(), ResourcesError> {
        if let Some(nano) = self.nano_cpus.filter(|nano| *nano != 0) {
            if self.cpu_period.is_some_and(|period| period != 0) {
                return Err(ResourcesError::CpusAndPeriod);
            }
            if self.cpu_quota.is_some_and(|quota| quota != 0) {
                return Err(ResourcesError::CpusAndQuota);
            }
            if !(10_000_000..=u64::from(host.count) * 1_000_000_000).contains(&nano) {
                return Err(ResourcesError::CpusOutOfRange(host.count));
            }
        }
        if self.cpu_period.is_some_and(|period| period != 0 && !(1000..=1_000_000).contains(&period)) {
            return Err(ResourcesError::PeriodOutOfRange);
        }
        if self.cpu_quota.is_some_and(|quota| quota > 0 && quota < 1000) {
            return Err(ResourcesError::QuotaTooSmall);
        }
        Ok(())
    }
}

fn check_list(
    list: Option<&str>,
    what: &'static str,
    named: &'static str,
    available: &str,
) -> Result<(), ResourcesError> {
    let Some(list) = list.filter(|list| !list.is_empty()) else { return Ok(()) };
    let wanted = parse_list(list)
        .ok_or_else(|| ResourcesError::CpusetSyntax { what, value: list.escape_debug().to_string() })?;
    // A host that does not tell what it has is left to the kernel's own check.
    if let Some(have) = parse_list(available.trim()).filter(|have| !have.is_empty())
        && !wanted.is_subset(&have)
    {
        return Err(ResourcesError::CpusetUnavailable {
            what: named,
            requested: list.to_owned(),
            available: available.trim().to_owned(),
        });
    }
    Ok(())
}

/// The numbers of a kernel list such as `0-2,4` (cpuset(7), "List format"); `None` when it is no list.
pub fn parse_list(list: &str) -> Option<BTreeSet<u32>> {
    let number = |text: &str| -> Option<u32> {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        text.parse().ok().filter(|n| digits && *n <= MAX_CPU)
    };
    let mut set = BTreeSet::new();
    if list.is_empty() {
        return Some(set);
    }
    for part in list.split(',') {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        let (low, high) = (number(low)?, number(high)?);
        if low > high {
            return None;
        }
        set.extend(low..=high);
    }
    Some(set)
}

/// `--cpus 1.5` in billionths of a processor.
pub fn parse_cpus(text: &str) -> Result<u64, ResourcesError> {
    let bad = || ResourcesError::CpusSyntax(text.escape_debug().to_string());
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !digits(whole) || !digits(fraction) {
        return Err(bad());
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > 9 {
        return Err(ResourcesError::CpusTooPrecise);
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| bad())? };
    let nano: u64 = format!("{fraction:0<9}").parse().map_err(|_| bad())?;
    whole.checked_mul(1_000_000_000).and_then(|whole| whole.checked_add(nano)).ok_or_else(bad)
}

/// The weight that a group has at one block device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeviceWeight {
    /// Its node on the host.
    pub path: String,
    /// From 10 to 1000; 0 is none of its own.
    pub weight: u16,
}

impl std::str::FromStr for DeviceWeight {
    type Err = ResourcesError;

    /// `/dev/sda:200`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let one = DeviceRate::parse(text, |weight| {
            weight
                .parse::<u16>()
                .ok()
                .filter(|weight| *weight == 0 || BLKIO_WEIGHTS.contains(weight))
                .map(u64::from)
        });
        let one = one.map_err(|error| match error {
            ResourcesError::DeviceRate(shown) => ResourcesError::DeviceWeight(shown),
            other => other,
        })?;
        Ok(Self { path: one.path, weight: u16::try_from(one.rate).unwrap_or_default() })
    }
}

/// The weights of block I/O that there are.
const BLKIO_WEIGHTS: std::ops::RangeInclusive<u16> = 10..=1000;

/// A rate limit of one block device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeviceRate {
    /// Its node on the host.
    pub path: String,
    /// Bytes or operations a second.
    pub rate: u64,
}

impl DeviceRate {
    /// `/dev/sda:1mb`.
    pub fn parse_bps(text: &str) -> Result<Self, ResourcesError> {
        Self::parse(text, |rate| rate.parse::<Size>().ok().map(Size::bytes))
    }

    /// `/dev/sda:1000`.
    pub fn parse_iops(text: &str) -> Result<Self, ResourcesError> {
        Self::parse(text, |rate| rate.parse().ok())
    }

    fn parse(text: &str, rate: impl Fn(&str) -> Option<u64>) -> Result<Self, ResourcesError> {
        let shown = || text.escape_debug().to_string();
        let (path, value) = text.rsplit_once(':').ok_or_else(|| ResourcesError::DeviceRateSyntax(shown()))?;
        if !path.starts_with("/dev/") {
            return Err(ResourcesError::DeviceRatePath(shown()));
        }
        let rate = rate(value).ok_or_else(|| ResourcesError::DeviceRate(shown()))?;
        Ok(Self { path: path.to_owned(), rate })
    }
}

/// What kind of device a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeviceKind {
    /// `a`
    All,
    /// `b`
    Block,
    /// `c`
    Char,
}

impl DeviceKind {
    const fn letter(self) -> char {
        match self {
            Self::All => 'a',
            Self::Block => 'b',
            Self::Char => 'c',
        }
    }
}

/// What may be done with a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[allow(clippy::struct_excessive_bools)] // Three letters of the kernel's grammar.
pub struct DeviceAccess {
    /// `r`
    pub read: bool,
    /// `w`
    pub write: bool,
    /// `m`
    pub mknod: bool,
}

impl DeviceAccess {
    /// `rwm`
    pub const ALL: Self = Self { read: true, write: true, mknod: true };
    /// `m`
    pub const MKNOD: Self = Self { read: false, write: false, mknod: true };

    /// `rwm` or a part of it, each letter at most once; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let mut access = Self::default();
        for letter in text.chars() {
            let flag = match letter {
                'r' => &mut access.read,
                'w' => &mut access.write,
                'm' => &mut access.mknod,
                _ => return None,
            };
            if std::mem::replace(flag, true) {
                return None;
            }
        }
        (!text.is_empty()).then_some(access)
    }
}

impl fmt::Display for DeviceAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (set, letter) in [(self.read, "r"), (self.write, "w"), (self.mknod, "m")] {
            if set {
                f.write_str(letter)?;
            }
        }
        Ok(())
    }
}

/// One line of the device controller: `c 1:3 rwm`. Displays as v1's `devices.allow` takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeviceRule {
    /// Character, block or both.
    pub kind: DeviceKind,
    /// Absent: every major number.
    pub major: Option<u32>,
    /// Absent: every minor number.
    pub minor: Option<u32>,
    /// What is allowed.
    pub access: DeviceAccess,
}

impl FromStr for DeviceRule {
    type Err = ResourcesError;

    fn from_str(text: &str) -> Result<Self, ResourcesError> {
        rule(text).ok_or_else(|| ResourcesError::DeviceRule(text.escape_debug().to_string()))
    }
}

fn rule(text: &str) -> Option<DeviceRule> {
    let number = |text: &str| -> Option<Option<u32>> {
        if text == "*" {
            return Some(None);
        }
        (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()))
            .then(|| text.parse().ok())
            .flatten()
            .map(Some)
    };
    let mut parts = text.split(' ');
    let kind = match parts.next()? {
        "a" => DeviceKind::All,
        "b" => DeviceKind::Block,
        "c" => DeviceKind::Char,
        _ => return None,
    };
    let (major, minor) = parts.next()?.split_once(':')?;
    let access = DeviceAccess::parse(parts.next()?)?;
    let rule = DeviceRule { kind, major: number(major)?, minor: number(minor)?, access };
    parts.next().is_none().then_some(rule)
}

impl fmt::Display for DeviceRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |number: Option<u32>| number.map_or_else(|| "*".to_owned(), |number| number.to_string());
        write!(f, "{} {}:{} {}", self.kind.letter(), show(self.major), show(self.minor), self.access)
    }
}

impl TryFrom<String> for DeviceRule {
    type Error = ResourcesError;

    fn try_from(text: String) -> Result<Self, ResourcesError> {
        text.parse()
    }
}

impl From<DeviceRule> for String {
    fn from(rule: DeviceRule) -> Self {
        rule.to_string()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn host() -> HostLimits {
        HostLimits { count: 2, cpus: "0-1".into(), mems: "0".into(), huge_pages: Vec::new() }
    }

    fn refusal(resources: &Resources) -> String {
        resources.validate(&host()).unwrap_err().to_string()
    }

    #[test]
    fn refuses_in_dockers_words() {
        let base = Resources::default;
        assert_eq!(base().validate(&host()), Ok(()));
        let memory = Resources { memory: Some(5 << 20), ..base() };
        assert_eq!(refusal(&memory), "Minimum memory limit allowed is 6MB");
        let swap = Resources { memory: Some(64 << 20), memory_swap: Some(32 << 20), ..base() };
        assert!(refusal(&swap).starts_with("Minimum memoryswap limit should be larger"));
        let alone = Resources { memory_swap: Some(32 << 20), ..base() };
        assert!(refusal(&alone).starts_with("You should always set the Memory limit"));
        let reserve = Resources { memory: Some(64 << 20), memory_reservation: Some(65 << 20), ..base() };
        assert!(refusal(&reserve).contains("memory reservation"));
        let cpus = Resources { nano_cpus: Some(3_000_000_000), ..base() };
        assert_eq!(refusal(&cpus), "range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available");
        let tiny = Resources { nano_cpus: Some(1_000_000), ..base() };
        assert!(refusal(&tiny).starts_with("range of CPUs"));
        let both = Resources { nano_cpus: Some(1_000_000_000), cpu_quota: Some(5000), ..base() };
        assert!(refusal(&both).contains("CPU Quota cannot both"));
        assert!(refusal(&Resources { cpu_period: Some(10), ..base() }).contains("cfs period"));
        assert!(refusal(&Resources { cpu_quota: Some(10), ..base() }).contains("cfs quota"));
        assert!(refusal(&Resources { blkio_weight: Some(9), ..base() }).contains("blkio weight"));
        assert!(refusal(&Resources { pids_limit: Some(-2), ..base() }).contains("pids"));
        let list = |list: &str| Resources { cpuset_cpus: Some(list.into()), ..base() };
        assert_eq!(refusal(&list("0-")), "Invalid value 0- for cpuset cpus");
        assert_eq!(refusal(&list("0,2")), "Requested CPUs are not available - requested 0,2, available: 0-1");
        let mems = Resources { cpuset_mems: Some("1".into()), ..base() };
        assert!(refusal(&mems).starts_with("Requested memory nodes are not available"));
    }

    #[test]
    fn updates_lie_over_what_is_set() {
        let old = Resources { memory: Some(64 << 20), cpu_shares: Some(512), ..Resources::defaults() };
        let more = Resources { memory: Some(100 << 20), ..Resources::default() };
        let new = old.updated(&more).unwrap();
        assert_eq!((new.memory, new.memory_swap), (Some(100 << 20), Some(128 << 20)));
        assert_eq!((new.cpu_shares, new.pids_limit), (Some(512), Some(DEFAULT_PIDS_LIMIT)));
        let above = Resources { memory: Some(200 << 20), ..Resources::default() };
        assert_eq!(old.updated(&above), Err(ResourcesError::MemoryAboveSwapSet));
        let with_swap = Resources { memory_swap: Some(-1), ..above.clone() };
        assert_eq!(old.updated(&with_swap).unwrap().memory_swap, Some(-1));
        // Without a limit before there is no swap to keep.
        assert_eq!(Resources::default().updated(&above).unwrap().memory_swap, None);
        let cpus = Resources { nano_cpus: Some(1_000_000_000), ..Resources::default() };
        let quota = Resources { cpu_quota: Some(50_000), ..Resources::default() };
        assert!(cpus.updated(&quota).is_err() && quota.updated(&cpus).is_err());
        assert_eq!(cpus.updated(&cpus), Ok(cpus.clone()));
    }

    #[test]
    fn lists_and_cpus() {
        assert_eq!(parse_list("0-2,4").unwrap().into_iter().collect::<Vec<_>>(), [0, 1, 2, 4]);
        for bad in ["a", "1-", "-1", "2-1", "1,,2", "+1", "1-99999", " 1"] {
            assert_eq!(parse_list(bad), None, "{bad}");
        }
        assert_eq!(parse_cpus("1.5"), Ok(1_500_000_000));
        assert_eq!(parse_cpus(".5"), Ok(500_000_000));
        assert_eq!(parse_cpus("2"), Ok(2_000_000_000));
        assert_eq!(parse_cpus("0.0000000001"), Err(ResourcesError::CpusTooPrecise));
        for bad in ["", ".", "-1", "1e3", "x", "1.2.3", "99999999999999999999"] {
            assert!(parse_cpus(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn derived_values() {
        let mut resources = Resources { memory: Some(64 << 20), ..Resources::default() };
        assert_eq!(resources.memory_and_swap(), Some(Some(128 << 20)));
        resources.memory_swap = Some(-1);
        assert_eq!(resources.memory_and_swap(), Some(None));
        assert_eq!(Resources::default().memory_and_swap(), None);
        resources.nano_cpus = Some(500_000_000);
        assert_eq!(resources.cpu_quota_and_period(), Some((Some(50_000), 100_000)));
        let period = Resources { cpu_period: Some(50_000), ..Resources::default() };
        assert_eq!(period.cpu_quota_and_period(), Some((None, 50_000)));
        assert_eq!(Resources::default().cpu_quota_and_period(), None);
    }

    #[test]
    fn device_rules_and_rates() {
        let rule: DeviceRule = "c 136:* rw".parse().unwrap();
        assert_eq!((rule.major, rule.minor, rule.access.mknod), (Some(136), None, false));
        assert_eq!(rule.to_string(), "c 136:* rw");
        assert_eq!(serde_json::to_string(&rule).unwrap(), r#""c 136:* rw""#);
        for bad in
            ["", "x 1:3 r", "c 1 r", "c 1:3 ", "c 1:3 rr", "c 1:3 x", "c 1:3 r ", "c -1:3 r", "c  1:3 r"]
        {
            assert!(bad.parse::<DeviceRule>().is_err(), "{bad}");
        }
        let rate = DeviceRate::parse_bps("/dev/sda:1mb").unwrap();
        assert_eq!((rate.path.as_str(), rate.rate), ("/dev/sda", 1 << 20));
        for bad in ["/dev/sda", "sda:1mb", "/dev/sda:x", "/dev/sda:-1"] {
            assert!(DeviceRate::parse_bps(bad).is_err(), "{bad}");
        }
        assert!(DeviceRate::parse_iops("/dev/sda:1mb").is_err());
    }

    #[test]
    fn json_is_dockers() {
        let json = serde_json::to_value(Resources::defaults()).unwrap();
        assert_eq!(json["PidsLimit"], 2048);
        assert_eq!(serde_json::from_str::<Resources>("{\"Memory\":7}").unwrap().memory, Some(7));
    }
}

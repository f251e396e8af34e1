//! The options that `run`, `create` and `update` share: limits, and what follows the end.

use rbox_engine::spec::hugetlb::HugetlbLimit;
use rbox_engine::spec::resources::{Resources, ResourcesError, parse_cpus};
use rbox_engine::spec::restart::RestartPolicy;
use rbox_engine::spec::size::Size;

use crate::command::error::bad_input;

/// Limits that can be changed while a container runs, and its restart policy.
#[derive(Debug, clap::Args)]
pub(crate) struct LimitFlags {
    /// Relative weight of block IO, 10 to 1000
    #[arg(long, value_name = "N")]
    blkio_weight: Option<u16>,
    /// Length of the period in microseconds
    #[arg(long, value_name = "US")]
    cpu_period: Option<u64>,
    /// Microseconds of CPU time in each period; -1 for no limit
    #[arg(long, value_name = "US", allow_negative_numbers = true)]
    cpu_quota: Option<i64>,
    /// Relative weight of CPU time (1024 is usual)
    #[arg(short = 'c', long, value_name = "N")]
    cpu_shares: Option<u64>,
    /// Number of CPUs, such as 1.5
    #[arg(long, value_name = "N")]
    cpus: Option<String>,
    /// CPUs to run on, such as 0-2,4
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Memory nodes to use, such as 0,1
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// Limit of memory in huge pages of one size (PAGESIZE=LIMIT, such as 2MB=64m; -1 for no limit)
    #[arg(long, value_name = "PAGESIZE=LIMIT")]
    hugetlb_limit: Vec<String>,
    /// Limit of memory, such as 512m
    #[arg(short, long, value_name = "SIZE")]
    memory: Option<String>,
    /// Memory that is kept free for it when the host runs short
    #[arg(long, value_name = "SIZE")]
    memory_reservation: Option<String>,
    /// Limit of memory and swap together; -1 for no limit of swap
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    memory_swap: Option<String>,
    /// Most processes it may have; -1 for no limit
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pids_limit: Option<i64>,
    /// When to start it again after its end: no, on-failure[:N], always or unless-stopped
    #[arg(long, value_name = "POLICY")]
    restart: Option<String>,
}

impl LimitFlags {
    /// The limits as they were given: 0 is whatever it means to the command.
    pub(crate) fn resources(&self) -> anyhow::Result<Resources> {
        Ok(Resources {
            blkio_weight: self.blkio_weight,
            cpu_period: self.cpu_period,
            cpu_quota: self.cpu_quota,
            cpu_shares: self.cpu_shares,
            nano_cpus: self.cpus.as_deref().map(parse_cpus).transpose().map_err(bad_input)?,
            cpuset_cpus: self.cpuset_cpus.clone(),
            cpuset_mems: self.cpuset_mems.clone(),
            hugetlb_limits: self.hugetlb_limits()?,
            memory: self.memory.as_deref().map(size).transpose()?,
            memory_reservation: self.memory_reservation.as_deref().map(size).transpose()?,
            memory_swap: self.memory_swap.as_deref().map(swap).transpose()?,
            pids_limit: self.pids_limit,
            ..Resources::default()
        })
    }

    fn hugetlb_limits(&self) -> anyhow::Result<Vec<HugetlbLimit>> {
        let given: Result<Vec<_>, _> = self
            .hugetlb_limit
            .iter()
            .map(|text| text.parse().map_err(|error| bad_input(ResourcesError::Hugetlb(error))))
            .collect();
        Ok(HugetlbLimit::updated(&[], &given?))
    }

    /// The policy, when one was given.
    pub(crate) fn restart(&self) -> anyhow::Result<Option<RestartPolicy>> {
        self.restart.as_deref().map(|text| text.parse().map_err(bad_input)).transpose()
    }
}

pub(crate) fn size(text: &str) -> anyhow::Result<u64> {
    text.parse::<Size>().map(|size| size.0).map_err(bad_input)
}

/// `--memory-swap`: a size, or -1 for no limit.
fn swap(text: &str) -> anyhow::Result<i64> {
    if text == "-1" { Ok(-1) } else { i64::try_from(size(text)?).map_err(bad_input) }
}

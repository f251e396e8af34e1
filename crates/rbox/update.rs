//! `rbox update`: other limits and another restart policy for containers that exist.

use clap::Parser;
use rbox_engine::spec::resources::{Resources, parse_cpus};
use rbox_engine::update::{Change, update};

use crate::cli::{Execute, Global, bad_input, each, say};
use crate::flags::{policy, size, swap};

/// Update configuration of one or more containers
#[derive(Debug, Parser)]
#[command(
    name = "update",
    after_help = "Examples:\n  rbox update -m 512m --memory-swap 1g web     # also while it runs\n  rbox update --cpus 1.5 web db\n  rbox update --restart unless-stopped web"
)]
pub(crate) struct Update {
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
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Execute for Update {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let change = self.change()?;
        if change.limits == Resources::default() && change.restart.is_none() {
            return Err(bad_input("you must provide one or more flags when using this command"));
        }
        Ok(each(&self.containers, |name| {
            update(&global.paths, &global.container(name)?, &change)?;
            say(name)
        }))
    }
}

impl Update {
    fn change(&self) -> anyhow::Result<Change> {
        let limits = Resources {
            blkio_weight: self.blkio_weight,
            cpu_period: self.cpu_period,
            cpu_quota: self.cpu_quota,
            cpu_shares: self.cpu_shares,
            nano_cpus: self.cpus.as_deref().map(parse_cpus).transpose().map_err(bad_input)?,
            cpuset_cpus: self.cpuset_cpus.clone(),
            cpuset_mems: self.cpuset_mems.clone(),
            memory: self.memory.as_deref().map(size).transpose()?,
            memory_reservation: self.memory_reservation.as_deref().map(size).transpose()?,
            memory_swap: self.memory_swap.as_deref().map(swap).transpose()?,
            pids_limit: self.pids_limit,
            ..Resources::default()
        };
        Ok(Change { limits, restart: self.restart.as_deref().map(policy).transpose()? })
    }
}

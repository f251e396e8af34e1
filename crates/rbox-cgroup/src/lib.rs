//! Limits, freeze, kill, statistics and OOM events of a container's control group, v2 and v1.
//!
//! # Two worlds and the one between
//! On a v2 host a container is one directory below the cgroup2 mount, and `clone3(CLONE_INTO_CGROUP)` starts
//! its first process there. On a v1 host each controller is a tree of its own. A hybrid host has both: v1 trees
//! with the controllers and a cgroup2 mount without. There the container gets its v2 directory as well, for
//! `cgroup.kill`, `cgroup.freeze`, `cgroup.events` and the CPU time in `cpu.stat`, which need no controller.
//!
//! # Who enters how
//! [`Cgroup::clone_into`] is the directory for clone3. [`Cgroup::join_fds`] are the `tasks` files of the v1
//! trees, opened by the parent: the child, still single-threaded, writes `0` to each, then unshares its cgroup
//! namespace (before, the namespace would show the parent's groups). Writing anything but that waits for an RCU
//! grace period, because the kernel has to keep every thread of the machine from forking meanwhile. Median and
//! worst of 20 writes, 150 ms apart, on a 2-core 6.18 machine:
//!
//! | write | ms |
//! |---|---|
//! | `0` to v1 `tasks` by the task itself | 0.03, 0.17 |
//! | `0` to v1 `cgroup.procs` by the task itself | 5.5 to 12, 20 |
//! | `0` to v2 `cgroup.procs` by the task itself | 16, 16 |
//! | a pid to v1 `tasks` by the parent | 5.3, 14 |
//! | a pid to v1 `cgroup.procs` by the parent | 9.2, 17 |
//!
//! (Writes that follow each other within a few milliseconds share one grace period and look cheap: 0.02 ms.)
//!
//! # What is made
//! Each v1 directory costs 45 µs to make and open and 25 µs to enter, so only those that are needed exist: pids
//! and memory always; cpuacct and freezer where there is no v2 tree; cpu, cpuset, blkio and hugetlb with a limit that
//! needs them. On v2 hugetlb is turned on with the first limit of it: few hosts have huge pages at all. The default device filter is on the parent group, once for all (see [`device`]); containers
//! enter that group for the devices controller unless their own rules differ.
//!
//! # cgroups-rs
//! The statistics that v1 spreads over files in its own formats are read through cgroups-rs. Not the rest:
//! what makes a container must go through the trace, its v2 swap setters are wrong, it creates all controllers
//! it finds, and it knows neither `CLONE_INTO_CGROUP`, device eBPF, `cgroup.kill` nor mixed hosts.
#![forbid(unsafe_code)]

mod control;
pub mod device;
mod dir;
mod error;
mod group;
pub mod hierarchy;
mod limits;
mod members;
mod oom;
mod paths;
mod place;
mod stats;
mod tree;

pub use error::CgroupError;
pub use group::{Cgroup, remove_parents};
pub use hierarchy::{Controller, Hierarchy};
pub use limits::host_limits;
pub use oom::OomWatch;
pub use paths::CgroupPaths;
pub use place::check_path;
pub use stats::{CpuStats, IoStats, MemoryStats, PidsStats, Stats};

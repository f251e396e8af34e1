//! The processes of a group.

use std::path::Path;

use crate::dir;

/// Nested groups deeper than this are not looked into; the kernel's own tools stop earlier.
pub(crate) const MAX_DEPTH: usize = 32;

/// The processes of a group and all below it.
pub(crate) fn pids_of(group: &Path) -> Vec<i32> {
    let mut pids = Vec::new();
    collect(group, 0, &mut pids);
    pids.sort_unstable();
    pids.dedup();
    pids
}

fn collect(group: &Path, depth: usize, pids: &mut Vec<i32>) {
    // 0 stands for a process this pid namespace cannot see.
    let text = dir::read(group, "cgroup.procs").unwrap_or_default();
    pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
    if depth < MAX_DEPTH {
        for child in dir::children(group) {
            collect(&child, depth + 1, pids);
        }
    }
}

//! Where the host's control groups are mounted, from /proc/self/mountinfo (`proc_pid_mountinfo(5)`).

use crate::dir;
use crate::error::{CgroupError, Result};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The v2 controllers a container's limits live in.
pub(crate) const V2_CONTROLLERS: [&str; 6] = ["cpu", "cpuset", "hugetlb", "io", "memory", "pids"];

/// Where the unit's group is: system services are in this slice, and the unit is called so.
const UNIT: &str = "system.slice/rbox.service";

/// A controller that limits or counts what a container uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)] // Named as the kernel names them.
pub enum Controller {
    Blkio,
    Cpu,
    Cpuacct,
    Cpuset,
    Devices,
    Freezer,
    Hugetlb,
    Memory,
    Pids,
}

impl Controller {
    /// Each of them.
    pub const ALL: [Self; 9] = [
        Self::Blkio,
        Self::Cpu,
        Self::Cpuacct,
        Self::Cpuset,
        Self::Devices,
        Self::Freezer,
        Self::Hugetlb,
        Self::Memory,
        Self::Pids,
    ];

    /// The name in v1's mount options and in /proc/PID/cgroup.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Blkio => "blkio",
            Self::Cpu => "cpu",
            Self::Cpuacct => "cpuacct",
            Self::Cpuset => "cpuset",
            Self::Devices => "devices",
            Self::Freezer => "freezer",
            Self::Hugetlb => "hugetlb",
            Self::Memory => "memory",
            Self::Pids => "pids",
        }
    }
}

/// A v1 tree: the controllers mounted together and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct V1Mount {
    /// One or more, `cpu,cpuacct` being the usual pair.
    pub controllers: Vec<Controller>,
    /// Its root directory.
    pub mountpoint: PathBuf,
}

impl V1Mount {
    /// As in its mount options: `cpu,cpuacct`.
    pub fn names(&self) -> String {
        self.controllers.iter().map(|c| c.name()).collect::<Vec<_>>().join(",")
    }
}

/// The host's control groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    unified: Option<PathBuf>,
    v1: Vec<V1Mount>,
}

impl Hierarchy {
    /// The host's control groups, looked up once a process.
    pub fn detect() -> Result<&'static Self> {
        static FOUND: OnceLock<Hierarchy> = OnceLock::new();
        if let Some(found) = FOUND.get() {
            return Ok(found);
        }
        let text = std::fs::read_to_string("/proc/self/mountinfo").map_err(CgroupError::Mountinfo)?;
        let found = Self::parse(&text).ok_or(CgroupError::NoHierarchy)?;
        Ok(FOUND.get_or_init(|| found))
    }

    /// Reads a mountinfo file. The first mount of each tree below /sys/fs/cgroup wins, then any other.
    pub fn parse(mountinfo: &str) -> Option<Self> {
        let mut mounts: Vec<_> = mountinfo.lines().filter_map(cgroup_mount).collect();
        // Containers' own views are mounted elsewhere; the host's stand first after this stable sort.
        mounts.sort_by_key(|(_, mountpoint, _)| !mountpoint.starts_with("/sys/fs/cgroup"));
        let mut found = Self { unified: None, v1: Vec::new() };
        for (kind, mountpoint, options) in mounts {
            if kind == "cgroup2" {
                found.unified.get_or_insert(mountpoint);
                continue;
            }
            let controllers: Vec<_> = Controller::ALL
                .into_iter()
                .filter(|c| options.split(',').any(|option| option == c.name()) && found.v1(*c).is_none())
                .collect();
            if !controllers.is_empty() {
                found.v1.push(V1Mount { controllers, mountpoint });
            }
        }
        (found.unified.is_some() || !found.v1.is_empty()).then_some(found)
    }

    /// The cgroup2 mount.
    pub fn unified(&self) -> Option<&Path> {
        self.unified.as_deref()
    }

    /// The v1 tree that has `controller`.
    pub fn v1(&self, controller: Controller) -> Option<&V1Mount> {
        self.v1.iter().find(|mount| mount.controllers.contains(&controller))
    }

    /// All v1 trees.
    pub fn v1_mounts(&self) -> &[V1Mount] {
        &self.v1
    }

    /// Whether v2 is all there is: limits are set there.
    pub fn is_v2(&self) -> bool {
        self.v1.is_empty()
    }

    /// The group, relative to the root, of the unit that rbox ships for systemd, where systemd has delegated it: there,
    /// and nowhere else below the root, systemd leaves the groups to others (systemd's `CGROUP_DELEGATION`). Only on a
    /// v2 host; v1 trees are not delegated.
    pub fn delegated(&self) -> Option<&'static str> {
        let unit = self.unified().filter(|_| self.is_v2())?.join(UNIT);
        let mut value = [0_u8; 8];
        let told = ["trusted.delegate", "user.delegate"].into_iter().any(|name| {
            rustix::fs::getxattr(&unit, name, &mut value).is_ok_and(|length| value[..length] == *b"1")
        });
        told.then_some(UNIT)
    }

    /// The group of the monitors in the delegated unit, made when missing; none without such a unit.
    pub fn monitors(&self) -> Option<OwnedFd> {
        dir::open(&self.monitors_path()?).ok()
    }

    /// Moves this process to the group of the monitors: the unit's own group may have no processes of its own once
    /// groups below it have controllers. Nothing happens without a delegated unit.
    pub fn enter_monitors(&self) -> Result<()> {
        let Some(group) = self.monitors_path() else { return Ok(()) };
        dir::write(&group, "cgroup.procs", "0").map_err(|source| CgroupError::Sys {
            what: "enter",
            group,
            source,
        })
    }

    fn monitors_path(&self) -> Option<PathBuf> {
        let group = self.unified()?.join(self.delegated()?).join("monitors");
        dir::make(&group).ok()?;
        Some(group)
    }

    /// Each v1 tree's controllers, as its mount options name them, and where it is mounted; then each controller
    /// that limits are set through and that the v2 tree has (`cgroup.controllers` of its root).
    pub fn controllers(&self) -> Vec<(String, &Path)> {
        let v1 = self.v1.iter().map(|mount| (mount.names(), mount.mountpoint.as_path()));
        let v2 = self.unified().into_iter().flat_map(|root| {
            let text = dir::read(root, "cgroup.controllers").unwrap_or_default();
            V2_CONTROLLERS
                .into_iter()
                .filter(move |name| text.split_ascii_whitespace().any(|one| one == *name))
                .map(move |name| (name.to_owned(), root))
        });
        v1.chain(v2).collect()
    }
}

/// File system type, mount point and super options of a mountinfo line that is a cgroup mount.
fn cgroup_mount(line: &str) -> Option<(&str, PathBuf, &str)> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let mut fields = filesystem.split(' ');
    let kind = fields.next().filter(|kind| matches!(*kind, "cgroup" | "cgroup2"))?;
    let options = fields.nth(1).unwrap_or_default();
    let mountpoint = mount.split(' ').nth(4)?;
    // Spaces in a path are written in octal there; no host's cgroup mount has one.
    (!mountpoint.contains('\\')).then(|| (kind, PathBuf::from(mountpoint), options))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn reads_a_v2_host() {
        let text = "24 1 0:22 / /sys rw - sysfs sysfs rw\n30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";
        let found = Hierarchy::parse(text).unwrap();
        assert!(found.is_v2());
        assert_eq!(found.unified(), Some(Path::new("/sys/fs/cgroup")));
    }

    #[test]
    fn reads_a_hybrid_host_and_skips_containers_views() {
        // The v2 tree is one that this machine has not: what it can limit would be counted, too.
        let text = "90 1 0:29 /x /run/c/sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
                    32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                    39 31 0:36 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
                    40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
                    41 31 0:38 / /nowhere/unified rw - cgroup2 cgroup2 rw\n";
        let found = Hierarchy::parse(text).unwrap();
        assert!(!found.is_v2());
        assert_eq!(found.unified(), Some(Path::new("/nowhere/unified")));
        let cpu = found.v1(Controller::Cpu).unwrap();
        assert_eq!(
            (cpu.names().as_str(), cpu.mountpoint.to_str().unwrap()),
            ("cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct")
        );
        assert_eq!(found.controllers().len(), 2);
        assert_eq!(found.v1(Controller::Memory), None);
    }

    #[test]
    fn names_what_the_v2_tree_can_limit() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        std::fs::write(root.join("cgroup.controllers"), "cpuset cpu io memory hugetlb pids\n").unwrap();
        let text = format!("30 24 0:26 / {} rw - cgroup2 cgroup2 rw\n", root.display());
        let found = Hierarchy::parse(&text).unwrap();
        let named: Vec<_> = found.controllers().into_iter().map(|(name, _)| name).collect();
        assert_eq!(named, V2_CONTROLLERS);
    }

    #[test]
    fn no_cgroups_is_none() {
        assert_eq!(Hierarchy::parse("24 1 0:22 / /sys rw - sysfs sysfs rw\n"), None);
    }
}

//! Which namespaces a container has of its own (namespaces(7)).

use rbox_sys::process::CloneFlags;

/// The namespaces a new process gets of its own; those not in it stay the parent's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamespaceSet(CloneFlags);

/// Each kind: its name under /proc/PID/ns and its flag.
pub const KINDS: [(&str, CloneFlags); 7] = [
    ("pid", CloneFlags::CLONE_NEWPID),
    ("mnt", CloneFlags::CLONE_NEWNS),
    ("uts", CloneFlags::CLONE_NEWUTS),
    ("ipc", CloneFlags::CLONE_NEWIPC),
    ("net", CloneFlags::CLONE_NEWNET),
    ("cgroup", CloneFlags::CLONE_NEWCGROUP),
    ("user", CloneFlags::CLONE_NEWUSER),
];

impl NamespaceSet {
    /// None of its own.
    pub const EMPTY: Self = Self(CloneFlags::empty());

    /// With the kind of this name (`pid`, `mnt`, …) added; an unknown name adds nothing.
    #[must_use]
    pub fn with(self, name: &str) -> Self {
        KINDS.iter().find(|(n, _)| *n == name).map_or(self, |(_, flag)| Self(self.0 | *flag))
    }

    /// Whether the kind of this name is in the set.
    pub fn has(self, name: &str) -> bool {
        KINDS.iter().any(|(n, flag)| *n == name && self.0.contains(*flag))
    }

    /// The flags for clone3(2). The cgroup namespace is left out: its root is the group of the process that
    /// makes it, and during clone that is still the parent's. The child makes it itself.
    pub fn clone_flags(self) -> CloneFlags {
        self.0 - CloneFlags::CLONE_NEWCGROUP
    }
}

/// The inode number that names a namespace, of `pid` or, for 0, of this process.
pub fn inode(pid: i32, name: &str) -> Option<u64> {
    let who = if pid == 0 { "self".to_owned() } else { pid.to_string() };
    rustix::fs::stat(format!("/proc/{who}/ns/{name}")).ok().map(|stat| stat.st_ino)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_child_makes_the_cgroup_namespace_itself() {
        let set = NamespaceSet::EMPTY.with("pid").with("cgroup").with("nonsense");
        assert!(set.has("cgroup") && set.has("pid") && !set.has("net"));
        assert_eq!(set.clone_flags(), CloneFlags::CLONE_NEWPID);
    }

    #[test]
    fn namespaces_have_inodes() {
        assert_eq!(inode(0, "pid"), inode(std::process::id() as i32, "pid"));
        assert!(inode(0, "pid").is_some());
    }
}

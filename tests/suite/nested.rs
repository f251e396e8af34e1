//! rbox where the tree of control groups that it sees does not begin at the machine's: as in a container.

use std::path::{Path, PathBuf};

use crate::harness::{BUSYBOX, Output, Test, binary, has, skipped, wait_until};

/// A v2 group for a shell that makes itself a cgroup namespace with that group as its root.
struct Outer(PathBuf);

impl Outer {
    /// None, having said why, where there is no pure v2 tree.
    fn make(t: &Test) -> Option<Self> {
        if !Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            skipped("needs a host with cgroup v2 only");
            return None;
        }
        if !has("unshare") {
            skipped("no unshare");
            return None;
        }
        let group = PathBuf::from("/sys/fs/cgroup").join(t.name("outer"));
        std::fs::create_dir(&group).unwrap();
        Some(Self(group))
    }

    /// Runs a script in it as in a container that may write its own groups.
    fn run(&self, t: &Test, script: &str) -> Output {
        let inside = format!(
            "mount --make-rprivate / && umount -l /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup && rbox={} && {script}",
            binary().display()
        );
        let outside =
            format!("echo $$ > {}/cgroup.procs && exec unshare -C -m sh -c '{inside}'", self.0.display());
        t.program("sh", ["-c", &outside]).run()
    }
}

impl Drop for Outer {
    fn drop(&mut self) {
        wait_until("the group is empty and gone", || {
            for below in std::fs::read_dir(&self.0).into_iter().flatten().flatten() {
                let _ = std::fs::remove_dir(below.path());
            }
            std::fs::remove_dir(&self.0).is_ok() || !self.0.exists()
        });
    }
}

#[test]
fn the_processes_at_the_root_make_room() {
    let Some(t) = Test::start() else { return };
    let Some(outer) = Outer::make(&t) else { return };
    let script = format!(
        "$rbox run --rm --network none -m 64m {BUSYBOX} cat /sys/fs/cgroup/memory.max && cat /proc/self/cgroup"
    );
    let out = outer.run(&t, &script).ok();
    assert_eq!(out, "67108864\n0::/init");
}

#[test]
fn a_tree_that_cannot_be_written_is_told() {
    let Some(t) = Test::start() else { return };
    let Some(outer) = Outer::make(&t) else { return };
    // A mount of its own that is read-only, not the super block: that is the host's.
    let script =
        format!("mount -o remount,bind,ro /sys/fs/cgroup && $rbox run --rm --network none {BUSYBOX} true");
    outer.run(&t, &script).refused(125, &["make the control group", "read-only", "--privileged"]);
}

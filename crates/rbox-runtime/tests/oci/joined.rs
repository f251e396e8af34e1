//! Namespaces joined by their paths.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::world::{World, wait_until};

/// A process in namespaces of its own.
struct Other(Child, i32);

impl Other {
    /// `flags` of unshare(1), which makes `sleep`.
    fn new(flags: &[&str]) -> Self {
        let mut command = Command::new("unshare");
        command.args(flags).args(["sleep", "1000"]).stdin(Stdio::null());
        let child = command.spawn().unwrap();
        let pid = child.id();
        let children = format!("/proc/{pid}/task/{pid}/children");
        let mut found = pid as i32;
        let there = |pid: i32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|c| c == "sleep\n");
        assert!(wait_until(|| {
            if flags.contains(&"--fork") {
                let children = fs::read_to_string(&children).unwrap_or_default();
                found = children.trim().parse().unwrap_or(-1);
            }
            there(found)
        }));
        Self(child, found)
    }

    fn path(&self, name: &str) -> String {
        format!("/proc/{}/ns/{name}", self.1)
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let process = rustix::process::Pid::from_raw(self.1).unwrap();
        let _ = rustix::process::kill_process(process, rustix::process::Signal::KILL);
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn inode(pid: i32, name: &str) -> String {
    fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap().display().to_string()
}

const KINDS: [(&str, &str); 5] =
    [("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("pid", "pid"), ("cgroup", "cgroup")];

#[test]
fn each_kind_alone_and_all_together() {
    let Some(mut world) = World::new("joined") else { return };
    let other = Other::new(&["--net", "--ipc", "--uts", "--pid", "--fork", "--cgroup"]);
    let own = std::process::id() as i32;
    let cases: Vec<Vec<(&str, &str)>> =
        KINDS.iter().map(|kind| vec![*kind]).chain([KINDS.to_vec()]).collect();
    for joined in cases {
        for (kind, name) in KINDS {
            let path = joined.contains(&(kind, name)).then(|| other.path(name));
            world.namespace(kind, path.as_deref());
        }
        let pid = world.create("one").unwrap();
        world.ok(&["start", "one"]);
        for (kind, name) in KINDS {
            let is = inode(pid, name);
            assert_eq!(is == inode(other.1, name), joined.contains(&(kind, name)), "{kind} of {joined:?}");
            assert_ne!(is, inode(own, name), "{kind} of {joined:?}");
        }
        world.ok(&["delete", "--force", "one"]);
    }
    world.has_nothing();
}

#[test]
fn a_user_namespace_and_one_that_belongs_to_it() {
    let Some(mut world) = World::new("user") else { return };
    // Root of the host may enter both in either order; what is made new belongs to the user namespace.
    let other = Other::new(&["--user", "--net"]);
    for map in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{}/{map}", other.1), "0 0 65536").unwrap();
    }
    world.namespace("user", Some(&other.path("user")));
    world.namespace("network", Some(&other.path("net")));
    // Device nodes cannot be made by root of another user namespace.
    world.config["mounts"].as_array_mut().unwrap().truncate(1);
    world.config["linux"]["maskedPaths"] = serde_json::json!([]);
    let pid = world.create("one").unwrap();
    world.ok(&["start", "one"]);
    for name in ["user", "net"] {
        assert_eq!(inode(pid, name), inode(other.1, name), "{name}");
    }
    assert_ne!(inode(pid, "pid"), inode(other.1, "pid"));
    let owner = ["--target", &pid.to_string(), "--user", "--pid", "--mount", "/bin/true"].map(str::to_owned);
    assert!(Command::new("nsenter").args(owner).status().unwrap().success());
    assert_eq!(world.status("one"), "running");
    world.ok(&["delete", "--force", "one"]);
    world.has_nothing();
}

#[test]
fn a_mount_namespace_has_the_tree_of_its_owner() {
    let Some(mut world) = World::new("mount") else { return };
    let first = world.create("first").unwrap();
    world.ok(&["start", "first"]);
    fs::write(world.rootfs().join("witness"), "").unwrap();
    world.namespace("mount", Some(&format!("/proc/{first}/ns/mnt")));
    let said = world.create("second").unwrap_err();
    assert!(
        said.contains("mounts of the config cannot be set in a mount namespace that is joined"),
        "{said}"
    );
    let config = world.config.as_object_mut().unwrap();
    config.remove("mounts");
    world.config["linux"]["maskedPaths"] = serde_json::json!([]);
    world.config["linux"]["readonlyPaths"] = serde_json::json!([]);
    let table = || fs::read_to_string(format!("/proc/{first}/mountinfo")).unwrap();
    let before = table();
    let pid = world.create("second").unwrap();
    world.ok(&["start", "second"]);
    assert_eq!(inode(pid, "mnt"), inode(first, "mnt"));
    assert!(Path::new(&format!("/proc/{pid}/root/witness")).exists());
    world.ok(&["delete", "--force", "second"]);
    assert_eq!(table(), before);
    world.ok(&["delete", "--force", "first"]);
    world.has_nothing();
}

#[test]
fn what_is_no_such_namespace_is_refused() {
    let Some(mut world) = World::new("nons") else { return };
    let plain = world.bundle().join("plain");
    fs::write(&plain, "").unwrap();
    let fifo = world.bundle().join("fifo");
    let mode = rustix::fs::Mode::RUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    for (path, why) in [
        ("/proc/self/ns/net", "ipc namespace /proc/self/ns/net: it is a net namespace"),
        ("/proc/self/ns/time", "it is a time namespace"),
        (plain.to_str().unwrap(), "it is no namespace"),
        (fifo.to_str().unwrap(), "it is no namespace"),
        ("/no/such", "ipc namespace /no/such: no such file or directory"),
    ] {
        world.namespace("ipc", Some(path));
        let said = world.create("one").unwrap_err();
        assert!(said.contains(why), "{said}");
        world.has_nothing();
    }
    world.namespace("ipc", None);
    let again = world.config["linux"]["namespaces"][0].clone();
    world.config["linux"]["namespaces"].as_array_mut().unwrap().push(again);
    assert!(world.create("one").unwrap_err().contains("is given twice"));
}

//! Containers of the OCI runtime specification on this host, as root: each operation is a process of its own.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod hooks;
mod joined;
mod world;

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;
use world::World;

#[test]
fn created_by_one_process_and_started_by_another() {
    let Some(mut world) = World::new("life") else { return };
    let pid = world.create("one").unwrap();
    let state = world.state("one");
    let bundle = world.bundle().canonicalize().unwrap();
    assert_eq!(
        state,
        json!({
            "ociVersion": "1.2.0", "id": "one", "status": "created", "pid": pid,
            "bundle": bundle, "annotations": {"of": "the test"}
        })
    );
    let log = world.bundle().join("log");
    assert_eq!(fs::read_to_string(&log).unwrap(), "");
    assert!(world.create("one").unwrap_err().contains("exists already"));
    world.fails(&["delete", "one"], "is created, not stopped");

    world.ok(&["start", "one"]);
    assert_eq!(world.state("one")["pid"], pid);
    assert_eq!(world.status("one"), "running");
    assert!(world::wait_until(|| fs::read_to_string(&log).unwrap() == "ran\n"));
    world.fails(&["start", "one"], "is running, so it cannot be started");
    world.fails(&["delete", "one"], "is running, not stopped");
    assert!(fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap().contains(&world.group("one")));

    world.ok(&["kill", "one", "9"]);
    world.waits_for("one", "stopped");
    assert!(world.state("one").get("pid").is_none());
    world.fails(&["kill", "one", "9"], "is stopped, so it cannot be sent a signal");
    world.fails(&["start", "one"], "is stopped, so it cannot be started");
    world.ok(&["delete", "one"]);
    world.fails(&["state", "one"], "container one does not exist");
    world.fails(&["delete", "one"], "container one does not exist");
    world.ok(&["delete", "--force", "one"]);
    world.has_nothing();
}

#[test]
fn whoever_starts_it_hears_why_the_program_cannot_be_executed() {
    let Some(mut world) = World::new("exec") else { return };
    world.config["process"]["args"] = json!(["no-such-program"]);
    world.create("one").unwrap();
    world.fails(&["start", "one"], "exec: \"no-such-program\": executable file not found in $PATH");
    world.waits_for("one", "stopped");
    world.ok(&["delete", "one"]);
    world.has_nothing();
}

#[test]
fn a_failed_create_leaves_nothing() {
    let Some(mut world) = World::new("failed") else { return };
    world.config["process"]["cwd"] = json!("/proc/self/mem/x");
    world.create("one").unwrap_err();
    world.has_nothing();
    for (what, pointer, value) in [
        ("linux.rootfsPropagation", "/linux/rootfsPropagation", json!("shared")),
        ("process.selinuxLabel", "/process/selinuxLabel", json!("x")),
        ("linux.uidMappings", "/linux/uidMappings", json!([{"containerID": 0, "hostID": 1, "size": 1}])),
        ("a new user namespace", "/linux/namespaces/4/type", json!("user")),
        ("no mount namespace", "/linux/namespaces/1/type", json!("network")),
    ] {
        let Some(mut world) = World::new("refused") else { return };
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        world.config.pointer_mut(parent).unwrap()[key] = value;
        let said = world.create("one").unwrap_err();
        assert!(said.contains(what), "{said}");
        world.has_nothing();
    }
    for id in ["../one", ".one", ""] {
        assert!(world.run(&["state", id]).unwrap_err().contains("container id"));
    }
}

/// Whichever of two starts comes first: one starts it, the other is told.
#[test]
fn it_is_started_once() {
    let Some(mut world) = World::new("once") else { return };
    world.create("one").unwrap();
    let started = std::thread::scope(|scope| {
        let starts: Vec<_> = (0..4).map(|_| scope.spawn(|| world.run(&["start", "one"]))).collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(started.iter().filter(|done| done.is_ok()).count(), 1, "{started:?}");
    assert_eq!(world.status("one"), "running");
    world.ok(&["delete", "--force", "one"]);
    world.has_nothing();
}

/// The record names a process that is another now: nobody's process is touched.
#[test]
fn a_pid_that_was_given_away_is_left_alone() {
    let Some(mut world) = World::new("reused") else { return };
    let mut other = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
    // Start times are told in hundredths of a second.
    std::thread::sleep(Duration::from_millis(50));
    let pid = world.create("one").unwrap();
    let record = world.containers().join("one/state.json");
    let text = fs::read_to_string(&record).unwrap();
    let text = text.replace(&format!("\"pid\":{pid},"), &format!("\"pid\":{},", other.id()));
    fs::write(&record, text).unwrap();
    assert_eq!(world.status("one"), "stopped");
    world.fails(&["kill", "one", "9"], "is stopped");
    world.ok(&["delete", "one"]);
    assert!(other.try_wait().unwrap().is_none());
    other.kill().unwrap();
    other.wait().unwrap();
    // The real one went with its group.
    assert!(world::wait_until(|| !fs::exists(format!("/proc/{pid}/root/bin")).unwrap_or(false)));
    world.has_nothing();
}

#[test]
fn a_create_that_is_killed_leaves_nothing_after_delete() {
    let Some(mut world) = World::new("killed") else { return };
    // At a known point: the container is set up, and its hooks run.
    world.hook("createRuntime", "kill -9 $PPID");
    let ended = world.begin_to_create("one").wait().unwrap();
    assert_eq!(ended.signal(), Some(9));
    world.waits_for("one", "stopped");
    world.fails(&["start", "one"], "is stopped");
    world.ok(&["delete", "--force", "one"]);
    world.has_nothing();
    // And at any other.
    world.config.as_object_mut().unwrap().remove("hooks");
    for delay in 0..25 {
        let mut create = world.begin_to_create("one");
        std::thread::sleep(Duration::from_micros(delay * 1500));
        create.kill().unwrap();
        create.wait().unwrap();
        world.ok(&["delete", "--force", "one"]);
        world.has_nothing();
    }
}

#[test]
fn a_delete_that_is_killed_is_done_by_the_next() {
    let Some(mut world) = World::new("deleted") else { return };
    for hook in ["kill -9 $PPID", ""] {
        world.hook("poststop", hook);
        world.create("one").unwrap();
        let _ = world.run(&["delete", "--force", "one"]);
        world.has_nothing();
    }
    fs::create_dir(world.containers().join(".gone-one-12")).unwrap();
    world.create("one").unwrap();
    world.ok(&["delete", "--force", "one"]);
    world.has_nothing();
}

/// All that a container runs in its group ends with it, also what is in another PID namespace than its first process.
#[test]
fn delete_with_force_ends_all_of_it() {
    let Some(mut world) = World::new("force") else { return };
    // A time that nobody else sleeps.
    let time = format!("7{:09}", std::process::id());
    let script = format!("sleep {time}1 & sleep {time}2 & exec sleep {time}3");
    world.config["process"]["args"] = json!(["sh", "-c", script]);
    world.namespace("pid", Some("/proc/self/ns/pid"));
    let pid = world.create("one").unwrap();
    world.ok(&["start", "one"]);
    let comm = |pid: i32| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    assert!(world::wait_until(|| comm(pid).contains(&format!("{time}3"))));
    world.ok(&["delete", "--force", "one"]);
    let left = fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
        let line = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        line.contains(&time)
    });
    assert_eq!(left.filter(|entry| !is_zombie(entry)).count(), 0);
    world.has_nothing();
}

fn is_zombie(process: &fs::DirEntry) -> bool {
    fs::read_to_string(process.path().join("stat")).is_ok_and(|stat| stat.contains(") Z "))
}

//! No command waits for ever for one that stands still.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::harness::{BUSYBOX, OwnRoots, PYTHON, Test, has, skipped, wait_until};

/// A process that holds a lock and is stopped. Killed when dropped.
struct Stopped(Child);

impl Stopped {
    fn holding(path: &Path) -> Self {
        let mut child = Command::new("flock")
            .args(["-F", "-x", path.to_str().unwrap(), "sh", "-c", "echo held; exec sleep 1000"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "held\n", "{}", path.display());
        let stopped = Command::new("kill").args(["-STOP", &child.id().to_string()]).status().unwrap();
        assert!(stopped.success());
        Self(child)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Each lock is held by a stopped process; each command that wants it says who holds it, and ends.
#[test]
fn a_stopped_holder_of_a_lock_stops_nobody() {
    let Some(t) = Test::start() else { return };
    if !has("flock") {
        return skipped("flock is not installed");
    }
    let own = OwnRoots::new(&t, "own", &t.suite.registry);
    let ok = |args: &[&str]| own.run(args).ok();
    let filled = format!("{}/rbox/config", t.suite.registry);
    let tar = own.dir.join("image.tar").display().to_string();
    std::fs::create_dir(own.dir.join("tree")).unwrap();
    let tree = own.dir.join("tree");
    let made = Command::new("tar").arg("-C").arg(&tree).args(["-cf", &tar, "."]).status().unwrap();
    assert!(made.success());
    for args in [
        &["pull", "-q", BUSYBOX][..],
        &["pull", "-q", &filled],
        &["import", &tar, "pinned:1"],
        &["network", "create", "lab"],
        &["run", "--rm", "--network", "lab", BUSYBOX, "true"],
        &["volume", "create", "asked"],
        &["volume", "create", "fill"],
        &["volume", "create", "still"],
    ] {
        ok(args);
    }
    let id = ok(&["create", "--name", "first", BUSYBOX]);
    let pinned = ok(&["inspect", "-f", "{{.Id}}", "pinned:1"]);
    let bridge = format!("rb-{}", ok(&["network", "inspect", "-f", "{{slice .Id 0 12}}", "lab"]));
    let locks: [PathBuf; 9] = [
        own.root.join("network/networks"),
        own.state.join("network/networks").join(bridge).join("addresses"),
        own.root.join("containers").join(&id),
        own.root.join("volumes/asked"),
        own.root.join("volumes/fill/filling.lock"),
        own.root.join("volumes/still/starting.lock"),
        own.root.join("image/index.lock"),
        own.root.join("image/store.lock"),
        own.root.join("image/blobs/sha256").join(pinned.trim_start_matches("sha256:")),
    ];
    let [networks, addresses, record, asked, fill, still, index, store, blob] = &locks;
    let cases: [(&Path, i32, &[&str]); 17] = [
        (networks, 1, &["network", "create", "other"]),
        (networks, 1, &["network", "rm", "lab"]),
        (networks, 1, &["network", "reconcile"]),
        (addresses, 125, &["run", "--rm", "--network", "lab", BUSYBOX, "true"]),
        (record, 1, &["rename", "first", "second"]),
        (record, 1, &["update", "--restart", "no", "first"]),
        (record, 1, &["network", "connect", "lab", "first"]),
        (asked, 1, &["volume", "create", "asked"]),
        (asked, 1, &["volume", "rm", "asked"]),
        (asked, 125, &["create", "-v", "asked:/x", BUSYBOX]),
        (fill, 125, &["run", "--rm", "--network", "none", "-v", "fill:/data", &filled]),
        (still, 125, &["run", "--rm", "--network", "none", "-v", "still:/mnt", BUSYBOX, "true"]),
        (still, 1, &["volume", "export", "--pause", "-o", "/dev/null", "still"]),
        (index, 1, &["tag", BUSYBOX, "other:1"]),
        (index, 1, &["rmi", "pinned:1"]),
        (store, 1, &["import", &tar, "more:1"]),
        (blob, 125, &["create", "pinned:1", "x"]),
    ];
    let holders: Vec<(&PathBuf, Stopped)> = locks.iter().map(|path| (path, Stopped::holding(path))).collect();
    let running: Vec<_> = cases.iter().map(|(_, _, args)| own.cmd(args).spawn()).collect();
    for ((path, code, args), one) in cases.iter().zip(running) {
        let holder = holders.iter().find(|(held, _)| held.as_path() == *path).unwrap().1.0.id();
        let out = one.finish(Duration::from_mins(2));
        println!("{args:?}: {}", out.stderr.trim_end());
        out.refused(*code, &[&format!("process {holder} (s"), "is stopped", "kill -CONT"]);
    }
    // They did nothing, and once the holders are gone all goes on.
    drop(holders);
    ok(&["rename", "first", "second"]);
    ok(&["volume", "rm", "asked"]);
    ok(&["run", "--rm", "--network", "lab", "-v", "fill:/data", &filled]);
    ok(&["rmi", "pinned:1"]);
    ok(&["network", "rm", "lab"]);
}

/// The processes that `pid` has made.
fn children(pid: i32) -> Vec<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn signal(name: &str, pid: i32) {
    let sent = Command::new("kill").args([format!("-{name}"), pid.to_string()]).status().unwrap();
    assert!(sent.success(), "kill -{name} {pid}");
}

/// The monitor of a container that runs.
fn monitor_of(t: &Test, id: &str) -> i32 {
    let state = fs::read(t.suite.state.join("containers").join(id).join("state.json")).unwrap();
    serde_json::from_slice::<serde_json::Value>(&state).unwrap()["monitor"].as_i64().unwrap() as i32
}

/// A monitor that has work to do is waited for, and no more once it is stopped.
#[test]
fn a_start_ends_when_its_monitor_is_stopped() {
    let Some(t) = Test::start() else { return };
    if !has("flock") {
        return skipped("flock is not installed");
    }
    let filled = format!("{}/rbox/config", t.suite.registry);
    let (volume, name) = (t.name("volume"), t.name("c"));
    t.ok(["pull", "-q", &filled]);
    t.ok(["volume", "create", &volume]);
    // Somebody else fills the volume.
    let at_work = Stopped::holding(&t.suite.root.join("volumes").join(&volume).join("filling.lock"));
    signal("CONT", at_work.0.id() as i32);
    let mount = format!("{volume}:/data");
    let running = t.cmd(["run", "--name", &name, "--network", "none", "-v", &mount, &filled]).spawn();
    let mut monitor = Vec::new();
    wait_until("there is a monitor", || {
        monitor = children(running.id());
        !monitor.is_empty()
    });
    signal("STOP", monitor[0]);
    running
        .finish(Duration::from_mins(1))
        .refused(125, &["monitor", &format!("process {} (rbox", monitor[0]), "is stopped", "kill -CONT"]);
    // It goes on where it was.
    drop(at_work);
    signal("CONT", monitor[0]);
    wait_until("the container was started", || t.status(&name) == "exited");
}

/// PID 1 has ended, and who has to say how is stopped.
#[test]
fn wait_ends_when_only_a_stopped_monitor_could_tell() {
    let Some(t) = Test::start() else { return };
    let name = t.name("c");
    let id = t.sleeper(&name, []);
    let waiting = t.cmd(["wait", &name]).spawn();
    let monitor = monitor_of(&t, &id);
    // It has connected.
    wait_until("it waits", || {
        fs::read_to_string(format!("/proc/{}/wchan", waiting.id())).is_ok_and(|at| at.contains("poll"))
    });
    signal("STOP", monitor);
    signal("KILL", t.pid(&name));
    let out = waiting.finish(Duration::from_mins(1));
    signal("CONT", monitor);
    out.refused(1, &[&name, &format!("process {monitor} (rbox-monitor)"), "is stopped", "kill -CONT"]);
    assert_eq!(t.ok(["wait", &name]), "137");
}

/// Who is attached and stopped holds nobody up that ends or removes the container.
#[test]
fn a_stopped_client_stops_nobody() {
    let Some(t) = Test::start() else { return };
    let name = t.name("c");
    let client = t.cmd(["run", "--name", &name, BUSYBOX, "yes"]).spawn();
    wait_until("it runs", || {
        t.rbox(["inspect", "-f", "{{.State.Status}}", &name]).stdout.trim() == "running"
    });
    client.signal("STOP");
    t.cmd(["stop", "-t", "1", &name]).limit(Duration::from_mins(1)).run().ok();
    t.cmd(["start", &name]).limit(Duration::from_mins(1)).run().ok();
    t.cmd(["rm", "-f", &name]).limit(Duration::from_mins(1)).run().ok();
    client.signal("CONT");
    client.finish(Duration::from_mins(1));
}

/// Nor does one of exec, stopped, or with an output that nobody reads: PID 1 is gone when all of its PID namespace were waited for, and the
/// program of exec is for its client to wait for.
#[test]
fn a_client_of_exec_holds_no_end_up() {
    let Some(t) = Test::start() else { return };
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    // Before, the exit code of a process that nobody waits for is lost.
    let stays = (numbers.next().unwrap(), numbers.next().unwrap()) >= (6, 15);
    for stopped in [false, true] {
        if stopped && !stays {
            continue;
        }
        let name = t.name(if stopped { "stopped" } else { "unread" });
        t.sleeper(&name, []);
        let exec = ["exec", &name, "sh", "-c", "head -c 30000000 /dev/zero; sleep 1000"];
        let mut client = t.cmd(exec).spawn_on(Stdio::null(), Stdio::piped(), Stdio::null());
        let mut output = client.stdout.take().unwrap();
        output.read_exact(&mut [0; 1000]).unwrap();
        if stopped {
            signal("STOP", client.id() as i32);
        }
        t.cmd(["stop", "-t", "0", &name]).limit(Duration::from_mins(1)).run().ok();
        assert_eq!(t.status(&name), "exited");
        signal("CONT", client.id() as i32);
        std::io::copy(&mut output, &mut std::io::sink()).unwrap();
        assert_eq!(client.wait().unwrap().code(), Some(137), "{name}");
        t.ok(["rm", &name]);
    }
    // The code of one that ended while its client was stopped.
    let name = t.name("code");
    t.sleeper(&name, []);
    let client = t.cmd(["exec", &name, "sh", "-c", "sleep 1; exit 7"]).spawn();
    std::thread::sleep(Duration::from_millis(300));
    client.signal("STOP");
    std::thread::sleep(Duration::from_millis(1500));
    client.signal("CONT");
    client.finish(Duration::from_mins(1)).code(7);
}

/// A container that stops whatever comes into it, also what is on its way to become exec's program.
#[test]
fn exec_ends_when_the_container_stops_it() {
    let Some(t) = Test::start() else { return };
    let name = t.name("c");
    // The next number of a process is the next process's.
    let script = "import os
print('on', flush=True)
pid = 2
while True:
    try: os.kill(pid, 19); pid += 1
    except OSError: pass";
    t.ok(["run", "-d", "--name", &name, PYTHON, "python3", "-c", script]);
    wait_until("it looks out", || t.ok(["logs", &name]) == "on");
    let mut stopped = 0;
    let until = std::time::Instant::now() + crate::harness::patience(Duration::from_mins(1));
    while stopped < 2 && std::time::Instant::now() < until {
        let out = t.cmd(["exec", "-d", &name, "true"]).limit(Duration::from_mins(1)).run();
        if out.code != 0 {
            stopped += 1;
            out.refused(1, &["is stopped", "kill -CONT"]);
        }
    }
    if stopped == 0 {
        skipped("the container was never quick enough to stop what came into it");
    }
}

/// A process in a frozen v1 group hears no signal: it waits in the kernel, as one does whose disk does not answer.
#[test]
fn what_waits_in_the_kernel_is_given_up() {
    let Some(t) = Test::start() else { return };
    let freezer = Path::new("/sys/fs/cgroup/freezer");
    if !freezer.join("cgroup.procs").exists() {
        return skipped("there is no v1 freezer");
    }
    let name = t.name("c");
    t.sleeper(&name, []);
    let frozen = Frozen::new(freezer.join(t.name("frozen")), t.pid(&name));
    let all = [
        t.cmd(["stop", "-t", "0", &name]).spawn(),
        t.cmd(["rm", "-f", &name]).spawn(),
        t.cmd(["restart", "-t", "0", &name]).spawn(),
    ];
    let ended = all.map(|one| one.finish(Duration::from_mins(3)));
    drop(frozen);
    for out in ended {
        println!("{}", out.stderr.trim_end());
        out.refused(1, &[&name, "has been waiting in the kernel", "/stack"]);
    }
    t.ok(["rm", "-f", &name]);
}

/// A v1 group with one process in it that is frozen, until this is dropped.
struct Frozen(PathBuf);

impl Frozen {
    fn new(group: PathBuf, pid: i32) -> Self {
        fs::create_dir(&group).unwrap();
        let frozen = Self(group);
        let write = |file: &str, text: &str| fs::write(frozen.0.join(file), text).unwrap();
        write("cgroup.procs", &pid.to_string());
        write("freezer.state", "FROZEN");
        wait_until("the group is frozen", || {
            fs::read_to_string(frozen.0.join("freezer.state")).unwrap().trim() == "FROZEN"
        });
        frozen
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = fs::write(self.0.join("freezer.state"), "THAWED");
        // Once what was killed in it is gone.
        crate::harness::poll(Duration::from_secs(20), || fs::remove_dir(&self.0).is_ok());
    }
}

//! Restart policies: who is started again, when, and what the other commands say meanwhile.

use std::time::{Duration, Instant};

use crate::harness::{BUSYBOX, Test, wait_until};

fn told(t: &Test, name: &str) -> String {
    t.ok(["inspect", "-f", "{{.RestartCount}} {{.State.Status}} {{.State.ExitCode}}", name])
}

fn restarts(t: &Test, name: &str) -> u64 {
    t.inspect(name)["RestartCount"].as_u64().unwrap()
}

/// A container that fails so often that its pause is long. It waits when this returns.
fn pausing(t: &Test, name: &str, flags: &[&str]) {
    let mut args = vec!["run", "-d", "--name", name];
    args.extend(flags);
    args.extend([BUSYBOX, "sh", "-c", "echo life; exit 7"]);
    t.cmd(args).run().ok();
    // 100 + 200 + 400 ms, then a pause of 800 ms and longer ones.
    wait_until("it was started four times", || restarts(t, name) >= 4 && t.status(name) == "restarting");
}

#[test]
fn on_failure_counts_and_gives_up() {
    let Some(t) = Test::start() else { return };
    let name = t.name("three");
    t.ok([
        "run",
        "-d",
        "--restart",
        "on-failure:3",
        "--name",
        &name,
        BUSYBOX,
        "sh",
        "-c",
        "echo life; exit 7",
    ]);
    wait_until("it gives up", || told(&t, &name) == "3 exited 7");
    assert_eq!(t.ok(["logs", &name]), "life\nlife\nlife\nlife");
    let policy = t.inspect(&name)["HostConfig"]["RestartPolicy"].clone();
    assert_eq!((&policy["Name"], &policy["MaximumRetryCount"]), (&"on-failure".into(), &3.into()));
    // Somebody starts it: it counts from the beginning.
    t.ok(["start", &name]);
    wait_until("it gives up again", || told(&t, &name) == "3 exited 7");
    assert_eq!(t.ok(["logs", &name]).lines().count(), 8);
}

#[test]
fn success_is_the_end_of_on_failure_and_not_of_always() {
    let Some(t) = Test::start() else { return };
    let (done, again) = (t.name("done"), t.name("again"));
    t.ok(["run", "-d", "--restart", "on-failure", "--name", &done, BUSYBOX, "true"]);
    t.ok(["run", "-d", "--restart", "always", "--name", &again, BUSYBOX, "true"]);
    wait_until("always is started again", || restarts(&t, &again) >= 2);
    assert_eq!(told(&t, &done), "0 exited 0");
    t.ok(["rm", "-f", &again]);
}

#[test]
fn between_two_lives() {
    let Some(t) = Test::start() else { return };
    let name = t.name("pauses");
    pausing(&t, &name, &["--restart", "always", "-p", "80"]);
    let state = t.inspect(&name)["State"].clone();
    assert_eq!(
        (&state["Running"], &state["Restarting"], &state["Pid"], &state["ExitCode"]),
        (&true.into(), &true.into(), &0.into(), &7.into())
    );
    let line = t.ok(["ps", "--filter", "status=restarting", "--format", "{{.Names}} {{.State}} {{.Status}}"]);
    assert!(
        line.starts_with(&format!("{name} restarting Restarting (7) ")) && line.ends_with(" ago"),
        "{line}"
    );
    t.rbox(["exec", &name, "true"]).refused(1, &["is restarting, wait until the container is running"]);
    t.rbox(["attach", &name]).refused(1, &["You cannot attach to a restarting container"]);
    t.rbox(["pause", &name]).refused(1, &["is restarting"]);
    t.rbox(["rm", &name]).refused(1, &["container is restarting: stop the container before removing"]);
    assert_eq!(t.ok(["start", &name]), name, "it is as good as started");
    // The end of the next life is what is waited for. After two there is a pause of at least three seconds.
    for _ in 0..2 {
        let before = restarts(&t, &name);
        assert_eq!(t.ok(["wait", &name]), "7");
        assert!(restarts(&t, &name) > before);
    }
    wait_until("it pauses", || t.status(&name) == "restarting");
    let begin = Instant::now();
    let follower = t.cmd(["logs", "-f", "--tail", "1", &name]).spawn();
    assert_eq!(t.ok(["stop", "-t", "120", &name]), name);
    assert!(begin.elapsed() < Duration::from_mins(1), "nobody runs who could take two minutes");
    assert_eq!(follower.finish(Duration::from_secs(10)).ok(), "life", "no other one follows");
    let ended = told(&t, &name);
    assert!(ended.ends_with(" exited 7"), "{ended}");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(told(&t, &name), ended);
    t.ok(["rm", &name]);
}

#[test]
fn removed_killed_and_restarted_between_two_lives() {
    let Some(t) = Test::start() else { return };
    let (gone, killed, restarted) = (t.name("gone"), t.name("killed"), t.name("restarted"));
    for name in [&gone, &killed, &restarted] {
        pausing(&t, name, &["--restart", "unless-stopped"]);
    }
    t.ok(["rm", "-f", &gone]);
    t.ok(["kill", &killed]);
    wait_until("killed is exited", || t.status(&killed) == "exited");
    wait_until("it was started six times", || restarts(&t, &restarted) >= 6);
    t.ok(["restart", &restarted]);
    assert!(restarts(&t, &restarted) < 6, "a restart by hand counts from the beginning");
    t.ok(["rm", "-f", &restarted]);
    assert_eq!(t.status(&killed), "exited");
}

#[test]
fn who_is_stopped_stays_stopped_and_who_is_killed_from_outside_does_not() {
    let Some(t) = Test::start() else { return };
    let name = t.name("service");
    let script = "trap 'exit 0' TERM; trap 'exit 9' HUP; while :; do sleep 0.1; done";
    t.ok(["run", "-d", "--restart", "always", "-p", "80", "--name", &name, BUSYBOX, "sh", "-c", script]);
    t.listens(&name);
    let (pid, port) = (t.pid(&name), t.ok(["port", &name, "80"]));
    let address = || t.ok(["inspect", "-f", "{{.NetworkSettings.IPAddress}}", &name]);
    let before = address();
    t.ok(["kill", "-s", "HUP", &name]);
    wait_until("HUP ends it, and it is started again", || {
        restarts(&t, &name) == 1 && t.status(&name) == "running"
    });
    assert_ne!(t.pid(&name), pid);
    assert_eq!(t.ok(["port", &name, "80"]), port, "the port that was chosen for it stays");
    assert_eq!(address(), before, "and the address");
    t.listens(&name);
    t.ok(["exec", &name, "true"]);
    std::process::Command::new("kill").args(["-9", &t.pid(&name).to_string()]).status().unwrap();
    wait_until("it is started again", || restarts(&t, &name) == 2 && t.status(&name) == "running");
    t.listens(&name);
    t.ok(["stop", &name]);
    assert_eq!(t.status(&name), "exited");
    t.ok(["start", &name]);
    assert_eq!(told(&t, &name), "0 running 0");
    t.ok(["kill", &name]);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(told(&t, &name), "0 exited 137");
}

#[test]
fn the_policy_can_change_while_it_runs() {
    let Some(t) = Test::start() else { return };
    let (gets, loses) = (t.name("gets"), t.name("loses"));
    t.sleeper(&gets, []);
    t.ok(["update", "--restart", "on-failure:5", "-m", "64m", &gets]);
    std::process::Command::new("kill").args(["-9", &t.pid(&gets).to_string()]).status().unwrap();
    wait_until("it is started again", || restarts(&t, &gets) == 1 && t.status(&gets) == "running");
    assert_eq!(t.inspect(&gets)["HostConfig"]["Memory"], 64 << 20);
    pausing(&t, &loses, &["--restart", "always"]);
    t.ok(["update", "--restart", "no", &loses]);
    wait_until("its last life ends", || t.status(&loses) == "exited");
    t.ok(["rm", "-f", &gets]);
    let own = t.name("rm");
    t.sleeper(&own, ["--rm"]);
    t.rbox(["update", "--restart", "always", &own]).refused(1, &["AutoRemove is enabled"]);
}

#[test]
fn no_policy_together_with_rm() {
    let Some(t) = Test::start() else { return };
    t.rbox(["run", "--rm", "--restart", "always", BUSYBOX, "true"])
        .refused(125, &["conflicting options", "--restart and --rm"]);
    t.ok(["run", "--rm", "--restart", "no", BUSYBOX, "true"]);
    t.rbox(["run", "--restart", "on-failure:x", BUSYBOX, "true"]).refused(125, &["must be an integer"]);
}

#[test]
fn attached_ends_with_the_first_life() {
    let Some(t) = Test::start() else { return };
    let name = t.name("attached");
    let out = t.rbox([
        "run",
        "--restart",
        "on-failure:2",
        "--name",
        &name,
        BUSYBOX,
        "sh",
        "-c",
        "echo life; exit 3",
    ]);
    assert_eq!((out.code, &*out.stdout), (3, "life\n"));
    wait_until("it gives up", || told(&t, &name) == "2 exited 3");
}

#[test]
fn a_start_that_fails_is_tried_again() {
    let Some(t) = Test::start() else { return };
    let (name, dir) = (t.name("source"), t.dir("source"));
    let source = dir.join("there");
    std::fs::create_dir(&source).unwrap();
    let mount = format!("type=bind,source={},target=/x", source.display());
    let script = "while [ -e /x/go ]; do sleep 0.05; done; exit 1";
    std::fs::write(source.join("go"), "").unwrap();
    t.ok([
        "run",
        "-d",
        "--restart",
        "always",
        "--name",
        &name,
        "--mount",
        &mount,
        BUSYBOX,
        "sh",
        "-c",
        script,
    ]);
    std::fs::rename(&source, dir.join("away")).unwrap();
    std::fs::remove_file(dir.join("away/go")).unwrap();
    wait_until("the reason is told", || {
        t.inspect(&name)["State"]["Error"].as_str().unwrap().contains("there") && restarts(&t, &name) >= 2
    });
    std::fs::write(dir.join("away/go"), "").unwrap();
    std::fs::rename(dir.join("away"), &source).unwrap();
    wait_until("it runs", || t.status(&name) == "running");
    t.ok(["rm", "-f", &name]);
}

#[test]
fn the_end_of_a_monitor_is_told() {
    let Some(t) = Test::start() else { return };
    let name = t.name("alone");
    pausing(&t, &name, &["--restart", "always"]);
    let id = t.ok(["inspect", "-f", "{{.Id}}", &name]);
    let state = std::fs::read(t.suite.state.join("containers").join(id).join("state.json")).unwrap();
    let state: serde_json::Value = serde_json::from_slice(&state).unwrap();
    std::process::Command::new("kill").args(["-9", &state["monitor"].to_string()]).status().unwrap();
    wait_until("it is exited", || t.status(&name) == "exited");
    let why = t.inspect(&name)["State"]["Error"].as_str().unwrap().to_owned();
    assert!(why.contains("monitor was killed before it could start"), "{why}");
    t.ok(["start", &name]);
    t.ok(["rm", "-f", &name]);
}

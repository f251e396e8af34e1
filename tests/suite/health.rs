//! Health checks: what they come to, when they are made, and what follows.

use std::time::Duration;

use serde_json::Value;

use crate::harness::{BUSYBOX, Test, poll, wait_until};

/// Runs a container with these flags before the image.
fn run(t: &Test, name: &str, flags: &[&str]) {
    let mut args = vec!["run", "-d", "--name", name, "--network", "none"];
    args.extend(flags);
    args.extend([BUSYBOX, "sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.05; done"]);
    t.cmd(args).run().ok();
}

fn health(t: &Test, name: &str) -> Value {
    t.inspect(name)["State"]["Health"].clone()
}

fn becomes(t: &Test, name: &str, status: &str) {
    wait_until(&format!("it is {status}"), || health(t, name)["Status"] == status);
}

/// The result that came last.
fn last(t: &Test, name: &str) -> Value {
    health(t, name)["Log"].as_array().and_then(|log| log.last().cloned()).unwrap_or_default()
}

#[test]
fn it_turns_healthy_and_unhealthy() {
    let Some(t) = Test::start() else { return };
    let name = t.name("c");
    run(&t, &name, &["--health-cmd", "cat /ok", "--health-interval", "100ms", "--health-retries", "2"]);
    let shown = || t.ok(["ps", "--filter", &format!("name={name}"), "--format", "{{.Status}}"]);
    let listed = |status: &str| {
        t.ok(["ps", "-q", "--no-trunc", "--filter", &format!("health={status}")]).lines().count()
    };
    becomes(&t, &name, "unhealthy");
    assert!(shown().ends_with("(unhealthy)"), "{}", shown());
    t.ok(["exec", &name, "sh", "-c", "echo fine >/ok"]);
    becomes(&t, &name, "healthy");
    assert!(shown().starts_with("Up ") && shown().ends_with(" (healthy)"), "{}", shown());
    assert_eq!((listed("healthy"), listed("unhealthy"), listed("none")), (1, 0, 0));
    let now = health(&t, &name);
    let keys: Vec<_> = now.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["Status", "FailingStreak", "Log"]);
    assert_eq!((now["FailingStreak"].as_u64(), &last(&t, &name)["Output"]), (Some(0), &"fine\n".into()));
    let keys: Vec<String> = last(&t, &name).as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["Start", "End", "ExitCode", "Output"]);
    wait_until("five results are kept", || health(&t, &name)["Log"].as_array().unwrap().len() == 5);
    t.ok(["exec", &name, "rm", "/ok"]);
    becomes(&t, &name, "unhealthy");
    let failed = last(&t, &name);
    assert_eq!(failed["ExitCode"], 1);
    assert!(failed["Output"].as_str().unwrap().contains("/ok"), "{failed}");
    assert!(health(&t, &name)["FailingStreak"].as_u64().unwrap() >= 2);
    // What was seen of it outlives it; of one that does not run nobody is sure.
    t.ok(["stop", &name]);
    assert_eq!(health(&t, &name)["Status"], "unhealthy");
    assert_eq!(health(&t, &name)["Log"].as_array().unwrap().len(), 5);
    assert!(t.ok(["ps", "-a", "--format", "{{.Status}}"]).starts_with("Exited (7)"));
    t.ok(["start", &name]);
    assert!(["starting", "unhealthy"].contains(&health(&t, &name)["Status"].as_str().unwrap()));
}

#[test]
fn it_starts_until_one_succeeds() {
    let Some(t) = Test::start() else { return };
    let name = t.name("c");
    let flags =
        ["--health-cmd", "cat /ok", "--health-start-period", "1h", "--health-start-interval", "100ms"];
    run(&t, &name, &[&flags[..], &["--health-retries", "1", "--health-interval", "100ms"]].concat());
    let first = t.ok(["ps", "--format", "{{.Status}}"]);
    assert!(first.ends_with("(health: starting)"), "{first}");
    wait_until("some have failed", || health(&t, &name)["Log"].as_array().unwrap().len() > 2);
    let now = health(&t, &name);
    assert_eq!((&now["Status"], &now["FailingStreak"]), (&"starting".into(), &0.into()), "{now}");
    t.ok(["exec", &name, "touch", "/ok"]);
    becomes(&t, &name, "healthy");
    // From then on failures count.
    t.ok(["exec", &name, "rm", "/ok"]);
    becomes(&t, &name, "unhealthy");
}

#[test]
fn one_that_takes_too_long_is_ended_with_all_of_its_group() {
    let Some(t) = Test::start() else { return };
    let name = t.name("c");
    let line = "echo begun; sleep 1234 & sleep 1234";
    run(
        &t,
        &name,
        &[
            "--health-cmd",
            line,
            "--health-timeout",
            "300ms",
            "--health-interval",
            "30s",
            "--health-start-period",
            "1h",
            "--health-start-interval",
            "10ms",
        ],
    );
    wait_until("it was given up", || last(&t, &name)["ExitCode"] == -1);
    assert_eq!(last(&t, &name)["Output"], "Health check exceeded timeout (300ms): begun\n");
    // The next one begins at once: so each process that is seen is younger than that.
    let ages = || t.ok(["exec", &name, "sh", "-c", "ps -o args | grep -c '[s]leep 1234' || true"]);
    wait_until("some more", || health(&t, &name)["Log"].as_array().unwrap().len() == 5);
    assert!(ages().parse::<u32>().unwrap() <= 2, "{}", ages());
}

#[test]
fn it_runs_as_the_containers_own_processes_do() {
    let Some(t) = Test::start() else { return };
    let name = t.name("c");
    let line =
        "id -u; echo $WHO; pwd; grep -c '^CapEff:.0*$' /proc/self/status; grep Seccomp: /proc/self/status";
    run(
        &t,
        &name,
        &["--health-cmd", line, "--health-interval", "100ms", "-u", "1000", "-e", "WHO=me", "-w", "/tmp"],
    );
    becomes(&t, &name, "healthy");
    assert_eq!(last(&t, &name)["Output"], "1000\nme\n/tmp\n1\nSeccomp:\t2\n");
}

#[test]
fn output_is_capped() {
    let Some(t) = Test::start() else { return };
    let name = t.name("c");
    run(&t, &name, &["--health-cmd", "yes | head -c 1000000", "--health-interval", "100ms"]);
    becomes(&t, &name, "healthy");
    let output = last(&t, &name)["Output"].as_str().unwrap().to_owned();
    assert_eq!((output.len(), output.ends_with("...")), (4099, true));
}

#[test]
fn the_image_asks_for_it() {
    let Some(t) = Test::start() else { return };
    let name = t.name("c");
    // busybox's own tree, with a check.
    let upper = t.dir("busybox");
    let archive = upper.join("busybox.tar").display().to_string();
    t.ok(["save", "-o", &archive, BUSYBOX]);
    let script = format!(
        "set -e; cd {dir}; mkdir root; tar -xf {archive}; for layer in $(jq -r '.[0].Layers[]' manifest.json); do tar -C root -xf $layer; done; tar -C root -cf tree.tar .",
        dir = upper.display()
    );
    let made = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let tree = upper.join("tree.tar").display().to_string();
    for (image, change) in [
        ("checked:1", r#"HEALTHCHECK --interval=100ms CMD ["cat", "/etc/hostname"]"#),
        ("checked:2", r#"HEALTHCHECK --interval=100ms --retries=1 CMD ["/no/such"]"#),
    ] {
        t.ok(["import", "-c", change, &tree, image]);
    }
    let start = |image: &str, flags: &[&str]| {
        let mut args = vec!["run", "-d", "--name", &name, "--network", "none"];
        args.extend(flags);
        args.extend([image, "sleep", "1000"]);
        t.cmd(args).run().ok();
    };
    start("checked:1", &[]);
    becomes(&t, &name, "healthy");
    assert_eq!(t.inspect(&name)["Config"]["Healthcheck"]["Test"][1], "cat");
    t.ok(["rm", "-f", &name]);
    // The user's words go before the image's.
    start("checked:1", &["--health-cmd", "false", "--health-retries", "1"]);
    becomes(&t, &name, "unhealthy");
    assert_eq!(t.inspect(&name)["Config"]["Healthcheck"]["Interval"], 100_000_000);
    t.ok(["rm", "-f", &name]);
    start("checked:2", &[]);
    becomes(&t, &name, "unhealthy");
    assert_eq!(last(&t, &name)["ExitCode"], -1);
    assert!(last(&t, &name)["Output"].as_str().unwrap().contains("/no/such"));
    t.ok(["rm", "-f", &name]);
    start("checked:1", &["--no-healthcheck"]);
    assert_eq!(t.inspect(&name)["State"].get("Health"), None);
    assert_eq!(t.inspect(&name)["Config"]["Healthcheck"]["Test"][0], "NONE");
    t.ok(["rm", "-f", &name]);
    t.ok(["rmi", "checked:1", "checked:2"]);
}

#[test]
fn none_is_made_while_it_is_paused() {
    let Some(t) = Test::start() else { return };
    let name = t.name("c");
    // Mostly one is being made.
    let flags = ["--health-cmd", "sleep 0.5", "--health-interval", "10ms", "--health-timeout", "2s"];
    run(&t, &name, &[&flags[..], &["--health-retries", "1"]].concat());
    becomes(&t, &name, "healthy");
    let results = || health(&t, &name)["Log"].clone();
    for _ in 0..2 {
        t.ok(["pause", &name]);
        // The one that was being made is given up, and counts for nothing.
        std::thread::sleep(Duration::from_millis(2500));
        let before = results();
        assert!(!poll(Duration::from_secs(1), || results() != before), "{before}");
        t.ok(["unpause", &name]);
        wait_until("they go on", || results() != before);
        let now = health(&t, &name);
        assert_eq!(now["Status"], "healthy", "{now}");
        assert!(now["Log"].as_array().unwrap().iter().all(|result| result["ExitCode"] == 0), "{now}");
    }
}

/// moby#28400 asks for a restart.
#[test]
fn what_follows_when_it_turns_unhealthy() {
    let Some(t) = Test::start() else { return };
    let name = t.name("c");
    let flags = |action| {
        [
            "--health-cmd",
            "false",
            "--health-interval",
            "100ms",
            "--health-retries",
            "2",
            "--health-on-failure",
            action,
        ]
    };
    run(&t, &name, &flags("kill"));
    assert_eq!(t.ok(["wait", &name]), "137");
    t.ok(["rm", &name]);
    run(&t, &name, &flags("stop"));
    assert_eq!(t.ok(["wait", &name]), "7");
    t.ok(["rm", &name]);
    run(&t, &name, &flags("restart"));
    let started = || t.inspect(&name)["State"]["StartedAt"].clone();
    let first = started();
    wait_until("it runs again", || started() != first && t.status(&name) == "running");
    t.ok(["rm", "-f", &name]);
    run(&t, &name, &[&flags("kill")[..], &["--restart", "on-failure:1"]].concat());
    wait_until("its policy has had enough", || t.status(&name) == "exited");
    assert_eq!(t.inspect(&name)["RestartCount"], 1);
}

/// As images of it are mostly run: with `--init`, whose file comes from where rbox is.
#[test]
fn a_web_server_that_hangs_is_restarted() {
    let Some(t) = Test::start() else { return };
    let name = t.name("web");
    // What it serves is beside it: a restart does not mend that, so the second life finds it mended.
    let check = "test ! -e /tmp/broken && exec 3<>/dev/tcp/127.0.0.1/80 && printf 'GET / HTTP/1.0\r\n\r\n' >&3 && grep -q '200 OK' <&3";
    let check = format!("bash -c {}", rbox_word(check));
    let flags = ["--health-interval", "200ms", "--health-retries", "2", "--health-on-failure", "restart"];
    let start = "rm -f /tmp/broken; exec nginx -g 'daemon off;'";
    let args = [
        &["run", "-d", "--init", "--name", &name, "--health-cmd", &check][..],
        &flags,
        &["nginx:1.22", "sh", "-c", start],
    ]
    .concat();
    t.cmd(args).run().ok();
    becomes(&t, &name, "healthy");
    for life in 0..2 {
        let started = t.inspect(&name)["State"]["StartedAt"].clone();
        // It answers no more; and the server's processes do not end of that.
        t.ok(["exec", &name, "touch", "/tmp/broken"]);
        wait_until(&format!("it is restarted: {life}"), || {
            let state = t.inspect(&name)["State"].clone();
            state["StartedAt"] != started && state["Running"] == true
        });
        becomes(&t, &name, "healthy");
    }
    t.ok(["rm", "-f", &name]);
}

/// One word of a shell.
fn rbox_word(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[test]
fn a_removal_waits_for_no_check() {
    let Some(t) = Test::start() else { return };
    let name = t.name("c");
    run(&t, &name, &["--health-cmd", "sleep 1000", "--health-interval", "10ms", "--health-timeout", "1h"]);
    wait_until("one is made", || t.ok(["top", &name]).contains("sleep 1000"));
    t.cmd(["rm", "-f", &name]).limit(Duration::from_secs(30)).run().ok();
}

#[test]
fn what_is_refused() {
    let Some(t) = Test::start() else { return };
    for (flags, said) in [
        (&["--health-interval", "1"][..], "expected a duration"),
        (&["--health-interval", "-1s"], "--health-interval cannot be negative"),
        (&["--health-timeout", "10us"], "Timeout in Healthcheck cannot be less than 1ms"),
        (&["--health-retries", "-1"], "--health-retries cannot be negative"),
        (&["--health-on-failure", "sing"], "expected none, kill, restart or stop"),
        (&["--no-healthcheck", "--health-cmd", "x"], "--no-healthcheck conflicts with --health-* options"),
    ] {
        t.cmd([&["create"][..], flags, &[BUSYBOX]].concat()).run().refused(125, &[said]);
    }
}

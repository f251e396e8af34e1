//! A container's day: stop, kill, rm, restart, wait, rename, port, attach, pause, top, prune.

use std::time::Duration;

use crate::harness::{BUSYBOX, Output, OwnRoots, PYTHON, Test, rounds, skipped, wait_until};

#[test]
fn stop_asks_first() {
    let Some(t) = Test::start() else { return };
    let name = t.name("s");
    t.sleeper(&name, []);
    assert_eq!(t.ok(["stop", &name]), name);
    // One that was killed, when its time to stop was over, would have 137.
    assert_eq!(t.ok(["inspect", "-f", "{{.State.ExitCode}} {{.State.Status}}", &name]), "0 exited");
    // A second stop has nothing to do and says so by succeeding.
    assert_eq!(t.ok(["stop", &name]), name);
    t.rbox(["stop", "no-such-container"]).refused(1, &["no such container: no-such-container"]);
}

#[test]
fn stop_kills_what_does_not_listen() {
    let Some(t) = Test::start() else { return };
    let name = t.name("deaf");
    t.ok(["run", "-d", "--name", &name, BUSYBOX, "sleep", "1000"]);
    t.ok(["stop", "-t", "1", &name]);
    assert_eq!(t.ok(["inspect", "-f", "{{.State.ExitCode}}", &name]), "137");
}

#[test]
fn kill_sends_any_signal() {
    let Some(t) = Test::start() else { return };
    let name = t.name("k");
    t.ok([
        "run",
        "-d",
        "--name",
        &name,
        BUSYBOX,
        "sh",
        "-c",
        "trap 'echo got usr1' USR1; trap 'exit 6' HUP; echo ready; while :; do sleep 0.05; done",
    ]);
    wait_until("ready", || t.rbox(["logs", &name]).stdout.contains("ready"));
    assert_eq!(t.ok(["kill", "-s", "USR1", &name]), name);
    wait_until("USR1 came", || t.rbox(["logs", &name]).stdout.contains("got usr1"));
    t.ok(["kill", "--signal", "1", &name]);
    assert_eq!(t.ok(["wait", &name]), "6");
    t.rbox(["kill", &name]).refused(1, &["not running"]);
    let other = t.name("k2");
    t.sleeper(&other, []);
    t.rbox(["kill", "-s", "NONSENSE", &other]).refused(1, &["NONSENSE"]);
    t.ok(["kill", &other]);
    assert_eq!(t.ok(["wait", &other]), "137");
}

#[test]
fn rm_refuses_what_runs_unless_forced() {
    let Some(t) = Test::start() else { return };
    let name = t.name("r");
    t.sleeper(&name, []);
    t.rbox(["rm", &name]).refused(1, &["running", &name]);
    assert_eq!(t.ok(["rm", "-f", &name]), name);
    t.rbox(["rm", &name]).refused(1, &["no such container"]);
    // Docker: forced removal of what is not there is no failure of the script that asks for it.
    t.rbox(["rm", "-f", &name]).code(0);
    // Those that remove themselves at their end may be faster, and are removed all the same.
    let names = ["x", "y", "z"].map(|n| t.name(n));
    for name in &names {
        t.sleeper(name, ["--rm"]);
    }
    let out = t.rbox(["rm", "-f", &names[0], &names[1], &names[2]]).code(0);
    assert_eq!((out.stdout, out.stderr), (format!("{}\n", names.join("\n")), String::new()));
    t.expect_nothing_left();
}

#[test]
fn several_at_once_and_the_rest_goes_on() {
    let Some(t) = Test::start() else { return };
    let (a, b) = (t.name("a"), t.name("b"));
    t.sleeper(&a, []);
    t.sleeper(&b, []);
    let out = t.rbox(["stop", &a, "no-such-container", &b]).code(1);
    assert_eq!(out.stdout, format!("{a}\n{b}\n"));
    assert!(out.stderr.contains("no-such-container"), "{}", out.stderr);
    t.ok(["rm", &a, &b]);
}

#[test]
fn restart_is_a_new_process() {
    let Some(t) = Test::start() else { return };
    let name = t.name("r");
    t.sleeper(&name, []);
    let first = t.pid(&name);
    assert_eq!(t.ok(["restart", &name]), name);
    assert_eq!(t.status(&name), "running");
    assert_ne!(t.pid(&name), first);
    t.ok(["stop", &name]);
    t.ok(["restart", &name]);
    assert_eq!(t.status(&name), "running");
}

#[test]
fn start_of_several_prints_their_names() {
    let Some(t) = Test::start() else { return };
    let (a, b) = (t.name("a"), t.name("b"));
    for name in [&a, &b] {
        t.ok(["create", "--name", name, BUSYBOX, "sleep", "100"]);
    }
    assert_eq!(t.ok(["start", &a, &b]), format!("{a}\n{b}"));
    // Started already: nothing to do.
    assert_eq!(t.ok(["start", &a]), a);
    t.rbox(["start", "no-such-container"]).refused(1, &["no such container"]);
}

#[test]
fn wait_blocks_until_the_end() {
    let Some(t) = Test::start() else { return };
    let name = t.name("w");
    t.ok(["run", "-d", "--name", &name, BUSYBOX, "sh", "-c", "sleep 0.7; exit 12"]);
    assert_eq!(t.ok(["wait", &name]), "12");
    assert_eq!(t.ok(["wait", &name]), "12");
    let waiter = t.name("w2");
    t.sleeper(&waiter, []);
    let mut wait = t.cmd(["wait", &waiter]).spawn();
    std::thread::sleep(Duration::from_millis(300));
    assert!(!wait.ended());
    t.ok(["stop", &waiter]);
    assert_eq!(wait.finish(Duration::from_secs(10)).ok(), "0");
}

#[test]
fn rename() {
    let Some(t) = Test::start() else { return };
    let (old, new) = (t.name("old"), t.name("new"));
    let id = t.sleeper(&old, []);
    t.ok(["rename", &old, &new]);
    assert_eq!(t.ok(["inspect", "-f", "{{.Id}}", &new]), id);
    t.rbox(["inspect", &old]).code(1);
    t.sleeper(&old, []);
    t.rbox(["rename", &old, &new]).refused(1, &["already in use", &new]);
    t.rbox(["rename", &old, "bad name"]).refused(125, &["bad name"]);
}

#[test]
fn pause_stops_everything_and_unpause_goes_on() {
    let Some(t) = Test::start() else { return };
    let name = t.name("p");
    t.ok([
        "run",
        "-d",
        "--name",
        &name,
        BUSYBOX,
        "sh",
        "-c",
        "trap 'exit 0' TERM; n=0; while :; do n=$((n+1)); echo $n > /n; sleep 0.02; done",
    ]);
    let count = || std::fs::read_to_string(format!("/proc/{}/root/n", t.pid(&name))).unwrap_or_default();
    wait_until("it counts", || !count().is_empty());
    assert_eq!(t.ok(["pause", &name]), name);
    assert_eq!(t.status(&name), "paused");
    assert!(t.ok(["ps", "--format", "{{.Status}}"]).ends_with("(Paused)"));
    let first = count();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(count(), first);
    t.rbox(["pause", &name]).refused(1, &["already paused"]);
    assert_eq!(t.ok(["unpause", &name]), name);
    wait_until("it counts on", || count() != first);
    t.rbox(["unpause", &name]).refused(1, &["not paused"]);
    // What is paused can be stopped and removed.
    t.ok(["pause", &name]);
    t.ok(["rm", "-f", &name]);
}

#[test]
fn top_shows_the_hosts_view_and_pid_shows_both() {
    let Some(t) = Test::start() else { return };
    let name = t.name("top");
    t.ok([
        "run",
        "-d",
        "--name",
        &name,
        BUSYBOX,
        "sh",
        "-c",
        "sleep 1000 & trap 'exit' TERM; while :; do sleep 0.1; done",
    ]);
    wait_until("both processes are there", || t.ok(["top", &name]).contains("sleep 1000"));
    let out = t.ok(["top", &name]);
    let header: Vec<_> = out.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(header, ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
    let pid = t.pid(&name).to_string();
    assert!(out.lines().skip(1).any(|l| l.split_whitespace().nth(1) == Some(&pid)), "{out}");
    let both = t.ok(["pid", &name]);
    assert!(
        both.lines().any(|l| {
            let words: Vec<_> = l.split_whitespace().collect();
            words.first() == Some(&"1") && words.get(1) == Some(&&*pid)
        }),
        "pid {pid} is 1 inside:\n{both}"
    );
}

#[test]
fn attach_shows_what_comes_and_returns_the_code() {
    let Some(t) = Test::start() else { return };
    let name = t.name("a");
    t.ok([
        "run",
        "-d",
        "-i",
        "--name",
        &name,
        BUSYBOX,
        "sh",
        "-c",
        "while read l; do echo got $l; test $l = end && exit 9; done",
    ]);
    let out = t.cmd(["attach", &name]).input("one\nend\n").run().code(9);
    assert_eq!(out.stdout, "got one\ngot end\n");
    t.rbox(["attach", &name]).refused(1, &["stopped"]);
}

#[test]
fn port_lists_what_is_published() {
    let Some(t) = Test::start() else { return };
    let name = t.name("ports");
    t.sleeper(&name, ["-p", "127.0.0.1::80", "-p", "127.0.0.1::53/udp"]);
    let out = t.ok(["port", &name]);
    assert_eq!(out.lines().count(), 2);
    assert!(out.lines().any(|l| l.starts_with("80/tcp -> 127.0.0.1:")), "{out}");
    assert!(out.lines().any(|l| l.starts_with("53/udp -> 127.0.0.1:")), "{out}");
    assert!(t.ok(["port", &name, "80"]).starts_with("127.0.0.1:"));
    assert!(t.ok(["port", &name, "53/udp"]).starts_with("127.0.0.1:"));
    t.rbox(["port", &name, "81"]).refused(1, &["81"]);
}

#[test]
fn prune_takes_only_what_ended() {
    let Some(t) = Test::start() else { return };
    let (running, ended) = (t.name("running"), t.name("ended"));
    t.sleeper(&running, []);
    t.ok(["run", "--name", &ended, BUSYBOX, "true"]);
    let id = t.ok(["inspect", "-f", "{{.Id}}", &ended]);
    let out = t.ok(["container", "prune", "-f"]);
    assert!(
        out.contains("Deleted Containers:") && out.contains(&id) && out.contains("Total reclaimed space:"),
        "{out}"
    );
    assert_eq!(t.ok(["ps", "-a", "--format", "{{.Names}}"]), running);
    t.ok(["run", "--name", &ended, BUSYBOX, "true"]);
    t.ok(["system", "prune", "-f"]);
    assert_eq!(t.ok(["ps", "-a", "--format", "{{.Names}}"]), running);
    assert_eq!(t.ok(["images", "-q", PYTHON]).lines().count(), 1, "images with a name stay");
}

#[test]
fn the_end_is_recorded_when_nobody_looks() {
    let Some(t) = Test::start() else { return };
    let name = t.name("e");
    t.ok(["run", "-d", "--name", &name, BUSYBOX, "sh", "-c", "exit 77"]);
    wait_until("it has ended", || t.status(&name) == "exited");
    let state = t.inspect(&name)["State"].clone();
    assert_eq!(state["ExitCode"], 77);
    assert_eq!(state["Running"], false);
    assert_eq!(state["Pid"], 0);
    let (started, finished) = (state["StartedAt"].as_str().unwrap(), state["FinishedAt"].as_str().unwrap());
    assert!(started < finished && started.starts_with("20"), "{state}");
}

/// A descriptor of the caller's, such as a shell's lock, does not stay open in the monitor.
#[test]
fn what_the_caller_holds_is_not_kept() {
    let Some(t) = Test::start() else { return };
    let name = t.name("fds");
    let lock = t.dir("lock").join("file");
    let script = format!(
        "exec 9>{} && flock 9 && {} run -d --name {name} {BUSYBOX} sleep 1000",
        lock.display(),
        crate::harness::binary().display()
    );
    let out = std::process::Command::new("sh")
        .args(["-c", &script])
        .env("RBOX_ROOT", &t.suite.root)
        .env("RBOX_STATE", &t.suite.state)
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let free = std::process::Command::new("flock")
        .args(["-n".as_ref(), lock.as_os_str(), "true".as_ref()])
        .status()
        .unwrap();
    assert!(free.success(), "the lock of the shell that ran `rbox run -d` is still held");
}

/// The end of one start is cleaned up before the next begins.
#[test]
fn starts_follow_each_other_closely() {
    let Some(t) = Test::start() else { return };
    let name = t.name("again");
    t.ok(["run", "--name", &name, BUSYBOX, "true"]);
    for _ in 0..rounds(25) {
        t.rbox(["start", "-a", &name]).code(0);
    }
    for _ in 0..5 {
        t.ok(["restart", "-t", "0", &name]);
    }
}

/// Each is attached to a run of it, its own or another's, and ends with its code: also who comes while the program has just begun
/// or ended.
#[test]
fn several_who_start_and_attach_end_with_its_code() {
    let Some(t) = Test::start() else { return };
    for flags in [&[][..], &["--restart", "on-failure:1"]] {
        let name = t.name("shared");
        let make =
            [&["create", "--name", &name, "--network", "none"], flags, &[BUSYBOX, "sh", "-c", "exit 3"]];
        t.cmd(make.concat()).run().ok();
        for _ in 0..rounds(8) {
            let several: Vec<_> = (0..6).map(|_| t.cmd(["start", "-a", &name]).spawn()).collect();
            for one in several {
                let out = one.finish(Duration::from_mins(1));
                // As Docker says it of one that is between two lives.
                let waits =
                    !flags.is_empty() && out.stderr.contains("cannot attach to a restarting container");
                assert!(out.code == 3 || waits, "{flags:?}: {out:?}");
            }
            // Whoever heard of the last end may start it again.
            if flags.is_empty() {
                t.rbox(["start", "-a", &name]).code(3);
            }
        }
        t.ok(["rm", "-f", &name]);
    }
}

/// A hard limit of a file's size that this process cannot raise: what cannot be written is not written, and ends nobody. Programs in
/// containers have the signal as it is by default.
#[test]
fn a_limit_of_a_files_size_ends_no_command() {
    let Some(t) = Test::start() else { return };
    let own = OwnRoots::new(&t, "own", &t.suite.registry);
    own.run(&["run", "-d", "--name", "cc", "--network", "none", BUSYBOX, "sleep", "1000"]).ok();
    let journal = own.root.join("events/journal");
    let mut text = std::fs::read(&journal).unwrap();
    text.resize(4 << 20, b'\n');
    std::fs::write(&journal, text).unwrap();
    let cmd = |args: &str| {
        let script = format!("ulimit -f 3000; exec {} {args}", crate::harness::binary().display());
        own.other("sh", &["-c", &script]).run()
    };
    let signals = "grep -E '^Sig.(gn|gt):' /proc/self/status";
    let none = "SigIgn:\t0000000000000000\nSigCgt:\t0000000000000000";
    assert_eq!(cmd(&format!("exec cc {signals}")).ok(), none);
    assert_eq!(cmd(&format!("run --rm --network none {BUSYBOX} {signals}")).ok(), none);
    assert_eq!(cmd("stop -t 0 cc").ok(), "cc");
    own.run(&["rm", "-f", "cc"]).ok();
}

/// A shell's limits on a command, and on the monitor it forks.
fn limited(t: &Test, limits: &str, args: &[&str]) -> Output {
    let script = format!("ulimit {limits} && exec \"$RBOX\" {}", args.join(" "));
    t.program("sh", ["-c", &script]).env("RBOX", crate::harness::binary()).run()
}

/// The monitor has no stack to start anything, or no descriptor to be talked to by.
#[test]
fn what_removes_itself_goes_when_it_cannot_be_started() {
    let Some(t) = Test::start() else { return };
    let name = t.name("rm");
    let mut failed = 0;
    // How much stack, and how many files, it takes to make a record but not to start it differs with the build.
    let stacks = (60..=112).step_by(3).map(|kib| format!("-s {kib}"));
    for limits in stacks.chain((4..=12).map(|files| format!("-n {files}"))) {
        for more in [&["-v", "/anonymous"][..], &["-d", "--network", "none"]] {
            let args = [&["run", "--rm", "--name", &name][..], more, &[BUSYBOX, "true"]].concat();
            let listed = || t.ok(["ps", "-aq", "--filter", &format!("name={name}")]);
            if limited(&t, &limits, &args).code == 125 {
                failed += 1;
                // At once: any command that tidies would take it away two seconds later.
                assert_eq!(listed(), "", "{limits} {more:?}");
            } else {
                // It ran, or died of its own small stack.
                wait_until("nothing is left", || listed().is_empty());
            }
        }
    }
    assert!(failed > 10, "only {failed} did not start");
    // One that was made before: as with Docker's daemon it goes when its start fails. How many files are too few is another number
    // without cgroup v1.
    let is_refused = |flags: &[&str], files: u32| {
        t.cmd([&["create", "--name", &name], flags, &[BUSYBOX, "true"]].concat()).run().ok();
        let out = limited(&t, &format!("-n {files}"), &["start", &name]);
        if out.code == 0 {
            t.ok(["rm", "-f", &name]);
            return false;
        }
        out.refused(1, &["too many open files"]);
        true
    };
    for flags in [&["--rm"][..], &[]] {
        if !(4..=8).rev().any(|files| is_refused(flags, files)) {
            return skipped("four open files are enough for a start on this host");
        }
    }
    assert_eq!(t.ok(["start", "-a", &name]), "");
}

/// Each waited for a state that the other took back, for ten seconds.
#[test]
fn pause_and_unpause_at_once_come_one_after_the_other() {
    let Some(t) = Test::start() else { return };
    let name = t.name("both");
    t.sleeper(&name, []);
    for _ in 0..rounds(60) {
        let both = ["pause", "unpause"].map(|command| t.cmd([command, &name]).spawn());
        for (running, word) in both.into_iter().zip(["is already paused", "is not paused"]) {
            let out = running.finish(Duration::from_secs(30));
            assert!(out.code == 0 || out.stderr.contains(word), "{out:?}");
        }
        // Whichever came last: one of the two goes.
        let paused = t.status(&name) == "paused";
        t.rbox(["unpause", &name]).code(i32::from(!paused));
    }
}

/// As with Docker, one of `--rm` is there after `restart`, with what it has written and its volumes; its next end removes it.
#[test]
fn restart_keeps_what_removes_itself() {
    let Some(t) = Test::start() else { return };
    let (name, volume) = (t.name("c"), t.name("v"));
    let trap = "trap 'exit 0' TERM; trap : QUIT; echo life >> /data/lives; echo life >> /lives; while :; do sleep 0.1; done";
    t.ok([
        "run",
        "-d",
        "--rm",
        "--name",
        &name,
        "-v",
        "/data",
        "-v",
        &format!("{volume}:/named"),
        BUSYBOX,
        "sh",
        "-c",
        trap,
    ]);
    let lives = || t.ok(["exec", &name, "sh", "-c", "cat /lives /data/lives"]).lines().count();
    wait_until("it writes", || lives() == 2);
    for _ in 0..3 {
        let before = lives();
        // A signal that it has a handler for is no wish for its end.
        t.ok(["kill", "-s", "QUIT", &name]);
        t.ok(["restart", &name]);
        wait_until("it writes again", || lives() == before + 2);
    }
    t.ok(["stop", &name]);
    t.rbox(["inspect", &name]).refused(1, &["No such object"]);
    assert_eq!(t.ok(["volume", "ls", "-q"]), volume);
    // One that ends by itself is gone as ever.
    t.ok(["run", "--rm", "--name", &name, BUSYBOX, "true"]);
    t.rbox(["inspect", &name]).refused(1, &["No such object"]);
}

/// Why `stop` takes ten seconds: on standard error, beside the name.
#[test]
fn stop_says_why_it_has_killed() {
    let Some(t) = Test::start() else { return };
    let name = t.name("c");
    for (flags, program, said) in [
        (&[][..], "exec sleep 1000", "no handler for SIGTERM"),
        (&["--stop-signal", "INT"], "exec sleep 1000", "no handler for SIGINT"),
        (&[], "trap '' TERM; while :; do sleep 0.1; done", "ignores SIGTERM"),
        (&[], "trap 'sleep 100' TERM; while :; do sleep 0.1; done", "has a handler for SIGTERM"),
    ] {
        let run = [&["run", "-d", "--name", &name], flags, &[BUSYBOX, "sh", "-c", program]].concat();
        t.cmd(run).run().ok();
        if program.starts_with("trap") {
            std::thread::sleep(std::time::Duration::from_millis(300));
        }
        let out = t.rbox(["stop", "-t", "1", &name]).code(0);
        assert_eq!(out.stdout, format!("{name}\n"));
        let told = format!("rbox: {name} did not end within 1 s of SIG");
        assert!(out.stderr.starts_with(&told) && out.stderr.contains(said), "{program}: {}", out.stderr);
        t.ok(["rm", &name]);
    }
    t.ok(["run", "-d", "--init", "--name", &name, BUSYBOX, "sleep", "1000"]);
    assert_eq!(t.rbox(["stop", &name]).code(0).stderr, "", "it ended");
    t.ok(["start", &name]);
    assert_eq!(t.rbox(["stop", "-t", "0", &name]).code(0).stderr, "", "no time was given");
}

/// moby#46870.
#[test]
fn wait_ends_with_the_code_if_asked() {
    let Some(t) = Test::start() else { return };
    let [good, bad, worse] = ["good", "bad", "worse"].map(|what| t.name(what));
    for (name, code) in [(&good, "0"), (&bad, "7"), (&worse, "137")] {
        t.rbox(["run", "--name", name, BUSYBOX, "sh", "-c", &format!("exit {code}")]);
    }
    for (names, code) in [(&[&good][..], 0), (&[&bad], 7), (&[&good, &worse, &bad], 137)] {
        let args = ["wait", "--exit-code"].into_iter().chain(names.iter().map(|name| name.as_str()));
        t.cmd(args).run().code(code);
    }
    assert_eq!(t.rbox(["wait", &bad]).code(0).stdout, "7\n");
    t.rbox(["wait", "--exit-code", &bad, "nosuch"]).refused(1, &["nosuch"]);
}

#[test]
fn replace_at_once_leaves_one() {
    let Some(t) = Test::start() else { return };
    let name = t.name("c");
    let all: Vec<_> = (0..6)
        .map(|n| {
            let label = format!("n={n}");
            t.cmd([
                "run",
                "-d",
                "--replace",
                "--name",
                &name,
                "-l",
                &label,
                "--stop-timeout",
                "0",
                BUSYBOX,
                "sleep",
                "1000",
            ])
            .spawn()
        })
        .collect();
    for one in all {
        // One that was replaced before it ran says so.
        let out = one.finish(Duration::from_mins(1));
        assert!(out.code == 0 || out.stderr.contains("No such container"), "{}", out.stderr);
    }
    assert_eq!(t.ok(["ps", "-q"]).lines().count(), 1);
    t.rbox(["run", "--timeout", "-1", BUSYBOX]).refused(125, &["whole seconds", "0 for no limit"]);
    let limited = t.ok(["create", "--timeout", "9", BUSYBOX]);
    assert_eq!(t.ok(["inspect", "-f", "{{.Config.Timeout}}", &limited]), "9");
    t.ok(["rm", &limited]);
}

/// Signals without a name reach the program behind the small init as well.
#[test]
fn init_passes_signals_of_real_time_on() {
    let Some(t) = Test::start() else { return };
    let name = t.name("c");
    let program = "import signal, sys, time\nfor n in (34, 40, 64): signal.signal(n, lambda n, _: print(n, flush=True))\nprint('ready', flush=True)\nwhile True: time.sleep(1)";
    t.ok(["run", "-d", "--init", "--name", &name, PYTHON, "python3", "-c", program]);
    wait_until("it listens", || t.ok(["logs", &name]).contains("ready"));
    for signal in ["34", "40", "64"] {
        t.ok(["kill", "-s", signal, &name]);
        wait_until("it has come", || t.ok(["logs", &name]).lines().last() == Some(signal));
    }
    assert_eq!(t.status(&name), "running");
}

/// What was used lately stays.
#[test]
fn prune_by_last_use() {
    let Some(t) = Test::start() else { return };
    let own = OwnRoots::new(&t, "own", &t.suite.registry);
    own.run(&["pull", "-q", BUSYBOX]).ok();
    own.run(&["network", "create", "lab"]).ok();
    own.run(&["run", "--name", "one", "--network", "lab", "-v", "data:/data", BUSYBOX, "true"]).ok();
    let all: [&[&str]; 4] = [
        &["container", "prune", "-f"],
        &["network", "prune", "-f"],
        &["volume", "prune", "-af"],
        &["image", "prune", "-af"],
    ];
    let there = || {
        let lists: [&[&str]; 4] = [
            &["ps", "-aq"],
            &["network", "ls", "-q", "--filter", "type=custom"],
            &["volume", "ls", "-q"],
            &["images", "-q"],
        ];
        lists.map(|list| own.run(list).ok().lines().count())
    };
    for command in all {
        own.run(&[command, &["--filter", "last-used=1h"]].concat()).ok();
    }
    assert_eq!(there(), [1, 1, 1, 1]);
    // The journal does not go back an hour: what came before it is not known, and stays. A moment ago is.
    own.run(&["rm", "one"]).ok();
    for command in all {
        own.run(&[command, &["--filter", "last-used=1h"]].concat()).ok();
    }
    assert_eq!(there(), [0, 1, 1, 1]);
    std::thread::sleep(Duration::from_millis(20));
    for command in all {
        own.run(&[command, &["--filter", "last-used=0s"]].concat()).ok();
    }
    assert_eq!(there(), [0, 0, 0, 0]);
    own.run(&["image", "prune", "-f", "--filter", "last-used=x"]).refused(125, &["last-used", "x"]);
}

/// One that a signal without a name has ended is seen to have ended.
#[test]
fn init_sees_an_end_by_a_signal_of_real_time() {
    let Some(t) = Test::start() else { return };
    for flags in [&["--init"][..], &[]] {
        let args = [&["run", "--rm"], flags, &[BUSYBOX, "sh", "-c", "sh -c 'kill -37 $$'; exit $?"]].concat();
        t.cmd(args).run().code(165);
    }
    t.rbox(["run", "--rm", "--init", BUSYBOX, "sh", "-c", "kill -37 $$"]).code(165);
}

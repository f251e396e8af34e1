//! Anything may be killed at any moment: the next `ps` tells the truth, `rm -f` removes all, nothing leaks.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use crate::harness::{BUSYBOX, Test, poll, wait_until};

/// Pseudo-random numbers (xorshift), printed seed: a failure can be tried again with `RBOX_TEST_SEED`.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new() -> Self {
        let seed = std::env::var("RBOX_TEST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(|| {
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64 | 1
        });
        println!("RBOX_TEST_SEED={seed}");
        Self(seed)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

pub(crate) fn rounds() -> u64 {
    std::env::var("RBOX_TEST_CRASHES").ok().and_then(|s| s.parse().ok()).unwrap_or(60)
}

pub(crate) fn kill9(pid: i32) {
    let _ = Command::new("kill").args(["-9", &pid.to_string()]).stderr(std::process::Stdio::null()).status();
}

/// The monitors of this suite: processes of rbox that are no command of the moment.
fn monitors(t: &Test) -> Vec<i32> {
    crate::harness::Left::look(t.suite)
        .processes
        .iter()
        .filter_map(|line| line.split(' ').next()?.parse().ok())
        .collect()
}

/// What `ps` says must be what the kernel says, for every container; looked at again, as one may end in between.
fn ps_tells_the_truth(t: &Test) {
    let mut lie = None;
    let true_once = poll(Duration::from_secs(3), || {
        lie = what_ps_gets_wrong(t);
        lie.is_none()
    });
    assert!(true_once, "{lie:?}");
}

fn what_ps_gets_wrong(t: &Test) -> Option<String> {
    let out = t.ok(["ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.State}}"]);
    for line in out.lines() {
        let (id, state) = line.split_once(' ').unwrap();
        let Ok(pid) = t.rbox(["inspect", "-f", "{{.State.Pid}}", id]).stdout.trim().parse::<i32>() else {
            continue;
        };
        let lives = pid > 0
            && std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|s| {
                !s.rsplit(')').next().unwrap_or_default().trim_start().starts_with(['Z', 'X'])
            });
        if (state == "running" || state == "paused") != lives {
            return Some(format!("{id} is `{state}` with pid {pid}"));
        }
    }
    None
}

#[test]
fn the_command_line_killed_while_it_starts() {
    let Some(t) = Test::start() else { return };
    let mut random = Random::new();
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for round in 0..rounds() {
        let name = t.name(&format!("r{round}"));
        let run = t.cmd(["run", "-d", "--name", &name, BUSYBOX, "sleep", "1000"]).spawn();
        std::thread::sleep(Duration::from_micros(random.below(40_000)));
        kill9(run.id());
        let code = run.finish(Duration::from_secs(20)).code;
        *counts.entry(if code == 0 { "finished first" } else { "killed" }).or_default() += 1;
        ps_tells_the_truth(&t);
        t.rbox(["rm", "-f", &name]).code(0);
        let known = t.ok(["ps", "-a", "--format", "{{.Names}}"]);
        assert!(!known.contains(&name), "round {round}: {known}");
    }
    println!("run -d: {counts:?}");
    t.expect_nothing_left();
}

/// Who is killed while it makes a container leaves none with a name that another has, and none that cannot be read; nor does one
/// that is being made or removed look like a damaged one to who lists meanwhile.
#[test]
fn a_name_has_one_container_whoever_is_killed() {
    let Some(t) = Test::start() else { return };
    let mut random = Random::new();
    let names = ["one", "two", "three"].map(|what| t.name(what));
    let list = |when: String| {
        let out = t.rbox(["ps", "-a", "--format", "{{.Names}} {{.Image}} {{.State}}"]);
        assert!(!out.stdout.contains("unreadable") && out.stderr.is_empty(), "{when}: {out:?}");
        for name in &names {
            let having = out.stdout.lines().filter(|line| line.split(' ').next() == Some(name));
            assert!(having.count() <= 1, "{when}: {name} twice\n{}", out.stdout);
        }
    };
    for round in 0..rounds() * 2 {
        let mut running = Vec::new();
        for _ in 0..4 {
            let name = &names[random.below(3) as usize];
            let args: &[&str] = match random.below(6) {
                0 => &["rm", "-f", name],
                1 => &["rename", name, &names[random.below(3) as usize]],
                _ => &["create", "--name", name, BUSYBOX, "true"],
            };
            running.push(t.cmd(args).spawn());
        }
        list(format!("round {round}, meanwhile"));
        std::thread::sleep(Duration::from_micros(random.below(20_000)));
        for one in &running {
            if random.below(3) > 0 {
                kill9(one.id());
            }
        }
        for one in running {
            let _ = one.finish(Duration::from_secs(20));
        }
        list(format!("round {round}"));
    }
    for name in &names {
        t.rbox(["rm", "-f", name]).code(0);
    }
    t.expect_nothing_left();
}

#[test]
fn an_attached_command_line_killed() {
    let Some(t) = Test::start() else { return };
    let mut random = Random::new();
    for round in 0..rounds() / 4 {
        let name = t.name(&format!("r{round}"));
        let run =
            t.cmd(["run", "--rm", "--name", &name, BUSYBOX, "sh", "-c", "echo on; exec sleep 1000"]).spawn();
        // Every other round kills while it starts: then it lives on under its monitor or never came to be.
        let started = round % 2 == 0;
        if started {
            wait_until("it runs", || t.rbox(["logs", &name]).stdout == "on\n");
        } else {
            std::thread::sleep(Duration::from_micros(random.below(60_000)));
        }
        kill9(run.id());
        // Its outputs may stay open with the monitor.
        drop(run);
        ps_tells_the_truth(&t);
        if started {
            assert_eq!(t.ok(["exec", &name, "echo", "well"]), "well", "it ended with the command line");
        }
        t.rbox(["rm", "-f", &name]).code(0);
    }
    t.expect_nothing_left();
}

#[test]
fn the_monitor_killed() {
    let Some(t) = Test::start() else { return };
    let mut random = Random::new();
    for round in 0..rounds() / 4 {
        let name = t.name(&format!("r{round}"));
        t.ok(["run", "-d", "--name", &name, "-p", "127.0.0.1::80", BUSYBOX, "sleep", "1000"]);
        let of_round = monitors(&t);
        assert!(!of_round.is_empty(), "the leak check does not see the monitor");
        std::thread::sleep(Duration::from_micros(random.below(5_000)));
        for pid in of_round {
            kill9(pid);
        }
        ps_tells_the_truth(&t);
        match random.below(3) {
            0 => drop(t.rbox(["stop", "-t", "1", &name])),
            1 => drop(t.rbox(["kill", &name])),
            _ => {}
        }
        t.rbox(["rm", "-f", &name]).code(0);
        t.expect_nothing_left();
    }
}

#[test]
fn pid_1_killed_from_the_host() {
    let Some(t) = Test::start() else { return };
    let mut random = Random::new();
    for round in 0..rounds() / 4 {
        let name = t.name(&format!("r{round}"));
        t.ok(["run", "-d", "--name", &name, BUSYBOX, "sleep", "1000"]);
        let pid = t.pid(&name);
        std::thread::sleep(Duration::from_micros(random.below(5_000)));
        kill9(pid);
        wait_until("the end is known", || t.status(&name) == "exited");
        assert_eq!(t.ok(["inspect", "-f", "{{.State.ExitCode}}", &name]), "137");
        ps_tells_the_truth(&t);
        t.ok(["rm", &name]);
    }
}

#[test]
fn everything_at_once_in_any_order() {
    let Some(t) = Test::start() else { return };
    let mut random = Random::new();
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for round in 0..rounds() / 2 {
        let name = t.name(&format!("r{round}"));
        let flags: &[&str] =
            if random.below(2) == 0 { &["-p", "127.0.0.1::80", "-v", "/anonymous"] } else { &["--rm"] };
        let mut args = vec!["run", "-d", "--name", &name];
        args.extend(flags);
        args.extend([BUSYBOX, "sleep", "1000"]);
        let run = t.cmd(args).spawn();
        std::thread::sleep(Duration::from_micros(random.below(80_000)));
        // The CLI and the monitor of the moment, and PID 1 when it is known already; in any order.
        let mut victims: Vec<(&str, i32)> = vec![("cli", run.id())];
        victims.extend(monitors(&t).into_iter().filter(|p| *p != run.id()).map(|p| ("monitor", p)));
        if let Ok(pid) = t.rbox(["inspect", "-f", "{{.State.Pid}}", &name]).stdout.trim().parse::<i32>()
            && pid > 1
        {
            victims.push(("pid 1", pid));
        }
        while !victims.is_empty() {
            let (what, pid) = victims.swap_remove(random.below(victims.len() as u64) as usize);
            if random.below(4) > 0 {
                kill9(pid);
                *counts.entry(what).or_default() += 1;
                std::thread::sleep(Duration::from_micros(random.below(3_000)));
            }
        }
        let _ = run.finish(Duration::from_secs(20));
        ps_tells_the_truth(&t);
        t.rbox(["rm", "-f", "-v", &name]).code(0);
        t.rbox(["volume", "prune", "-f"]).code(0);
    }
    println!("killed: {counts:?}");
    t.expect_nothing_left();
}

#[test]
fn stop_and_rm_killed_half_way() {
    let Some(t) = Test::start() else { return };
    let mut random = Random::new();
    for round in 0..rounds() / 3 {
        let name = t.name(&format!("r{round}"));
        t.ok(["run", "-d", "--name", &name, BUSYBOX, "sleep", "1000"]);
        let rm = t.cmd(["rm", "-f", &name]).spawn();
        std::thread::sleep(Duration::from_micros(random.below(25_000)));
        kill9(rm.id());
        let _ = rm.finish(Duration::from_secs(20));
        ps_tells_the_truth(&t);
        t.rbox(["rm", "-f", &name]).code(0);
    }
    t.expect_nothing_left();
}

/// A container that lost its monitor is stopped, started and logged like any other.
#[test]
fn life_goes_on_without_the_old_monitor() {
    let Some(t) = Test::start() else { return };
    let name = t.name("orphan");
    t.sleeper(&name, []);
    for pid in monitors(&t) {
        kill9(pid);
    }
    assert!(poll(Duration::from_secs(5), || monitors(&t).is_empty()));
    t.rbox(["stop", "-t", "2", &name]).code(0);
    wait_until("it is exited", || t.status(&name) == "exited");
    t.ok(["start", &name]);
    assert_eq!(t.status(&name), "running");
    assert_eq!(t.ok(["exec", &name, "echo", "well"]), "well");
}
